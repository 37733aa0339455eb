"""Decides how a container is connected. Pure.

The helpers' options are those that podman gives them: no ports are forwarded in either
direction, and the host's loopback cannot be reached.
"""

from __future__ import annotations

from engine.network.model import PACKAGES, Mode, NetworkFacts, NetworkPlan
from imgtools.errors import InvalidInput, Unsupported

PASTA_DNS = "169.254.1.1"
PASTA_HOST = "169.254.1.2"
SLIRP_DNS = "10.0.2.3"
SLIRP_ADDRESS = "10.0.2.100"
SLIRP_INTERFACE = "tap0"
MTU = 65520


def prepare_network(mode: str | None, facts: NetworkFacts) -> NetworkPlan:
    """The plan for `mode`: "host", "none", "pasta", "slirp4netns", or None for the default.

    The default is pasta, else slirp4netns. Raises InvalidInput for an unknown mode and
    Unsupported, naming the package, where a helper is missing. A plan without `host_address`
    leaves the host reachable at its own address only.
    """
    if mode == "host":
        return NetworkPlan(mode="host", private=False, host_address="127.0.0.1")
    if mode == "none":
        return NetworkPlan(mode="none", private=True, interface="lo")
    if mode is None or mode == "private":
        return _default(facts)
    if mode == "pasta":
        return _pasta(facts)
    if mode == "slirp4netns":
        return _slirp4netns(facts)
    expected = "host, none, pasta, slirp4netns or private"
    if mode == "bridge":
        raise Unsupported("network bridge is not supported", hint=f"use {expected}")
    raise InvalidInput(f"unknown network {mode!r}: expected {expected}")


def _default(facts: NetworkFacts) -> NetworkPlan:
    reasons: list[str] = []
    for plan in (_pasta, _slirp4netns):
        try:
            found = plan(facts)
        except Unsupported as e:
            reasons.append(e.message)
            continue
        return NetworkPlan(
            mode=found.mode,
            private=True,
            helper=found.helper,
            interface=found.interface,
            nameservers=found.nameservers,
            address=found.address,
            host_address=found.host_address,
            why="; ".join([f"the default is {found.mode}", *reasons]),
        )
    raise Unsupported(
        "no network for containers: " + "; ".join(reasons),
        hint="install pasta (package passt), or choose --network host or none",
    )


def _pasta(facts: NetworkFacts) -> NetworkPlan:
    _require("pasta", facts.pasta, facts.tun_problem)
    command = [facts.pasta, "--config-net", "--foreground"]
    if facts.real_root:
        # As nobody, which is its default, pasta may not enter a namespace that root made.
        command += ["--runas", "0"]
    command += ["-t", "none", "-u", "none", "-T", "none", "-U", "none"]
    command += ["--no-map-gw", "--quiet", "--dns-forward", PASTA_DNS]
    # Only since 2024; it gives the host an address that the guest can use.
    reachable = "--map-guest-addr" in facts.pasta_options
    if reachable:
        command += ["--map-guest-addr", PASTA_HOST]
    return NetworkPlan(
        mode="pasta",
        private=True,
        helper=tuple(command),
        nameservers=(PASTA_DNS,),
        # pasta gives the container the host's own address.
        address=facts.host_address,
        host_address=PASTA_HOST if reachable else "",
    )


def _slirp4netns(facts: NetworkFacts) -> NetworkPlan:
    _require("slirp4netns", facts.slirp4netns, facts.tun_problem)
    command = [facts.slirp4netns, "--configure", f"--mtu={MTU}", "--disable-host-loopback"]
    return NetworkPlan(
        mode="slirp4netns",
        private=True,
        helper=tuple(command),
        interface=SLIRP_INTERFACE,
        nameservers=(SLIRP_DNS,),
        address=SLIRP_ADDRESS,
    )


def _require(mode: Mode, path: str, tun_problem: str) -> None:
    if not path:
        raise Unsupported(
            f"network {mode}: {mode} is not installed",
            hint=f"install the package {PACKAGES[mode]}, or choose --network host or none",
        )
    if tun_problem:
        raise Unsupported(
            f"network {mode}: {tun_problem}",
            hint="load the module tun, give the container /dev/net/tun, or choose --network host",
        )
