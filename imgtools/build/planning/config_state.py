"""What instructions do to an image's config, as functions from one `settings` to the next.

`settings` is the `config` object of an image config (OCI image-spec config.md, with the fields
that only Docker has: Healthcheck, Shell, OnBuild). No argument is ever changed. The rules are
those of the Dockerfile reference.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from imgtools.errors import InvalidInput

Settings = Mapping[str, Any]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL = ("/bin/sh", "-c")
MAX_PORTS = 65536
_PORT_DIGITS = 5
_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
# The names that BuildKit and buildah know, those of Linux whatever runs the build.
_SIGNAL = re.compile(
    r"""(?:SIG)?(?:ABRT|ALRM|BUS|CHLD|CLD|CONT|FPE|HUP|ILL|INT|IO|IOT|KILL|PIPE|POLL|PROF|PWR|QUIT
    |SEGV|STKFLT|STOP|SYS|TERM|TRAP|TSTP|TTIN|TTOU|URG|USR1|USR2|VTALRM|WINCH|XCPU|XFSZ
    |RTMIN(?:\+(?:[1-9]|1[0-5]))?|RTMAX(?:-(?:[1-9]|1[0-4]))?)|0*[1-9][0-9]*""",
    re.IGNORECASE | re.VERBOSE | re.ASCII,
)
_UNIT = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")


def _with(settings: Settings, key: str, value: Any) -> dict[str, Any]:
    changed = dict(settings)
    if value in (None, "", [], {}):
        changed.pop(key, None)
    else:
        changed[key] = value
    return changed


def environment(settings: Settings) -> dict[str, str]:
    """The variables of the config, in order; the last of one name counts."""
    found: dict[str, str] = {}
    for item in settings.get("Env") or ():
        name, _, value = item.partition("=")
        found[name] = value
    return found


def with_env(settings: Settings, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """ENV: a variable that is there keeps its place."""
    variables = environment(settings)
    for name, value in pairs:
        if not name or "=" in name or "\0" in name + value:
            raise InvalidInput(f"invalid name of a variable: {name!r}")
        variables[name] = value
    return _with(settings, "Env", [f"{name}={value}" for name, value in variables.items()])


def without_env(settings: Settings, names: Iterable[str]) -> dict[str, Any]:
    """--unsetenv."""
    gone = set(names)
    kept = [item for item in settings.get("Env") or () if item.partition("=")[0] not in gone]
    return _with(settings, "Env", kept)


def with_labels(settings: Settings, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """LABEL; the names end up sorted, as Go writes maps."""
    labels = {**(settings.get("Labels") or {}), **dict(pairs)}
    return _with(settings, "Labels", dict(sorted(labels.items())))


def without_labels(settings: Settings, names: Iterable[str] | None = None) -> dict[str, Any]:
    """--unsetlabel, or no label at all (None)."""
    gone = set(names) if names is not None else set(settings.get("Labels") or {})
    kept = {k: v for k, v in (settings.get("Labels") or {}).items() if k not in gone}
    return _with(settings, "Labels", kept)


def with_command(settings: Settings, words: Sequence[str]) -> dict[str, Any]:
    """CMD; an empty list removes it."""
    return _with(settings, "Cmd", list(words))


def with_entrypoint(
    settings: Settings, words: Sequence[str], *, keep_command: bool
) -> dict[str, Any]:
    """ENTRYPOINT: takes away a CMD that was inherited, `keep_command` says that it was not."""
    changed = _with(settings, "Entrypoint", list(words))
    return changed if keep_command else _with(changed, "Cmd", None)


def in_shell(settings: Settings, line: str) -> tuple[str, ...]:
    """The words that execute a line in shell form."""
    return (*(settings.get("Shell") or DEFAULT_SHELL), line)


def with_shell(settings: Settings, words: Sequence[str]) -> dict[str, Any]:
    """SHELL."""
    return _with(settings, "Shell", list(words))


def with_user(settings: Settings, user: str) -> dict[str, Any]:
    """USER; a variable that is not set makes it the image's default, root, as in BuildKit."""
    return _with(settings, "User", user)


def with_workdir(settings: Settings, path: str) -> dict[str, Any]:
    """WORKDIR: a relative path is below the one before."""
    return _with(settings, "WorkingDir", resolved_path(settings, path))


def resolved_path(settings: Settings, path: str) -> str:
    """`path` below the working directory unless absolute, cleaned; never above the root."""
    current = settings.get("WorkingDir") or "/"
    parts: list[str] = []
    for part in (path if path.startswith("/") else f"{current}/{path}").split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def with_volumes(settings: Settings, paths: Iterable[str]) -> dict[str, Any]:
    """VOLUME."""
    volumes = dict(settings.get("Volumes") or {})
    for path in paths:
        if not path.strip():
            raise InvalidInput("VOLUME has an empty path")
        volumes[path] = {}
    return _with(settings, "Volumes", dict(sorted(volumes.items())))


def with_stop_signal(settings: Settings, signal: str) -> dict[str, Any]:
    """STOPSIGNAL: a name, with or without SIG, or a number."""
    if not _SIGNAL.fullmatch(signal):
        raise InvalidInput(f"{signal!r} is no signal", hint="such as SIGTERM or 15")
    return _with(settings, "StopSignal", signal)


def with_trigger(settings: Settings, text: str) -> dict[str, Any]:
    """ONBUILD."""
    return _with(settings, "OnBuild", [*(settings.get("OnBuild") or ()), text])


def without_triggers(settings: Settings) -> dict[str, Any]:
    """What a child starts with, once it has executed the triggers."""
    return _with(settings, "OnBuild", None)


def with_ports(settings: Settings, words: Iterable[str]) -> dict[str, Any]:
    """EXPOSE: PORT[-PORT][/PROTOCOL]; protocols in any case, tcp without one."""
    ports = dict(settings.get("ExposedPorts") or {})
    for word in words:
        for port in _ports(word):
            ports[port] = {}
    ordered = sorted(ports, key=_port_order)
    return _with(settings, "ExposedPorts", {port: {} for port in ordered})


def _port_order(port: str) -> tuple[int, str]:
    """By number; a base image's config may call a port anything."""
    number = port.partition("/")[0]
    plain = number.isascii() and number.isdigit() and len(number) <= _PORT_DIGITS
    return (int(number) if plain else MAX_PORTS, port)


def _ports(word: str) -> list[str]:
    """[[ADDRESS:]HOST_PORTS:]PORTS[/PROTOCOL]: what stands before the ports is for `run`. BuildKit
    checks it, warns (ExposeInvalidFormat) and leaves it out."""
    hint = "expected PORT, FIRST-LAST or either with /tcp, /udp or /sctp"
    host, _, container = word.rpartition(":")
    address, _, host_ports = host.rpartition(":")
    ports, _, protocol = container.partition("/")
    found = _port_range(ports)
    protocol = protocol.lower() or "tcp"
    if found is None or protocol not in ("tcp", "udp", "sctp"):
        raise InvalidInput(f"invalid port {word!r}", hint=hint)
    if not _is_address(address):
        raise InvalidInput(f"invalid port {word!r}: {address!r} is no address", hint=hint)
    if host_ports:
        outside = _port_range(host_ports)
        if outside is None or len(found) not in (1, len(outside)):
            raise InvalidInput(f"invalid port {word!r}: not as many on either side", hint=hint)
    return [f"{port}/{protocol}" for port in found]


def _port_range(text: str) -> range | None:
    found = _PORT.fullmatch(text)
    if found is None:
        return None
    first, last = int(found[1]), int(found[2] or found[1])
    return range(first, last + 1) if first <= last < MAX_PORTS else None


def _is_address(text: str) -> bool:
    """Whether it is none at all, or IPv4 or IPv6, this with or without brackets."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        return not text
    return True


def with_healthcheck(
    settings: Settings,
    test: Sequence[str],
    *,
    interval: str = "",
    timeout: str = "",
    start_period: str = "",
    start_interval: str = "",
    retries: str = "",
) -> dict[str, Any]:
    """HEALTHCHECK: `test` is ["NONE"], ["CMD", ...] or ["CMD-SHELL", line]; durations are Go's
    ("1m30s"), written as nanoseconds."""
    check: dict[str, Any] = {"Test": list(test)}
    durations = (
        ("Interval", "--interval", interval),
        ("Timeout", "--timeout", timeout),
        ("StartPeriod", "--start-period", start_period),
        ("StartInterval", "--start-interval", start_interval),
    )
    for key, option, text in durations:
        value = duration(text, option) if text else 0
        if value:
            check[key] = value
    if retries:
        if not retries.isascii() or not retries.isdigit() or len(retries) > 9:
            raise InvalidInput(f"--retries={retries}: expected a number of at least 0")
        if int(retries):
            check["Retries"] = int(retries)
    return _with(settings, "Healthcheck", check)


def duration(text: str, option: str) -> int:
    """Nanoseconds of a Go duration; 0, or at least a millisecond. Raises InvalidInput."""
    total, at = 0.0, 0
    while at < len(text) and (found := _DURATION.match(text, at)):
        total += float(found[1]) * _UNIT[found[2]]
        at = found.end()
    if (at < len(text) and text != "0") or not text or total >= 2**63:
        raise InvalidInput(f"{option}={text}: expected a duration such as 30s or 1m30s")
    if 0 < total < 1_000_000:
        raise InvalidInput(f"{option}={text}: less than a millisecond")
    return int(total)


def with_os_features(features: Sequence[str], asked: Sequence[str]) -> list[str]:
    """os.features with those of --os-feature in turn: `name-` takes one away, `-` all (buildah
    config)."""
    found = list(features)
    for each in asked:
        if each.endswith("-"):
            found = [feature for feature in found if each != "-" and feature != each[:-1]]
        elif each not in found:
            found.append(each)
    return found
