"""PEM files of keys (RFC 7468): one block, read strictly, with text before and after it.

A second block is refused rather than left out: who put two keys into a file believes that
both count.
"""

from __future__ import annotations

import base64
import binascii
import re
import textwrap

from imgtools.errors import InvalidKey

KEY_FILE_LIMIT = 64 * 1024
"""Bytes of a key file; an RSA key of 16384 bits has 13 KiB."""

_BLOCK = re.compile(
    rb"^-----BEGIN ([A-Z0-9 ]{1,60})-----[ \t]*\r?\n(.*?)^-----END \1-----[ \t]*\r?$",
    re.DOTALL | re.MULTILINE,
)
_BEGIN = re.compile(rb"^-----BEGIN ", re.MULTILINE)
# What openssl ecparam writes before the key; the key names its curve too.
_PARAMETERS = "EC PARAMETERS"


def read_block(content: bytes, what: str) -> tuple[str, bytes]:
    """The label and the bytes of the one PEM block in `content`; `what` names it in errors.

    Raises InvalidKey for none, several, a malformed one, one with headers (encrypted in the
    manner of old OpenSSL), and for a file that is too large to be a key.
    """
    if len(content) > KEY_FILE_LIMIT:
        raise InvalidKey(f"{what} is larger than {KEY_FILE_LIMIT} bytes, so it is no key")
    blocks = [(m[1].decode(), m[2]) for m in _BLOCK.finditer(content)]
    if len(blocks) != len(_BEGIN.findall(content)):
        raise InvalidKey(f"{what} has a PEM block that does not end")
    blocks = [block for block in blocks if block[0] != _PARAMETERS]
    if not blocks:
        raise InvalidKey(f"{what} is no PEM file: it has no line -----BEGIN ...-----")
    if len(blocks) > 1:
        labels = ", ".join(label for label, _ in blocks[:4])
        raise InvalidKey(
            f"{what} has {len(blocks)} PEM blocks ({labels}): expected one",
            hint="put each key into a file of its own",
        )
    label, body = blocks[0]
    if b":" in body:
        raise InvalidKey(
            f"{what} is a {label} with headers, which is how old versions of OpenSSL encrypt",
            hint="convert it with: openssl pkcs8 -topk8",
        )
    try:
        return label, base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error as e:
        raise InvalidKey(f"{what} is a {label} that is not base64") from e


def write_block(label: str, content: bytes) -> bytes:
    """`content` as a PEM block with lines of 64 characters."""
    lines = textwrap.wrap(base64.b64encode(content).decode(), 64)
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()
