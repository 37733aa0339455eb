"""The rules by which a copy changes a manifest: its family, and the compression of layers.

Pure, and used twice: the survey asks what could change to know what to fetch, the plan to
decide. Rules follow containers/image's copy package, except that bytes stay as they are
unless a change is asked for, the destination cannot hold them, or the source made the
manifest up itself.
"""

from __future__ import annotations

from typing import Literal

from imgtools.copy.options import CopyOptions, Target
from imgtools.errors import Unsupported
from imgtools.frozen import dataclass
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.manifest import Index, Manifest
from imgtools.spec.schema1 import Schema1
from imgtools.transport.base import Capabilities, Origin

Family = Literal["oci", "docker"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What decides: the two ends, what the destination can hold, and what was asked for."""

    source: Origin
    destination: Origin
    capabilities: Capabilities
    options: CopyOptions

    @property
    def same_registry(self) -> bool:
        """Whether blobs can be mounted rather than moved."""
        return bool(self.source.registry) and self.source.registry == self.destination.registry

    @property
    def same_repository(self) -> bool:
        """Whether every blob and manifest of the source is at the destination already."""
        return self.same_registry and self.source.repository == self.destination.repository

    def takes(self, media_type: str) -> bool:
        """Whether the destination takes a manifest of this type."""
        types = self.capabilities.manifest_types
        return types is None or media_type in types


def keeps(rules: Rules, media_type: str) -> bool:
    """Whether a manifest of `media_type` arrives byte for byte, whatever is in it.

    An index does when all below it does, so a format that would convert it says no.
    """
    options, capabilities = rules.options, rules.capabilities
    if options.touches_layers or not _takes_compressed(capabilities):
        return False
    if rules.source.synthesised and not options.accept_uncompressed:
        return False
    if _becomes_oci(rules, media_type):
        return False
    if not rules.takes(media_type) or (mt.kind(media_type) == "index" and not capabilities.indexes):
        return False
    if not options.format:
        return True
    return mt.kind(media_type) == "manifest" and mt.is_docker(media_type) == (
        options.format == "v2s2"
    )


def _takes_compressed(capabilities: Capabilities) -> bool:
    allowed = capabilities.layer_compressions
    return allowed is None or {"gzip", "zstd"} <= allowed


def family(rules: Rules, media_type: str) -> Family | None:
    """The family a manifest or index is converted to, None when it stays as it is.

    Raises Unsupported when the destination takes neither form, or for schema 1 output.
    """
    name = rules.options.format
    is_schema1 = mt.kind(media_type) == "schema1"
    if name == "v2s1":
        if is_schema1 and rules.takes(media_type):
            return None
        raise Unsupported(
            "writing Docker schema 1 manifests is not supported",
            hint="registries have dropped the format; use v2s2 or oci",
        )
    if name:
        wanted: Family = "oci" if name == "oci" else "docker"
        converted = _type_in(media_type, wanted)
        if not rules.takes(converted):
            raise Unsupported(
                f"{rules.destination.transport}: does not take manifests of type {converted}"
            )
        return None if converted == media_type else wanted
    if _becomes_oci(rules, media_type):
        return "oci"
    if rules.takes(media_type):
        return None
    for candidate in _FAMILIES:
        if rules.takes(_type_in(media_type, candidate)):
            return candidate
    raise Unsupported(
        f"{rules.destination.transport}: does not take manifests of type {media_type}"
    )


def _becomes_oci(rules: Rules, media_type: str) -> bool:
    """Whether a Docker manifest or list has to become OCI's at the destination.

    In a layout it has: skopeo, buildah and umoci look for OCI's types only when they read
    one. --preserve-digests keeps it as it is, and so does what copies an index by its bytes.
    """
    options = rules.options
    return (
        rules.destination.transport in ("oci", "oci-archive")
        and mt.kind(media_type) in ("manifest", "index")
        and mt.is_docker(media_type)
        and not (options.format or options.preserve_digests)
        and not (options.selection.sparse or options.selection.mode == "index-only")
    )


_FAMILIES: tuple[Family, ...] = ("oci", "docker")


def _type_in(media_type: str, family: Family) -> str:
    index = mt.kind(media_type) == "index"
    if family == "oci":
        return mt.OCI_INDEX if index else mt.OCI_MANIFEST
    return mt.DOCKER_LIST if index else mt.DOCKER_MANIFEST


def layer_target(rules: Rules, layer: Descriptor, *, present: bool) -> Target | None:
    """What a layer of an image is to be compressed with, None to leave it as it is.

    `present` says that the destination is known to have the layer in the form it has now.
    Raises Unsupported when the destination cannot hold it and we cannot say how to change it.
    """
    now = mt.layer_compression(layer.media_type)
    return compression_target(rules, now, present=present, what=str(layer))


def compression_target(rules: Rules, now: str | None, *, present: bool, what: str) -> Target | None:
    """Like `layer_target`, of a layer whose compression is `now` (None: not known)."""
    options, allowed = rules.options, rules.capabilities.layer_compressions
    if now is None:
        # An attestation's statement, say; only what has to be uncompressed is in its way.
        if not _takes_compressed(rules.capabilities):
            raise Unsupported(
                f"{rules.destination.transport}: cannot hold the layer {what}",
                hint="its compression is not known from its media type",
            )
        return None
    if allowed is not None and now != "none" and now not in allowed:
        if options.compression and options.compression in allowed:
            return options.compression
        return "none" if "none" in allowed else "gzip"
    if rules.destination.transport == "dir":
        return _for_directory(options, now)
    wanted = options.compression
    if wanted and (allowed is None or wanted in allowed):
        if now == wanted or (present and not options.force_compression):
            return None
        return wanted
    # Every destination can hold a plain layer; compressing it is a preference, which must
    # not change what somebody has pushed or signed.
    prefers = (allowed is None or "none" not in allowed) and not options.accept_uncompressed
    if now == "none" and rules.source.synthesised and prefers and not options.preserve_digests:
        return "gzip"
    return None


def _for_directory(options: CopyOptions, now: str) -> Target | None:
    """dir: keeps layers as they are unless told otherwise."""
    if options.decompress and now != "none":
        return "none"
    if not options.compress:
        return None
    if now == "none":
        return options.compression or "gzip"
    return options.compression if options.compression and now != options.compression else None


def may_change_layers(rules: Rules, view: Manifest | Index | Schema1) -> bool:
    """Whether layers of a manifest could be recompressed, so that its config is needed.

    It always is for a manifest that the source made up, whose layer types may be wrong.
    """
    if not isinstance(view, Manifest) or view.is_artifact:
        return False
    if rules.source.synthesised:
        return bool(view.layers)
    return any(
        layer_target(rules, layer, present=False) is not None and not is_left(rules, layer)
        for layer in view.layers
    )


def corrects_types(rules: Rules) -> bool:
    """Whether wrong layer types of a made-up manifest are put right.

    dir: keeps every byte, and an archive of plain layers does not keep the manifest.
    """
    return (
        rules.source.synthesised
        and rules.destination.transport != "dir"
        and _takes_compressed(rules.capabilities)
        and not rules.options.preserve_digests
    )


def is_left(rules: Rules, layer: Descriptor) -> bool:
    """Whether a foreign layer stays where its URLs say."""
    return (
        rules.capabilities.foreign_layers_by_url
        and bool(layer.urls)
        and mt.is_foreign(layer.media_type)
    )
