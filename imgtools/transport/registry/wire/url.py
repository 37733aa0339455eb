"""URLs as a registry client needs them: origins, Locations kept byte for byte, and redaction.

An `Origin` (scheme, host, port) is the unit of trust: credentials are sent to the registry's
own origin and to no other. Pure functions; nothing here opens a connection.
"""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit, urlunsplit

from imgtools.errors import ConnectionFailed
from imgtools.frozen import dataclass

_DEFAULT_PORTS = {"http": 80, "https": 443}

_HOST = re.compile(r"[a-z0-9._-]{1,255}|[0-9a-f:.]*:[0-9a-f:.]*(?:%[a-z0-9%._~-]+)?")
"""A name, or an address of IPv6 with or without a zone. No more than that: whoever else reads
a URL, such as a proxy, must not read another host than the one that we decided on."""

_USER = re.compile(r"(?<=://)[^/?#]*@")
_SHOWN_PARAMETERS = frozenset({"digest", "mount", "from", "n", "last", "scope", "service"})
_TEXT_LIMIT = 300


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host (lower case, in ASCII, without brackets) and port of a URL."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """The origin of an absolute http or https URL; raises ConnectionFailed otherwise."""
        try:
            parts = urlsplit(url)
            port = parts.port
            host = (parts.hostname or "").lower()
            if not host.isascii():
                host = host.encode("idna").decode().lower()
        except ValueError as e:
            raise ConnectionFailed(f"malformed URL {redact(url)}", host="") from e
        scheme = parts.scheme.lower()
        if scheme not in _DEFAULT_PORTS or not host:
            raise ConnectionFailed(
                f"URL {redact(url)} is not an absolute http or https URL", host=host
            )
        if not _HOST.fullmatch(host):
            raise ConnectionFailed(f"URL {redact(url)} has no possible host", host="")
        return cls(scheme, host, _DEFAULT_PORTS[scheme] if port is None else port)

    @property
    def authority(self) -> str:
        """`host[:port]` as it stands in a URL, the port only when it is not the default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def target_of(url: str) -> str:
    """Path and query of `url` as a request line has them, with what no request line may
    contain (spaces, control and non-ASCII characters) percent-encoded and nothing else
    touched."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if target.isascii() and target.isprintable() and " " not in target:
        return target
    return "".join(
        chr(byte) if 0x20 < byte < 0x7F else f"%{byte:02X}"
        for byte in target.encode("utf-8", "surrogatepass")
    )


def resolve(base: str, location: str) -> str:
    """The absolute URL of a Location, Link or redirect that was received from `base`.

    A plain http Location of the very host that was reached by https is what a registry
    behind a TLS proxy says of itself; it is read as https. Raises ConnectionFailed for a
    URL nobody can follow.
    """
    try:
        url = urljoin(base, location.strip())
        parts = urlsplit(url)
        origin, own = Origin.of(url), Origin.of(base)
    except ValueError as e:
        raise ConnectionFailed(f"malformed Location {redact(location)}", host="") from e
    if own.scheme == "https" and origin.scheme == "http" and origin.host == own.host:
        plain_port = parts.port
        if plain_port in (None, 80, own.port):
            url = urlunsplit(("https", own.authority, parts.path, parts.query, ""))
    elif parts.fragment:
        url = urlunsplit((*parts[:4], ""))
    return url


def without_user(url: str) -> str:
    """`url` without the user information that it may have, which we never send."""
    return _USER.sub("", url, count=1)


def with_query(url: str, addition: str) -> str:
    """`url` with `addition` (already encoded `key=value`) behind what its query holds."""
    return f"{url}{'&' if '?' in url else '?'}{addition}"


def redact(url: str) -> str:
    """`url` for messages: without user information and without the values of parameters
    that may be secrets (pre-signed URLs, upload state)."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "(unreadable)"
    shown = []
    for pair in parts.query.split("&") if parts.query else []:
        name, equals, _ = pair.partition("=")
        shown.append(pair if not equals or name in _SHOWN_PARAMETERS else f"{name}=…")
    return clean(urlunsplit((parts.scheme, host, parts.path, "&".join(shown), "")))


def clean(text: str) -> str:
    """Foreign text for a one-line message: printable, one space between words, bounded."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text[:4096]).split())
    return text if len(text) <= _TEXT_LIMIT else text[: _TEXT_LIMIT - 1] + "…"
