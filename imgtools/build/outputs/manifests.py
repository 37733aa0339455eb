"""A finished image as the two documents that say what it is: its config and its manifest.

Pure. Keys are in the order in which Go's types write them (OCI image-spec specs-go, and the
types of moby's image package), maps are sorted, so that equal images have equal bytes.
Annotations follow buildah.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from imgtools.build.options import ConfigEdits
from imgtools.build.outputs.model import BuiltImage, BuiltLayer, Family
from imgtools.build.protocols import BaseImage
from imgtools.errors import InvalidReference, Unsupported
from imgtools.frozen import dataclass
from imgtools.spec import media_type as mt
from imgtools.spec import strict_json
from imgtools.spec.config import Config
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, RawManifest, parse
from imgtools.spec.reference import Reference

CREATED = "org.opencontainers.image.created"
BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"

_OCI_ORDER = (
    "created", "author", "architecture", "os", "os.version", "os.features", "variant",
    "config", "rootfs", "history",
)  # fmt: skip
_DOCKER_ORDER = (
    "id", "parent", "comment", "created", "container", "container_config", "docker_version",
    "author", "config", "architecture", "variant", "os", "rootfs", "history", "os.version",
    "os.features",
)  # fmt: skip
_OCI_SETTINGS = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels",
    "StopSignal", "ArgsEscaped", "Healthcheck", "OnBuild", "Shell",
)  # fmt: skip
_DOCKER_SETTINGS = (
    "Hostname", "Domainname", "User", "AttachStdin", "AttachStdout", "AttachStderr",
    "ExposedPorts", "Tty", "OpenStdin", "StdinOnce", "Env", "Cmd", "Healthcheck", "ArgsEscaped",
    "Image", "Volumes", "WorkingDir", "Entrypoint", "NetworkDisabled", "MacAddress", "OnBuild",
    "Labels", "StopSignal", "StopTimeout", "Shell",
)  # fmt: skip
_HEALTHCHECK = ("Test", "Interval", "Timeout", "StartPeriod", "StartInterval", "Retries")
_MAPS = ("Labels", "ExposedPorts", "Volumes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """The config of an image as bytes, its descriptor, and the manifest that names it."""

    config: bytes
    config_descriptor: Descriptor
    manifest: RawManifest
    layers: tuple[Descriptor, ...]


def config_bytes(config: Config, family: Family) -> bytes:
    """The config as it is stored; its sha256 is the image id. What only Docker knows
    (HEALTHCHECK, ONBUILD, SHELL) is written in both families."""
    document = dict(config.document)
    if isinstance(settings := document.get("config"), Mapping):
        document["config"] = _settings(settings, family)
    if isinstance(rootfs := document.get("rootfs"), Mapping):
        document["rootfs"] = _ordered(rootfs, ("type", "diff_ids"))
    return strict_json.dumps(_ordered(document, _OCI_ORDER if family == "oci" else _DOCKER_ORDER))


def _settings(settings: Mapping[str, Any], family: Family) -> dict[str, Any]:
    value = dict(settings)
    for key in _MAPS:
        if isinstance(found := value.get(key), Mapping):
            value[key] = dict(sorted(found.items()))
    if isinstance(check := value.get("Healthcheck"), Mapping):
        value["Healthcheck"] = _ordered(check, _HEALTHCHECK)
    return _ordered(value, _OCI_SETTINGS if family == "oci" else _DOCKER_SETTINGS)


def _ordered(value: Mapping[str, Any], order: Iterable[str]) -> dict[str, Any]:
    """`value` with the keys of `order` first, all others sorted after them."""
    known = {key: value[key] for key in order if key in value}
    return known | {key: value[key] for key in sorted(value) if key not in known}


def layer_type(family: Family, compression: str) -> str:
    """The media type of a layer; raises Unsupported for zstd in Docker's family, which has no
    type for it that other tools would read."""
    if family == "docker" and compression == "zstd":
        raise Unsupported("zstd layers need an OCI manifest", hint="use --format oci, or gzip")
    plain = mt.OCI_LAYER if family == "oci" else mt.DOCKER_LAYER
    found = mt.with_compression(plain, compression)
    if found is None:
        raise Unsupported(f"layers cannot be compressed with {compression}")
    return found


def plain_layer(layer: BuiltLayer, family: Family) -> Descriptor:
    """A layer as its uncompressed tar, named by its diff_id."""
    return Descriptor(media_type=layer_type(family, "none"), digest=layer.diff_id, size=layer.size)


def documents(image: BuiltImage, layers: Sequence[Descriptor], family: Family) -> Documents:
    """Config and manifest of `image` with `layers` in whatever form they are; Docker's
    manifests have no annotations."""
    config = config_bytes(image.config, family)
    descriptor = Descriptor(
        media_type=mt.OCI_CONFIG if family == "oci" else mt.DOCKER_CONFIG,
        digest=Digest.of(config),
        size=len(config),
    )
    manifest = Manifest(
        media_type=mt.OCI_MANIFEST if family == "oci" else mt.DOCKER_MANIFEST,
        config=descriptor,
        layers=tuple(layers),
        annotations=MappingProxyType(dict(image.annotations) if family == "oci" else {}),
    )
    return Documents(
        config=config,
        config_descriptor=descriptor,
        manifest=manifest.to_raw(),
        layers=tuple(layers),
    )


def stored_documents(image: BuiltImage, family: Family) -> Documents:
    """What `SnapshotStore.keep_image` is given: every layer by its diff_id, uncompressed."""
    return documents(image, [plain_layer(layer, family) for layer in image.layers], family)


def base_layers(image: BuiltImage, family: Family) -> dict[Digest, Descriptor]:
    """The layers of the base at the bottom of `image`, as its registry has them, by diff_id.

    Media types are those of `family`. Only layers whose form is known and exists in the family
    are there; what was squashed or changed is not.
    """
    if image.base is None:
        return {}
    view = parse(image.base.manifest)
    diff_ids = image.base.config.diff_ids
    if not isinstance(view, Manifest) or len(view.layers) != len(diff_ids):
        return {}
    found: dict[Digest, Descriptor] = {}
    for layer, diff_id, blob in zip(image.layers, diff_ids, view.layers, strict=False):
        if layer.diff_id != diff_id:
            break
        compression = mt.layer_compression(blob.media_type)
        media_type = mt.to_family(blob.media_type, docker=family == "docker")
        if compression is None or media_type is None:
            continue
        if family == "docker" and compression == "zstd":
            continue
        found[diff_id] = blob.with_media_type(media_type)
    return found


def base_annotations(base: BaseImage | None) -> dict[str, str]:
    """What buildah says of the base: the digest of its manifest, and its full name if it has
    one (OCI image-spec annotations.md)."""
    if base is None:
        return {}
    found = {BASE_DIGEST: str(base.manifest.digest)}
    if name := full_name(base):
        found[BASE_NAME] = name
    return found


def full_name(base: BaseImage) -> str:
    """The base's name with registry and tag, "" where it did not come from a registry. A short
    name is where it was found."""
    if not base.pinned:
        return ""
    try:
        pinned = Reference.parse(base.pinned)
        asked = Reference.parse(base.name.removeprefix("docker://"))
    except InvalidReference:
        return base.pinned
    return str(pinned) if asked.digest is not None else str(pinned.with_tag(asked.tag))


def image_annotations(
    base: BaseImage | None, own: Mapping[str, str], edits: ConfigEdits, created: str
) -> dict[str, str]:
    """The annotations of a manifest: those of the base (unless --inherit-annotations=false),
    what is said of the base, `own`, then --created-annotation (`created` as in the config),
    --unsetannotation and --annotation, in this order."""
    inherited = base.annotations if base is not None and edits.inherit_annotations else {}
    found = {**inherited, **base_annotations(base), **own}
    found.pop(CREATED, None)
    if edits.created_annotation and created:
        found[CREATED] = created
    for name in edits.unset_annotations:
        found.pop(name, None)
    return dict(sorted({**found, **dict(edits.annotations)}.items()))
