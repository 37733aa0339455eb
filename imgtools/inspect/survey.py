"""What is read to look at an image: its manifest, the instance for a platform, its config."""

from __future__ import annotations

from imgtools.errors import InvalidManifest, LimitExceeded, NotFound
from imgtools.image.model import Image
from imgtools.image.select import choose_instance
from imgtools.spec import media_type as mt
from imgtools.spec.config import Config
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Index, Manifest, RawManifest, parse
from imgtools.spec.platform import Platform
from imgtools.spec.strict_json import MANIFEST_LIMIT
from imgtools.transport.base import Source

INDEX_DEPTH = 8
"""Indexes within indexes that are followed."""
INDEX_COUNT = 1_000
"""Indexes that are read to find what an index leads to."""


def read_image(
    source: Source, platform: Platform, *, config: bool = True, top: RawManifest | None = None
) -> Image:
    """The image that `source` holds for `platform`; artifacts are read without their config.

    `config` False leaves the config unread; `top` is `source.top()` where that was read
    already. Raises ImageNotFound, NotFound when an index has
    nothing for the platform (naming what it has), and what a malformed manifest raises.
    """
    top = top or source.top()
    parsed = parse(top)
    instance: Descriptor | None = None
    raw = top
    if isinstance(parsed, Index):
        instance = _instance(source, parsed, platform, INDEX_DEPTH, set())
        raw = source.manifest(instance)
        parsed = parse(raw)
        if isinstance(parsed, Index):
            raise InvalidManifest(f"index entry {instance.digest} is an index after all")
    image = Image(top=top, raw=raw, manifest=parsed, instance=instance)
    if not config or not isinstance(parsed, Manifest) or image.is_artifact:
        return image
    content = read_config(source, parsed.config)
    return Image(
        top=top,
        raw=raw,
        manifest=parsed,
        instance=instance,
        config=Config.parse(content),
        config_bytes=content,
    )


def read_config(source: Source, descriptor: Descriptor) -> bytes:
    """The verified bytes of a config; raises BlobNotFound, LimitExceeded, DigestMismatch."""
    if descriptor.data is not None:
        return descriptor.data
    if descriptor.size > MANIFEST_LIMIT:
        raise LimitExceeded(f"config {descriptor.digest}", MANIFEST_LIMIT)
    with source.open_blob(descriptor) as reader:
        return reader.read()


def _instance(
    source: Source, index: Index, platform: Platform, depth: int, seen: set[Digest]
) -> Descriptor:
    """The manifest for `platform` in `index` or in an index that it names.

    `seen` are the indexes read so far: none is read twice, in however many ways it is named.
    """
    refusal: NotFound | None = None
    try:
        chosen = choose_instance(index, platform)
        if mt.kind(chosen.media_type) != "index":
            return chosen
        nested = [chosen]
    except NotFound as e:
        refusal = e
        nested = [d for d in index.manifests if mt.kind(d.media_type) == "index"]
    for descriptor in nested:
        if depth <= 0:
            raise LimitExceeded("nesting of indexes", INDEX_DEPTH, unit="levels")
        if descriptor.digest in seen:
            continue
        seen.add(descriptor.digest)
        if len(seen) > INDEX_COUNT:
            raise LimitExceeded("number of indexes", INDEX_COUNT, unit="indexes")
        inner = parse(source.manifest(descriptor))
        if not isinstance(inner, Index):
            raise InvalidManifest(f"index entry {descriptor.digest} is no index, as it says it is")
        try:
            return _instance(source, inner, platform, depth - 1, seen)
        except NotFound as e:
            refusal = refusal or e
    raise refusal or NotFound(f"no image for {platform} in the index")
