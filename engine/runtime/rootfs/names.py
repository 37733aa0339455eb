"""Paths of config.json as bytes that can be handed to the kernel, and as text for messages."""

from __future__ import annotations

from engine.runtime.errors import InvalidConfig

MAX_PATH_BYTES = 65536


def shown(path: bytes) -> str:
    """`path` on one line, whatever is in it. Needs no codec that would be imported."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text) or "(empty)"


def as_bytes(text: str, field: str) -> bytes:
    """A path of config.json; raises InvalidConfig naming `field` for a NUL or absurd length."""
    raw = text.encode("utf-8", "surrogateescape")
    if b"\0" in raw:
        raise InvalidConfig(f"{field} contains a NUL character")
    if len(raw) > MAX_PATH_BYTES:
        raise InvalidConfig(f"{field} is longer than {MAX_PATH_BYTES} bytes")
    return raw


def lexical(path: bytes) -> bytes:
    """`path` without empty components, dots and `..`, relative to the root; only good for
    deciding what is meant, never for opening."""
    kept: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            del kept[-1:]
        elif part not in (b"", b"."):
            kept.append(part)
    return b"/".join(kept)
