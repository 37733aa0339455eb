"""Which proxy, if any, a request goes through: HTTP_PROXY and NO_PROXY as data.

The rules of NO_PROXY are those Go programs follow, so that one environment serves all tools:
`*`, names that cover their subdomains, addresses, networks, each optionally with a port.
"""

from __future__ import annotations

from imgtools.errors import ConnectionFailed, InvalidInput, Unsupported
from imgtools.transport.options import Proxies
from imgtools.transport.registry.url import Origin, redact


def proxy_for(origin: Origin, proxies: Proxies) -> str | None:
    """The proxy URL for requests to `origin`, None to go directly.

    Loopback is never proxied. Raises Unsupported for a proxy that is not plain http and
    InvalidInput for one that is no URL.
    """
    url = proxies.https if origin.scheme == "https" else proxies.http
    if not url or bypasses(origin, proxies.no_proxy):
        return None
    if "://" not in url:
        url = f"http://{url}"
    scheme = url.partition("://")[0].lower()
    if scheme != "http":
        raise Unsupported(f"proxy {redact(url)}: only http:// proxies are supported")
    try:
        Origin.of(url)
    except ConnectionFailed as e:
        raise InvalidInput(f"proxy {redact(url)} is not a URL") from e
    return url


def proxy_headers(proxy: str) -> dict[str, str]:
    """The Proxy-Authorization that the user information of a proxy URL asks for."""
    from base64 import b64encode
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(proxy)
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(pair.encode()).decode()}"}


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
        elif _covers(name, host):
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
