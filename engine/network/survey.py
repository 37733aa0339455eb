"""Reads what decides about networks: helper programs, the tun device, resolv.conf and hosts."""

from __future__ import annotations

import os
import socket

from engine.network.model import NetworkFacts
from engine.runtime.kernel.files import find_program, read_if_there, text_if_there
from engine.runtime.kernel.proc import in_initial_user_namespace

RESOLV_CONF = "/etc/resolv.conf"
# Where systemd-resolved and NetworkManager keep the servers that their own one asks.
REAL_RESOLV_CONFS = ("/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf")
TUN = "/dev/net/tun"


def survey_network(path: tuple[str, ...], *, join_problem: str = "") -> NetworkFacts:
    """The facts; `path` are the directories in which helpers are looked for. Missing files
    are "", missing helpers too. `join_problem` is what probing said against setns(2)."""
    pasta = find_program("pasta", path)
    real = (text_if_there(candidate) for candidate in REAL_RESOLV_CONFS)
    return NetworkFacts(
        pasta=pasta,
        pasta_options=_pasta_options(pasta),
        slirp4netns=find_program("slirp4netns", path),
        tun_problem=_tun_problem(),
        join_problem=join_problem,
        resolv_conf=text_if_there(RESOLV_CONF),
        real_resolv_conf=next((text for text in real if text), ""),
        hosts=text_if_there("/etc/hosts"),
        host_name=os.uname().nodename,
        host_address=_own_address(socket.AF_INET, ("192.0.2.1", 9)),
        ipv6=bool(_own_address(socket.AF_INET6, ("2001:db8::1", 9))),
        real_root=os.geteuid() == 0 and in_initial_user_namespace(),
    )


def _pasta_options(pasta: str) -> frozenset[str]:
    """The long options whose names are in the program: asking it by --help would take as long
    as starting it."""
    if not pasta:
        return frozenset()
    content = read_if_there(pasta, 16 << 20)
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
