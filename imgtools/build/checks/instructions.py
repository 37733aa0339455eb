"""Checks of single instructions that need no variables: old forms, secrets, what comes twice."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from imgtools.build.checks.model import Found
from imgtools.build.checks.stages import Stage
from imgtools.build.language.model import (
    Arg,
    Cmd,
    Containerfile,
    Entrypoint,
    Env,
    HealthCheck,
    Instruction,
    Label,
    Location,
    Maintainer,
    Shell,
)

# Words of a name that say it holds a secret, and words that say it does not after all.
_SECRET = frozenset(
    (
        "apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd",
        "secret", "token",
    )
)  # fmt: skip
_HARMLESS = frozenset(("public", "file", "version"))
_SECRETS = re.compile(f"(?:^|_)(?:{'|'.join(sorted(_SECRET))})(?:_|$)", re.IGNORECASE)
_ALLOWED = re.compile(f"(?:^|_)(?:{'|'.join(sorted(_HARMLESS))})(?:_|$)", re.IGNORECASE)


def check_file(file: Containerfile) -> Iterator[Found]:
    """NoEmptyContinuation and MaintainerDeprecated."""
    for line, _ in file.notes:
        # Notes on other things are about lines that have something in them.
        if file.lines[line - 1].strip():
            continue
        place = Location(file=file.name, first=line, last=line)
        yield Found("NoEmptyContinuation", "empty line in a continued instruction", None, place)
    for at in file.instructions:
        if isinstance(at, Maintainer):
            yield Found(
                "MaintainerDeprecated",
                "MAINTAINER is deprecated: use the label org.opencontainers.image.authors",
                at,
            )


def check_forms(stages: Sequence[Stage]) -> Iterator[Found]:
    """JSONArgsRecommended and LegacyKeyValueFormat. A shell that SHELL has chosen is meant."""
    chosen: list[bool] = []
    for stage in stages:
        shell = chosen[stage.parent] if stage.parent is not None else False
        for at in stage.body:
            if isinstance(at, Shell):
                shell = True
            elif isinstance(at, Cmd | Entrypoint) and at.command.shell and not shell:
                yield Found(
                    "JSONArgsRecommended",
                    f"{at.keyword} should be in JSON form, so that signals reach the program",
                    at,
                )
            elif isinstance(at, Env | Label) and at.legacy:
                yield Found(
                    "LegacyKeyValueFormat",
                    f"write '{at.keyword} name=value' instead of '{at.keyword} name value'",
                    at,
                )
        chosen.append(shell)


def check_once(stages: Sequence[Stage]) -> Iterator[Found]:
    """MultipleInstructionsDisallowed, at the one that has no effect."""
    for stage in stages:
        last: dict[str, Instruction] = {}
        for at in stage.body:
            if not isinstance(at, Cmd | Entrypoint | HealthCheck):
                continue
            if at.keyword in last:
                yield Found(
                    "MultipleInstructionsDisallowed",
                    f"only the last {at.keyword} of a stage has an effect",
                    at,
                    last[at.keyword].location,
                )
            last[at.keyword] = at


def check_secrets(stages: Sequence[Stage]) -> Iterator[Found]:
    """SecretsUsedInArgOrEnv, by the words of a name: values stay in the image."""
    for stage in stages:
        for at in stage.body:
            names = [pair[0] for pair in at.pairs] if isinstance(at, Arg | Env) else []
            for name in names:
                if _SECRETS.search(name) and not _ALLOWED.search(name):
                    yield Found(
                        "SecretsUsedInArgOrEnv",
                        f"{at.keyword} {name} looks like a secret, and everybody who has the "
                        "image can read it: use RUN --mount=type=secret",
                        at,
                    )
