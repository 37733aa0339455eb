"""What `config` changes about the image of a working container: pure, from one record to the
next. Rules are those of buildah-config(1): a trailing "-" takes one thing away, "-" alone all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.working.model import WorkingContainer
from imgtools.build.planning import config_state as state
from imgtools.errors import InvalidInput
from imgtools.frozen import dataclass
from imgtools.spec.config import History

NOP = "/bin/sh -c #(nop)"
SECOND = 1_000_000_000
_REFERENCE = re.compile(r"\$(?:\{([^}]*)\}|([A-Za-z_][A-Za-z0-9_]*)|(\$))")
_CHECK: Mapping[str, Any] = {
    "Test": ["NONE"],
    "Interval": 30 * SECOND,
    "Timeout": 30 * SECOND,
    "Retries": 3,
}
Words = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthEdit:
    """Changes of the health check; None for what stays. Durations are Go's ("1m30s"); an empty
    `test` takes the check away."""

    test: Words | None = None
    text: str = ""
    interval: str | None = None
    timeout: str | None = None
    start_period: str | None = None
    start_interval: str | None = None
    retries: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigEdit:
    """Changes, None or () for what stays. Lists have one entry per option, as it was given;
    `history` are texts that the history shall have as steps without a layer."""

    author: str | None = None
    created_by: str | None = None
    architecture: str | None = None
    variant: str | None = None
    os: str | None = None
    os_features: Words = ()
    os_version: str | None = None
    user: str | None = None
    shell: Words | None = None
    stop_signal: str | None = None
    ports: Words = ()
    env: Words = ()
    entrypoint: Words | None = None
    command: Words | None = None
    volumes: Words = ()
    health: HealthEdit | None = None
    labels: Words = ()
    unset_labels: Words = ()
    workdir: str | None = None
    comment: str | None = None
    history_comment: str | None = None
    hostname: str | None = None
    domainname: str | None = None
    triggers: Words = ()
    annotations: Words = ()
    unset_annotations: Words = ()
    history: Words = ()


def edited(
    container: WorkingContainer, edit: ConfigEdit, *, now: str, warn: Callable[[str], object]
) -> WorkingContainer:
    """The container as `edit` wants it; `now` (RFC 3339) is when, `warn` gets what is odd.
    Raises InvalidInput."""
    document = dict(container.document)
    settings: dict[str, Any] = dict(container.run_config)
    for change in (_plain, _process, _environment, _listed, _described):
        settings = change(settings, edit, warn)
    document["config"] = settings
    entries = tuple(History(created=now, created_by=t, empty_layer=True) for t in edit.history)
    return replace(
        container,
        document=_top(document, edit),
        annotations=_annotations(container.annotations, edit),
        before=(*container.before, *entries),
        created_by=_or(edit.created_by, container.created_by),
        history_comment=_or(edit.history_comment, container.history_comment),
        hostname=_or(edit.hostname, container.hostname),
        domainname=_or(edit.domainname, container.domainname),
    )


def _or(value: str | None, before: str) -> str:
    return before if value is None else value


def _top(document: dict[str, Any], edit: ConfigEdit) -> dict[str, Any]:
    """The fields beside `config`."""
    texts = {
        "author": edit.author,
        "architecture": edit.architecture,
        "variant": edit.variant,
        "os": edit.os,
        "os.version": edit.os_version,
        "comment": edit.comment,
    }
    for key, value in texts.items():
        if value is not None:
            document[key] = "" if key == "os.version" and value == "-" else value
    if edit.os_features:
        features = document.get("os.features") or ()
        document["os.features"] = state.with_os_features(features, edit.os_features)
    return {key: value for key, value in document.items() if value not in ("", [])}


Warn = Callable[[str], object]


def _plain(settings: dict[str, Any], edit: ConfigEdit, warn: Warn) -> dict[str, Any]:
    if edit.user is not None:
        settings = {**settings, "User": edit.user}
    if edit.workdir is not None:
        settings = {**settings, "WorkingDir": edit.workdir}
    if edit.stop_signal:
        settings = state.with_stop_signal(settings, edit.stop_signal)
    elif edit.stop_signal is not None:
        settings = {**settings, "StopSignal": ""}
    return {
        key: value
        for key, value in settings.items()
        if value or key not in ("User", "WorkingDir", "StopSignal")
    }


def _process(settings: dict[str, Any], edit: ConfigEdit, warn: Warn) -> dict[str, Any]:
    if edit.shell is not None:
        settings = state.with_shell(settings, edit.shell)
    if edit.entrypoint is not None:
        before = " ".join(settings.get("Cmd") or ())
        settings = state.with_entrypoint(settings, edit.entrypoint, keep_command=True)
        if before and edit.command is None and edit.entrypoint:
            ignored = edit.entrypoint[:2] == state.DEFAULT_SHELL
            fate = "but will be ignored because of entrypoint settings" if ignored else (
                "and will be passed to entrypoint as a parameter")  # fmt: skip
            warn(f"cmd {before!r} exists {fate}")
    if edit.command is not None:
        settings = state.with_command(settings, edit.command)
    if edit.health is not None:
        settings = _health(settings, edit.health)
    return settings


def _environment(settings: dict[str, Any], edit: ConfigEdit, warn: Warn) -> dict[str, Any]:
    for each in edit.env:
        name, sign, value = each.partition("=")
        if sign:
            value = _expanded(value, state.environment(settings), warn)
            settings = state.with_env(settings, [(name, value)])
        elif name == "-":
            settings = state.without_env(settings, state.environment(settings))
        elif name.endswith("-"):
            settings = state.without_env(settings, [name[:-1]])
        else:
            raise InvalidInput(f"setting env {name!r}: no value given")
    return settings


def _expanded(value: str, variables: Mapping[str, str], warn: Warn) -> str:
    """The value with $NAME and ${NAME} replaced by what the config says, and $$ by $; a name
    that it does not know stays without its sign, as with buildah."""

    def found(match: re.Match[str]) -> str:
        if match[3]:
            return "$"
        name = match[1] if match[1] is not None else match[2]
        if name not in variables:
            warn(f"variable {name!r} has no value in the configuration")
        return variables.get(name, name)

    return _REFERENCE.sub(found, value)


def _listed(settings: dict[str, Any], edit: ConfigEdit, warn: Warn) -> dict[str, Any]:
    for port in edit.ports:
        if port.startswith("-"):
            settings = _without(settings, "ExposedPorts", None)
        elif port.endswith("-"):
            known = state.with_ports({}, [port[:-1]])["ExposedPorts"]
            settings = _without(settings, "ExposedPorts", [port[:-1], *known])
        else:
            settings = state.with_ports(settings, [port])
    for volume in edit.volumes:
        if volume == "-":
            settings = _without(settings, "Volumes", None)
        elif volume.endswith("-"):
            settings = _without(settings, "Volumes", [volume[:-1]])
        else:
            settings = state.with_volumes(settings, [volume])
    for trigger in edit.triggers:
        settings = state.with_trigger(settings, trigger)
    return settings


def _without(settings: dict[str, Any], key: str, names: Sequence[str] | None) -> dict[str, Any]:
    """The settings without some names of an object, or (None) without any."""
    kept = {
        name: value
        for name, value in (settings.get(key) or {}).items()
        if names is not None and name not in names
    }
    rest = {k: v for k, v in settings.items() if k != key}
    return {**rest, key: kept} if kept else rest


def _described(settings: dict[str, Any], edit: ConfigEdit, warn: Warn) -> dict[str, Any]:
    for each in edit.labels:
        name, sign, value = each.partition("=")
        if not sign and name == "-":
            settings = state.without_labels(settings)
        elif not sign and name.endswith("-"):
            settings = state.without_labels(settings, [name[:-1]])
        elif not name:
            raise InvalidInput(f"label {each!r} has no name")
        else:
            settings = state.with_labels(settings, [(name, value)])
    if edit.unset_labels:
        settings = state.without_labels(settings, edit.unset_labels)
    return settings


def _annotations(before: Mapping[str, str], edit: ConfigEdit) -> dict[str, str]:
    found = dict(before)
    for each in edit.annotations:
        name, sign, value = each.partition("=")
        if not sign and name == "-":
            found = {}
        elif not sign and name.endswith("-"):
            found.pop(name[:-1], None)
        elif not name:
            raise InvalidInput(f"annotation {each!r} has no name")
        else:
            found[name] = value
    for name in edit.unset_annotations:
        found.pop(name, None)
    return found


def _health(settings: dict[str, Any], edit: HealthEdit) -> dict[str, Any]:
    check = dict(settings.get("Healthcheck") or _CHECK)
    if edit.test is not None:
        check["Test"] = list(edit.test)
    durations = (
        ("Interval", "interval", edit.interval),
        ("Timeout", "timeout", edit.timeout),
        ("StartPeriod", "start-period", edit.start_period),
        ("StartInterval", "start-interval", edit.start_interval),
    )
    for key, option, text in durations:
        if text is not None:
            check[key] = state.duration(text, f"--healthcheck-{option}")
    if edit.retries is not None:
        check["Retries"] = edit.retries
    check = {key: value for key, value in check.items() if value}
    rest = {key: value for key, value in settings.items() if key != "Healthcheck"}
    return {**rest, "Healthcheck": check} if check.get("Test") else rest
