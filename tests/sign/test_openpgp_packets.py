"""Which sequences of OpenPGP packets are taken for a signed message, without GnuPG."""

from __future__ import annotations

import bz2
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.errors import InvalidSignature
from imgtools.sign.model import PAYLOAD_LIMIT
from imgtools.sign.openpgp.packets import read_message

KEY = bytes.fromhex("0123456789ABCDEF")
ONE_PASS = bytes([3, 0, 8, 1]) + KEY + b"\x01"
SIGNATURE = bytes([4, 0, 1, 8, 0, 0, 0, 0, 0xAB, 0xCD, 0, 8, 0xFF])
OLD_SIGNATURE = bytes([3, 5, 0]) + bytes(4) + KEY + bytes([1, 8, 0, 0, 0, 8, 0xFF])
LITERAL = b"b\x00" + bytes(4) + b"said"


def new(tag: int, body: bytes) -> bytes:
    """A packet with a header of the new form."""
    return bytes([0xC0 | tag, 0xFF]) + len(body).to_bytes(4) + body


def old(tag: int, body: bytes, width: int = 1) -> bytes:
    """A packet with a header of the old form."""
    kind = {1: 0, 2: 1, 4: 2}[width]
    return bytes([0x80 | tag << 2 | kind]) + len(body).to_bytes(width) + body


def endless(tag: int, body: bytes) -> bytes:
    """A packet of the old form that goes on to the end of the file."""
    return bytes([0x80 | tag << 2 | 3]) + body


def parts(tag: int, body: bytes, power: int = 9) -> bytes:
    """A packet whose first part has 2**power bytes."""
    size = 1 << power
    rest = body[size:]
    return bytes([0xC0 | tag, 224 | power]) + body[:size] + bytes([len(rest)]) + rest


def raw_deflate(data: bytes) -> bytes:
    """`data` compressed as in ZIP."""
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


MESSAGE = new(4, ONE_PASS) + new(11, LITERAL) + new(2, SIGNATURE)
GOOD = [
    MESSAGE,
    old(4, ONE_PASS) + old(11, LITERAL, 2) + old(2, SIGNATURE, 4),
    new(4, ONE_PASS) + new(11, LITERAL) + new(2, OLD_SIGNATURE),
    endless(8, b"\x01" + raw_deflate(MESSAGE)),
    new(8, b"\x01" + raw_deflate(MESSAGE)),
    old(8, b"\x02" + zlib.compress(MESSAGE)),
    new(8, b"\x03" + bz2.compress(MESSAGE)),
    new(8, b"\x02" + zlib.compress(old(4, ONE_PASS) + new(11, LITERAL) + old(2, SIGNATURE))),
    new(4, ONE_PASS) + new(11, b"b\x04name" + bytes(4) + b"said") + new(2, SIGNATURE),
]


@pytest.mark.parametrize("blob", GOOD, ids=range(len(GOOD)))
def test_one_signed_message_is_read(blob: bytes) -> None:
    message = read_message(blob, "it")
    assert (message.payload, message.key_id) == (b"said", KEY.hex().upper())
    assert message.digest == "SHA256"


def test_data_may_come_in_parts() -> None:
    literal = b"b\x00" + bytes(4) + b"x" * 600
    blob = new(4, ONE_PASS) + parts(11, literal) + new(2, SIGNATURE)
    assert read_message(blob, "it").payload == b"x" * 600


def changed(body: bytes, at: int, value: int) -> bytes:
    """`body` with another byte."""
    return body[:at] + bytes([value]) + body[at + 1 :]


BAD = {
    "nothing": (b"", "found $"),
    "text": (b"-----BEGIN PGP", "byte 0x2d"),
    "two signatures": (new(4, ONE_PASS) * 2 + new(11, LITERAL) + new(2, SIGNATURE) * 2, "found a"),
    "announces two": (
        new(4, changed(ONE_PASS, 12, 0)) + new(11, LITERAL) + new(2, SIGNATURE),
        "another signature",
    ),
    "two messages": (MESSAGE * 2, "expected a one-pass signature"),
    "message in a message": (
        new(4, ONE_PASS) + new(8, b"\x01" + raw_deflate(new(11, LITERAL))) + new(2, SIGNATURE),
        "found a one-pass signature, compressed data",
    ),
    "compressed twice": (
        new(8, b"\x02" + zlib.compress(new(8, b"\x02" + zlib.compress(MESSAGE)))),
        "found compressed data",
    ),
    "detached": (new(2, SIGNATURE), "found a signature"),
    "signature first": (new(2, SIGNATURE) + new(11, LITERAL), "found a signature, literal data"),
    "literal": (new(11, LITERAL), "found literal data"),
    "encrypted": (new(1, b"\x03") + new(18, b"\x01"), "found encrypted data, encrypted data"),
    "a marker": (new(10, b"PGP") + MESSAGE, "found a marker"),
    "a key": (MESSAGE + new(6, b"\x04"), "a public key"),
    "compressed and more": (new(8, b"\x02" + zlib.compress(MESSAGE)) + new(10, b"PGP"), "found"),
    "junk": (MESSAGE + b"junk", "byte 0x6a"),
    "zeros": (MESSAGE + bytes(2), "byte 0x00"),
    "junk in compressed": (endless(8, b"\x02" + zlib.compress(MESSAGE) + b"x"), "comes behind"),
    "short in compressed": (endless(8, b"\x02" + zlib.compress(MESSAGE)[:-6]), "cut short"),
    "no compression": (endless(8, b""), "cut short"),
    "stored": (endless(8, b"\x00" + MESSAGE), "unknown algorithm 0"),
    "broken compression": (endless(8, b"\x02junk"), "cannot be decompressed"),
    "signature without length": (new(4, ONE_PASS) + new(11, LITERAL) + endless(2, SIGNATURE),
                                 "has no length"),
    "signature in parts": (new(4, ONE_PASS) + new(11, LITERAL) + parts(2, bytes(600)), "in parts"),
    "small parts": (new(4, ONE_PASS) + parts(11, bytes(300), 8) + new(2, SIGNATURE), "in parts"),
    "text mode": (new(4, ONE_PASS) + new(11, b"t" + LITERAL[1:]) + new(2, SIGNATURE), "not marked"),
    "no literal": (new(4, ONE_PASS) + new(11, b"") + new(2, SIGNATURE), "cut short"),
    "long name": (new(4, ONE_PASS) + new(11, b"b\xffx") + new(2, SIGNATURE), "cut short"),
    "name with lines": (
        new(4, ONE_PASS) + new(11, b"b\x02\n[" + bytes(4)) + new(2, SIGNATURE),
        "control or other special",
    ),
    "name with a line end": (
        new(4, ONE_PASS) + new(11, b"b\x01\x85" + bytes(4)) + new(2, SIGNATURE),
        "control or other special",
    ),
    "one-pass version": (new(4, changed(ONE_PASS, 0, 6)) + MESSAGE[19:], "unknown version"),
    "one-pass type": (new(4, changed(ONE_PASS, 1, 1)) + MESSAGE[19:], "type 0x01"),
    "one-pass length": (new(4, ONE_PASS + b"\x00") + MESSAGE[19:], "unknown version"),
    "signature version": (
        new(4, ONE_PASS) + new(11, LITERAL) + new(2, changed(SIGNATURE, 0, 6)),
        "unknown version 6",
    ),
    "signature type": (
        new(4, ONE_PASS) + new(11, LITERAL) + new(2, changed(SIGNATURE, 1, 0x10)),
        "type 0x10",
    ),
    "another digest": (
        new(4, ONE_PASS) + new(11, LITERAL) + new(2, changed(SIGNATURE, 3, 10)),
        "not of the algorithms",
    ),
    "md5": (
        new(4, changed(ONE_PASS, 2, 1)) + new(11, LITERAL) + new(2, changed(SIGNATURE, 3, 1)),
        "digest algorithm 1 is not trusted",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("blob", "reason"), BAD.values(), ids=BAD)
def test_s44_anything_else_is_refused(blob: bytes, reason: str) -> None:
    with pytest.raises(InvalidSignature, match=reason) as caught:
        read_message(blob, "the signature")
    assert str(caught.value).startswith("the signature: it is no OpenPGP message of one")


def test_s44_every_length_but_the_whole_is_refused() -> None:
    for blob in GOOD:
        for length in range(len(blob)):
            with pytest.raises(InvalidSignature):
                read_message(blob[:length], "it")


def test_s38_nothing_is_expanded_beyond_the_limit() -> None:
    bomb = endless(8, b"\x02" + zlib.compress(bytes(PAYLOAD_LIMIT * 20), 9))
    with pytest.raises(InvalidSignature, match="when it is decompressed"):
        read_message(bomb, "it")
    literal = b"b\x00" + bytes(4) + bytes(PAYLOAD_LIMIT + 1)
    large = new(4, ONE_PASS) + new(11, literal) + new(2, SIGNATURE)
    with pytest.raises(InvalidSignature, match="it has more than"):
        read_message(large, "it")
    with pytest.raises(InvalidSignature, match="its payload has more than"):
        read_message(new(8, b"\x02" + zlib.compress(large)), "it")


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 200), st.integers(0, 255))
def test_a_changed_byte_raises_nothing_else(which: int, at: int, value: int) -> None:
    blob = changed(GOOD[which], at % len(GOOD[which]), value)
    with suppress(InvalidSignature):
        assert read_message(blob, "it").digest.startswith("SHA")


@given(st.binary(max_size=200))
def test_bytes_raise_nothing_else(blob: bytes) -> None:
    with pytest.raises(InvalidSignature):
        read_message(blob, "it")
