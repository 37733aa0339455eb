"""Reads what decides about networks: helper programs, the tun device, resolv.conf and hosts."""

from __future__ import annotations

import os
import socket

from engine.network.model import NetworkFacts

RESOLV_CONF = "/etc/resolv.conf"
# Where systemd-resolved and NetworkManager keep the servers that their own one asks.
REAL_RESOLV_CONFS = ("/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf")
TUN = "/dev/net/tun"
MAX_TEXT = 1 << 20
FULL_MAP = ["0", "0", str((1 << 32) - 1)]


def survey_network(path: tuple[str, ...], *, join_problem: str = "") -> NetworkFacts:
    """The facts; `path` are the directories in which helpers are looked for. Missing files
    are "", missing helpers too. `join_problem` is what probing said against setns(2)."""
    pasta = _program("pasta", path)
    real = (_text(candidate) for candidate in REAL_RESOLV_CONFS)
    return NetworkFacts(
        pasta=pasta,
        pasta_options=_pasta_options(pasta),
        slirp4netns=_program("slirp4netns", path),
        tun_problem=_tun_problem(),
        join_problem=join_problem,
        resolv_conf=_text(RESOLV_CONF),
        real_resolv_conf=next((text for text in real if text), ""),
        hosts=_text("/etc/hosts"),
        host_name=os.uname().nodename,
        host_address=_own_address(socket.AF_INET, ("192.0.2.1", 9)),
        ipv6=bool(_own_address(socket.AF_INET6, ("2001:db8::1", 9))),
        real_root=os.geteuid() == 0 and _text("/proc/self/uid_map").split() == FULL_MAP,
    )


def _program(name: str, path: tuple[str, ...]) -> str:
    candidates = (os.path.join(d, name) for d in path if d.startswith("/"))
    return next((c for c in candidates if os.path.isfile(c) and os.access(c, os.X_OK)), "")


def _pasta_options(pasta: str) -> frozenset[str]:
    """The long options whose names are in the program: asking it by --help would take as long
    as starting it."""
    if not pasta:
        return frozenset()
    try:
        with open(pasta, "rb") as file:
            content = file.read(16 << 20)
    except OSError:
        return frozenset()
    return frozenset(
        f"--{name}" for name in ("map-guest-addr", "dns-forward") if f"{name}\0".encode() in content
    )


def _tun_problem() -> str:
    try:
        os.close(os.open(TUN, os.O_RDWR | os.O_CLOEXEC))
    except OSError as e:
        return f"{TUN}: {(e.strerror or str(e)).lower()}"
    return ""


def _own_address(family: int, target: tuple[str, int]) -> str:
    """This host's address on the way to `target`, to which nothing is sent; "" for no way."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(target)
        except OSError:
            return ""
        name: str = probe.getsockname()[0]
    return name


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(MAX_TEXT)
    except OSError:
        return ""
