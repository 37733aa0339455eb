"""Verifies Ed25519ph (RFC 8032, 5.1): Ed25519 over the SHA-512 of a message.

cosign signs so with Ed25519 keys where a log needs a digest, and the cryptography package has
only pure Ed25519. Only public values are computed with here, so nothing depends on timing.
"""

from __future__ import annotations

import hashlib

_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_ROOT = pow(2, (_P - 1) // 4, _P)
"""A square root of -1."""

_DOMAIN = b"SigEd25519 no Ed25519 collisions\x01\x00"
"""dom2(1, ""): prehashed, without a context."""

Point = tuple[int, int, int, int]
"""Extended coordinates X, Y, Z, T with x = X/Z, y = Y/Z, xy = T/Z."""


def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `signature` is the Ed25519ph signature of `message` by `public_key` (32 bytes).

    As strict as OpenSSL and Go: s is below the order, and R is compared as bytes.
    """
    if len(signature) != 64:
        return False
    a = _decode(public_key)
    s = int.from_bytes(signature[32:], "little")
    if a is None or s >= _ORDER:
        return False
    digest = hashlib.sha512(message).digest()
    hashed = hashlib.sha512(_DOMAIN + signature[:32] + public_key + digest).digest()
    k = int.from_bytes(hashed, "little") % _ORDER
    x, y, z, t = a
    r = _add(_multiply(s, _base()), _multiply(k, (_P - x, y, z, _P - t)))
    return _encode(r) == signature[:32]


def _base() -> Point:
    point = _decode((4 * pow(5, -1, _P) % _P).to_bytes(32, "little"))
    assert point is not None
    return point


def _decode(encoded: bytes) -> Point | None:
    """The point of RFC 8032, 5.1.3; None for bytes that are none."""
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= _P:
        return None
    u, v = (y * y - 1) % _P, (_D * y * y + 1) % _P
    x = u * pow(v, 3, _P) * pow(u * pow(v, 7, _P), (_P - 5) // 8, _P) % _P
    if v * x * x % _P == -u % _P:
        x = x * _ROOT % _P
    if v * x * x % _P != u or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = _P - x
    return x, y, 1, x * y % _P


def _encode(point: Point) -> bytes:
    x, y, z, _ = point
    inverse = pow(z, -1, _P)
    return (y * inverse % _P | (x * inverse % _P & 1) << 255).to_bytes(32, "little")


def _add(p: Point, q: Point) -> Point:
    """RFC 8032, 5.1.4; complete, so that it doubles too."""
    a = (p[1] - p[0]) * (q[1] - q[0]) % _P
    b = (p[1] + p[0]) * (q[1] + q[0]) % _P
    c = 2 * p[3] * q[3] * _D % _P
    d = 2 * p[2] * q[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _multiply(factor: int, point: Point) -> Point:
    result: Point = (0, 1, 1, 0)
    while factor:
        if factor & 1:
            result = _add(result, point)
        point = _add(point, point)
        factor >>= 1
    return result
