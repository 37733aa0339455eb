"""Which proxy, if any, a request goes through: HTTP_PROXY and NO_PROXY as data.

The rules of NO_PROXY are those Go programs follow, so that one environment serves all tools:
`*`, names that cover their subdomains, addresses, networks, each optionally with a port.
"""

from __future__ import annotations

from dataclasses import field

from imgtools.errors import InvalidInput, Unsupported
from imgtools.frozen import dataclass
from imgtools.transport.options import Proxies
from imgtools.transport.registry.wire.url import Origin, redact

_DEFAULT_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A proxy: `scheme` http, https, socks5 or socks5h (which both let it resolve names), and
    what it is shown of us, None where the URL has no user information."""

    scheme: str
    host: str
    port: int
    username: str | None = None
    password: str = field(default="", repr=False)

    @property
    def socks(self) -> bool:
        """Whether SOCKS is spoken instead of HTTP."""
        return self.scheme.startswith("socks5")

    @property
    def authority(self) -> str:
        """`host:port`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def headers(self) -> dict[str, str]:
        """The Proxy-Authorization that the user information asks for."""
        if self.username is None:
            return {}
        from base64 import b64encode

        pair = f"{self.username}:{self.password}".encode()
        return {"Proxy-Authorization": f"Basic {b64encode(pair).decode()}"}

    def __str__(self) -> str:
        return f"proxy {self.scheme}://{self.authority}"


def proxy_for(origin: Origin, proxies: Proxies) -> Proxy | None:
    """The proxy for requests to `origin`, None to go directly.

    Loopback is never proxied. Raises Unsupported for a proxy of an unknown kind and
    InvalidInput for one that is no URL.
    """
    url = proxies.https if origin.scheme == "https" else proxies.http
    if not url or bypasses(origin, proxies.no_proxy):
        return None
    return parse_proxy(url)


def parse_proxy(url: str) -> Proxy:
    """The proxy that a URL, or `host:port` for plain http, names; raises like `proxy_for`."""
    from urllib.parse import unquote, urlsplit

    if "://" not in url:
        url = f"http://{url}"
    scheme, _, rest = url.partition("://")
    # What is before the last @ may be a password, wherever a URL would have it end.
    shown = redact(f"{scheme}://{rest.rpartition('@')[2]}")
    try:
        parts = urlsplit(url)
        if "@" in parts.path + parts.query + parts.fragment:
            raise InvalidInput(
                f"proxy {shown}: its user name or password has a character that ends the host",
                hint="write %2F for /, %3F for ? and %23 for #",
            )
        scheme, host, port = parts.scheme.lower(), parts.hostname or "", parts.port
    except ValueError as e:
        raise InvalidInput(f"proxy {shown} is not a URL") from e
    if scheme not in _DEFAULT_PORTS:
        raise Unsupported(
            f"proxy {shown}: only http, https, socks5 and socks5h proxies are supported"
        )
    if not host:
        raise InvalidInput(f"proxy {shown} is not a URL")
    return Proxy(
        scheme=scheme,
        host=host.lower(),
        port=_DEFAULT_PORTS[scheme] if port is None else port,
        username=None if parts.username is None else unquote(parts.username),
        password=unquote(parts.password or ""),
    )


def bypasses(origin: Origin, no_proxy: tuple[str, ...]) -> bool:
    """Whether `origin` is reached directly by the rules of NO_PROXY."""
    from ipaddress import ip_address, ip_network

    host = origin.host.rstrip(".")
    if host == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        address = None
    if address is not None and address.is_loopback:
        return True
    for rule in no_proxy:
        rule = rule.strip().lower()
        if rule == "*":
            return True
        name, port = _split_port(rule)
        if not name or (port and port != str(origin.port)):
            continue
        if address is not None:
            try:
                if address in ip_network(name, strict=False):
                    return True
            except ValueError:
                continue
        elif _covers(name.rstrip("."), host):
            return True
    return False


def _covers(rule: str, host: str) -> bool:
    """`example.com` covers itself and what is below, `.example.com` only what is below."""
    rule = rule.removeprefix("*")
    if rule.startswith("."):
        return host.endswith(rule)
    return host == rule or host.endswith(f".{rule}")


def _split_port(rule: str) -> tuple[str, str]:
    if rule.startswith("["):
        name, _, rest = rule[1:].partition("]")
        return name, rest.removeprefix(":")
    name, colon, port = rule.rpartition(":")
    if colon and port.isdigit() and ":" not in name:
        return name, port
    return rule, ""
