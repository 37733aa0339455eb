"""Asks timestamp authorities (RFC 3161) when a signature was there.

What they answer is verified with the bundle that it goes into.
"""

from __future__ import annotations

from imgtools.errors import InvalidSignature
from imgtools.sign.keyless.web import Web, service_url
from imgtools.transport.registry.wire.url import redact

_LIMIT = 64 * 1024


def request_timestamp(web: Web, url: str, signature: bytes) -> bytes:
    """The authority's answer (TimeStampResp, DER) about `signature`.

    Raises InvalidSignature for what is none, and what asking raises.
    """
    import rfc3161_client

    builder = rfc3161_client.TimestampRequestBuilder()
    # The hash that every authority knows; the builder's own default is SHA-512.
    builder = builder.hash_algorithm(rfc3161_client.HashAlgorithm.SHA256)
    request = builder.data(signature).nonce(nonce=True).build()
    answer = web.post(
        service_url(url, ""),
        request.as_bytes(),
        content_type="application/timestamp-query",
        accept="application/timestamp-reply",
    )
    if len(answer.content) > _LIMIT:
        raise InvalidSignature(f"the timestamp of {redact(url)} is larger than {_LIMIT} bytes")
    try:
        found = rfc3161_client.decode_timestamp_response(answer.content)
        same = found.tst_info.nonce == request.nonce
    except ValueError as e:
        raise InvalidSignature(f"the answer of {redact(url)} is no timestamp") from e
    if not same:
        raise InvalidSignature(f"the timestamp of {redact(url)} is the answer to another request")
    return answer.content
