"""Where a registry may lead us: what kind of address something is, and who may point at it.

Redirects, Locations, Links, token realms and foreign layers are a registry's words, and a
registry on the internet has no business in our own network. The decision is made on the
address that is connected to, after the name was resolved, so that no name can change its
meaning in between. Pure: nothing here resolves or connects.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from typing import Literal

Kind = Literal[
    "public",
    "reserved",
    "private",
    "loopback",
    "unspecified",
    "link-local",
    "metadata",
    "multicast",
]

_METADATA = frozenset(
    socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    for address in (
        "169.254.169.254",
        "169.254.170.2",
        "168.63.129.16",
        "100.100.100.200",
        "fd00:ec2::254",
        "fd20:ce::254",
    )
)
"""Where clouds tell a machine its secrets, some of them in ranges that are otherwise public."""

_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "instance-data"})

# IANA's special-purpose registries (RFC 6890), the first match counts.
_IPV4: tuple[tuple[str, int, Kind], ...] = (
    ("0.0.0.0", 8, "unspecified"),
    ("10.0.0.0", 8, "private"),
    ("100.64.0.0", 10, "private"),
    ("127.0.0.0", 8, "loopback"),
    ("169.254.0.0", 16, "link-local"),
    ("172.16.0.0", 12, "private"),
    ("192.0.0.0", 24, "reserved"),
    ("192.0.2.0", 24, "reserved"),
    ("192.168.0.0", 16, "private"),
    ("198.18.0.0", 15, "private"),
    ("198.51.100.0", 24, "reserved"),
    ("203.0.113.0", 24, "reserved"),
    ("224.0.0.0", 4, "multicast"),
    ("240.0.0.0", 4, "reserved"),
)
_IPV6: tuple[tuple[str, int, Kind], ...] = (
    ("::", 128, "unspecified"),
    ("::1", 128, "loopback"),
    ("64:ff9b:1::", 48, "private"),
    ("100::", 64, "reserved"),
    ("2001:2::", 48, "private"),
    ("2001:db8::", 32, "reserved"),
    ("3fff::", 20, "reserved"),
    ("5f00::", 16, "private"),
    ("fc00::", 7, "private"),
    ("fe80::", 10, "link-local"),
    ("fec0::", 10, "private"),
    ("ff00::", 8, "multicast"),
)
# IPv6 addresses that packets leave as IPv4: the prefix, its bits, and the offset of the four
# bytes (RFC 4291 2.5.5, RFC 7915, RFC 6052, RFC 3056).
_IPV4_IN_IPV6 = (
    ("::ffff:0:0", 96, 12),
    ("::ffff:0:0:0", 96, 12),
    ("64:ff9b::", 96, 12),
    ("2002::", 16, 2),
    ("::", 96, 12),
)
_TEREDO = ("2001::", 32)

# How far inside our own network a kind is; nobody leads further in than he is himself.
_DEPTHS: dict[Kind, int] = {
    "public": 0,
    "multicast": 0,
    "reserved": 1,
    "private": 1,
    "link-local": 1,
    "metadata": 1,
    "unspecified": 2,
    "loopback": 2,
}


def classify(address: str) -> Kind:
    """The kind of a numeric IPv4 or IPv6 address, as a socket address has it.

    IPv6 forms that stand for an IPv4 address are of that address's kind. Raises ValueError
    for what is no address.
    """
    address = address.partition("%")[0]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        packed = socket.inet_pton(family, address)
    except OSError as e:
        raise ValueError(f"{address!r} is not a numeric address") from e
    return _kind(packed)


def may_lead(source: Kind, target: Kind) -> bool:
    """Whether a registry at an address of kind `source` may send us to one of kind `target`.

    Link-local addresses, among which are clouds' metadata, are for neighbours only.
    """
    if target in ("link-local", "metadata"):
        return source in ("link-local", "metadata")
    if target == "multicast":
        return False
    return _DEPTHS[target] <= _DEPTHS[source]


def literal(host: str) -> str | None:
    """The numeric address that a host of a URL is, None for a name.

    Every form that resolvers take for an address counts (`127.1`, `0x7f000001`), and so do
    names that mean one everywhere.
    """
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return "127.0.0.1"
    if name in _METADATA_NAMES:
        return "169.254.169.254"
    if ":" in name:
        try:
            socket.inet_pton(socket.AF_INET6, name.partition("%")[0])
        except OSError:
            return None
        return name
    try:
        return socket.inet_ntoa(socket.inet_aton(name))
    except OSError:
        return None


def is_allowed(host: str, authority: str, address: str, allowed: Sequence[str]) -> bool:
    """Whether one of `allowed` (names, addresses, networks, `host:port`) covers a host.

    `address` is what `host` was resolved to, "" when a proxy resolves it.
    """
    names = {host.rstrip(".").lower(), authority.lower()}
    for rule in allowed:
        rule = rule.strip().lower()
        if rule.rstrip(".") in names or rule.strip("[]") in names:
            return True
        if rule.startswith((".", "*.")) and host.rstrip(".").lower().endswith(rule.lstrip("*")):
            return True
        if address and _in_network(address, rule):
            return True
    return False


def common_kind(kinds: Iterable[Kind]) -> Kind:
    """The kind of a host with several addresses: the least private one."""
    return min(kinds, key=_DEPTHS.__getitem__, default="public")


def _kind(packed: bytes) -> Kind:
    if packed in _METADATA:
        return "metadata"
    if len(packed) == 4:
        return _lookup(packed, _IPV4)
    kind = _lookup(packed, _IPV6)
    if kind != "public":
        return kind
    for prefix, bits, offset in _IPV4_IN_IPV6:
        if _within(packed, prefix, bits):
            return _kind(packed[offset : offset + 4])
    if _within(packed, *_TEREDO):
        # RFC 4380: the client's address, every bit inverted.
        return _kind(bytes(byte ^ 0xFF for byte in packed[12:]))
    return "public"


def _lookup(packed: bytes, table: tuple[tuple[str, int, Kind], ...]) -> Kind:
    return next((kind for prefix, bits, kind in table if _within(packed, prefix, bits)), "public")


def _within(packed: bytes, prefix: str, bits: int) -> bool:
    family = socket.AF_INET6 if ":" in prefix else socket.AF_INET
    shift = len(packed) * 8 - bits
    wanted = int.from_bytes(socket.inet_pton(family, prefix), "big")
    return int.from_bytes(packed, "big") >> shift == wanted >> shift


def _in_network(address: str, rule: str) -> bool:
    from ipaddress import ip_address, ip_network

    try:
        return ip_address(address.partition("%")[0]) in ip_network(rule.strip("[]"), strict=False)
    except ValueError:
        return False
