"""The options of `run` as frozen values: podman's names and podman's reading of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.command import go_bool
from imgtools.errors import InvalidInput, StorageError, Unsupported

if TYPE_CHECKING:
    from engine.containers.options import Limits, RunOptions, Security

UNLIMITED = (1 << 64) - 1
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?) ?([bkmgtp]?)(?:i?b)?", re.IGNORECASE)
_POWERS = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def run_flags(function: Any) -> Any:
    """A decorator that adds the options of a container."""
    decorators = (
        go_bool("--interactive", "-i", help="Keep standard input open."),
        go_bool("--tty", "-t", help="Give the container a terminal."),
        click.option("--env", "-e", multiple=True, metavar="NAME[=VALUE]",
                     help="Set a variable; without a value it is ours."),
        click.option("--env-file", multiple=True, type=click.Path(), metavar="FILE",
                     help="Set variables from lines of NAME=VALUE."),
        click.option("--unsetenv", multiple=True, metavar="NAME",
                     help="Leave out a variable of the image."),
        click.option("--volume", "-v", multiple=True, metavar="SOURCE:DESTINATION[:OPTIONS]",
                     help="Show a directory or file of the host in the container."),
        click.option("--device", multiple=True, metavar="SOURCE[:PATH[:ACCESS]]",
                     help="Show a device of the host in the container."),
        click.option("--tmpfs", multiple=True, metavar="DESTINATION[:OPTIONS]",
                     help="Mount an empty file system in memory."),
        click.option("--workdir", "-w", default="", metavar="DIR", help="Working directory."),
        click.option("--user", "-u", default="", metavar="USER[:GROUP]",
                     help="User, by name or number."),
        click.option("--group-add", multiple=True, metavar="GROUP",
                     help="A further group, by name or number."),
        go_bool("--rm", default=True, help="Remove the container when it ends (always done)."),
        click.option("--name", default="", metavar="NAME", help="A name for the container."),
        click.option("--hostname", default="", metavar="NAME", help="Host name."),
        click.option("--network", "--net", default="", metavar="MODE",
                     help="host, none, pasta, slirp4netns or private (default: what works)."),
        click.option("--dns", multiple=True, metavar="ADDRESS", help="Name server."),
        click.option("--dns-search", multiple=True, metavar="DOMAIN", help="Search domain."),
        click.option("--dns-option", multiple=True, metavar="OPTION", help="Option of resolver."),
        click.option("--add-host", multiple=True, metavar="NAME:ADDRESS", help="Entry of hosts."),
        go_bool("--read-only", help="Make the root file system read-only."),
        click.option("--cap-add", multiple=True, metavar="CAP", help="Add a capability, or ALL."),
        click.option("--cap-drop", multiple=True, metavar="CAP", help="Drop a capability, or ALL."),
        click.option("--security-opt", multiple=True, metavar="OPTION",
                     help="no-new-privileges, seccomp=FILE|unconfined, mask=, unmask=, ..."),
        go_bool("--privileged", help="All capabilities, no seccomp, nothing masked."),
        click.option("--memory", "-m", metavar="SIZE", help="Limit of memory, such as 512m."),
        click.option("--memory-swap", metavar="SIZE", help="Limit of memory and swap; -1: none."),
        click.option("--pids-limit", type=click.IntRange(-1), metavar="N",
                     help="Limit of processes; -1: none."),
        click.option("--cpus", type=click.FloatRange(0, 4096), metavar="N",
                     help="Limit of processors, such as 1.5."),
        click.option("--cpu-shares", type=click.IntRange(2, 262144), metavar="N",
                     help="Weight among others."),
        click.option("--cpuset-cpus", default="", metavar="LIST", help="Processors to run on."),
        click.option("--ulimit", multiple=True, metavar="NAME=SOFT[:HARD]", help="Resource limit."),
        click.option("--shm-size", metavar="SIZE", help="Size of /dev/shm (default: 64m)."),
        click.option("--entrypoint", metavar="WORDS",
                     help="Instead of the image's: one word, or a JSON list."),
        click.option("--annotation", multiple=True, metavar="NAME=VALUE", help="Annotation."),
        click.option("--isolation", metavar="KIND",
                     help="root, userns, ranges or single (default: the strongest that works)."),
        click.option("--pull", default="missing", metavar="POLICY",
                     type=click.Choice(["missing", "always", "never", "newer"]),
                     help="When to pull the image: missing (default), always, never, newer."),
    )  # fmt: skip
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


def run_options(
    kwargs: dict[str, Any], command: Sequence[str], env: Mapping[str, str], directory: str
) -> RunOptions:
    """Take the values of `run_flags` out of `kwargs`; `env` is the caller's environment and
    `directory` where relative volumes begin. Raises InvalidInput, Unsupported, StorageError."""
    from engine.containers.options import RunOptions
    from engine.containers.volumes import parse_device, parse_tmpfs, parse_volume
    from engine.network.model import DnsOptions

    if not kwargs.pop("rm"):
        raise Unsupported("--rm=false: containers are removed when they end")
    workdir = kwargs.pop("workdir")
    if workdir and not workdir.startswith("/"):
        raise InvalidInput(f"--workdir {workdir}: expected an absolute path")
    return RunOptions(
        command=tuple(command),
        entrypoint=_entrypoint(kwargs.pop("entrypoint")),
        env=_environment(kwargs.pop("env_file"), kwargs.pop("env"), env),
        unset_env=tuple(kwargs.pop("unsetenv")),
        workdir=workdir,
        user=kwargs.pop("user"),
        group_add=tuple(kwargs.pop("group_add")),
        hostname=kwargs.pop("hostname"),
        name=_name(kwargs.pop("name")),
        interactive=kwargs.pop("interactive"),
        terminal=kwargs.pop("tty"),
        volumes=tuple(parse_volume(text, directory) for text in kwargs.pop("volume")),
        devices=tuple(parse_device(text) for text in kwargs.pop("device")),
        tmpfs=tuple(parse_tmpfs(text) for text in kwargs.pop("tmpfs")),
        network=kwargs.pop("network"),
        dns=DnsOptions(
            servers=tuple(kwargs.pop("dns")),
            searches=tuple(kwargs.pop("dns_search")),
            options=tuple(kwargs.pop("dns_option")),
        ),
        add_hosts=tuple(kwargs.pop("add_host")),
        read_only=kwargs.pop("read_only"),
        limits=_limits(kwargs),
        security=_security(kwargs),
        isolation=kwargs.pop("isolation"),
        pull=kwargs.pop("pull"),
        annotations=_pairs(kwargs.pop("annotation"), "--annotation"),
    )


def _security(kwargs: dict[str, Any]) -> Security:
    from engine.containers.options import Security
    from engine.containers.security import parse_security

    return parse_security(
        kwargs.pop("security_opt"),
        Security(
            cap_add=_split(kwargs.pop("cap_add")),
            cap_drop=_split(kwargs.pop("cap_drop")),
            privileged=kwargs.pop("privileged"),
        ),
    )


def _limits(kwargs: dict[str, Any]) -> Limits:
    from engine.containers.options import Limits

    memory = parse_size(kwargs.pop("memory"), "--memory")
    swap = parse_size(kwargs.pop("memory_swap"), "--memory-swap")
    if swap is not None and memory is None:
        if swap > 0:
            raise InvalidInput("--memory-swap needs --memory")
        swap = None
    if memory is not None and swap is not None and 0 <= swap < memory:
        raise InvalidInput("--memory-swap is memory and swap together: less than --memory")
    shm = parse_size(kwargs.pop("shm_size"), "--shm-size")
    ulimits = list(kwargs.pop("ulimit"))
    host = "host" in ulimits
    found = Limits(
        memory=memory or None,
        memory_swap=swap,
        pids=kwargs.pop("pids_limit"),
        cpus=kwargs.pop("cpus"),
        cpu_shares=kwargs.pop("cpu_shares"),
        cpuset_cpus=kwargs.pop("cpuset_cpus"),
        ulimits=tuple(parse_ulimit(text) for text in ulimits if text != "host"),
        host_ulimits=host,
    )
    if shm is None:
        return found
    from dataclasses import replace

    return replace(found, shm_size=shm)


def parse_size(text: str | None, option: str) -> int | None:
    """Bytes, in the powers of 1024 that podman means by k, m and g."""
    if text is None:
        return None
    if text == "-1":
        return -1
    found = _SIZE.fullmatch(text)
    if not found:
        raise InvalidInput(f"{option} {text}: expected a size such as 512m")
    factor = 1 << (10 * _POWERS[found[2].lower()])
    whole, _, part = found[1].partition(".")
    divisor: int = 10 ** len(part)
    return int(whole) * factor + int(part or 0) * factor // divisor


def parse_ulimit(text: str) -> tuple[str, int, int]:
    """NAME=SOFT[:HARD] as (RLIMIT_ name, soft, hard); raises InvalidInput."""
    from engine.runtime.process.rlimits import NAMES

    name, sign, values = text.partition("=")
    soft, _, hard = values.partition(":")
    if not sign or not name.isalpha():
        raise InvalidInput(f"--ulimit {text}: expected NAME=SOFT[:HARD]")
    numbers = []
    for value in (soft, hard or soft):
        if value not in ("-1", "unlimited") and not (value.isascii() and value.isdigit()):
            raise InvalidInput(f"--ulimit {text}: {value!r} is not a number")
        numbers.append(UNLIMITED if value in ("-1", "unlimited") else int(value))
    found = f"RLIMIT_{name.upper()}"
    if found not in NAMES:
        raise InvalidInput(f"--ulimit {text}: there is no limit {name!r}")
    if numbers[0] > numbers[1]:
        raise InvalidInput(f"--ulimit {text}: the soft limit is above the hard one")
    return found, numbers[0], numbers[1]


def _entrypoint(text: str | None) -> tuple[str, ...] | None:
    """A JSON list of texts; anything else is one word, as for podman and docker."""
    if text is None:
        return None
    if text.startswith("["):
        try:
            words = json.loads(text)
        except ValueError:
            words = [None]
        if all(isinstance(word, str) for word in words):
            return tuple(words)
    return (text,) if text else ()


def _environment(
    files: Sequence[str], entries: Sequence[str], env: Mapping[str, str]
) -> tuple[str, ...]:
    found = []
    lines = [line for path in files for line in _env_file(path)]
    for entry in (*lines, *entries):
        name, sign, _ = entry.partition("=")
        if not name:
            raise InvalidInput(f"--env {entry}: expected NAME or NAME=VALUE")
        if sign:
            found.append(entry)
        elif name.endswith("*"):
            found += [f"{n}={v}" for n, v in env.items() if n.startswith(name[:-1])]
        elif name in env:
            found.append(f"{name}={env[name]}")
    return tuple(found)


def _env_file(path: str) -> list[str]:
    """The entries of an --env-file: a line each, comments and empty lines left out. As podman
    does, white space before a name goes, quotes stay."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.rstrip("\n").lstrip() for line in file]
    except OSError as e:
        raise StorageError(f"--env-file {path}: {(e.strerror or '').lower()}", path=path) from e
    if any("\0" in line for line in lines):
        raise InvalidInput(f"--env-file {path}: it is no text")
    return [line for line in lines if line and not line.startswith("#")]


def _name(name: str) -> str:
    if name and not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", name):
        raise InvalidInput(f"--name {name}: expected letters, digits and _ . -")
    return name


def _split(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for value in values for word in value.split(",") if word)


def _pairs(values: Sequence[str], option: str) -> dict[str, str]:
    found = {}
    for value in values:
        name, sign, rest = value.partition("=")
        if not sign or not name:
            raise InvalidInput(f"{option} {value}: expected NAME=VALUE")
        found[name] = rest
    return found
