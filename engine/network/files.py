"""The texts of a container's /etc/resolv.conf and /etc/hosts, and its host name; pure.

The rules are podman's and buildah's. The caller writes the files and binds them over those of
the image, so that nothing of them ever gets into a layer.
"""

from __future__ import annotations

import ipaddress

from engine.network.model import DnsOptions, NetworkFacts, NetworkPlan
from imgtools.errors import InvalidInput

PUBLIC_RESOLVERS = ("8.8.8.8", "8.8.4.4")
PUBLIC_RESOLVERS_6 = ("2001:4860:4860::8888", "2001:4860:4860::8844")
HOST_NAMES = ("host.containers.internal", "host.docker.internal")
HOST_GATEWAY = "host-gateway"
MAX_HOST_NAME = 64

Entry = tuple[str, tuple[str, ...]]


def make_resolv_conf(plan: NetworkPlan, facts: NetworkFacts, dns: DnsOptions) -> str:
    """The resolv.conf of a container.

    The helper's forwarder comes first, then the host's servers without those that the
    container cannot reach: on the loopback, or link-local with a zone. If none is left, public
    ones are named, except without any network. A host whose file names only a server of its
    own on the loopback has the real ones elsewhere. Raises InvalidInput for a --dns that is
    no address.
    """
    text = facts.resolv_conf
    if plan.private and _local_only(text) and facts.real_resolv_conf:
        text = facts.real_resolv_conf
    servers = [_address(server, "--dns") for server in dns.servers]
    if not servers:
        servers = list(plan.nameservers)
        found = _nameservers(text)
        servers += [s for s in found if not plan.private or _reachable(s, facts.ipv6)]
        if not servers and plan.private and plan.mode != "none":
            servers = [*PUBLIC_RESOLVERS, *(PUBLIC_RESOLVERS_6 if facts.ipv6 else ())]
    searches = list(dns.searches) or _last(text, "search")
    options = list(dns.options) or _last(text, "options")
    lines = [f"search {' '.join(searches)}"] if searches and "." not in searches else []
    lines += [f"nameserver {server}" for server in dict.fromkeys(servers)]
    lines += [f"options {' '.join(options)}"] if options else []
    _check_words((*searches, *options))
    return "".join(f"{line}\n" for line in lines)


def _check_words(words: tuple[str, ...]) -> None:
    """A search domain or option with white space in it would add others."""
    for word in words:
        if not word or any(c.isspace() or c in "#;" for c in word):
            raise InvalidInput(f"invalid search domain or option of resolv.conf: {word!r}")


def _records(text: str) -> list[list[str]]:
    """The words of each line of resolv.conf(5), without comments."""
    lines = (line.split("#", 1)[0] for line in text.splitlines() if not line.startswith(";"))
    return [words for words in (line.split() for line in lines) if len(words) > 1]


def _nameservers(text: str) -> list[str]:
    found = [words[1] for words in _records(text) if words[0] == "nameserver"]
    return [server for server in found if _parsed(server) is not None]


def _last(text: str, key: str) -> list[str]:
    """The values of the last line of a kind: it replaces those before it."""
    found = [words[1:] for words in _records(text) if words[0] == key]
    return found[-1] if found else []


def _local_only(text: str) -> bool:
    """Whether every server is on the loopback, as with systemd-resolved's 127.0.0.53."""
    servers = [_parsed(server) for server in _nameservers(text)]
    return bool(servers) and all(server is not None and server.is_loopback for server in servers)


def _reachable(server: str, ipv6: bool) -> bool:
    address = _parsed(server)
    if address is None or address.is_loopback:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        # A zone names an interface of the host.
        return ipv6 and "%" not in server
    return True


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _address(text: str, option: str) -> str:
    if _parsed(text) is None:
        raise InvalidInput(f"{option} {text!r}: expected an IP address")
    return text


def make_hosts(
    plan: NetworkPlan,
    facts: NetworkFacts,
    *,
    names: tuple[str, ...],
    add_hosts: tuple[str, ...] = (),
    base: str | None = None,
) -> str:
    """The hosts file of a container that is called `names`.

    Entries of `add_hosts` ("NAME[;NAME]:ADDRESS", where the address may be host-gateway) come
    first, then those of `base` (the host's file if None), then localhost, the host, and the
    container itself, each as far as the name is not taken. Raises InvalidInput.
    """
    gateway = plan.host_address
    if plan.private and plan.mode != "none" and not gateway and facts.host_address != plan.address:
        gateway = facts.host_address
    text = facts.hosts if base is None else base
    entries = [_extra(entry, gateway) for entry in add_hosts] + _host_entries(text)
    own = plan.address or "127.0.0.1"
    offered: list[Entry] = [("127.0.0.1", ("localhost",)), ("::1", ("localhost",))]
    if gateway:
        offered.append((gateway, HOST_NAMES))
    offered.append((own, names))
    taken = {name for _, entry_names in entries for name in entry_names}
    for address, entry_names in offered:
        free = tuple(name for name in entry_names if name and name not in taken)
        if free:
            entries.append((address, free))
    return "".join(f"{address}\t{' '.join(found)}\n" for address, found in entries)


def check_host(text: str) -> None:
    """Raise InvalidInput for an entry of `add_hosts` that `make_hosts` would not take."""
    _extra(text, HOST_GATEWAY)


def _extra(text: str, gateway: str) -> Entry:
    head, colon, address = text.partition(":")
    names = tuple(head.split(";"))
    if not colon or not all(names) or any(c.isspace() or c == "#" for c in head):
        raise InvalidInput(f"invalid host {text!r}: expected NAME:ADDRESS")
    if address == HOST_GATEWAY:
        if not gateway:
            raise InvalidInput(f"host {text!r}: the host has no address in this network")
        return gateway, names
    return _address(address.removeprefix("[").removesuffix("]"), f"host {text!r}:"), names


def _host_entries(text: str) -> list[Entry]:
    lines = (line.split("#", 1)[0].split() for line in text.splitlines())
    return [(words[0], tuple(words[1:])) for words in lines if len(words) > 1]


def make_hostname(wanted: str | None, plan: NetworkPlan, facts: NetworkFacts, name: str) -> str:
    """The host name of a container: what the user wants, the host's in the host's network, or
    the container's short id `name`. Raises InvalidInput for one the kernel would not take."""
    chosen = wanted or (name if plan.private else facts.host_name or name)
    if len(chosen.encode()) > MAX_HOST_NAME or not chosen.isprintable() or set(chosen) & set(" /"):
        raise InvalidInput(
            f"invalid host name {chosen!r}: expected up to {MAX_HOST_NAME} characters"
            " without spaces and slashes"
        )
    return chosen
