"""Changes of a layout's index.json as pure functions from an index to an index.

A tag is an entry with the annotation `org.opencontainers.image.ref.name` (image-spec
"image-layout.md"). Entries that nobody asked to change keep their place and every property.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Index
from imgtools.spec.reference import is_tag
from imgtools.transport.layout_index import REF_NAME, parse_index

# Everything else in index.json, annotations included, is kept as it was found.
_WRITTEN = frozenset({"schemaVersion", "mediaType", "manifests"})

EMPTY = Index(media_type=mt.OCI_INDEX, manifests=())


def read(content: bytes, where: str) -> Index:
    """The index.json in `content`; raises InvalidJSON, InvalidManifest or LimitExceeded."""
    document = parse_index(content, where)
    return Index(
        media_type=mt.OCI_INDEX,
        manifests=tuple(Descriptor.from_json(entry, where) for entry in document["manifests"]),
        extra=MappingProxyType({k: v for k, v in document.items() if k not in _WRITTEN}),
    )


def tags_of(index: Index) -> Mapping[str, Descriptor]:
    """The entries by tag; the first of several with one name counts, as in skopeo.

    Names that are no valid tag (some tools write whole references) are left out.
    """
    found: dict[str, Descriptor] = {}
    for entry in index.manifests:
        name = entry.annotations.get(REF_NAME, "")
        if is_tag(name):
            found.setdefault(name, entry)
    return MappingProxyType(found)


def with_tags(index: Index, new: Descriptor, tags: Sequence[str]) -> Index:
    """`index` with each of `tags` pointing at `new`, in place where the tag existed."""
    entries = list(index.manifests)
    for tag in tags:
        tagged = replace(new, annotations=MappingProxyType({REF_NAME: tag}))
        places = [i for i, e in enumerate(entries) if e.annotations.get(REF_NAME) == tag]
        if places:
            entries[places[0]] = tagged
            for place in reversed(places[1:]):
                del entries[place]
        else:
            entries.append(tagged)
    return replace(index, manifests=tuple(entries))


def with_untagged(index: Index, new: Iterable[Descriptor]) -> Index:
    """`index` with entries that have no name, one for each digest it does not have yet."""
    have = {entry.digest for entry in index.manifests}
    added = []
    for descriptor in new:
        if descriptor.digest not in have:
            have.add(descriptor.digest)
            added.append(
                Descriptor(
                    media_type=descriptor.media_type,
                    digest=descriptor.digest,
                    size=descriptor.size,
                )
            )
    return replace(index, manifests=(*index.manifests, *added))


def without_plain(index: Index, digests: Iterable[Digest]) -> Index:
    """`index` without the bare entries (no annotations) of `digests`: reachable otherwise."""
    redundant = frozenset(digests)
    kept = tuple(e for e in index.manifests if e.annotations or e.digest not in redundant)
    return replace(index, manifests=kept)


def without_tag(index: Index, tag: str) -> Index:
    """`index` without a tag; its manifest keeps an entry, so that its digest stays known."""
    kept: list[Descriptor] = []
    freed: list[Descriptor] = []
    for entry in index.manifests:
        if entry.annotations.get(REF_NAME) != tag:
            kept.append(entry)
        else:
            others = {k: v for k, v in entry.annotations.items() if k != REF_NAME}
            freed.append(replace(entry, annotations=MappingProxyType(others)))
    have = {entry.digest for entry in kept}
    for entry in freed:
        if entry.digest not in have:
            have.add(entry.digest)
            kept.append(entry)
    return replace(index, manifests=tuple(kept))


def without_digest(index: Index, digest: Digest) -> Index:
    """`index` without all entries of a manifest, tags included."""
    return replace(index, manifests=tuple(e for e in index.manifests if e.digest != digest))
