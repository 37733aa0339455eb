"""`inspect`'s JSON: the fields, order and empty values of `skopeo inspect`.

Pure. Fields and their rules are those of skopeo's `cmd/skopeo/inspect/output.go` and of the
`Inspect` methods of containers/image. Artifacts, which skopeo refuses, get an object of the
same style with what is known of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imgtools.errors import InvalidManifest
from imgtools.image.model import Image, Layer
from imgtools.inspect.gotime import ZERO, go_time
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import optional, string_map
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, RawManifest
from imgtools.spec.schema1 import Schema1


def summary(
    image: Image, *, name: str = "", tags: Sequence[str] = (), algorithm: str | None = None
) -> dict[str, Any]:
    """The object that `inspect` prints, keys in order.

    `name` is the repository ("" outside registries), `algorithm` that of the digest (None
    takes the one that the image itself uses). Raises InvalidManifest when the config has a
    property of a wrong type.
    """
    digest = str(manifest_digest(image, algorithm))
    if image.is_artifact:
        return _artifact(image, name, digest, tags)
    facts = _facts(image)
    value: dict[str, Any] = {}
    if name:
        value["Name"] = name
    if facts["Tag"]:
        value["Tag"] = facts["Tag"]
    value["Digest"] = digest
    value["RepoTags"] = list(tags)
    for key in ("Created", "DockerVersion", "Labels", "Architecture", "Os"):
        value[key] = facts[key]
    value["Layers"] = [str(layer.digest) for layer in image.layers]
    value["LayersData"] = [_layer_data(image, layer) for layer in image.layers]
    value["Env"] = facts["Env"]
    return value


def manifest_digest(image: Image, algorithm: str | None = None) -> Digest:
    """The digest of what the name points at: by `algorithm`, else by the algorithm of the
    image's config (schema 1: sha256), as skopeo has it. Raises InvalidDigest."""
    if algorithm is None:
        manifest = image.manifest
        algorithm = manifest.config.digest.algorithm if isinstance(manifest, Manifest) else "sha256"
    top = image.top
    if algorithm == top.digest.algorithm:
        return top.digest
    return RawManifest.of(top.content, top.media_type, algorithm=algorithm).digest


def odd_created(image: Image) -> str:
    """The `created` of the config when it is no time that can be shown, else ""."""
    created = image.config.created if image.config is not None else ""
    return created if created and go_time(created) is None else ""


def _facts(image: Image) -> dict[str, Any]:
    """Created to Env from the config, or for schema 1 from its newest history entry."""
    if isinstance(image.manifest, Schema1):
        document: Mapping[str, Any] = image.manifest.history[-1]
        tag, has_zero_time = image.manifest.tag, True
    else:
        document = image.config.document if image.config is not None else {}
        tag, has_zero_time = "", image.manifest.is_docker
    what = "image config"
    settings = optional(document, "config", dict, what) or {}
    created = optional(document, "created", str, what)
    shown = go_time(created) if created is not None else (ZERO if has_zero_time else None)
    labels = string_map(settings, "Labels", what)
    env = optional(settings, "Env", list, what)
    return {
        "Tag": tag,
        "Created": shown,
        "DockerVersion": optional(document, "docker_version", str, what) or "",
        "Labels": _sorted(labels) if settings.get("Labels") is not None else None,
        "Architecture": optional(document, "architecture", str, what) or "",
        "Os": optional(document, "os", str, what) or "",
        "Env": None if env is None else list(env),
    }


def _layer_data(image: Image, layer: Layer) -> dict[str, Any]:
    is_schema1 = isinstance(image.manifest, Schema1)
    annotations = layer.descriptor.annotations
    return {
        "MIMEType": "" if is_schema1 else layer.descriptor.media_type,
        "Digest": str(layer.digest),
        "Size": layer.descriptor.size,
        "Annotations": _sorted(annotations) if annotations else None,
    }


def _artifact(image: Image, name: str, digest: str, tags: Sequence[str]) -> dict[str, Any]:
    manifest = image.manifest
    if not isinstance(manifest, Manifest):
        raise InvalidManifest("schema 1 manifests are never artifacts")
    value: dict[str, Any] = {"Name": name} if name else {}
    value["Digest"] = digest
    value["RepoTags"] = list(tags)
    value["MediaType"] = manifest.media_type
    value["ArtifactType"] = artifact_type(manifest)
    value["Config"] = {
        "MIMEType": manifest.config.media_type,
        "Digest": str(manifest.config.digest),
        "Size": manifest.config.size,
    }
    if manifest.subject is not None:
        value["Subject"] = {
            "MIMEType": manifest.subject.media_type,
            "Digest": str(manifest.subject.digest),
            "Size": manifest.subject.size,
        }
    value["Annotations"] = _sorted(manifest.annotations)
    value["Layers"] = [str(layer.digest) for layer in image.layers]
    value["LayersData"] = [_layer_data(image, layer) for layer in image.layers]
    return value


def artifact_type(manifest: Manifest) -> str:
    """What kind of artifact this is: its artifactType, else the type of its config (OCI
    image-spec manifest.md, "Guidelines for Artifact Usage"); "" for an image."""
    if manifest.artifact_type:
        return manifest.artifact_type
    return manifest.config.media_type if mt.kind(manifest.config.media_type) != "config" else ""


def _sorted(mapping: Mapping[str, str]) -> dict[str, str]:
    return dict(sorted(mapping.items(), key=lambda item: item[0].encode("utf-8", "replace")))
