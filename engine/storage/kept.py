"""Layers that are kept though no image needs them: records of what builds have made.

A record is a file named after its key, so looking one up costs the same however many there
are. It counts as a user of its layer until it is dropped. The time of its file is when it was
last of use.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from engine.storage.images import Records, name_key
from imgtools.blob.files import storage_errors
from imgtools.errors import Error, InvalidManifest, NotFound
from imgtools.frozen import dataclass
from imgtools.spec.descriptor import optional
from imgtools.spec.digest import Digest

VERSION = 1
LAYER = "layer"
WHAT = "record of a build"


@dataclass(frozen=True, slots=True)
class Kept:
    """What a record keeps: a layer by its chain_id, None for none; `used` is when it was last
    of use, in seconds since the epoch."""

    layer: Digest | None
    used: float


class KeptLayers:
    """The records of one store."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def read(self, key: str) -> Mapping[str, Any] | None:
        """The document of a record; None where there is none, or a damaged one: it can be
        made again."""
        try:
            return self._records.read(name_key(key), _checked)
        except Error:
            return None

    def write(self, key: str, document: Mapping[str, Any], layer: Digest | None) -> None:
        """Keep `layer` by the record `key`; raises StorageError."""
        whole = {"version": VERSION, LAYER: str(layer) if layer is not None else "", **document}
        self._records.write(name_key(key), whole, durable=False)

    def touch(self, key: str) -> None:
        """Say that a record was of use; one that is gone is no error."""
        path = self._records.path(name_key(key))
        try:
            with storage_errors(path):
                os.utime(path)
        except NotFound:
            return

    def all(self) -> dict[str, Kept]:
        """All records by the names of their files; a damaged one keeps nothing."""
        found = {}
        for name in self._records.marks():
            try:
                layer = self._records.read(name, _layer)
                with storage_errors(name):
                    used = os.stat(self._records.path(name), follow_symlinks=False).st_mtime
            except NotFound:
                continue
            except Error:
                layer, used = None, 0.0
            found[name] = Kept(layer, used)
        return found

    def remove(self, name: str) -> None:
        """Drop the record with that file name."""
        self._records.remove(name, durable=False)

    def marks(self) -> dict[str, str]:
        """See Records.marks."""
        return self._records.marks()


def _checked(document: Mapping[str, Any]) -> Mapping[str, Any]:
    if document.get("version") != VERSION:
        raise InvalidManifest(f"{WHAT} of version {document.get('version')!r}")
    return document


def _layer(document: Mapping[str, Any]) -> Digest | None:
    text = optional(_checked(document), LAYER, str, WHAT)
    return Digest.parse(text) if text else None
