"""The index.json of an OCI image layout: which entry a name means, and how one is added.

Pure: documents in, documents out. OCI image-spec "image-layout.md"; the rules for adding an
entry are those of containers/image, so that both write the same file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from imgtools.errors import ImageNotFound, InvalidManifest, InvalidReference, Unsupported
from imgtools.spec import media_type as mt
from imgtools.spec import strict_json
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.reference import Reference
from imgtools.transport.names import LocalName

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
INDEX_LIMIT = 64 * 1024 * 1024
"""Bytes of index.json we agree to read; a layout may hold thousands of images."""

# What Debian's skopeo writes, byte for byte.
LAYOUT_FILE = b'{"imageLayoutVersion": "1.0.0"}'

Entry = Mapping[str, Any]


def check_layout_file(content: bytes | None, where: str) -> None:
    """Raise InvalidManifest or Unsupported unless this is the `oci-layout` of version 1."""
    if content is None:
        raise InvalidManifest(
            f"{where} is not an OCI image layout: it has no oci-layout file",
            hint='the file oci-layout must hold {"imageLayoutVersion": "1.0.0"}',
        )
    version = strict_json.loads_object(content, f"{where}: oci-layout").get("imageLayoutVersion")
    if not isinstance(version, str) or not version.startswith("1."):
        raise Unsupported(f"{where} is an OCI image layout of the unknown version {version!r}")


def parse_index(content: bytes, where: str) -> dict[str, Any]:
    """The document, its `manifests` a list of objects; raises InvalidJSON or InvalidManifest."""
    what = f"{where}: index.json"
    document = strict_json.loads_object(content, what, limit=INDEX_LIMIT)
    manifests = document.get("manifests")
    if manifests is None:
        manifests = document["manifests"] = []
    if not isinstance(manifests, list) or not all(isinstance(m, dict) for m in manifests):
        raise InvalidManifest(f"{what}: property 'manifests' is not a list of objects")
    if document.get("schemaVersion", 2) != 2:
        raise InvalidManifest(f"{what}: schemaVersion is {document['schemaVersion']!r}, expected 2")
    return document


def new_index() -> dict[str, Any]:
    """An index.json without entries."""
    return {"schemaVersion": 2, "manifests": []}


def annotation(entry: Entry, key: str) -> str:
    """An annotation of an entry, "" when it has none."""
    annotations = entry.get("annotations")
    value = annotations.get(key) if isinstance(annotations, dict) else None
    return value if isinstance(value, str) else ""


def names_of(entries: Iterable[Entry]) -> list[str]:
    """The reference names in use, in order, each once."""
    return list(dict.fromkeys(n for n in (annotation(e, REF_NAME) for e in entries) if n))


def entries_for(entries: Sequence[Entry], name: LocalName) -> list[Entry]:
    """The entries that `name` may mean, best first; all of them for a bare path.

    A reference is looked for in `ref.name`, then in containerd's name, as it stands and then
    as docker would complete it. Raises ImageNotFound, and Unsupported when what it names is
    no manifest.
    """
    if name.position is not None:
        if name.position >= len(entries):
            raise ImageNotFound(
                f"{name.path} has no image @{name.position}: it has {len(entries)} entries"
            )
        return [entries[name.position]]
    if not name.ref:
        return list(entries)
    found = [e for e in entries if annotation(e, REF_NAME) == name.ref]
    found = found or [e for e in entries if annotation(e, CONTAINERD_NAME) == name.ref]
    found = found or _completed_matches(entries, name.ref)
    if not found:
        raise _not_found(entries, name)
    usable = [e for e in found if _is_manifest(e)]
    if not usable:
        raise Unsupported(
            f"{name.path}:{name.ref} has the media type {found[0].get('mediaType')!r}, "
            "which is no manifest"
        )
    return usable


def _completed_matches(entries: Sequence[Entry], ref: str) -> list[Entry]:
    wanted = _completed(ref)
    if wanted is None:
        return []
    return [
        entry
        for entry in entries
        for key in (REF_NAME, CONTAINERD_NAME)
        if "/" in annotation(entry, key) and _completed(annotation(entry, key)) == wanted
    ]


def _completed(text: str) -> Reference | None:
    try:
        return Reference.parse(text)
    except InvalidReference:
        return None


def _is_manifest(entry: Entry) -> bool:
    media_type = entry.get("mediaType")
    return not media_type or (
        isinstance(media_type, str) and mt.kind(media_type) in ("manifest", "index")
    )


def _not_found(entries: Sequence[Entry], name: LocalName) -> ImageNotFound:
    there = names_of(entries)
    shown = ", ".join(there[:8]) + (f" and {len(there) - 8} more" if len(there) > 8 else "")
    return ImageNotFound(
        f"{name.path} has no image {name.ref!r}", hint=f"it has {shown or 'no named image'}"
    )


def only_one(entries: Sequence[Entry], name: LocalName, text: str) -> Entry:
    """The entry of a layout that holds one image (under any number of names).

    Raises ImageNotFound when there is none and InvalidReference, naming `text`, when there
    are several.
    """
    if not entries:
        raise ImageNotFound(f"{name.path} has no image")
    if len({str(entry.get("digest")) for entry in entries}) > 1:
        there = names_of(entries)
        shown = ", ".join(there[:8]) + (" ..." if len(there) > 8 else "")
        raise InvalidReference(
            text,
            f"it holds {len(entries)} images",
            hint=f"choose one with :reference ({shown})" if there else "choose one with :@0",
        )
    return entries[0]


def with_image(document: Mapping[str, Any], descriptor: Descriptor, ref: str) -> dict[str, Any]:
    """`document` with an entry for an image, named `ref` unless that is "".

    The name is taken from whoever has it. An unnamed entry of the same digest becomes this
    one, keeping what else it says; otherwise the entry is added at the end.
    """
    entries: list[dict[str, Any]] = [dict(e) for e in document.get("manifests", [])]
    for entry in entries:
        if ref and annotation(entry, REF_NAME) == ref:
            _set_name(entry, "")
    digest = str(descriptor.digest)
    for entry in entries:
        if entry.get("digest") == digest and not annotation(entry, REF_NAME):
            entry.update(mediaType=descriptor.media_type, size=descriptor.size)
            break
    else:
        entry = {"mediaType": descriptor.media_type, "digest": digest, "size": descriptor.size}
        entries.append(entry)
    if ref:
        _set_name(entry, ref)
    return {**document, "manifests": entries}


def with_referrer(document: Mapping[str, Any], descriptor: Descriptor) -> dict[str, Any]:
    """`document` with an unnamed entry for a referrer, unless it has one of its digest."""
    entries = list(document.get("manifests", []))
    if all(entry.get("digest") != str(descriptor.digest) for entry in entries):
        entries.append(descriptor.to_json())
    return {**document, "manifests": entries}


def _set_name(entry: dict[str, Any], ref: str) -> None:
    found = entry.get("annotations")
    annotations = dict(found) if isinstance(found, dict) else {}
    annotations.pop(REF_NAME, None)
    if ref:
        annotations[REF_NAME] = ref
    if annotations:
        entry["annotations"] = dict(sorted(annotations.items()))
    else:
        entry.pop("annotations", None)
