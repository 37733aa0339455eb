"""One image or artifact as it was read: manifest, config and layers, matched to each other.

Pure. The manifest, the config and the history each tell a part about a layer; a `Layer` has
them together, or leaves out what does not agree.
"""

from __future__ import annotations

from collections.abc import Sequence

from imgtools.frozen import dataclass
from imgtools.spec import media_type as mt
from imgtools.spec.config import Config, History
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, RawManifest
from imgtools.spec.schema1 import Schema1

UNKNOWN_SIZE = -1
"""Size of a layer whose manifest does not say it (schema 1), as in skopeo."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer, `number` 0 the oldest; `diff_id` and `step` are None when nobody tells them."""

    number: int
    descriptor: Descriptor
    diff_id: Digest | None = None
    step: History | None = None

    @property
    def digest(self) -> Digest:
        """The digest of the blob."""
        return self.descriptor.digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What a name points at (`top`), and the one manifest in it that was chosen (`raw`).

    `top` and `raw` are the same unless `top` is an index; `instance` is then the entry of
    the index. `config` is None for artifacts and schema 1; `config_bytes` are its exact
    bytes, and those of an artifact's config where they were read.
    """

    top: RawManifest
    raw: RawManifest
    manifest: Manifest | Schema1
    instance: Descriptor | None = None
    config: Config | None = None
    config_bytes: bytes | None = None

    @property
    def is_artifact(self) -> bool:
        """Whether the config is not an image config, so that layers are no file system.

        Docker's manifests describe images whatever they call the config: old ones have
        application/octet-stream there.
        """
        manifest = self.manifest
        return isinstance(manifest, Manifest) and manifest.is_artifact and not manifest.is_docker

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, oldest first."""
        return layers_of(self.manifest, self.config)


def layers_of(manifest: Manifest | Schema1, config: Config | None) -> tuple[Layer, ...]:
    """The layers of `manifest` with what `config` says of each.

    diff_ids are matched when there are as many as layers, history steps when as many of
    them have a layer (OCI image-spec config.md, "history").
    """
    if isinstance(manifest, Schema1):
        return tuple(
            Layer(number=number, descriptor=_schema1_blob(digest))
            for number, digest in enumerate(manifest.layers)
        )
    count = len(manifest.layers)
    diff_ids: Sequence[Digest | None] = [None] * count
    steps: Sequence[History | None] = [None] * count
    if config is not None:
        if len(config.diff_ids) == count:
            diff_ids = config.diff_ids
        with_layer = [step for step in config.history if not step.empty_layer]
        if len(with_layer) == count:
            steps = with_layer
    return tuple(
        Layer(number=number, descriptor=descriptor, diff_id=diff_ids[number], step=steps[number])
        for number, descriptor in enumerate(manifest.layers)
    )


def _schema1_blob(digest: Digest) -> Descriptor:
    # Nothing but gzip was ever pushed under schema 1, and no other property is known.
    return Descriptor(media_type=mt.DOCKER_LAYER_GZIP, digest=digest, size=UNKNOWN_SIZE)
