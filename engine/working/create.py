"""Making a working container from an image of the store, or from nothing, and removing one.

What is half made or half removed when a command is killed counts as not there: the decision is
one record that is replaced at once, and everything else is cleaned by whoever comes next.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import field, replace
from typing import Any

from engine.storage.containers import InUse, Use, this_process
from engine.storage.images import StoredImage
from engine.storage.layers import sync_file_system
from engine.storage.store import Store
from engine.working.model import WorkingContainer
from engine.working.registry import KIND, ContainerNotKnown, WorkingContainers
from engine.working.show import hide
from engine.working.times import rfc3339
from imgtools.build.planning.inherited import checked_settings
from imgtools.build.protocols import HostSettings
from imgtools.errors import InvalidManifest
from imgtools.frozen import dataclass
from imgtools.spec.manifest import Manifest, parse
from imgtools.spec.platform import Platform, from_machine
from imgtools.task import Task

BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateOptions:
    """How a container is made: `name` "" for one of its own; `platform` is that of a container
    of no image. The rest as in WorkingContainer."""

    name: str = ""
    platform: Platform | None = None
    settings: HostSettings = field(default_factory=HostSettings)
    proxies: bool = True
    isolation: str = ""
    format: str = "oci"


def create_container(
    store: Store, image: StoredImage | None, name: str, options: CreateOptions, *, task: Task
) -> WorkingContainer:
    """A new working container of `image`, which is called `name`; None is from scratch.

    Raises ImageNotFound for an image that was removed meanwhile, Conflict for a name that is
    taken, InvalidInput, StorageError. Then nothing is left.
    """
    containers = WorkingContainers(store)
    container_id = secrets.token_hex(32)
    with ExitStack() as undo:
        use = _begin(store, image, container_id, task)
        undo.callback(use.end)
        container = described(store, image, name, container_id, options)
        container = replace(container, annotations=_with_base(container))
        undo.callback(containers.records.remove, container_id)
        container = containers.register(container, task=task)
        undo.callback(store.snapshots.remove, container_id)
        store.snapshots.prepare(container.layer, container_id)
        sync_file_system(store.parts.layout.base)
        use.settle(persistent=True)
        undo.pop_all()
        use.detach()
    return container


def remove_container(store: Store, text: str, *, task: Task) -> WorkingContainer:
    """Remove a container, whose tree is unmounted if need be. Raises as
    `WorkingContainers.held`, StorageError."""
    containers = WorkingContainers(store)
    with containers.held(text, task=task) as held:
        hide(store, held)
        held.use.settle(persistent=False)
        store.snapshots.remove(held.container.id)
        containers.records.remove(held.container.id)
        held.use.end()
        return held.container


def remove_containers_of(store: Store, image_id: str, *, task: Task) -> None:
    """Remove all working containers of an image. Raises as `remove_container`."""
    for use in store.contents().users_of(image_id):
        if use.kind == KIND:
            with suppress(ContainerNotKnown):
                remove_container(store, use.id, task=task)


def _begin(store: Store, image: StoredImage | None, container_id: str, task: Task) -> InUse:
    if image is not None:
        return store.use(image, container_id, kind=KIND, created=time.time(), task=task)
    use = Use(id=container_id, kind=KIND, owner=this_process(), created=time.time())
    return store.parts.uses.begin(use)


def described(
    store: Store, image: StoredImage | None, name: str, container_id: str, options: CreateOptions
) -> WorkingContainer:
    """What a container of `image`, called `name`, is recorded as (None: from scratch). Raises
    InvalidManifest, BlobNotFound."""
    new = WorkingContainer(
        id=container_id,
        name=options.name,
        created=time.time(),
        settings=options.settings,
        proxies=options.proxies,
        isolation=options.isolation,
        format=options.format,
    )
    if image is None:
        return replace(new, document=_empty_document(options.platform))
    raw = store.manifest(image)
    view = parse(raw)
    if not isinstance(view, Manifest):
        raise InvalidManifest(f"manifest {raw.digest} of image {image.id} is no image")
    with store.parts.documents.open(image.config) as reader:
        config = reader.read()
    document = dict(store.config(image).document)
    checked_settings(document, name or image.id)
    return replace(
        new,
        image=name,
        image_id=image.id,
        image_digest=str(raw.digest),
        manifest=raw.content.decode("utf-8", "replace"),
        config=config.decode("utf-8", "replace"),
        layer=image.chain_id,
        document=document,
        annotations=dict(view.annotations),
    )


def _with_base(container: WorkingContainer) -> dict[str, str]:
    """The annotations of what is committed: of the image, and which image that was. What the
    image says of its own base is not about the container, so a name that is unknown goes."""
    annotations = {k: v for k, v in container.annotations.items() if k != BASE_NAME}
    if container.image_digest:
        annotations[BASE_DIGEST] = container.image_digest
    if container.image:
        annotations[BASE_NAME] = container.image
    return annotations


def _empty_document(platform: Platform | None) -> Mapping[str, Any]:
    """The config of an image with nothing in it."""
    where = platform or from_machine("linux", os.uname().machine)
    return {
        "created": rfc3339(time.time_ns()),
        **where.to_json(),
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": [],
    }
