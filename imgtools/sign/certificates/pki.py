"""Certificates of an authority of one's own: `pki` of containers-policy.json(5).

There is no log and no token. The chain has to be valid now, and the certificate has to have
the e-mail address, the host name, or both.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime

from imgtools.errors import InvalidInput, InvalidSignature
from imgtools.sign.certificates.identity import Identified, described, identified
from imgtools.sign.certificates.path import find_path, public_key
from imgtools.sign.certificates.pem import (
    issuer_certificates,
    leaf_certificate,
    trusted_certificates,
)
from imgtools.sign.model import Proof

# Go's validHostname: letters, digits, "-" not first, "_" tolerated.
_LABEL = re.compile(r"[a-z0-9_][a-z0-9_-]*")


def verify_pki(
    cert_pem: bytes,
    chain_pem: bytes,
    *,
    roots_pem: bytes,
    intermediates_pem: bytes | None = None,
    at: datetime | None = None,
    subject_email: str = "",
    subject_hostname: str = "",
) -> tuple[bytes, Proof]:
    """The key (PEM) of a certificate that is valid `at` (now), and whom it proves.

    `roots_pem` alone are trusted; `intermediates_pem` and the chain that came along only lead
    there. An extended key usage, where there is one, has to include code signing or any. A
    certificate for `*.example.com` is of every host one label below example.com. An e-mail
    address and a host name that are both given must both be the certificate's.

    Raises InvalidSignature; InvalidKey for roots and intermediates that cannot be used;
    InvalidInput when neither address nor host name is given.
    """
    if not subject_email and not subject_hostname:
        raise InvalidInput("a certificate's e-mail address or host name has to be wanted")
    at = at or datetime.now(UTC)
    roots = trusted_certificates(roots_pem, "the file of root certificates")
    between = issuer_certificates(chain_pem)
    if intermediates_pem is not None:
        what = "the file of intermediate certificates"
        between = (*trusted_certificates(intermediates_pem, what), *between)
    leaf = leaf_certificate(cert_pem)
    find_path(leaf, intermediates=between, roots=roots, at=at)
    found = identified(leaf)
    if subject_email and not _has_email(found, subject_email):
        raise InvalidSignature(
            f"the certificate is of {described(found)}, not of the e-mail address {subject_email}"
        )
    if subject_hostname and not _has_host(found, subject_hostname):
        raise InvalidSignature(
            f"the certificate is of {described(found)}, not of the host {subject_hostname}"
        )
    key = public_key(leaf)
    proof = Proof(
        kind="certificate",
        key=key.spki_sha256,
        subject=subject_email or subject_hostname,
        issuer=found.issuer,
    )
    return key.pem, proof


def _has_email(found: Identified, email: str) -> bool:
    return any(name.kind == "email" and name.value == email for name in found.names)


def _has_host(found: Identified, host: str) -> bool:
    """Go's VerifyHostname: an IP address equals one, a host name matches or equals one."""
    address = _address(host)
    if address is not None:
        return any(name.kind == "ip" and name.value == str(address) for name in found.names)
    return any(name.kind == "dns" and _host_matches(name.value, host) for name in found.names)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return ipaddress.ip_address(bare)
    except ValueError:
        return None


def _host_matches(pattern: str, host: str) -> bool:
    """Label by label, a first label "*" being any; what is no host name has to be the same.

    Only the host that is wanted may end with the dot of the root.
    """
    labels = _labels(host.removesuffix("."))
    pattern_labels = _labels(pattern, wildcard=True)
    if labels is None or pattern_labels is None:
        return host not in ("", ".") and pattern.lower() == host.lower()
    if len(pattern_labels) != len(labels):
        return False
    return pattern_labels[0] in ("*", labels[0]) and pattern_labels[1:] == labels[1:]


def _labels(name: str, *, wildcard: bool = False) -> list[str] | None:
    """The labels of a host name in lower case, None for what is no host name; of several
    labels the first may be "*" where that is said."""
    if not name.isascii():
        return None
    labels = name.lower().split(".")
    rest = labels[1:] if wildcard and labels[0] == "*" and len(labels) > 1 else labels
    return labels if all(_LABEL.fullmatch(label) for label in rest) else None
