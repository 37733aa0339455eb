"""What a cache in a registry keeps of a step: an artifact of the layer and a note, by key.

Pure. The manifest's config is the note, carried in its descriptor too, so that one request
answers everything but the layer. A note says nothing that the layer or the key does not
imply, but for text for people; what it says is somebody else's claim and checked as such.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from imgtools.build.protocols import CacheRecord
from imgtools.errors import InvalidDigest, InvalidManifest
from imgtools.frozen import dataclass
from imgtools.spec import media_type as mt
from imgtools.spec import strict_json
from imgtools.spec.descriptor import Descriptor, optional
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, RawManifest, parse
from imgtools.spec.reference import is_tag

ARTIFACT_TYPE = "application/vnd.imgtools.build.cache.v1"
NOTE_TYPE = "application/vnd.imgtools.build.cache.record.v1+json"
VERSION = 1
NOTE_LIMIT = 64 * 1024
"""Bytes of a note that we read."""
TEXT_LIMIT = 500
"""Characters of a record's text that are kept."""
LAST_SECOND = 253_402_300_799
"""Of the year 9999, behind which there is no way to write a time down."""
EMPTY = b"{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheDocuments:
    """A record as it is put: the manifest, the note, and the layer's descriptor if any."""

    manifest: RawManifest
    note: bytes
    note_descriptor: Descriptor
    layer: Descriptor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteRecord:
    """A record as it was found, and the blob of its layer, None for a step without one."""

    record: CacheRecord
    layer: Descriptor | None


def tag_of(key: str) -> str:
    """The tag under which a key is kept: the key itself, or its digest where it is no tag."""
    return key if is_tag(key) else Digest.of(key.encode()).hex


def cache_documents(record: CacheRecord, layer: Descriptor | None) -> CacheDocuments:
    """What is put for `record`, whose layer is `layer`."""
    note = strict_json.dumps(
        {
            "version": VERSION,
            "key": record.key,
            "parent": _text(record.parent),
            "chain_id": _text(record.chain_id),
            "diff_id": _text(record.diff_id),
            "size": record.size,
            "created": record.created,
            "note": record.note[:TEXT_LIMIT],
        }
    )
    descriptor = Descriptor(media_type=NOTE_TYPE, digest=Digest.of(note), size=len(note), data=note)
    empty = Descriptor(media_type=mt.OCI_EMPTY, digest=Digest.of(EMPTY), size=len(EMPTY))
    manifest = Manifest(
        media_type=mt.OCI_MANIFEST,
        artifact_type=ARTIFACT_TYPE,
        config=descriptor,
        layers=(layer or empty,),
    )
    return CacheDocuments(
        manifest=manifest.to_raw(), note=note, note_descriptor=descriptor, layer=layer
    )


def note_descriptor(raw: RawManifest) -> Descriptor:
    """Where the note of a cache manifest is; raises InvalidManifest for anything else."""
    view = parse(raw)
    if not isinstance(view, Manifest) or view.config.media_type != NOTE_TYPE:
        raise InvalidManifest(f"{raw.digest} is no record of a build cache")
    if view.config.size > NOTE_LIMIT:
        raise InvalidManifest(f"the note of {raw.digest} has {view.config.size} bytes")
    return view.config


def read_record(raw: RawManifest, note: bytes, key: str) -> RemoteRecord:
    """The record of `key`, checked; raises InvalidManifest or InvalidJSON.

    The chain_id has to follow from parent and diff_id, so that a record cannot put a layer
    where it does not belong.
    """
    value = strict_json.loads_object(note, "note of a cache record", limit=NOTE_LIMIT)
    what = "cache record"
    if optional(value, "version", int, what) != VERSION:
        raise InvalidManifest(f"cache record has the unknown version {value.get('version')!r}")
    if optional(value, "key", str, what) != key:
        raise InvalidManifest("cache record is of another key")
    record = CacheRecord(
        key=key,
        parent=_digest(value, "parent"),
        chain_id=_digest(value, "chain_id"),
        diff_id=_digest(value, "diff_id"),
        size=optional(value, "size", int, what) or 0,
        created=_time(value),
        note=(optional(value, "note", str, what) or "")[:TEXT_LIMIT],
    )
    if record.size < 0:
        raise InvalidManifest(f"cache record has an impossible size: {record.size}")
    if record.chain_id != expected_chain(record):
        raise InvalidManifest("cache record has a chain_id that does not follow from its layer")
    return RemoteRecord(record=record, layer=_layer(raw) if record.diff_id else None)


def expected_chain(record: CacheRecord) -> Digest | None:
    """The chain_id that parent and diff_id make (OCI image-spec config.md, "Layer ChainID")."""
    if record.diff_id is None:
        return record.parent
    if record.parent is None:
        return record.diff_id
    return Digest.of(f"{record.parent} {record.diff_id}".encode(), record.diff_id.algorithm)


def is_plausible(record: CacheRecord) -> bool:
    """Whether a record, which may be damaged or somebody else's, can be gone on from."""
    return (
        record.chain_id == expected_chain(record)
        and record.size >= 0
        and 0 <= record.created <= LAST_SECOND
    )


def _layer(raw: RawManifest) -> Descriptor:
    view = parse(raw)
    layers = view.layers if isinstance(view, Manifest) else ()
    if len(layers) != 1 or mt.layer_compression(layers[0].media_type) is None:
        raise InvalidManifest("cache record does not have exactly one layer of a known type")
    return layers[0]


def _text(digest: Digest | None) -> str | None:
    return None if digest is None else str(digest)


def _digest(value: Mapping[str, Any], key: str) -> Digest | None:
    text = optional(value, key, str, "cache record")
    if text is None:
        return None
    try:
        return Digest.parse(text)
    except InvalidDigest as e:
        raise InvalidManifest(f"cache record: {key}: {e.message}") from e


def _time(value: Mapping[str, Any]) -> float:
    found = value.get("created")
    number = isinstance(found, int | float) and not isinstance(found, bool)
    if not number or not math.isfinite(found) or not 0 <= found <= LAST_SECOND:  # type: ignore[arg-type, operator]
        raise InvalidManifest("cache record has no time")
    return float(found)  # type: ignore[arg-type]
