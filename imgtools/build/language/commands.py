"""RUN, CMD, ENTRYPOINT, SHELL and HEALTHCHECK: the instructions that say what to execute."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from imgtools.build.language.errors import brief
from imgtools.build.language.flags import Flags, Kind
from imgtools.build.language.heredocs import without_tabs
from imgtools.build.language.model import Cmd, Command, Entrypoint, HealthCheck, Run, Shell
from imgtools.build.language.mounts import check_mount
from imgtools.build.language.statements import Statement
from imgtools.errors import InvalidInput

RUN_FLAGS = {
    "mount": Kind.VALUES,
    "network": Kind.VALUE,
    "security": Kind.VALUE,
    "device": Kind.VALUES,
}
CHECK_FLAGS = {
    "interval": Kind.VALUE,
    "timeout": Kind.VALUE,
    "start-period": Kind.VALUE,
    "start-interval": Kind.VALUE,
    "retries": Kind.VALUE,
}

_NETWORKS = ("default", "none", "host")
_SECURITIES = ("sandbox", "insecure")
_DURATION = re.compile(r"\+?(?:0|(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)")


def run(statement: Statement, flags: Flags, common: dict[str, Any]) -> Run:
    """RUN; a command that is empty is refused."""
    network = _choice(statement, "network", flags.value("network"), _NETWORKS)
    security = _choice(statement, "security", flags.value("security"), _SECURITIES)
    for flag in statement.flags:
        if flag.text.startswith("--mount="):
            try:
                check_mount(flag.text.partition("=")[2])
            except InvalidInput as e:
                raise statement.error(e.message, flag.offset, hint=e.hint) from e
    command = _command(statement)
    if not command.words:
        raise statement.error("RUN needs a command")
    return Run(
        command=command,
        mounts=flags.several("mount"),
        network="" if network == "default" else network,
        security="" if security == "sandbox" else security,
        devices=flags.several("device"),
        **common,
    )


def cmd(statement: Statement, flags: Flags, common: dict[str, Any]) -> Cmd:
    """CMD; `CMD []` is none."""
    return Cmd(command=_command(statement), **common)


def entrypoint(statement: Statement, flags: Flags, common: dict[str, Any]) -> Entrypoint:
    """ENTRYPOINT; `ENTRYPOINT []` is none."""
    return Entrypoint(command=_command(statement), **common)


def shell(statement: Statement, flags: Flags, common: dict[str, Any]) -> Shell:
    """SHELL, in JSON form only."""
    if not statement.arguments:
        raise statement.error("SHELL needs at least one argument")
    if not statement.json:
        raise statement.error_at(
            "", "SHELL takes the JSON form only", hint='write SHELL ["/bin/bash", "-c"]'
        )
    return Shell(words=statement.arguments, **common)


def healthcheck(statement: Statement, flags: Flags, common: dict[str, Any]) -> HealthCheck:
    """HEALTHCHECK CMD or NONE; NONE has no use for flags."""
    kind, *words = statement.arguments or ("",)
    if not kind:
        raise statement.error("HEALTHCHECK needs at least one argument", hint="CMD or NONE")
    if kind.upper() == "NONE":
        if words:
            raise statement.error_at(words[0], "HEALTHCHECK NONE takes no arguments")
        return HealthCheck(command=None, **common)
    if kind.upper() != "CMD":
        raise statement.error_at(
            kind, f"HEALTHCHECK {brief(kind)} does not exist", hint="write HEALTHCHECK CMD command"
        )
    if not words:
        raise statement.error("HEALTHCHECK CMD needs a command")
    values = {name: flags.value(name) for name in CHECK_FLAGS}
    for name, value in values.items():
        if name in flags.values and not _is_setting(name, value):
            expected = "a number" if name == "retries" else "a duration such as 30s or 1m30s"
            raise statement.error(
                f"--{name}={brief(value)}: expected {expected}", _offset(statement, name)
            )
    return HealthCheck(
        command=Command(words=tuple(words), shell=not statement.json),
        interval=values["interval"],
        timeout=values["timeout"],
        start_period=values["start-period"],
        start_interval=values["start-interval"],
        retries=values["retries"],
        **common,
    )


def _is_setting(name: str, value: str) -> bool:
    if not value:
        return True
    if name == "retries":
        return value.isascii() and value.isdigit() and len(value) < 10
    return bool(_DURATION.fullmatch(value))


def _command(statement: Statement) -> Command:
    if not statement.arguments and not statement.json:
        raise statement.error(
            f"{statement.keyword} needs at least one argument",
            hint=None if statement.keyword == "RUN" else f"for none write {statement.keyword} []",
        )
    return Command(
        words=statement.arguments,
        shell=not statement.json,
        heredocs=tuple(map(without_tabs, statement.heredocs)),
    )


def _choice(statement: Statement, name: str, value: str, known: Collection[str]) -> str:
    offset = _offset(statement, name)
    if offset is not None and value not in known:
        raise statement.error(f"--{name}={brief(value)}: expected {', '.join(known)}", offset)
    return value


def _offset(statement: Statement, name: str) -> int | None:
    """Where a flag is, None where it is not."""
    prefix = f"--{name}="
    return next((f.offset for f in statement.flags if f.text.startswith(prefix)), None)
