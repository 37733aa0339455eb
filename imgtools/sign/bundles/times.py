"""The times that a bundle proves: of timestamps (RFC 3161), and of a log of the first kind.

Who signs may claim any time. What counts is what somebody else vouches for whom the trusted
root has, at a time at which it has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from imgtools.errors import InvalidSignature
from imgtools.sign.bundles.model import Bundle, LogEntry
from imgtools.sign.bundles.trusted_root import Authority, TrustedRoot

_WITHOUT_TIME = "0.0.2"
_LAST_SECOND = 253402300799
"""9999-12-31: what is later is no time."""


def proven_times(
    bundle: Bundle, entry: LogEntry, signature: bytes, root: TrustedRoot
) -> tuple[datetime, ...]:
    """When `signature` was there, by every timestamp of `bundle` and by the log of `entry`
    where that vouches for a time. The log's word is only read here: it is to be verified with
    the entry.

    Raises InvalidSignature where there is no time, and for a timestamp that does not hold.
    """
    authorities = root.timestamp_authorities if bundle.timestamps else ()
    found = [_stamped(stamp, signature, authorities) for stamp in bundle.timestamps]
    if entry.promise is not None and entry.version != _WITHOUT_TIME:
        if not 0 < entry.integrated_time <= _LAST_SECOND:
            raise InvalidSignature("the log entry's time is out of range")
        found.append(datetime.fromtimestamp(entry.integrated_time, UTC))
    if not found:
        raise InvalidSignature(
            "nobody vouches for the time of the signature: the log entry has no promise, "
            "and there is no timestamp"
        )
    return tuple(found)


def _stamped(stamp: bytes, signature: bytes, authorities: Sequence[Authority]) -> datetime:
    """The time of an RFC 3161 response over `signature`; raises InvalidSignature."""
    import rfc3161_client
    from cryptography import x509

    try:
        response = rfc3161_client.decode_timestamp_response(stamp)
        time: datetime = response.tst_info.gen_time
    except ValueError as e:
        raise InvalidSignature("a timestamp in the bundle is malformed") from e
    for authority in authorities:
        if not authority.covers(time):
            continue
        first, *others = (x509.load_der_x509_certificate(item) for item in authority.chain)
        builder = rfc3161_client.VerifierBuilder().tsa_certificate(first)
        builder = builder.add_root_certificate(others[-1])
        for certificate in others[:-1]:
            builder = builder.add_intermediate_certificate(certificate)
        try:
            builder.build().verify_message(response, signature)
        except (rfc3161_client.VerificationError, ValueError):
            continue
        return time
    raise InvalidSignature(
        "a timestamp in the bundle is not by an authority of the trusted root at that time, "
        "or not of this signature"
    )
