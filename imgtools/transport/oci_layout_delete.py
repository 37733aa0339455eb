"""Deletes an image from an OCI layout: its names in index.json, and the blobs nobody needs.

Survey (the graph of manifests), plan (pure) and execution happen under the locks that all
writers of layouts take. index.json is replaced before any blob goes, so that whatever
happens in between, what it names is there.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType

from imgtools.blob.files import storage_errors
from imgtools.errors import Conflict, Error, ImageNotFound, InvalidManifest, NotFound
from imgtools.frozen import dataclass
from imgtools.spec import manifest as mf
from imgtools.spec import media_type as mt
from imgtools.spec import strict_json
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.digest_tag import subject_of_tag
from imgtools.spec.schema1 import Schema1
from imgtools.spec.strict_json import MANIFEST_LIMIT
from imgtools.task import Task
from imgtools.transport import layout_index
from imgtools.transport.base import Origin
from imgtools.transport.folder import Folder
from imgtools.transport.layout_files import LayoutFolder
from imgtools.transport.lock import lock, locked
from imgtools.transport.names import parse_local_name
from imgtools.transport.oci_layout import LayoutSource

log = logging.getLogger(__name__)

_PATIENCE = 60.0
"""Seconds to wait for those who are writing to the layout."""
_POLL = 0.05
_GRAPH_LIMIT = 100_000

_MANIFESTS = ("manifest", "index", "schema1", "other")
"""What may be a manifest: an entry may have no media type, or one that we do not know."""

_DIGEST = re.compile(rb"\b(?:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})\b")

Graph = Mapping[Digest, tuple[Digest, ...] | None]
"""What each manifest needs: blobs and further manifests; None for one that cannot be read."""

Mentions = Mapping[Digest, frozenset[Digest]]
"""The digests in documents of types that we do not know, which may need what they name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutDeleteOptions:
    """`all_names` lets every other name of the same manifest go too; `referrers` what is
    attached to it, once no name of it is left. `shared_blob_dir` has the blobs of several
    layouts, none of which is ever deleted, because the other layouts are not known."""

    all_names: bool = False
    referrers: bool = False
    shared_blob_dir: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What goes: entries of index.json, by position, and blobs. `names` are the reference
    names of those entries, `unreadable` manifests because of which all blobs are kept."""

    entries: tuple[int, ...]
    names: tuple[str, ...]
    blobs: tuple[Digest, ...]
    unreadable: tuple[Digest, ...] = ()


def plan_removal(
    entries: Sequence[layout_index.Entry],
    chosen: int,
    graph: Graph,
    options: LayoutDeleteOptions,
    attached: Iterable[Digest] = (),
    mentions: Mentions = MappingProxyType({}),
) -> Removal:
    """What goes when the entry at position `chosen` is deleted. Pure.

    `attached` is what is attached to the manifest, at any depth. What is mentioned stays as long as
    who mentions it, but does not go with it. A second entry with the same name
    goes too, because the name shall be gone.
    """
    digests = [_digest(entry) for entry in entries]
    name = layout_index.annotation(entries[chosen], layout_index.REF_NAME)
    gone = {chosen}
    for position, entry in enumerate(entries):
        same_name = name and layout_index.annotation(entry, layout_index.REF_NAME) == name
        same_image = options.all_names and digests[position] == digests[chosen]
        if same_name or same_image:
            gone.add(position)
    kept = {d for position, d in enumerate(digests) if position not in gone}
    if options.referrers and digests[chosen] not in kept:
        wanted = set(attached)
        gone |= {position for position, digest in enumerate(digests) if digest in wanted}
    removed = _reachable((digests[p] for p in gone), graph)
    needed = _reachable((d for p, d in enumerate(digests) if p not in gone), graph)
    needed = _reachable((*needed, *(d for n in needed for d in mentions.get(n, ()))), graph)
    unreadable = tuple(sorted(d for d in needed if d in graph and graph[d] is None))
    return Removal(
        entries=tuple(sorted(gone)),
        names=tuple(layout_index.names_of([entries[p] for p in sorted(gone)])),
        blobs=() if unreadable else tuple(sorted(removed - needed)),
        unreadable=unreadable,
    )


def delete_from_layout(
    rest: str, options: LayoutDeleteOptions, *, task: Task, dry_run: bool = False
) -> Removal:
    """Delete the image `oci:rest`; what went, or with `dry_run` what would.

    Warns through `task` of manifests that cannot be read. Raises InvalidReference,
    ImageNotFound, InvalidManifest, InvalidJSON, StorageError, and Conflict when somebody
    keeps writing to the layout.
    """
    name = parse_local_name("oci", rest)
    try:
        root = Folder.open(name.path)
    except NotFound as e:
        raise ImageNotFound(e.message) from e
    with ExitStack() as stack:
        stack.enter_context(root)
        blobs = _blobs(root)
        if blobs is not None:
            stack.enter_context(blobs)
            if not dry_run:
                _wait_for_writers(blobs, task)
        with locked(root):
            files = LayoutFolder(name.path, options.shared_blob_dir)
            with LayoutSource(files, name, Origin(transport="oci", name=f"oci:{rest}")) as source:
                removal = _survey_and_plan(source, options)
                entries = source.entries
            if removal.unreadable:
                task.warn(
                    f"no blob was deleted, because manifest {removal.unreadable[0]}, which "
                    "stays, cannot be read"
                )
            if not dry_run:
                _execute(root, blobs, entries, removal)
    return removal


def _survey_and_plan(source: LayoutSource, options: LayoutDeleteOptions) -> Removal:
    chosen = source.position()
    entries = source.entries
    graph, mentions = _graph(source, entries)
    attached: dict[Digest, None] = {}
    tags = [(_digest(entry), subject_of_tag(_name(entry))) for entry in entries]
    todo: list[Digest] = []
    if options.referrers:
        beside = {digest for digest, made_of in tags if made_of and made_of[1]}
        beside |= {found.digest for digest in graph for found in source.referrers(digest)}
        todo = _going(_digest(entries[chosen]), entries, graph, beside)
    while todo:
        subject = todo.pop()
        below = [descriptor.digest for descriptor in source.referrers(subject)]
        below += [digest for digest, made_of in tags if made_of and made_of[0] == subject]
        for digest in below:
            if digest not in attached:
                attached[digest] = None
                todo.append(digest)
    return plan_removal(entries, chosen, graph, options, attached, mentions)


def _going(
    top: Digest, entries: Sequence[layout_index.Entry], graph: Graph, beside: Collection[Digest]
) -> list[Digest]:
    """The manifest `top` and those below it that no other image of the layout has, so that what
    is attached to them goes as well; entries that are `beside` images keep none."""
    others = (digest for entry in entries if (digest := _digest(entry)) not in beside)
    kept = _reachable((digest for digest in others if digest != top), graph)
    below = _reachable((top,), graph)
    return [top, *sorted(d for d in below if d in graph and d not in kept and d != top)]


def _name(entry: layout_index.Entry) -> str:
    return layout_index.annotation(entry, layout_index.REF_NAME)


def _graph(source: LayoutSource, entries: Sequence[layout_index.Entry]) -> tuple[Graph, Mentions]:
    """What every manifest of the layout needs, those of other manifests included, and what is
    mentioned where we cannot tell."""
    graph: dict[Digest, tuple[Digest, ...] | None] = {}
    mentions: dict[Digest, frozenset[Digest]] = {}
    todo = [Descriptor.from_json(entry, "index.json entry") for entry in entries]
    while todo:
        descriptor = todo.pop()
        if descriptor.digest in graph or mt.kind(descriptor.media_type) not in _MANIFESTS:
            continue
        if len(graph) >= _GRAPH_LIMIT:
            raise InvalidManifest(f"the layout names more than {_GRAPH_LIMIT} manifests")
        view = _view(source, descriptor)
        if isinstance(view, mf.Index):
            graph[descriptor.digest] = tuple(child.digest for child in view.manifests)
            todo.extend(view.manifests)
        elif isinstance(view, mf.Manifest):
            graph[descriptor.digest] = tuple(blob.digest for blob in view.blobs())
        elif mt.kind(descriptor.media_type) != "other" or not descriptor.media_type:
            graph[descriptor.digest] = None
        else:
            graph[descriptor.digest] = ()
            mentions[descriptor.digest] = _mentioned(source, descriptor)
    return graph, mentions


def _mentioned(source: LayoutSource, descriptor: Descriptor) -> frozenset[Digest]:
    """The digests in a document, none for what is missing or larger than a manifest may be."""
    if descriptor.size > MANIFEST_LIMIT:
        return frozenset()
    try:
        with source.open_blob(descriptor) as reader:
            content = reader.read()
    except Error as e:
        log.debug("%s: %s", descriptor.digest, e.message)
        return frozenset()
    return frozenset(Digest.parse(found.decode()) for found in _DIGEST.findall(content))


def _view(source: LayoutSource, descriptor: Descriptor) -> mf.Manifest | mf.Index | None:
    """A manifest of the layout, None for what cannot be read as one."""
    try:
        view = mf.parse(source.manifest(descriptor))
    except Error as e:
        log.debug("%s: %s", descriptor.digest, e.message)
        return None
    return None if isinstance(view, Schema1) else view


def _reachable(start: Iterable[Digest], graph: Graph) -> set[Digest]:
    found: set[Digest] = set()
    todo = list(start)
    while todo:
        digest = todo.pop()
        if digest not in found:
            found.add(digest)
            todo.extend(graph.get(digest) or ())
    return found


def _digest(entry: layout_index.Entry) -> Digest:
    return Descriptor.from_json(entry, "index.json entry").digest


def _blobs(root: Folder) -> Folder | None:
    """The directory of blobs, None where there is none (they may all be shared ones)."""
    try:
        return root.folder("blobs")
    except NotFound:
        return None


def _wait_for_writers(blobs: Folder, task: Task) -> None:
    """Lock out writers: what they stored, or found stored, is in no index.json yet."""
    until = time.monotonic() + _PATIENCE
    with storage_errors(blobs.path):
        while lock(blobs.fd) == "busy":
            if time.monotonic() > until:
                raise Conflict(
                    f"{blobs.path} is being written by another process",
                    hint="try again when that is done",
                )
            task.cancel.wait(_POLL)


def _execute(
    root: Folder,
    blobs: Folder | None,
    entries: Sequence[layout_index.Entry],
    removal: Removal,
) -> None:
    content = root.read("index.json", layout_index.INDEX_LIMIT)
    document = layout_index.parse_index(content, root.path)
    gone = frozenset(removal.entries)
    document["manifests"] = [e for p, e in enumerate(entries) if p not in gone]
    root.write("index.json", strict_json.dumps(document))
    root.sync()
    if blobs is None:
        return
    for digest in removal.blobs:
        try:
            with blobs.folder(digest.algorithm) as folder:
                folder.remove(digest.hex)
        except NotFound:
            # It is in the shared directory, or was never there.
            log.debug("%s is not in %s", digest, blobs.path)
