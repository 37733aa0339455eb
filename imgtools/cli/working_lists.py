"""Indexes of the store for the verbs of `imgtools manifest`: finding what is meant by a name, and
adding it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from imgtools.cli.options import source_options
from imgtools.cli.output import warn
from imgtools.cli.state import Cli
from imgtools.cli.trust import Trust
from imgtools.cli.working_choice import has_transport
from imgtools.errors import ImageNotFound, InvalidInput

if TYPE_CHECKING:
    from engine.storage.store import Store
    from engine.working.list_entries import EntryEdit
    from engine.working.lists import ImageList
    from imgtools.cli.store_options import StoreAccess
    from imgtools.spec.digest import Digest
    from imgtools.spec.platform import Platform
    from imgtools.transport.base import Source
    from imgtools.transport.options import RegistryOptions
    from imgtools.transport.table import Transports


@contextmanager
def opened(
    cli: Cli,
    access: StoreAccess,
    store: Store,
    text: str,
    registry: RegistryOptions,
    *,
    everything: bool = False,
) -> Iterator[tuple[Source, str]]:
    """What people mean by `text`, open for the block, with the transport:reference of it: an
    index or image of the store, else of a registry, or what is said by transport:reference.

    With `everything`, who names a registry means the index there and not the one image of it
    that the store may have.
    """
    from imgtools.transport.table import parse_name

    options = source_options(cli, registry)
    with access.transports(warn=warn) as transports:
        place = text if has_transport(text) else _stored(store, text)
        if everything and place.startswith("containers-storage:") and not _is_local(text):
            place = ""
        if place.startswith("list:"):
            with _list(store, place.removeprefix("list:"), transports, options) as source:
                yield source, ""
            return
        name = parse_name(_absolute(place or f"docker://{text}"))
        admit = Trust(cli, transports, options).check_name(name)
        with transports.open_source(name, options) as source:
            if admit is not None:
                admit(source.top())
            yield source, str(name)


def _is_local(text: str) -> bool:
    """Whether a name says nothing of a registry."""
    from imgtools.transport.registries.short_names import is_short

    return is_short(text) or text.startswith("localhost/")


def _absolute(place: str) -> str:
    """The place as it is called from any directory."""
    transport, _, rest = place.partition(":")
    if transport in ("dir", "oci", "oci-archive", "docker-archive") and rest:
        return f"{transport}:{os.path.abspath(rest)}"
    return place


def _stored(store: Store, text: str) -> str:
    """Where the store has `text`, "" if nowhere."""
    from engine.working.lists import ImageLists, ListNotKnown

    try:
        return f"list:{ImageLists(store).find(text).name}"
    except ListNotKnown:
        pass
    try:
        return f"containers-storage:@{store.find(text)[0].id}"
    except ImageNotFound:
        return ""


def _list(store: Store, name: str, transports: Transports, options: Any) -> Any:
    from engine.working.list_source import ListSource
    from engine.working.lists import ImageLists

    found = ImageLists(store).find(name)
    return ListSource(found, lambda text: transports.open_source(text, options))


def with_image(
    image_list: ImageList,
    source: Source,
    place: str,
    *,
    wanted: Platform,
    everything: bool,
    edit: EntryEdit | None,
    known: Mapping[Digest, str],
) -> tuple[ImageList, Digest | None]:
    """The index with what `source`, at `place`, gives; the digest of the last entry. `known`
    says where entries of an index of the store are."""
    from engine.working.list_entries import edited, entries_of

    digest = None
    for entry in entries_of(source, wanted, everything=everything):
        where = place or known.get(entry.digest, "")
        if place.startswith("docker://"):
            where = _pinned(place, entry.digest)
        new = edited(entry, edit) if edit is not None else entry
        image_list = image_list.with_entry(new, {entry.digest: where} if where else {})
        digest = entry.digest
    return image_list, digest


def _pinned(place: str, digest: Digest) -> str:
    """The same repository by digest, so that a tag that moves changes nothing."""
    from imgtools.spec.reference import Reference

    return f"docker://{Reference.parse(place.removeprefix('docker://')).name}@{digest}"


def add_committed(cli: Cli, store: Store, text: str, image_id: str) -> None:
    """Add an image of the store to an index, which is made if it is not there."""
    from engine.storage.names import StorageName
    from engine.working.lists import ImageLists

    lists = ImageLists(store)
    lists.create(text, {}, existing="amend")
    if image_id not in store.images():
        raise InvalidInput(f"--manifest: image {image_id[:12]} was not committed to the store")
    place = f"containers-storage:@{image_id}"
    with (
        store.source(StorageName(image_id=image_id), task=cli.task()) as source,
        lists.changing(text) as change,
    ):
        new, _ = with_image(
            change.before,
            source,
            place,
            wanted=cli.platform(),
            everything=False,
            edit=None,
            known={},
        )
        change.put(new)


def named_values(values: tuple[str, ...]) -> dict[str, str]:
    """NAME=VALUE each; raises InvalidInput."""
    found = {}
    for text in values:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise InvalidInput(f'no "=" found in annotation {text!r}')
        found[name] = value
    return found
