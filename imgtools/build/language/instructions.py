"""Statements to typed instructions, with the checks that need neither variables nor files.

What is refused, and what is not, is as in BuildKit's frontend/dockerfile/instructions, with two
exceptions: RUN, CMD and ENTRYPOINT without arguments, and a trigger of ONBUILD that is no
instruction, which BuildKit would find out when it is too late.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from imgtools.build.language.commands import (
    CHECK_FLAGS,
    RUN_FLAGS,
    cmd,
    entrypoint,
    healthcheck,
    run,
    shell,
)
from imgtools.build.language.copies import ADD_FLAGS, COPY_FLAGS, add, copy
from imgtools.build.language.errors import brief
from imgtools.build.language.flags import Flags, Kind, parse_flags
from imgtools.build.language.model import (
    Arg,
    Env,
    Expose,
    From,
    Instruction,
    Label,
    Location,
    Maintainer,
    OnBuild,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from imgtools.build.language.source import SPACE_CHARACTERS
from imgtools.build.language.statements import Statement

NO_TRIGGERS = ("FROM", "MAINTAINER", "ONBUILD")
"""What cannot stand behind ONBUILD."""

_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")


def instruction_of(statement: Statement) -> Instruction:
    """The instruction that a statement is. Raises ContainerfileError."""
    known = _INSTRUCTIONS.get(statement.keyword)
    if known is None:
        raise statement.error(
            f"unknown instruction: {brief(statement.written)}"
            if statement.written
            else "there is no instruction on this line",
            hint=_meant(statement.written),
        )
    spec, build = known
    line = statement.line
    if line.damaged and statement.keyword in ("RUN", "ONBUILD"):
        raise line.source.error(
            f"{statement.keyword} is not UTF-8", line.damaged, hint="save the file as UTF-8"
        )
    if statement.json and any("\0" in word for word in statement.arguments):
        raise statement.error_at("\\u0000", "a word has a NUL character, which nothing can take")
    flags = parse_flags(statement.flags, spec, line, statement.keyword)
    rest = line.text[statement.start + len(statement.written) :].strip(SPACE_CHARACTERS)
    common = {
        "keyword": statement.keyword,
        "written": statement.written,
        "text": f"{statement.keyword} {rest}".rstrip(),
        "location": Location(file=line.source.name, first=line.first, last=statement.last),
        "comments": line.comments,
    }
    return build(statement, flags, common)


def _meant(written: str) -> str | None:
    from difflib import get_close_matches

    close = get_close_matches(written.upper()[:40], _INSTRUCTIONS, 1)
    if not close:
        return None
    return f"did you mean {close[0].lower() if written.islower() else close[0]}?"


def _one(statement: Statement) -> str:
    """The whole rest of the line, which may not be empty."""
    if not statement.arguments:
        raise statement.error(f"{statement.keyword} needs exactly one argument")
    return statement.arguments[0]


def _some(statement: Statement) -> tuple[str, ...]:
    if not statement.arguments:
        raise statement.error(f"{statement.keyword} needs at least one argument")
    return statement.arguments


def _from(statement: Statement, flags: Flags, common: dict[str, Any]) -> From:
    words = statement.arguments
    name = ""
    if len(words) == 3 and words[1].upper() == "AS":
        name = words[2].lower()
        if not _STAGE_NAME.fullmatch(name):
            raise statement.error_at(
                words[2],
                f"{brief(words[2])} cannot be the name of a stage",
                hint="a name begins with a letter and has letters, digits, dots, _ and -",
            )
    elif len(words) != 1:
        raise statement.error(
            "FROM needs one argument or three", hint="write FROM image or FROM image AS name"
        )
    return From(image=words[0], platform=flags.value("platform"), name=name, **common)


def _pairs(statement: Statement) -> dict[str, Any]:
    """Names, values, and whether they are in the old form."""
    words = _some(statement)
    if not all(words[::3]):
        raise statement.error_at("=", f"a name of {statement.keyword} is empty")
    return {
        "pairs": tuple(zip(words[::3], words[1::3], strict=True)),
        "legacy": words[2] == "",
    }


def _env(statement: Statement, flags: Flags, common: dict[str, Any]) -> Env:
    return Env(**_pairs(statement), **common)


def _label(statement: Statement, flags: Flags, common: dict[str, Any]) -> Label:
    return Label(**_pairs(statement), **common)


def _arg(statement: Statement, flags: Flags, common: dict[str, Any]) -> Arg:
    pairs = list[tuple[str, str | None]]()
    for word in _some(statement):
        name, equals, default = word.partition("=")
        if not name:
            raise statement.error_at(word, "a name of ARG is empty")
        pairs.append((name, default if equals else None))
    return Arg(pairs=tuple(pairs), **common)


def _expose(statement: Statement, flags: Flags, common: dict[str, Any]) -> Expose:
    return Expose(ports=_some(statement), **common)


def _volume(statement: Statement, flags: Flags, common: dict[str, Any]) -> Volume:
    paths = tuple(path.strip(SPACE_CHARACTERS) for path in _some(statement))
    if not all(paths):
        raise statement.error_at("", "a path of VOLUME is empty")
    return Volume(paths=paths, json=statement.json, **common)


def _user(statement: Statement, flags: Flags, common: dict[str, Any]) -> User:
    return User(user=_one(statement), **common)


def _workdir(statement: Statement, flags: Flags, common: dict[str, Any]) -> Workdir:
    return Workdir(path=_one(statement), **common)


def _stop_signal(statement: Statement, flags: Flags, common: dict[str, Any]) -> StopSignal:
    return StopSignal(signal=_one(statement), **common)


def _maintainer(statement: Statement, flags: Flags, common: dict[str, Any]) -> Maintainer:
    return Maintainer(name=_one(statement), **common)


def _onbuild(statement: Statement, flags: Flags, common: dict[str, Any]) -> OnBuild:
    inner = statement.inner
    if inner is None:
        raise statement.error("ONBUILD needs an instruction")
    if inner.keyword in NO_TRIGGERS:
        raise inner.error(
            "ONBUILD ONBUILD: triggers cannot be chained"
            if inner.keyword == "ONBUILD"
            else f"{inner.keyword} cannot be a trigger of ONBUILD"
        )
    inner = replace(inner, heredocs=statement.heredocs, last=statement.last)
    trigger = [statement.line.text[inner.start :]]
    trigger += [f"{document.content}{document.name}" for document in statement.heredocs]
    return OnBuild(inner=instruction_of(inner), trigger="\n".join(trigger), **common)


_Build = Callable[[Statement, Flags, dict[str, Any]], Instruction]
_NO_FLAGS: Mapping[str, Kind] = MappingProxyType({})
_INSTRUCTIONS: Mapping[str, tuple[Mapping[str, Kind], _Build]] = {
    "ADD": (ADD_FLAGS, add),
    "ARG": (_NO_FLAGS, _arg),
    "CMD": (_NO_FLAGS, cmd),
    "COPY": (COPY_FLAGS, copy),
    "ENTRYPOINT": (_NO_FLAGS, entrypoint),
    "ENV": (_NO_FLAGS, _env),
    "EXPOSE": (_NO_FLAGS, _expose),
    "FROM": ({"platform": Kind.VALUE}, _from),
    "HEALTHCHECK": (CHECK_FLAGS, healthcheck),
    "LABEL": (_NO_FLAGS, _label),
    "MAINTAINER": (_NO_FLAGS, _maintainer),
    "ONBUILD": (_NO_FLAGS, _onbuild),
    "RUN": (RUN_FLAGS, run),
    "SHELL": (_NO_FLAGS, shell),
    "STOPSIGNAL": (_NO_FLAGS, _stop_signal),
    "USER": (_NO_FLAGS, _user),
    "VOLUME": (_NO_FLAGS, _volume),
    "WORKDIR": (_NO_FLAGS, _workdir),
}
