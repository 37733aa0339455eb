"""Names of images in a store: `containers-storage:` references, ids, and short names.

Pure. The grammar is containers/image's: an optional `[driver@graphroot+runroot:options]`,
then a name with tag or digest, `@` and an image id, or an id (or the start of one) alone.
Names are stored normalised; what people type is looked for the way podman does.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace

from imgtools.errors import ImageNotFound, InvalidReference
from imgtools.frozen import dataclass
from imgtools.spec.reference import Reference
from imgtools.transport.registries.short_names import is_short

_ID = re.compile(r"[0-9a-f]{64}")
_ID_START = re.compile(r"[0-9a-f]{3,64}")
LOCAL = "localhost"
"""The registry of images that come from none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSpec:
    """What stands in brackets before a name; "" for what is not said."""

    driver: str = ""
    graph_root: str = ""
    run_root: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageName:
    """A name of an image: `text` is the reference as written (may be short, may be the start
    of an id), `image_id` an id that was given with @, `spec` the store that was named."""

    text: str = ""
    image_id: str = ""
    spec: StoreSpec | None = None

    @property
    def reference(self) -> Reference:
        """The text as containers/image normalises it; raises InvalidReference."""
        return Reference.parse(self.text)


def parse_storage_name(rest: str) -> StorageName:
    """What stands behind `containers-storage:`; raises InvalidReference."""
    text = f"containers-storage:{rest}"
    spec, name = None, rest
    if rest.startswith("["):
        inner, closed, name = rest[1:].partition("]")
        if not closed:
            raise InvalidReference(text, "the bracket that names a store is not closed")
        spec = _parse_spec(text, inner)
    if not name:
        raise InvalidReference(text, "the name of the image is missing")
    head, at, tail = name.rpartition("@")
    if at and _ID.fullmatch(tail):
        if head:
            Reference.parse(head)
        return StorageName(text=head, image_id=tail, spec=spec)
    if at and not head:
        if not _ID_START.fullmatch(tail):
            raise InvalidReference(text, "what follows @ is neither a digest nor an image id")
        return StorageName(text=tail, spec=spec)
    if not _ID.fullmatch(name):
        Reference.parse(name)
    return StorageName(text=name, spec=spec)


def _parse_spec(text: str, inner: str) -> StoreSpec:
    driver, at, roots = inner.rpartition("@")
    if not at:
        driver, roots = "", inner
    roots, _, options = roots.partition(":")
    graph_root, _, run_root = roots.partition("+")
    if not graph_root and not driver:
        raise InvalidReference(text, "the brackets name no store")
    for root in (graph_root, run_root):
        if root and not root.startswith("/"):
            raise InvalidReference(text, f"{root!r} is not an absolute path")
    return StoreSpec(
        driver=driver,
        graph_root=graph_root,
        run_root=run_root,
        options=tuple(o for o in options.split(",") if o),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """An image that was found: its id, and the name by which, "" when by id or digest."""

    image_id: str
    name: str = ""


def find(
    text: str,
    names: Mapping[str, str],
    ids: Collection[str],
    digests: Mapping[str, Collection[str]],
) -> Match:
    """The image that people mean by `text`.

    `names` maps the stored names (normalised, with tag) to image ids, `digests` digests of
    manifests to the `repository@digest` under which they are stored and the ids. In podman's
    order: a name as it is, under localhost and on Docker Hub; the same repository in the
    one registry that has it; an id or the start of one (three digits at least). Raises
    ImageNotFound, and InvalidReference for what means several images.
    """
    if _ID.fullmatch(text) and text in ids:
        return Match(image_id=text)
    for candidate in candidates(text):
        if candidate.digest is not None:
            key = str(stored_name(candidate))
            found = digests.get(key)
            if found:
                return Match(image_id=next(iter(found)), name=key if key in names else "")
        elif str(candidate) in names:
            return Match(image_id=names[str(candidate)], name=str(candidate))
    match = _by_suffix(text, names) or _by_id(text, ids)
    if match is None:
        raise ImageNotFound(f"{text}: image not known")
    return match


def candidates(text: str) -> tuple[Reference, ...]:
    """The full references that `text` may stand for, in the order in which they are tried."""
    try:
        reference = Reference.parse(text)
    except InvalidReference:
        return ()
    if not is_short(text):
        return (reference,)
    path = _path(text)
    return (
        Reference(registry=LOCAL, repository=path, tag=reference.tag, digest=reference.digest),
        reference,
    )


def normalised(text: str) -> str:
    """The name under which an image is stored that is called `text` by `tag` or a build:
    short names belong to localhost, as in podman. Raises InvalidReference."""
    reference = Reference.parse(text)
    if reference.digest is not None:
        raise InvalidReference(text, "a digest cannot be given as a name")
    return str(candidates(text)[0])


def stored_name(reference: Reference) -> Reference:
    """The name by which an image is stored: what is named by digest has no tag, since nobody
    says that the tag means it."""
    return replace(reference, tag="") if reference.digest is not None else reference


def _path(text: str) -> str:
    """The repository of a short name without its tag and digest."""
    name = text.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]


def _by_suffix(text: str, names: Mapping[str, str]) -> Match | None:
    """The one image whose repository ends in the short name `text`, in whatever registry."""
    try:
        reference = Reference.parse(text)
    except InvalidReference:
        return None
    if not is_short(text) or reference.digest is not None:
        return None
    ending = f"/{_path(text)}:{reference.tag}"
    found = sorted(name for name in names if name.endswith(ending))
    if len({names[name] for name in found}) > 1:
        raise InvalidReference(text, f"it is short for {' and '.join(found[:3])}")
    return Match(image_id=names[found[0]], name=found[0]) if found else None


def _by_id(text: str, ids: Collection[str]) -> Match | None:
    start = text.removeprefix("sha256:")
    if not _ID_START.fullmatch(start):
        return None
    found = [image_id for image_id in ids if image_id.startswith(start)]
    if len(found) > 1:
        raise InvalidReference(text, f"it is the start of {len(found)} image ids")
    return Match(image_id=found[0]) if found else None


def repository_of(name: str) -> tuple[str, str]:
    """A stored name split for people: (repository, tag or "")."""
    if "@" in name:
        return name.partition("@")[0], ""
    repository, _, tag = name.rpartition(":")
    return repository, tag


def repository_name(rest: str) -> str:
    """What skopeo calls the Name of an image in a store: its repository, "" for an id."""
    name = parse_storage_name(rest)
    return name.reference.name if name.text and not _ID.fullmatch(name.text) else ""
