"""RUN with everything resolved: the words to execute, its variables, mounts and documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from imgtools.build.language.model import Command, Mount, Run
from imgtools.build.language.mounts import mount_words, parse_mount
from imgtools.build.planning import config_state as config
from imgtools.build.planning.model import (
    ContextRef,
    MountWork,
    RunWork,
    ScratchRef,
    Script,
    SourceRef,
    StageState,
)
from imgtools.build.planning.stages import source_of
from imgtools.errors import InvalidInput

if TYPE_CHECKING:
    from imgtools.build.planning.evaluate import Scope

SCRIPTS = "/dev/pipes"
"""Where here-documents that are executed themselves are mounted, as BuildKit has it."""


def run_work(instruction: Run, state: StageState, scope: Scope) -> RunWork:
    """RUN; raises InvalidInput, NotFound (a mount's source)."""
    args, script = _command(instruction.command, state)
    if instruction.devices:
        raise InvalidInput(
            "RUN --device is not supported",
            hint="imgtools build --device gives devices to all steps",
        )
    security = instruction.security
    if security == "insecure" and not scope.allow_insecure:
        raise InvalidInput(
            "RUN --security=insecure is not allowed",
            hint="allow it with --allow security.insecure",
        )
    mounts = [_mount(text, state, scope) for text in (*scope.mounts, *instruction.mounts)]
    visible = dict(state.variables)
    hidden = tuple((k, v) for k, v in scope.proxy.items() if k not in visible)
    return RunWork(
        args=args,
        env=tuple(visible.items()),
        hidden=hidden,
        user=state.settings.get("User") or "",
        workdir=state.settings.get("WorkingDir") or "/",
        mounts=tuple(mounts),
        script=script,
        network=instruction.network,
        insecure=security == "insecure",
        volumes=tuple(state.settings.get("Volumes") or ()),
    )


def _command(command: Command, state: StageState) -> tuple[tuple[str, ...], Script | None]:
    if not command.heredocs:
        words = command.words
        return (config.in_shell(state.settings, words[0]) if command.shell else words), None
    line, documents = command.words[0], command.heredocs
    first = documents[0]
    if len(documents) == 1 and _is_all(line, first.name):
        if first.content.startswith("#!"):
            target = f"{SCRIPTS}/{first.name}"
            return (target,), Script(target=target, content=first.content.encode())
        # The document is the program, so that any shell will do.
        return config.in_shell(state.settings, first.content), None
    whole = [line]
    whole += [f"{document.content}{document.name}" for document in documents]
    return config.in_shell(state.settings, "\n".join(whole)), None


def _is_all(line: str, name: str) -> bool:
    """Whether the line has nothing but the mark of the document `name`."""
    word = line.strip()
    mark = word.lstrip("0123456789")
    return mark in {
        f"<<{dash}{quote}{name}{quote}" for dash in ("", "-") for quote in ("", '"', "'")
    }


def _mount(text: str, state: StageState, scope: Scope) -> MountWork:
    mount = parse_mount(mount_words(text, lambda word: scope.expand(word, state)))
    source: SourceRef = ScratchRef() if mount.kind == "cache" else ContextRef()
    if mount.from_:
        word = scope.arguments.expand(mount.from_, {**scope.arguments.known, **state.variables})
        source = source_of(word, scope.stage, scope.stages, scope.contexts)
    # As text, before links: what the key speaks of is then what the mount shows.
    path = config.resolved_path({}, mount.source).strip("/")
    return MountWork(mount=placed_mount(replace(mount, source=path), state.settings), source=source)


def placed_mount(mount: Mount, settings: Mapping[str, Any]) -> Mount:
    """The mount with an absolute target, below the working directory of the config where it is
    relative; "" where there is none to be. Raises InvalidInput for the root."""
    target = mount.target
    if not target and mount.kind == "secret" and not mount.env:
        target = f"/run/secrets/{mount.id}"
    if not target and mount.kind == "ssh":
        return mount
    if not target and mount.kind == "secret":
        return mount
    path = config.resolved_path(settings, target)
    if path == "/":
        raise InvalidInput(
            f"a mount of type {mount.kind} cannot be at /",
            hint="give it a target=" if not target else None,
        )
    return replace(mount, target=path)
