"""Signatures as bytes in files: their format by the first byte, and the tagged form."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.errors import InvalidSignature, LimitExceeded, Unsupported
from imgtools.sign.model import (
    PAYLOAD_LIMIT,
    SIMPLE_SIGNING_LAYER,
    BundleSignature,
    SigstoreSignature,
    SimpleSignature,
)
from imgtools.sign.openpgp.blob import decode_blob, encode_blob

FIRST = bytes.fromhex("a0a1a2a3c8 90919293c4 88898a8bc2")
TAG = b"\0sigstore-json\n"
ANNOTATION = "dev.cosignproject.cosign/signature"


def tagged(**changes: Any) -> bytes:
    """The tagged form of a sigstore signature, with changes; None leaves a field out."""
    value = {
        "mimeType": SIMPLE_SIGNING_LAYER,
        "payload": base64.b64encode(b"{}").decode(),
        "annotations": {ANNOTATION: "x"},
        **changes,
    }
    return TAG + json.dumps({k: v for k, v in value.items() if v is not None}).encode()


@pytest.mark.parametrize("first", range(256))
def test_the_first_byte_decides(first: int) -> None:
    content = bytes([first]) + b"rest"
    if first in FIRST:
        assert decode_blob(content, "here") == SimpleSignature(blob=content, where="here")
    else:
        with pytest.raises(InvalidSignature, match=r"^here: "):
            decode_blob(content, "here")


def test_the_tagged_forms() -> None:
    signature = decode_blob(tagged(), "here")
    assert signature == SigstoreSignature(
        payload=b"{}", annotations={ANNOTATION: "x"}, media_type=SIMPLE_SIGNING_LAYER, where="here"
    )
    assert decode_blob(tagged(annotations=None), "here").format == "sigstore"
    simple = decode_blob(b"\0simple-signing\n\xa3\x01", "here")
    assert simple == SimpleSignature(blob=b"\xa3\x01", where="here")


def test_what_is_written_is_skopeos() -> None:
    """The form that skopeo writes into dir: for an attachment."""
    signature = SigstoreSignature(payload=b'{"a":1}', annotations={"b": "<", "a": "y"})
    assert encode_blob(signature) == (
        b'\0sigstore-json\n{"mimeType":"application/vnd.dev.cosign.simplesigning.v1+json",'
        b'"payload":"eyJhIjoxfQ==","annotations":{"a":"y","b":"\\u003c"}}'
    )
    assert encode_blob(SimpleSignature(blob=b"\xa3\x01")) == b"\xa3\x01"
    with pytest.raises(Unsupported):
        encode_blob(BundleSignature(content=b"{}"))


@given(
    st.binary(),
    st.dictionaries(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8"))),
)
def test_written_signatures_are_read(payload: bytes, annotations: dict[str, str]) -> None:
    signature = SigstoreSignature(payload=payload, annotations=annotations, where="here")
    assert decode_blob(encode_blob(signature), "here") == signature


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"-----BEGIN PGP MESSAGE-----", "first byte is 0x2d"),
        (b"{}", "first byte is 0x7b"),
        (b"\0", "has no end"),
        (b"\0sigstore-json", "has no end"),
        (b"\0" + b"x" * 70 + b"\n", "has no end"),
        (b"\0sigstore-bundle\n{}", "unknown format 'sigstore-bundle'"),
        (b"\0\n{}", "unknown format ''"),
        (b"\0simple-signing\n", "no OpenPGP message"),
        (b"\0simple-signing\n\0sigstore-json\n{}", "no OpenPGP message"),
        (TAG, "not valid JSON"),
        (TAG + b"[]", "not a JSON object"),
        (TAG + b'{"mimeType":"a","mimeType":"b","payload":""}', "duplicate key"),
        (tagged() + b"{}", "not valid JSON"),
        (tagged(payload=None), "not both texts"),
        (tagged(mimeType=None), "not both texts"),
        (tagged(mimeType=3), "not both texts"),
        (tagged(annotations=["x"]), "not an object of texts"),
        (tagged(annotations={"x": 3}), "not an object of texts"),
        (tagged(more=1), "unknown field 'more'"),
    ],
)
def test_what_is_no_signature_ends_the_reading(content: bytes, reason: str) -> None:
    with pytest.raises(InvalidSignature, match=reason):
        decode_blob(content, "here")


@pytest.mark.parametrize("text", ["e30", "e3 0=", "e30=\n", "e-_=", "é30=", "e30=e30="])
def test_s34_base64_is_strict(text: str) -> None:
    with pytest.raises(InvalidSignature, match="not base64"):
        decode_blob(tagged(payload=text), "here")


def test_s38_sizes_are_bounded() -> None:
    with pytest.raises(LimitExceeded):
        decode_blob(b"\xa3" + bytes(PAYLOAD_LIMIT), "here")
    large = base64.b64encode(bytes(PAYLOAD_LIMIT + 1)).decode()
    with pytest.raises(LimitExceeded):
        decode_blob(tagged(payload=large), "here")
