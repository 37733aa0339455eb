"""Getting an image into the store: `pull_image`, for whoever runs or builds from one.

A copy into `StorageDestination` does the work, so layers are unpacked while others are on
their way, and what is in the store is not moved. Of two processes that pull one name at a
time, the second waits for the first and finds the image.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import field
from typing import TYPE_CHECKING, Literal

from engine.storage.images import StoredImage, name_key
from engine.storage.locks import Held
from engine.storage.names import StorageName, stored_name
from engine.storage.registry import ImageRegistry
from engine.storage.store import Store
from imgtools.errors import (
    Cancelled,
    ConnectionFailed,
    Denied,
    Error,
    ImageNotFound,
    InvalidReference,
    NotFound,
    RegistryError,
)
from imgtools.frozen import dataclass
from imgtools.spec.platform import Platform
from imgtools.spec.reference import ImageName, Reference
from imgtools.task import Note, Task
from imgtools.transport.base import Source
from imgtools.transport.options import SourceOptions
from imgtools.transport.registries import short_names
from imgtools.transport.registries.files import load, load_recorded
from imgtools.transport.table import TRANSPORTS, Transports

if TYPE_CHECKING:
    from imgtools.copy.survey import Admit

log = logging.getLogger(__name__)

PullPolicy = Literal["missing", "always", "never", "newer"]
PULL_LOCK = "pull"
_ATTEMPTS = 5
NEXT = (ImageNotFound, Denied, ConnectionFailed, RegistryError)
"""Why the next registry of a short name is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOptions:
    """How an image is pulled. `platform` None is that of this machine, whatever is stored;
    one that was asked for has to be that of a stored image too. `check_name` is policy: it
    raises Rejected for a name before anything is read, and says who has to admit the
    manifests, None for nobody."""

    policy: PullPolicy = "missing"
    platform: Platform | None = None
    source: SourceOptions = field(default_factory=SourceOptions)
    check_name: Callable[[ImageName], Admit | None] | None = None


def pull_image(
    store: Store, text: str, options: PullOptions, *, transports: Transports, task: Task
) -> StoredImage:
    """The image that people mean by `text`, from the store or where it is published.

    `text` is a name as `docker run` takes it, or `transport:reference`, which is always read
    (but not moved again). Policies are podman's: "missing" pulls what is not in the store,
    "newer" also what is another by now, if that can be told, "never" nothing. Raises
    ImageNotFound, InvalidReference, and what copies raise.
    """
    transport, colon, _ = text.partition(":")
    if colon and transport in TRANSPORTS:
        return _pull(store, ImageName.parse(text, TRANSPORTS), options, transports, task)
    found = _stored(store, text, options)
    if options.policy == "never" or (found is not None and options.policy == "missing"):
        if found is None:
            raise ImageNotFound(f"{text}: image not known", hint="let it be pulled")
        return found
    try:
        return _pull_any(store, text, options, transports, task)
    except Error as e:
        if found is None or options.policy != "newer" or isinstance(e, Cancelled):
            raise
        task.progress(Note("warning", f"{text}: the stored image is used: {e.message}"))
        return found


def _stored(store: Store, text: str, options: PullOptions) -> StoredImage | None:
    try:
        image, _ = store.find(text)
    except ImageNotFound:
        return None
    wanted = options.platform
    if wanted is not None and image.platform and Platform.parse(image.platform) != wanted:
        return None
    return image


def _pull_any(
    store: Store, text: str, options: PullOptions, transports: Transports, task: Task
) -> StoredImage:
    """Pull from the first of the registries that `text` may mean which has it."""
    found = candidates(text, options)
    for number, reference in enumerate(found):
        try:
            name = ImageName(transport="docker", rest=f"//{reference}")
            return _pull(store, name, options, transports, task)
        except NEXT as e:
            if number == len(found) - 1:
                raise
            log.debug("%s: %s", reference, e.message)
    raise ImageNotFound(f"{text}: no registry is configured that may have it")


def candidates(text: str, options: PullOptions) -> Sequence[Reference]:
    """The references that `text` may mean, in the order in which they are tried. Raises
    InvalidReference for a short name where the configuration wants none."""
    reference = Reference.parse(text)
    if not short_names.is_short(text):
        return (reference,)
    files = options.source.registry.registries
    try:
        config = load(files, aliases=True)
        resolved = short_names.resolve(text, config, load_recorded(files))
    except NotFound:
        # As where there is no configuration at all: podman's default is Docker Hub too.
        return (reference,)
    if resolved.ambiguous == "require":
        raise InvalidReference(
            text,
            "it is short and may mean several images",
            hint=f"say which one, for example {resolved.candidates[0]}",
        )
    return resolved.candidates


def _pull(
    store: Store, name: ImageName, options: PullOptions, transports: Transports, task: Task
) -> StoredImage:
    """Copy the image `name` into the store, under its name if it is one of a registry."""
    admit = options.check_name(name) if options.check_name is not None else None
    reference = Reference.parse(name.rest[2:]) if name.transport == "docker" else None
    lock = store.parts.locks.exclusive(PULL_LOCK, name_key(str(name)), task=task)
    with retiring(lock), transports.open_source(name, options.source) as source:
        stored = StorageName(text=str(reference) if reference is not None else "")
        for _ in range(_ATTEMPTS):
            image = _copied(store, source, stored, options, admit, task)
            if image is not None:
                return image
    raise ImageNotFound(f"{name}: it is removed as fast as it is pulled")


def _copied(
    store: Store,
    source: Source,
    name: StorageName,
    options: PullOptions,
    admit: Admit | None,
    task: Task,
) -> StoredImage | None:
    """The image of `source`, copied if need be; None when it was there and then removed."""
    with store.destination(name) as destination:
        from imgtools.copy import CopyOptions, Selection, copy_image

        copy = CopyOptions(selection=Selection(platform=options.platform))
        result = copy_image(source, destination, copy, admit=admit, task=task)
        image: StoredImage | None
        if result.up_to_date:
            image = ImageRegistry(store.parts).by_name(str(stored_name(name.reference)))
        else:
            image = destination.committed
    try:
        return _known_by(store, image, source, name, task) if image is not None else None
    except ImageNotFound:
        return None


def _known_by(
    store: Store, image: StoredImage, source: Source, name: StorageName, task: Task
) -> StoredImage:
    """The image, known by the digest of what `source` has too: of an index the image for one
    platform is stored.

    That is asked when all is copied, so that it is the digest of the bytes that were read, or
    of the very manifest that is stored. What a registry answers before could name any other
    image, and this one would be taken for it from then on.
    """
    if not name.text:
        return image
    digests = (f"{name.reference.name}@{source.resolve().digest}",)
    return store.remember_digests(image, digests, task=task)


@contextmanager
def retiring(lock: Held) -> Iterator[None]:
    """Hold the lock for the block, and leave no file of it."""
    try:
        yield
    finally:
        lock.retire()
