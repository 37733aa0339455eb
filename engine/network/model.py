"""Network modes, and the plan for one container. Frozen data only."""

from __future__ import annotations

from typing import Literal

from imgtools.frozen import dataclass

Mode = Literal["host", "none", "pasta", "slirp4netns"]

PACKAGES = {"pasta": "passt", "slirp4netns": "slirp4netns"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsOptions:
    """--dns, --dns-search and --dns-option: each replaces what the host has. A search of "."
    means no search list."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def as_it_is(self) -> bool:
        """Whether --dns none leaves the file of the image as it is."""
        return [server.lower() for server in self.servers] == ["none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFacts:
    """What decides about networks: where the helpers are, "" for not at all, the options that
    pasta knows, why /dev/net/tun cannot be opened or a namespace not be joined (setns(2)), ""
    for no reason, and the texts of resolv.conf.

    `real_resolv_conf` is what systemd-resolved or NetworkManager would ask itself, for where
    the host's file names only their own server on the loopback. `host_address` is the host's
    IPv4 address towards the outside, `ipv6` whether it has a way there by IPv6. `real_root`
    says that this is root outside of any user namespace.
    """

    pasta: str = ""
    pasta_options: frozenset[str] = frozenset()
    slirp4netns: str = ""
    tun_problem: str = ""
    join_problem: str = ""
    resolv_conf: str = ""
    real_resolv_conf: str = ""
    hosts: str = ""
    host_name: str = ""
    host_address: str = ""
    ipv6: bool = False
    real_root: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlan:
    """The network of one container.

    `private` says that it has a network namespace of its own. `helper` is the command that
    connects it, without what names the namespace. `nameservers` are forwarders that the helper
    answers at; `address` the container's, where known before it starts; `host_address` the
    one it reaches the host at. `namespace` is the path of one that is connected already, to be
    joined. `why` says how a default was chosen, and `warning` what the user should know of it.
    """

    mode: Mode
    private: bool
    helper: tuple[str, ...] = ()
    interface: str = ""
    nameservers: tuple[str, ...] = ()
    address: str = ""
    host_address: str = ""
    namespace: str = ""
    why: str = ""
    warning: str = ""
