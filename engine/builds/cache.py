"""What is remembered of earlier builds, by the key of a step, on disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from engine.builds.holding import Holding
from engine.storage.kept import KeptLayers
from imgtools.build.protocols import CacheRecord
from imgtools.errors import Error
from imgtools.spec.descriptor import optional
from imgtools.spec.digest import Digest
from imgtools.task import Task

WHAT = "record of a step"
STALE = 3600.0
"""Seconds after which it is written down that a record was of use again."""


class StepCache:
    """The steps that one store remembers."""

    def __init__(self, kept: KeptLayers, holding: Holding) -> None:
        self._kept = kept
        self._holding = holding
        self._mutex = threading.Lock()
        self._touched: dict[str, float] = {}

    def find(self, key: str, *, task: Task) -> CacheRecord | None:
        """What is remembered of the step `key`, if its layer, which then stays, is here."""
        document = self._kept.read(key)
        if document is None:
            return None
        try:
            record = _record(key, document)
        except Error:
            return None
        if record is None:
            return None
        if record.chain_id is not None and self._holding.hold(record.chain_id, task=task) is None:
            return None
        self._touch(key)
        return record

    def remember(self, record: CacheRecord) -> None:
        """Remember a step. Raises StorageError."""
        document = {
            "key": record.key,
            "parent": str(record.parent or ""),
            "diffId": str(record.diff_id or ""),
            "size": record.size,
            "created": record.created,
            "note": record.note,
        }
        self._kept.write(record.key, document, record.chain_id)

    def _touch(self, key: str) -> None:
        now = time.monotonic()
        with self._mutex:
            if now - self._touched.get(key, -STALE) < STALE:
                return
            self._touched[key] = now
        self._kept.touch(key)


def _record(key: str, document: Mapping[str, Any]) -> CacheRecord | None:
    """The record in a document; None for one of another key. Raises InvalidManifest,
    InvalidDigest."""
    if document.get("key") != key:
        return None
    created = document.get("created")
    return CacheRecord(
        key=key,
        parent=_digest(document, "parent"),
        chain_id=_digest(document, "layer"),
        diff_id=_digest(document, "diffId"),
        size=optional(document, "size", int, WHAT) or 0,
        created=float(created) if isinstance(created, int | float) else 0.0,
        note=optional(document, "note", str, WHAT) or "",
    )


def _digest(document: Mapping[str, Any], name: str) -> Digest | None:
    text = optional(document, name, str, WHAT)
    return Digest.parse(text) if text else None
