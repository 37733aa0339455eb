"""What `build`'s options say about how RUN is run, as the data that an engine is given."""

from __future__ import annotations

import os
from typing import Any

from imgtools.build.protocols import HostSettings
from imgtools.cli.build_values import words
from imgtools.cli.run_options import parse_size, parse_ulimit
from imgtools.errors import InvalidInput, Unsupported

_LATER = ("takeover", "trace")
_NETWORKS = "host, none, pasta, slirp4netns or private"
_BEST = ("", "auto", "oci", "rootless", "default")


def host_settings(kwargs: dict[str, Any]) -> HostSettings:
    """Take the values of `step_flags` that every RUN is given out of `kwargs`. Raises
    InvalidInput where they contradict each other, Unsupported."""
    dns = words(kwargs.pop("dns"))
    dns_search = words(kwargs.pop("dns_search"))
    dns_options = words(kwargs.pop("dns_option"))
    network = _network(kwargs.pop("network"))
    _check_dns(network, dns, dns_search, dns_options)
    add_hosts, no_hosts = words(kwargs.pop("add_host")), kwargs.pop("no_hosts")
    if no_hosts and add_hosts:
        raise InvalidInput("--no-hosts and --add-host cannot be given together")
    for option in ("cgroupns", "ipc", "pid", "uts"):
        _private(option, kwargs.pop(option))
    memory, swap = _memory(kwargs.pop("memory"), kwargs.pop("memory_swap"))
    shm = parse_size(kwargs.pop("shm_size"), "--shm-size")
    if shm is not None and shm <= 0:
        raise InvalidInput("--shm-size has to be more than nothing")
    devices = kwargs.pop("device")
    if devices:
        from engine.containers.volumes import parse_device

        for text in devices:
            parse_device(text)
    quota = kwargs.pop("cpu_quota")
    found = HostSettings(
        network=network,
        add_hosts=add_hosts,
        no_hosts=no_hosts,
        no_hostname=kwargs.pop("no_hostname"),
        dns=dns,
        dns_options=dns_options,
        dns_search=dns_search,
        cap_add=words(kwargs.pop("cap_add")),
        cap_drop=words(kwargs.pop("cap_drop")),
        security_opt=kwargs.pop("security_opt"),
        ulimits=tuple(parse_ulimit(text) for text in words(kwargs.pop("ulimit"))),
        memory=memory,
        memory_swap=swap,
        cpu_shares=kwargs.pop("cpu_shares") or None,
        cpu_period=kwargs.pop("cpu_period") or None,
        cpu_quota=quota if quota and quota > 0 else None,
        cpuset_cpus=kwargs.pop("cpuset_cpus"),
        cpuset_mems=kwargs.pop("cpuset_mems"),
        shm_size=shm or HostSettings().shm_size,
        volumes=_volumes(kwargs.pop("volume")),
        devices=devices,
        group_add=words(kwargs.pop("group_add")),
    )
    _check(found)
    return found


def _check(settings: HostSettings) -> None:
    """Raise for what no RUN could have, also where there is none, or where all are remembered."""
    if settings.cap_add or settings.cap_drop or settings.security_opt:
        from engine.containers.options import Security
        from engine.containers.security import capability_names, parse_security

        security = Security(cap_add=settings.cap_add, cap_drop=settings.cap_drop)
        capability_names(parse_security(settings.security_opt, security))
    if settings.add_hosts:
        from engine.network.files import check_host

        for text in settings.add_hosts:
            check_host(text)
    if "keep-groups" in settings.group_add:
        raise Unsupported("--group-add keep-groups: the caller's groups are not passed on")


def isolation_kind(isolation: str, userns: str) -> str | None:
    """The kind of isolation that --isolation and --userns ask the engine for; None for the
    strongest that works. Raises InvalidInput, Unsupported."""
    kind = isolation.lower()
    if kind in _LATER:
        raise Unsupported(f"--isolation {isolation} is not supported by this version")
    asked = None if kind in _BEST else kind
    if not userns:
        return asked
    wanted = {"private": "userns", "container": "userns", "host": "root"}.get(userns)
    if wanted is None:
        raise Unsupported(
            f"--userns {userns} is not supported", hint="use private, or host, or leave it out"
        )
    if asked not in (None, wanted) and not (wanted == "userns" and asked in ("ranges", "single")):
        raise InvalidInput(f"--isolation {isolation} and --userns {userns} contradict each other")
    return asked or wanted


def _network(mode: str) -> str:
    if mode in ("", "default"):
        return ""
    if mode == "container":
        return "private"
    if mode.startswith(("ns:", "/", "container:")):
        raise Unsupported(
            f"--network {mode}: the network of something else cannot be joined", hint="use host"
        )
    name, options, _ = mode.partition(":")
    if mode == "bridge" or (options and name in ("bridge", "pasta", "slirp4netns")):
        raise Unsupported(f"--network {mode} is not supported", hint=f"use {_NETWORKS}")
    if mode not in ("host", "none", "pasta", "slirp4netns", "private"):
        raise InvalidInput(f"--network {mode}: expected {_NETWORKS}")
    return mode


def _check_dns(
    network: str, dns: tuple[str, ...], search: tuple[str, ...], options: tuple[str, ...]
) -> None:
    given = {"--dns": dns, "--dns-search": search, "--dns-option": options}
    named = [name for name, values in given.items() if values]
    if network == "none" and named:
        raise InvalidInput(f"{named[0]} cannot be given with --network none")
    if "none" in (word.lower() for word in dns) and (len(dns) > 1 or named != ["--dns"]):
        raise InvalidInput("--dns none cannot be given with other settings of the resolver")


def _private(option: str, value: str) -> None:
    """Each step has its own namespaces; whoever asks for less does not get it unnoticed."""
    if value not in ("", "private", "container"):
        raise Unsupported(f"--{option} {value} is not supported", hint="it is always private")


def _memory(memory: str | None, swap: str | None) -> tuple[int | None, int | None]:
    limit = parse_size(memory, "--memory")
    both = parse_size(swap, "--memory-swap")
    if both and both > 0 and not limit:
        raise InvalidInput("--memory-swap needs --memory")
    if limit and both is not None and 0 < both < limit:
        raise InvalidInput("--memory-swap is memory and swap together: less than --memory")
    return limit or None, (both or None) if limit else None


def _volumes(values: tuple[str, ...]) -> tuple[str, ...]:
    """Volumes with absolute sources, so that whoever mounts them need not know where we are."""
    if not values:
        return ()
    from engine.containers.volumes import parse_volume

    directory = os.getcwd() if any(not text.startswith("/") for text in values) else "/"
    found = [parse_volume(text, directory) for text in values]
    parts = [(v.source, v.destination, ",".join(v.options)) for v in found]
    return tuple(":".join(part for part in each if part) for each in parts)
