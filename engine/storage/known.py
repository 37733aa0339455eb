"""Which blob is which layer: digests of blobs whose layers were unpacked here, by diff_id.

A registry names a layer by its compressed blob, the store by what was in it. What was seen
once need not be downloaded again to know, not even after the run that saw it was killed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.storage.images import Records
from imgtools.errors import Error, InvalidDigest, InvalidManifest
from imgtools.spec.descriptor import optional
from imgtools.spec.digest import Digest

_WHAT = "record of a blob"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownBlob:
    """What is in a blob: `diff_id` and `size` (bytes) of its uncompressed tar; `blob_size` is
    the blob's own."""

    diff_id: Digest
    size: int
    blob_size: int

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> KnownBlob:
        """What a record says; raises InvalidManifest or InvalidDigest."""
        diff_id = optional(value, "diffId", str, _WHAT)
        size = optional(value, "size", int, _WHAT)
        blob_size = optional(value, "blobSize", int, _WHAT)
        if diff_id is None or size is None or blob_size is None:
            raise InvalidManifest(f"{_WHAT} has no diffId, size or blobSize")
        return cls(diff_id=Digest.parse(diff_id), size=size, blob_size=blob_size)


class KnownBlobs:
    """The blobs of one store that are known."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def get(self, digest: Digest) -> KnownBlob | None:
        """What is in a blob, None for one that was never seen."""
        try:
            return self._records.read(_name(digest), KnownBlob.from_json)
        except Error:
            # Cut short by a crash, it is as good as none: it can be learnt again.
            return None

    def add(self, digest: Digest, known: KnownBlob) -> None:
        """Remember what is in a blob, which the caller has verified."""
        if self.get(digest) != known:
            document = {
                "diffId": str(known.diff_id),
                "size": known.size,
                "blobSize": known.blob_size,
            }
            self._records.write(_name(digest), document)

    def all(self) -> dict[Digest, Digest]:
        """All known blobs with the diff_ids of their layers."""
        found: dict[Digest, Digest] = {}
        for name in self._records.marks():
            try:
                digest = Digest.parse(name.replace("-", ":", 1))
            except InvalidDigest:
                continue
            known = self.get(digest)
            if known is not None:
                found[digest] = known.diff_id
        return found

    def remove(self, digest: Digest) -> None:
        """Forget a blob."""
        self._records.remove(_name(digest))


def _name(digest: Digest) -> str:
    return f"{digest.algorithm}-{digest.hex}"
