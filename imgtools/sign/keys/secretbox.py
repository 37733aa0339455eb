"""NaCl's secretbox (XSalsa20-Poly1305), which the files of sigstore's private keys are sealed with.

The cryptography package has Poly1305 but not Salsa20, which is small enough to be written here
(D. J. Bernstein, "The Salsa20 family of stream ciphers" and "Extending the Salsa20 nonce"). It
seals a few kilobytes with a key that a passphrase was stretched to, once in a process.
"""

from __future__ import annotations

import struct

from cryptography.exceptions import InvalidSignature as _Mismatch
from cryptography.hazmat.primitives.poly1305 import Poly1305

from imgtools.errors import InvalidKey

KEY_SIZE = 32
NONCE_SIZE = 24
TAG_SIZE = 16

_SIGMA = struct.unpack("<4I", b"expand 32-byte k")
_MASK = 0xFFFFFFFF
# Columns, then rows: the four words of each quarter-round.
_QUARTERS = (
    (0, 4, 8, 12),
    (5, 9, 13, 1),
    (10, 14, 2, 6),
    (15, 3, 7, 11),
    (0, 1, 2, 3),
    (5, 6, 7, 4),
    (10, 11, 8, 9),
    (15, 12, 13, 14),
)


def seal(key: bytes, nonce: bytes, content: bytes) -> bytes:
    """The tag and `content` enciphered. A nonce of 24 bytes is used once with a key."""
    stream = _stream(key, nonce, 32 + len(content))
    sealed = _xor(content, stream[32:])
    return Poly1305.generate_tag(stream[:32], sealed) + sealed


def unseal(key: bytes, nonce: bytes, box: bytes) -> bytes:
    """The content of a box; raises InvalidKey when it was not sealed with this key and nonce.

    The tag is compared in constant time, and nothing is deciphered unless it is right.
    """
    tag, sealed = box[:TAG_SIZE], box[TAG_SIZE:]
    stream = _stream(key, nonce, 32 + len(sealed))
    try:
        Poly1305.verify_tag(stream[:32], sealed, tag)
    except _Mismatch as e:
        raise InvalidKey("the box does not open with this key") from e
    return _xor(sealed, stream[32:])


def _stream(key: bytes, nonce: bytes, length: int) -> bytes:
    """XSalsa20: a key of HSalsa20 with the first 16 bytes of the nonce, Salsa20 with the rest."""
    if len(key) != KEY_SIZE or len(nonce) != NONCE_SIZE:
        raise InvalidKey(f"a box needs a key of {KEY_SIZE} and a nonce of {NONCE_SIZE} bytes")
    mixed = _rounds(_state(key, struct.unpack("<4I", nonce[:16])))
    # HSalsa20 leaves out the last addition and takes the diagonal and the nonce's words.
    inner = struct.pack("<8I", *(mixed[i] for i in (0, 5, 10, 15, 6, 7, 8, 9)))
    rest = struct.unpack("<2I", nonce[16:])
    blocks = []
    for counter in range((length + 63) // 64):
        state = _state(inner, (*rest, counter & _MASK, counter >> 32))
        added = (a + b & _MASK for a, b in zip(state, _rounds(state), strict=True))
        blocks.append(struct.pack("<16I", *added))
    return b"".join(blocks)[:length]


def _state(key: bytes, four: tuple[int, ...]) -> tuple[int, ...]:
    k = struct.unpack("<8I", key)
    return (_SIGMA[0], *k[:4], _SIGMA[1], *four, _SIGMA[2], *k[4:], _SIGMA[3])


def _rounds(state: tuple[int, ...]) -> list[int]:
    x = list(state)
    for _ in range(10):
        for a, b, c, d in _QUARTERS:
            x[b] ^= _rotate(x[a] + x[d], 7)
            x[c] ^= _rotate(x[b] + x[a], 9)
            x[d] ^= _rotate(x[c] + x[b], 13)
            x[a] ^= _rotate(x[d] + x[c], 18)
    return x


def _rotate(word: int, bits: int) -> int:
    word &= _MASK
    return (word << bits | word >> (32 - bits)) & _MASK


def _xor(content: bytes, stream: bytes) -> bytes:
    size = len(content)
    return (int.from_bytes(content) ^ int.from_bytes(stream[:size])).to_bytes(size)
