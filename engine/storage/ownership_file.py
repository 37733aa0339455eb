"""The file `owners` of a layer: an `OwnerTree` as text, one record a line.

    imgtools owners 1
    PATH UID GID MODE MAJOR MINOR [NAME=VALUE]...
    = COUNT

Lines are in the order of `OwnerTree.items`. PATH is relative, "." for the root; in PATH and
NAME every byte that is not a printable ASCII character, and `%`, `=` and the blank, is `%XX`.
MODE is octal with the file's type, "-" for what the file has. VALUE is base16. The last line
tells a whole file from the beginning of one.
"""

from __future__ import annotations

from binascii import hexlify, unhexlify
from collections.abc import Iterator
from typing import BinaryIO
from urllib.parse import quote_from_bytes, unquote_to_bytes

from engine.storage.options import AS_ON_DISK, Owner
from engine.storage.ownership import OwnerTree
from imgtools.errors import InvalidArchive, LimitExceeded

MAGIC = b"imgtools owners 1\n"
MAX_LINE = 4 << 20
MAX_RECORDS = 5_000_000
MAX_ID = (1 << 32) - 2
SAFE = "!\"#$&'()*+,-./:;<>?@[\\]^_`{|}~"


def write_owners(tree: OwnerTree, file: BinaryIO) -> int:
    """Write all records; how many there are."""
    file.write(MAGIC)
    count = 0
    for path, owner in tree.items():
        file.write(_line(path, owner))
        count += 1
    file.write(b"= %d\n" % count)
    return count


def read_owners(file: BinaryIO) -> Iterator[tuple[bytes, Owner]]:
    """The records of a file, one at a time.

    Raises InvalidArchive for anything but a whole file of ours, LimitExceeded.
    """
    if file.readline(len(MAGIC) + 1) != MAGIC:
        raise InvalidArchive("the table of owners is not one")
    count = 0
    while True:
        line = file.readline(MAX_LINE + 1)
        if len(line) > MAX_LINE:
            raise LimitExceeded("a record of the table of owners", MAX_LINE)
        if not line.endswith(b"\n"):
            raise InvalidArchive("the table of owners is cut")
        if line.startswith(b"= "):
            if line != b"= %d\n" % count or file.read(1):
                raise InvalidArchive("the table of owners does not end where it should")
            return
        count += 1
        if count > MAX_RECORDS:
            raise LimitExceeded("the table of owners", MAX_RECORDS, unit="records")
        try:
            yield _parse(line)
        except ValueError as e:
            raise InvalidArchive(f"record {count} of the table of owners is malformed") from e


def load_owners(file: BinaryIO) -> OwnerTree:
    """The tree of a file; raises as `read_owners` does."""
    tree = OwnerTree()
    for path, owner in read_owners(file):
        tree.set(path, owner)
    return tree


def _line(path: bytes, owner: Owner) -> bytes:
    mode = "-" if owner.mode == AS_ON_DISK else f"{owner.mode:o}"
    fields = [_quote(path) or ".", str(owner.uid), str(owner.gid), mode, *map(str, owner.rdev)]
    for name, value in sorted(owner.xattrs.items()):
        raw = name.encode("utf-8", "surrogateescape")
        fields.append(f"{_quote(raw)}={hexlify(value).decode()}")
    return " ".join(fields).encode() + b"\n"


def _parse(line: bytes) -> tuple[bytes, Owner]:
    path, uid, gid, mode, major, minor, *xattrs = line[:-1].split(b" ")
    attributes = {}
    for item in xattrs:
        name, equals, value = item.partition(b"=")
        if not equals:
            raise ValueError("no value")
        attributes[unquote_to_bytes(name).decode("utf-8", "surrogateescape")] = unhexlify(value)
    owner = Owner(
        uid=_number(uid),
        gid=_number(gid),
        mode=AS_ON_DISK if mode == b"-" else int(mode, 8),
        rdev=(_number(major), _number(minor)),
        xattrs=attributes,
    )
    return (b"" if path == b"." else unquote_to_bytes(path)), owner


def _quote(raw: bytes) -> str:
    return quote_from_bytes(raw, safe=SAFE) if raw != b"." else "%2E"


def _number(text: bytes) -> int:
    if not text.isdigit() or (number := int(text)) > MAX_ID:
        raise ValueError("no id")
    return number
