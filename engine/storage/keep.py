"""What is recorded of an image whose layers are in the store, and the documents it needs."""

from __future__ import annotations

import time
from collections.abc import Sequence

from engine.storage.images import StoredImage, StoredLayer
from engine.storage.intake import Intake
from engine.storage.locks import Held
from engine.storage.options import Layer
from engine.storage.parts import Parts, lock_key
from imgtools.spec import identity
from imgtools.spec.config import Config
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, RawManifest
from imgtools.task import Task

DOCUMENT_LOCK = "document"


def described(
    intake: Intake, raw: RawManifest, view: Manifest, content: bytes, layers: Sequence[Layer]
) -> StoredImage:
    """The record of the image with the manifest `raw` (`view` is it parsed), the config
    `content` and `layers`, oldest first; without the digests it is known by. Raises
    InvalidManifest for a config that is none, StorageError."""
    config = Config.parse(content)
    stored = tuple(
        StoredLayer(
            blob=blob,
            diff_id=layer.diff_id,
            size=intake.tar_size(layer),
            chain_id=layer.chain_id,
        )
        for blob, layer in zip(view.layers, layers, strict=True)
    )
    return StoredImage(
        id=identity.image_id(content).hex,
        manifest=raw.descriptor(),
        config=view.config,
        layers=stored,
        created=config.created,
        platform=str(config.platform) if config.platform.os else "",
        labels=tuple(sorted(config.labels.items())),
        stored=time.time(),
        size=sum(layer.size for layer in layers) + raw.size + view.config.size,
    )


def keep_document(parts: Parts, digest: Digest, content: bytes, task: Task) -> Held:
    """Store a document, which nobody collects before the lock that this gives is closed."""
    held = parts.locks.shared(DOCUMENT_LOCK, lock_key(digest), task=task)
    try:
        parts.documents.put_bytes(content, digest)
    except BaseException:
        held.close()
        raise
    return held
