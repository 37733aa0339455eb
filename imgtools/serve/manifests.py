"""Manifest endpoints: distribution-spec end-3, end-7a, end-7b and end-9.

A manifest is kept byte for byte. It is taken only when what it names is there, so that
nobody can pull half an image.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from imgtools.errors import BlobNotFound, InvalidInput, LimitExceeded, Unsupported
from imgtools.serve import conditional
from imgtools.serve.message import BytesBody, Refusal, Request, Response
from imgtools.serve.storage import RegistryStore
from imgtools.spec import media_type as mt
from imgtools.spec import strict_json
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Index, Manifest, RawManifest, parse
from imgtools.spec.reference import is_tag
from imgtools.spec.schema1 import Schema1

if TYPE_CHECKING:
    from imgtools.serve.app import AppOptions

_TAGS_LIMIT = 100


def get(store: RegistryStore, name: str, reference: str, request: Request) -> Response:
    """GET and HEAD of a manifest, whatever the client says it accepts.

    What it accepts cannot change what the digest names, so refusing would help nobody.
    """
    raw = store.manifest(name, _target(reference))
    if raw is None:
        raise _unknown(store, name, reference)
    headers = {
        "Docker-Content-Digest": str(raw.digest),
        "ETag": conditional.etag(raw.digest),
    }
    if conditional.not_modified(request, raw.digest):
        return Response(status=304, headers=headers)
    headers["Content-Type"] = raw.media_type
    return Response(status=200, headers=headers, body=BytesBody(raw.content))


def put(
    store: RegistryStore, options: AppOptions, name: str, reference: str, request: Request
) -> Response:
    """PUT of a manifest by tag, or by digest with any number of `tag` parameters."""
    target = _new_target(reference)
    tags = _tags(request) if isinstance(target, Digest) else [target]
    content = _read(request, options.manifest_limit)
    raw, parsed = _understood(content, request.header("content-type"), target)
    needed = _check_complete(store, options, name, parsed)
    _check_precondition(store, name, target, request)
    try:
        store.put_manifest(name, raw, tags, needed)
    except Unsupported as e:
        raise Refusal(400, "MANIFEST_INVALID", e.message) from e
    except BlobNotFound as e:
        raise Refusal(404, "MANIFEST_BLOB_UNKNOWN", e.message) from e
    headers = {
        "Location": f"/v2/{name}/manifests/{quote(reference, safe=':')}",
        "Docker-Content-Digest": str(raw.digest),
    }
    if isinstance(target, Digest) and tags:
        headers["OCI-Tag"] = ", ".join(tags)
    subject = None if isinstance(parsed, Schema1) else parsed.subject
    if subject is not None:
        headers["OCI-Subject"] = str(subject.digest)
    return Response(status=201, headers=headers)


def delete(store: RegistryStore, name: str, reference: str) -> Response:
    """DELETE by tag removes the tag alone; by digest the manifest with its tags."""
    target = _target(reference)
    if isinstance(target, Digest):
        found = store.delete_manifest(name, target)
    else:
        found = store.delete_tag(name, target)
    if not found:
        raise _unknown(store, name, reference)
    return Response(status=202)


def _target(reference: str) -> str | Digest:
    if ":" in reference:
        return Digest.parse(reference)
    if not is_tag(reference):
        raise Refusal(404, "MANIFEST_UNKNOWN", f"{reference[:140]!r} is neither tag nor digest")
    return reference


def _new_target(reference: str) -> str | Digest:
    if ":" not in reference and not is_tag(reference):
        raise Refusal(400, "MANIFEST_INVALID", f"{reference[:140]!r} is not a valid tag")
    return _target(reference)


def _tags(request: Request) -> list[str]:
    tags = list(dict.fromkeys(request.query.get("tag", ())))
    if len(tags) > _TAGS_LIMIT:
        raise Refusal(414, "UNSUPPORTED", f"more than {_TAGS_LIMIT} tags in one request")
    for tag in tags:
        if not is_tag(tag):
            raise Refusal(400, "MANIFEST_INVALID", f"{tag[:140]!r} is not a valid tag")
    return tags


def _unknown(store: RegistryStore, name: str, reference: str) -> Refusal:
    if not store.has_repository(name):
        return Refusal(404, "NAME_UNKNOWN", f"there is no repository {name}")
    return Refusal(404, "MANIFEST_UNKNOWN", f"{name} has no manifest {reference}")


def _read(request: Request, limit: int) -> bytes:
    too_large = Refusal(413, "SIZE_INVALID", f"manifests may have at most {limit} bytes")
    if request.length is not None and request.length > limit:
        raise too_large
    content = bytearray()
    while data := request.body.read(limit + 1 - len(content)):
        content += data
        if len(content) > limit:
            raise too_large
    return bytes(content)


def _understood(
    content: bytes, content_type: str, target: str | Digest
) -> tuple[RawManifest, Manifest | Index | Schema1]:
    """The manifest, checked for agreeing with its Content-Type and its digest."""
    said = mt.normalise(content_type)
    algorithm = target.algorithm if isinstance(target, Digest) else "sha256"
    try:
        _check_media_type(content, said)
        raw = RawManifest.of(content, said, algorithm=algorithm)
        parsed = parse(raw)
    except (InvalidInput, LimitExceeded) as e:
        raise Refusal(400, "MANIFEST_INVALID", e.message) from e
    if isinstance(target, Digest) and raw.digest != target:
        # A schema 1 manifest may be named by its payload or, rarely, by all its bytes.
        raise Refusal(400, "DIGEST_INVALID", f"the manifest has the digest {raw.digest}")
    return raw, parsed


def _check_media_type(content: bytes, said: str) -> None:
    own = strict_json.loads_object(content, "manifest").get("mediaType")
    if not isinstance(own, str) or mt.kind(said) not in ("manifest", "index"):
        return
    if own != said:
        raise Refusal(400, "MANIFEST_INVALID", f"Content-Type {said} but mediaType {own[:140]}")


def _check_complete(
    store: RegistryStore, options: AppOptions, name: str, parsed: Manifest | Index | Schema1
) -> list[Digest]:
    """What the manifest names, which must be there; a `subject` need not (image-spec)."""
    if isinstance(parsed, Index):
        needed = () if options.sparse_indexes else parsed.manifests
    elif isinstance(parsed, Manifest) and not options.sparse_images:
        needed = tuple(d for d in parsed.blobs() if not _is_elsewhere(d))
    else:
        return []
    for descriptor in needed:
        size = store.blob_size(name, descriptor.digest)
        if size is None and isinstance(parsed, Index):
            raw = store.manifest(name, descriptor.digest)
            size = None if raw is None else raw.size
        if size is None:
            raise Refusal(
                404, "MANIFEST_BLOB_UNKNOWN", f"the manifest names {descriptor.digest}, not here"
            )
        if size != descriptor.size:
            raise Refusal(
                400,
                "SIZE_INVALID",
                f"{descriptor.digest} has {size} bytes, the manifest says {descriptor.size}",
            )
    return [descriptor.digest for descriptor in needed]


def _is_elsewhere(descriptor: Descriptor) -> bool:
    return bool(descriptor.urls) or mt.is_foreign(descriptor.media_type)


def _check_precondition(
    store: RegistryStore, name: str, target: str | Digest, request: Request
) -> None:
    if not re.search(r"\S", request.header("if-match") + request.header("if-none-match")):
        return
    current = store.manifest(name, target)
    if conditional.precondition_fails(request, current.digest if current else None):
        raise Refusal(412, "DENIED", "the manifest has changed meanwhile")
