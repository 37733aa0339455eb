"""The blobs that a plan's manifests need, each once, turned into one action each.

Pure. Users (platforms) of a blob are collected for display; config and layers are treated
alike and started largest first.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from imgtools.copy.actions import (
    AnyBlobAction,
    Decompress,
    Mount,
    Recompress,
    Reuse,
    Skip,
    Transfer,
)
from imgtools.copy.decide import Rules, is_left
from imgtools.copy.rewrite import Key
from imgtools.copy.survey import Survey
from imgtools.errors import InvalidManifest
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest

UNKNOWN_SIZE = -1
"""The size of a layer of a schema 1 manifest, which does not say it."""


@dataclass(slots=True)
class _Need:
    blob: Descriptor
    role: str
    target: str
    diff_id: Digest | None
    measure: str
    users: dict[str, None] = field(default_factory=dict)


@dataclass(slots=True)
class Needs:
    """Collects what is needed; `actions` is the decision about all of it."""

    survey: Survey
    rules: Rules
    _needs: dict[Key, _Need] = field(default_factory=dict)

    def add(
        self,
        blob: Descriptor,
        role: str,
        user: str,
        *,
        target: str = "",
        diff_id: Digest | None = None,
        measure: str = "",
    ) -> None:
        """One more use of `blob`, recompressed to `target` ("" as it is).

        Raises InvalidManifest when two images disagree on its content or size.
        """
        need = self._needs.setdefault(
            (blob.digest, target), _Need(blob, role, target, diff_id, measure)
        )
        if UNKNOWN_SIZE in (need.blob.size, blob.size):
            # What says the size is the better source of it.
            need.blob = blob if need.blob.size == UNKNOWN_SIZE else need.blob
        elif need.blob.size != blob.size:
            raise InvalidManifest(
                f"blob {blob.digest} is said to have {need.blob.size} and {blob.size} bytes"
            )
        if None not in (need.diff_id, diff_id) and need.diff_id != diff_id:
            raise InvalidManifest(
                f"layer {blob.digest} is said to have the diff_ids {need.diff_id} and {diff_id}"
            )
        need.diff_id = need.diff_id or diff_id
        need.measure = max(need.measure, measure, key=_MEASURES.index)
        if user:
            need.users[user] = None

    def actions(self) -> tuple[AnyBlobAction, ...]:
        """One action for each blob, largest first; equal plans for equal needs."""
        ordered = sorted(
            self._needs.values(), key=lambda n: (-n.blob.size, str(n.blob.digest), n.target)
        )
        return tuple(self._action(need) for need in ordered)

    def _action(self, need: _Need) -> AnyBlobAction:
        blob, role, users = need.blob, need.role, tuple(need.users)
        was = mt.layer_compression(blob.media_type) or "gzip"
        if need.target == "none":
            return Decompress(blob=blob, role=role, users=users, was=was, diff_id=need.diff_id)
        if need.target in ("gzip", "zstd"):
            return Recompress(
                blob=blob,
                role=role,
                users=users,
                was=was,
                target="gzip" if need.target == "gzip" else "zstd",
                level=self.rules.options.compression_level,
                diff_id=need.diff_id,
            )
        if need.measure:
            return Transfer(blob=blob, role=role, users=users, certain=False, measure=need.measure)
        if is_left(self.rules, blob):
            return Skip(blob=blob, role=role, users=users, reason="foreign")
        known = self.survey.blobs.get(blob.digest)
        if known or self.rules.same_repository:
            return Reuse(blob=blob, role=role, users=users)
        if self.rules.same_registry:
            return Mount(blob=blob, role=role, users=users, source=self.survey.source)
        return Transfer(blob=blob, role=role, users=users, certain=known is not None)


_MEASURES = ("", "size", "diff_id")
