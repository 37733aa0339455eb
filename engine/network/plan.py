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

    The default is pasta, else slirp4netns; see `_default` for where neither can work. A plan
    without `host_address` leaves the host reachable at its own address only. Raises InvalidInput
    for an unknown mode and Unsupported, naming the package, where a helper is missing.
    """
    if mode == "host":
        return NetworkPlan(mode="host", private=False, host_address="127.0.0.1")
    if mode == "none":
        return NetworkPlan(mode="none", private=True, interface="lo")
    if mode is None or mode == "private":
        return _default(facts)
    if mode == "pasta":
        return _pasta(facts, "asked for")
    if mode == "slirp4netns":
        return _slirp4netns(facts, "asked for")
    expected = "host, none, pasta, slirp4netns or private"
    if mode == "bridge":
        raise Unsupported("network bridge is not supported", hint=f"use {expected}")
    raise InvalidInput(f"unknown network {mode!r}: expected {expected}")


def _default(facts: NetworkFacts) -> NetworkPlan:
    """The first helper that is installed. Where this host lets none of them work, as in most
    pods, the network we are in ourselves: it is as good as the one we could make of it."""
    impossible = facts.join_problem or facts.tun_problem
    if impossible:
        return NetworkPlan(
            mode="host",
            private=False,
            host_address="127.0.0.1",
            why=f"no other can be made here: {impossible}",
            warning=f"containers share the network of this process: {impossible}",
        )
    for name, plan in (("pasta", _pasta), ("slirp4netns", _slirp4netns)):
        if getattr(facts, name):
            return plan(facts, f"the default is {name}")
    raise Unsupported(
        "no network for containers: neither pasta nor slirp4netns is installed",
        hint="install the package passt, or choose --network host or none",
    )


def _pasta(facts: NetworkFacts, why: str) -> NetworkPlan:
    _require("pasta", facts.pasta, facts)
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
        why=why,
        helper=tuple(command),
        nameservers=(PASTA_DNS,),
        # pasta gives the container the host's own address.
        address=facts.host_address,
        host_address=PASTA_HOST if reachable else "",
    )


def _slirp4netns(facts: NetworkFacts, why: str) -> NetworkPlan:
    _require("slirp4netns", facts.slirp4netns, facts)
    command = [facts.slirp4netns, "--configure", f"--mtu={MTU}", "--disable-host-loopback"]
    return NetworkPlan(
        mode="slirp4netns",
        private=True,
        why=why,
        helper=tuple(command),
        interface=SLIRP_INTERFACE,
        nameservers=(SLIRP_DNS,),
        address=SLIRP_ADDRESS,
    )


def _require(mode: Mode, path: str, facts: NetworkFacts) -> None:
    if not path:
        raise Unsupported(
            f"network {mode}: {mode} is not installed",
            hint=f"install the package {PACKAGES[mode]}, or choose --network host or none",
        )
    if facts.tun_problem:
        raise Unsupported(
            f"network {mode}: {facts.tun_problem}",
            hint="load the module tun, give the container /dev/net/tun, or choose --network host",
        )
    if facts.join_problem:
        raise Unsupported(
            f"network {mode}: {facts.join_problem}",
            hint="a seccomp profile that admits setns without CAP_SYS_ADMIN, or --network host",
        )
