"""Dead Simple Signing Envelopes (DSSE v1): what is signed, and what of an envelope we admit.

The specification allows any number of signatures; sigstore's bundles have one, and a second
one would leave open whose statement it is.
"""

from __future__ import annotations

from imgtools.errors import InvalidSignature
from imgtools.sign.bundles.model import Envelope

IN_TOTO = "application/vnd.in-toto+json"
"""The payload type of statements."""


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed (DSSE protocol.md "Signature Definition": PAE)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def signed_message(envelope: Envelope) -> tuple[bytes, bytes]:
    """The bytes that were signed and the one signature over them.

    Raises InvalidSignature for another payload type than in-toto's, and for none or several
    signatures.
    """
    if envelope.payload_type != IN_TOTO:
        raise InvalidSignature(
            f"the envelope holds {envelope.payload_type[:100]!r}: expected {IN_TOTO}"
        )
    if len(envelope.signatures) != 1:
        raise InvalidSignature(
            f"the envelope has {len(envelope.signatures)} signatures: expected exactly one"
        )
    return pre_authentication(envelope.payload_type, envelope.payload), envelope.signatures[0]
