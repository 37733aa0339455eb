"""What an upload does next: sizes of chunks, and how much of what was sent is believed to be there.

Pure decisions on what a registry said and on what was sent; upload.py acts on them.
"""

from __future__ import annotations

import re

SMALLEST_CHUNK = 256 * 1024
"""A registry that finds this too large has another reason to refuse."""
BUFFERED_CHUNK = 4 * 1024 * 1024
"""Bytes held in memory per request when the blob's size is not known."""
MOST_BUFFERED = 64 * 1024 * 1024
"""The same for registries that ask for larger chunks."""
USUAL_CHUNK = 16 * 1024 * 1024
"""Bytes per request on a link that was cut: what is lost at most where sessions outlive a cut."""
FIRST_CHUNK = 8 * 1024 * 1024
"""The least after a first cut, which may have been bad luck and says little about sizes."""
LEAST_CHUNK = 1024 * 1024
ECR_LEAST_CHUNK = 5 * 1024 * 1024
"""Amazon ECR makes parts of an S3 upload of chunks, which have at least 5 MB but for the last."""

_RANGE = re.compile(r"(?:bytes[= ])?0-(\d{1,18})", re.IGNORECASE)


def acknowledged(header: str, sent: int) -> int | None:
    """How many of `sent` bytes the registry has by its Range header, None when that says
    nothing that can be true.

    `0-N` is inclusive (distribution-spec, "Pushing a blob in chunks"), some write `bytes=0-N`;
    `0-0` is what registries say of an empty session, and of one byte.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        return None
    last = int(match[1])
    if last == 0:
        return min(sent, 1) if sent <= 1 else 0
    return last + 1 if last < sent else None


def next_limit(refused: int) -> int:
    """Bytes per request after a body of `refused` bytes was too large."""
    for size in (64 << 20, 16 << 20, 4 << 20, 1 << 20, 512 << 10):
        if size < refused:
            return size
    return max(1, refused // 2)


def least_chunk(host: str) -> int:
    """The smallest chunk worth sending to a registry that does not say (OCI-Chunk-Min-Length)."""
    return ECR_LEAST_CHUNK if ".dkr.ecr." in host else LEAST_CHUNK


def chunk_after_cut(before: int | None, sent: int, *, kept: bool, least: int) -> int:
    """Bytes per request after one was cut when `sent` bytes of it had gone out.

    `kept` says that the registry has some of them, so that cuts cost little. Where it has
    none, half of what went through fits into whatever time or size ended the request; and
    half of `before`, the size until now, if that was cut again.
    """
    if kept:
        return before or USUAL_CHUNK
    size = before // 2 if before is not None else USUAL_CHUNK
    while size > sent // 2:
        size //= 2
    return max(size, least if before is not None else FIRST_CHUNK)


def enough_gain(size: int) -> int:
    """Bytes that count as moving on: 64 KiB, or 1/64 of a smaller blob but 1 KiB at least."""
    return max(1024, min(64 * 1024, size // 64)) if size >= 0 else 64 * 1024
