"""Tables of contents inside layers: zstd:chunked and eStargz.

Pure: where the table is, what its bytes mean, where a file's content is. Only a table whose
digest is in the layer's annotations is of use, since the manifest vouches for nothing else
that is read out of the middle of a blob. Formats: containers/storage `pkg/chunked`,
containerd/stargz-snapshotter `docs/estargz.md`.
"""

from __future__ import annotations

import base64
import binascii
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Literal

from imgtools.blob.tar.entry import EntryType
from imgtools.errors import InvalidArchive, InvalidDigest, InvalidManifest, LimitExceeded
from imgtools.frozen import dataclass
from imgtools.image.files import FileInfo, Span
from imgtools.spec import strict_json
from imgtools.spec.descriptor import Descriptor, optional
from imgtools.spec.digest import Digest

CHUNKED_CHECKSUM = "zstd-chunked.manifest-checksum"
CHUNKED_POSITION = "zstd-chunked.manifest-position"
CHUNKED_PREFIXES = ("io.github.containers.", "io.containers.")
"""What the two names begin with: now, and before 2022."""
ESTARGZ_DIGEST = "containerd.io/snapshot/stargz/toc.digest"

TOC_LIMIT = 64 * 1024 * 1024
"""Bytes of a table of contents, compressed or not, that we agree to read."""
ESTARGZ_FOOTER = 51
"""Bytes of the footer that ends an eStargz blob."""
ESTARGZ_NAME = "stargz.index.json"

_POSITION = re.compile(r"(\d{1,19}):(\d{1,19}):(\d{1,19}):(\d{1,19})")
_FOOTER = re.compile(
    rb"\x1f\x8b\x08\x04.{6}\x1a\x00SG\x16\x00([0-9a-f]{16})STARGZ\x01\x00\x00\xff\xff.{8}",
    re.DOTALL,
)
_TYPES: Mapping[str, EntryType] = {
    "reg": EntryType.FILE,
    "hardlink": EntryType.HARDLINK,
    "symlink": EntryType.SYMLINK,
    "dir": EntryType.DIR,
    "char": EntryType.CHAR,
    "block": EntryType.BLOCK,
    "fifo": EntryType.FIFO,
}
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class TocPlace:
    """A table of contents as a layer's annotations promise it.

    `digest` is that of the table: compressed in "zstd:chunked", uncompressed in "estargz".
    `offset`, `length` and `content` (bytes when decompressed) are 0 for eStargz, whose
    footer tells the position.
    """

    format: Literal["zstd:chunked", "estargz"]
    digest: Digest
    offset: int = 0
    length: int = 0
    content: int = 0


def place(layer: Descriptor) -> TocPlace | None:
    """The table of contents that the annotations of `layer` promise, None without one.

    Raises InvalidManifest for annotations that are malformed or point outside the blob, and
    LimitExceeded.
    """
    for prefix in CHUNKED_PREFIXES:
        checksum = layer.annotations.get(prefix + CHUNKED_CHECKSUM)
        position = layer.annotations.get(prefix + CHUNKED_POSITION)
        if checksum is not None and position is not None:
            return _chunked(layer, checksum, position)
    digest = layer.annotations.get(ESTARGZ_DIGEST)
    if digest is not None and layer.size > ESTARGZ_FOOTER:
        return TocPlace(format="estargz", digest=_annotated(ESTARGZ_DIGEST, digest))
    return None


def _chunked(layer: Descriptor, checksum: str, position: str) -> TocPlace:
    match = _POSITION.fullmatch(position)
    if match is None or match[4] != "1":
        raise InvalidManifest(f"annotation {CHUNKED_POSITION} has the value {position[:80]!r}")
    offset, length, content = (int(match[group]) for group in (1, 2, 3))
    _check_range(layer, offset, length)
    if max(length, content) > TOC_LIMIT:
        raise LimitExceeded("table of contents of a layer", TOC_LIMIT)
    return TocPlace(
        format="zstd:chunked",
        digest=_annotated(CHUNKED_CHECKSUM, checksum),
        offset=offset,
        length=length,
        content=content,
    )


def estargz_offset(footer: bytes, layer: Descriptor) -> int:
    """Where the table of an eStargz blob begins, from its last 51 bytes.

    Raises InvalidArchive for another footer or a position outside the blob, LimitExceeded.
    """
    match = _FOOTER.fullmatch(footer)
    if match is None:
        raise InvalidArchive(f"layer {layer.digest} does not end as eStargz does")
    offset = int(match[1], 16)
    length = layer.size - ESTARGZ_FOOTER - offset
    if length <= 0:
        raise InvalidArchive(f"layer {layer.digest} has its table of contents outside the blob")
    if length > TOC_LIMIT:
        raise LimitExceeded("table of contents of a layer", TOC_LIMIT)
    return offset


def parse(document: bytes, *, end: int, layer: int) -> Iterator[tuple[str, FileInfo]]:
    """The (path, file) pairs of a table of contents, in its order.

    `end` is where the data of the blob ends and `layer` the number of the layer. Raises
    InvalidJSON or InvalidArchive.
    """
    value = strict_json.loads_object(document, "table of contents", limit=TOC_LIMIT)
    entries = value.get("entries")
    if value.get("version") != 1 or not isinstance(entries, list):
        raise InvalidArchive("table of contents is not of version 1")
    starts = sorted({_number(entry, "offset") for entry in map(_object, entries)})
    pending: tuple[str, FileInfo] | None = None
    ends_said = False
    for entry in entries:
        if entry.get("type") == "chunk":
            # Content goes on behind the first chunk without a gap; only the end moves, and
            # only in eStargz, where nothing says it.
            if pending is None or pending[1].span is None:
                raise InvalidArchive("table of contents has a chunk of no file")
            if not ends_said:
                span = pending[1].span
                stop = max(span.end, _after(starts, _number(entry, "offset"), end))
                pending[1].span = Span(start=span.start, end=stop, skip=span.skip)
            continue
        if pending is not None:
            yield pending
        pending = _file(entry, starts, end, layer)
        ends_said = bool(_number(entry, "endOffset"))
    if pending is not None:
        yield pending


def _file(entry: dict[str, Any], starts: list[int], end: int, layer: int) -> tuple[str, FileInfo]:
    name = entry.get("name")
    kind = _TYPES.get(str(entry.get("type")))
    if not isinstance(name, str) or kind is None:
        raise InvalidArchive("table of contents has an entry without name or known type")
    info = FileInfo(
        type=kind,
        mode=_number(entry, "mode") & 0o7777,
        uid=_number(entry, "uid"),
        gid=_number(entry, "gid"),
        uname=_text(entry, "userName"),
        gname=_text(entry, "groupName"),
        size=_number(entry, "size") if kind is EntryType.FILE else 0,
        mtime_ns=_time(_text(entry, "modtime")),
        linkname=_text(entry, "linkName"),
        devmajor=_number(entry, "devMajor"),
        devminor=_number(entry, "devMinor"),
        xattrs=_xattrs(entry),
        layer=layer,
    )
    if kind is EntryType.FILE:
        info.digest = _digest(entry)
        if info.size:
            start = _number(entry, "offset")
            stop = _number(entry, "endOffset") or _after(starts, start, end)
            if not 0 < start < stop <= end:
                raise InvalidArchive(f"table of contents places {name!r} outside the blob")
            info.span = Span(start=start, end=stop, skip=_number(entry, "innerOffset"))
    return name, info


def _after(starts: list[int], start: int, end: int) -> int:
    """Where the compressed piece that begins at `start` ends: where the next one begins."""
    following = bisect_right(starts, start)
    return starts[following] if following < len(starts) else end


def _object(entry: object) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise InvalidArchive("table of contents has an entry that is not an object")
    return entry


def _number(entry: Mapping[str, Any], key: str) -> int:
    try:
        found = optional(entry, key, int, "table of contents")
    except InvalidManifest as e:
        raise InvalidArchive(e.message) from e
    number = int(found or 0)
    if not 0 <= number < 1 << 63:
        raise InvalidArchive(f"table of contents has an impossible {key}: {number}")
    return number


def _text(entry: Mapping[str, Any], key: str) -> str:
    found = entry.get(key)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise InvalidArchive(f"table of contents has a {key} that is not a string")
    return found


def _digest(entry: Mapping[str, Any]) -> str:
    text = _text(entry, "digest")
    try:
        return str(Digest.parse(text)) if text else ""
    except InvalidDigest as e:
        raise InvalidArchive(f"table of contents: {e.message}") from e


def _time(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time, 0 for none."""
    if not text:
        return 0
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        moment = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00"))
        whole = int(moment.timestamp())
    except (ValueError, OverflowError) as e:
        raise InvalidArchive(f"table of contents has the time {text[:40]!r}") from e
    return whole * 1_000_000_000 + int((match[2] or "0").ljust(9, "0"))


def _xattrs(entry: Mapping[str, Any]) -> Mapping[str, bytes] | None:
    found = entry.get("xattrs")
    if not found:
        return None
    if not isinstance(found, dict):
        raise InvalidArchive("table of contents has xattrs that are not an object")
    try:
        return {key: base64.b64decode(value, validate=True) for key, value in found.items()}
    except (binascii.Error, ValueError, TypeError) as e:
        raise InvalidArchive("table of contents has an xattr that is not base64") from e


def _annotated(key: str, text: str) -> Digest:
    try:
        return Digest.parse(text)
    except InvalidDigest as e:
        raise InvalidManifest(f"annotation {key}: {e.message}") from e


def _check_range(layer: Descriptor, offset: int, length: int) -> None:
    if length <= 0 or offset + length > layer.size:
        raise InvalidManifest(
            f"annotation {CHUNKED_POSITION} points outside the layer {layer.digest}"
        )
