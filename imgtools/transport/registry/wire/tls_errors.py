"""Explains refused certificates: what is wrong with which one, and which file would change it.

OpenSSL names the fault only; what the certificate says comes from looking at it once more,
without trusting it. The remedy names the very path that is read for this registry.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime

from imgtools.transport.options import RegistryOptions
from imgtools.transport.registry.wire.certificate import Certificate, read_certificate
from imgtools.transport.registry.wire.tls import certificates_for
from imgtools.transport.registry.wire.url import Origin, clean

# X509_V_ERR_*, openssl-verification-options(1).
_NOT_YET_VALID, _EXPIRED, _HOST_MISMATCH, _ADDRESS_MISMATCH = 9, 10, 62, 64
_SHOWN_NAMES = 10

Fetch = Callable[[], bytes | None]
"""The certificate that was refused, in DER; None when it cannot be had again."""


def explain_refused(
    error: ssl.SSLCertVerificationError,
    origin: Origin,
    options: RegistryOptions,
    registry: str,
    fetch: Fetch,
) -> tuple[str, str]:
    """Reason and hint for a server's certificate that was not accepted.

    `registry` is the name certificates are looked up by.
    """
    now = datetime.now(UTC)
    der = fetch()
    try:
        seen = read_certificate(der) if der is not None else None
    except ValueError:
        seen = None
    code = error.verify_code
    if code in (_HOST_MISMATCH, _ADDRESS_MISMATCH):
        return _mismatch(origin, seen)
    if code == _NOT_YET_VALID:
        since = (
            f" (it is valid from {_date(seen.not_before)})"
            if seen and seen.not_before > now
            else ""
        )
        return (
            f"its certificate is not valid yet{since}",
            f"check this machine's clock, which says {_date(now)}",
        )
    if code == _EXPIRED:
        if seen is not None and seen.not_after < now:
            what = f"its certificate expired on {_date(seen.not_after)}"
        else:
            what = "a certificate of its chain has expired"
        return (
            what,
            "whoever runs the registry has to renew it; if the date is not in the past, check "
            f"this machine's clock, which says {_date(now)}",
        )
    issued = ""
    if seen is not None:
        by = "itself" if seen.self_signed else clean(seen.issuer) or "an authority without a name"
        issued = f" (it is signed by {by})"
    path = authority_path(options, registry)
    where = f"put the CA's certificate into {path}" if path else "give --cert-dir with a .crt file"
    return (
        f"its certificate is not trusted: {error.verify_message}{issued}",
        f"{where}, or name a file of CAs in SSL_CERT_FILE; "
        "--tls-verify=false accepts any certificate",
    )


def client_hint(options: RegistryOptions, registry: str) -> str:
    """What to do when the other side is not content with our client certificate, or with none."""
    directory = certificates_for(registry, options) if registry else options.cert_dir
    own = _client_pairs(directory) if directory is not None else []
    if own:
        return f"the client certificate {own[0]} was sent and not accepted; it may be another's"
    path = authority_path(options, registry)
    where = os.path.dirname(path) if path else "a directory given with --cert-dir"
    return (
        "it may want a client certificate: "
        f"client.cert, and its key client.key beside it, in {where}"
    )


def authority_path(options: RegistryOptions, registry: str) -> str:
    """The file that a CA's certificate for `registry` belongs into, "" when none is read."""
    directory = certificates_for(registry, options) if registry else options.cert_dir
    if directory is None and registry:
        roots = [root for root in options.certs_dirs if _can_make(root)]
        root = next(iter(roots or options.certs_dirs), None)
        directory = os.path.join(root, registry) if root is not None else None
    return os.path.join(directory, "ca.crt") if directory is not None else ""


def _mismatch(origin: Origin, seen: Certificate | None) -> tuple[str, str]:
    names = ""
    if seen is not None and seen.names:
        shown = ", ".join(seen.names[:_SHOWN_NAMES])
        more = len(seen.names) - _SHOWN_NAMES
        names = f"; it is for {clean(shown)}" + (f" and {more} more" if more > 0 else "")
    return (
        f"its certificate is not for {origin.host}{names}",
        "use one of the names of the certificate; if this is the right host, whoever runs it "
        "has to add its name",
    )


def _date(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _client_pairs(directory: str) -> list[str]:
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return []
    return [os.path.join(directory, name) for name in names if name.endswith(".cert")]


def _can_make(directory: str) -> bool:
    """Whether files can be made in `directory`, if need be after making it."""
    path = os.path.abspath(directory)
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK)
