"""Every media type we know, once: what it is, how it is compressed, and its relatives.

OCI image-spec "media-types.md"; Docker's "manifest v2 schema 2". Types we do not know are
opaque, never an error here.
"""

from __future__ import annotations

from typing import Literal

from imgtools.frozen import dataclass

Kind = Literal["manifest", "index", "schema1", "config", "layer", "empty", "other"]

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
OCI_FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"
OCI_FOREIGN_GZIP = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
OCI_FOREIGN_ZSTD = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"
DOCKER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar"
DOCKER_FOREIGN_GZIP = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

ACCEPTED_MANIFESTS = (
    OCI_MANIFEST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    DOCKER_LIST,
    DOCKER_SCHEMA1_SIGNED,
    DOCKER_SCHEMA1,
)
"""What a manifest request accepts, preferred first."""


@dataclass(frozen=True, slots=True)
class _Info:
    kind: Kind
    docker: bool = False
    compression: str = ""
    foreign: bool = False


_TABLE = {
    OCI_MANIFEST: _Info("manifest"),
    OCI_INDEX: _Info("index"),
    OCI_CONFIG: _Info("config"),
    OCI_EMPTY: _Info("empty"),
    OCI_LAYER: _Info("layer", compression="none"),
    OCI_LAYER_GZIP: _Info("layer", compression="gzip"),
    OCI_LAYER_ZSTD: _Info("layer", compression="zstd"),
    OCI_FOREIGN: _Info("layer", compression="none", foreign=True),
    OCI_FOREIGN_GZIP: _Info("layer", compression="gzip", foreign=True),
    OCI_FOREIGN_ZSTD: _Info("layer", compression="zstd", foreign=True),
    DOCKER_MANIFEST: _Info("manifest", docker=True),
    DOCKER_LIST: _Info("index", docker=True),
    DOCKER_SCHEMA1: _Info("schema1", docker=True),
    DOCKER_SCHEMA1_SIGNED: _Info("schema1", docker=True),
    DOCKER_CONFIG: _Info("config", docker=True),
    DOCKER_LAYER: _Info("layer", docker=True, compression="none"),
    DOCKER_LAYER_GZIP: _Info("layer", docker=True, compression="gzip"),
    DOCKER_LAYER_ZSTD: _Info("layer", docker=True, compression="zstd"),
    DOCKER_FOREIGN: _Info("layer", docker=True, compression="none", foreign=True),
    DOCKER_FOREIGN_GZIP: _Info("layer", docker=True, compression="gzip", foreign=True),
}
_OTHER = _Info("other")
_BY_INFO = {info: media_type for media_type, info in _TABLE.items()}


def normalise(content_type: str) -> str:
    """A Content-Type header as a media type: no parameters, lower case."""
    return content_type.partition(";")[0].strip().lower()


def kind(media_type: str) -> Kind:
    """What `media_type` describes; "other" for what we do not know."""
    return _TABLE.get(media_type, _OTHER).kind


def is_docker(media_type: str) -> bool:
    """Whether the type is Docker's rather than OCI's."""
    return _TABLE.get(media_type, _OTHER).docker


def is_foreign(media_type: str) -> bool:
    """Whether the layer type is non-distributable ("foreign")."""
    return _TABLE.get(media_type, _OTHER).foreign


def layer_compression(media_type: str) -> str | None:
    """ "none", "gzip" or "zstd" for a known layer type, None for anything else."""
    info = _TABLE.get(media_type, _OTHER)
    return info.compression if info.kind == "layer" else None


def with_compression(media_type: str, compression: str) -> str | None:
    """The layer type of the same family with another compression; None where none exists."""
    info = _TABLE.get(media_type, _OTHER)
    if info.kind != "layer":
        return None
    return _BY_INFO.get(_Info("layer", info.docker, compression, info.foreign))


def to_family(media_type: str, *, docker: bool) -> str | None:
    """The counterpart in Docker's or OCI's family; None where none exists.

    Signed schema 1 has no counterpart; a type that is already of the family is returned.
    """
    info = _TABLE.get(media_type, _OTHER)
    if info.kind in ("other", "empty", "schema1"):
        return None
    return _BY_INFO.get(_Info(info.kind, docker, info.compression, info.foreign))
