"""Which blob is which layer: digests of blobs whose layers were unpacked here, by diff_id.

A registry names a layer by its compressed blob, the store by what was in it. What was seen
once need not be downloaded again to know, not even after the run that saw it was killed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.storage.images import Records
from imgtools.errors import Error, InvalidDigest, InvalidManifest
from imgtools.frozen import dataclass
from imgtools.spec.descriptor import optional
from imgtools.spec.digest import Digest

_WHAT = "record of a blob"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownBlob:
    """What is in a blob of `size` bytes: the `diff_id` of its uncompressed tar, and the
    `chain_id` of a layer that it became."""

    diff_id: Digest
    chain_id: Digest
    size: int

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> KnownBlob:
        """What a record says; raises InvalidManifest or InvalidDigest."""
        diff_id = optional(value, "diffId", str, _WHAT)
        chain_id = optional(value, "chainId", str, _WHAT)
        size = optional(value, "size", int, _WHAT)
        if diff_id is None or chain_id is None or size is None:
            raise InvalidManifest(f"{_WHAT} is not complete")
        return cls(
            diff_id=Digest.parse(diff_id),
            chain_id=Digest.parse(chain_id),
            size=size,
        )


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
                "chainId": str(known.chain_id),
                "size": known.size,
            }
            self._records.write(_name(digest), document, durable=False)

    def all(self) -> dict[Digest, Digest]:
        """All known blobs with the chain_ids of the layers that they became."""
        found: dict[Digest, Digest] = {}
        for name in self._records.marks():
            try:
                digest = Digest.parse(name.replace("-", ":", 1))
            except InvalidDigest:
                continue
            known = self.get(digest)
            if known is not None:
                found[digest] = known.chain_id
        return found

    def remove(self, digest: Digest) -> None:
        """Forget a blob."""
        self._records.remove(_name(digest))


def _name(digest: Digest) -> str:
    return f"{digest.algorithm}-{digest.hex}"
