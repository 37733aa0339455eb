"""Opens `containers-storage:` names for `imgtools.transport.table.Transports`.

A name may say which store it means, in brackets before it; otherwise it is the one that the
command works with, which is opened when a name first needs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from engine.storage.location import DRIVERS
from engine.storage.names import StorageName, parse_storage_name
from engine.storage.options import StoreLocation
from engine.storage.store import Store
from imgtools.errors import InvalidReference, Unsupported
from imgtools.task import Task
from imgtools.transport.base import Destination, Source
from imgtools.transport.closing import Closing
from imgtools.transport.options import DestinationOptions, SourceOptions


class StorageOpener(Closing):
    """Opens sources and destinations in stores, which it closes."""

    def __init__(
        self, location: StoreLocation, opened: Callable[[StoreLocation], Store], task: Task
    ) -> None:
        """`location` is the store of names that name none; `opened` opens one."""
        self._location = location
        self._opened = opened
        self._task = task
        self._stores: dict[StoreLocation, Store] = {}

    def open_source(self, rest: str, options: SourceOptions) -> Source:
        """The image that `rest` means; raises InvalidReference, ImageNotFound."""
        name = parse_storage_name(rest)
        return self.store(name).source(name, as_received=options.as_received, task=self._task)

    def open_destination(self, rest: str, options: DestinationOptions) -> Destination:
        """A place for an image called `rest`; raises InvalidReference, Unsupported."""
        if options.additional_tags:
            raise Unsupported("containers-storage: does not take additional tags")
        name = parse_storage_name(rest)
        return self.store(name).destination(name)

    def store(self, name: StorageName) -> Store:
        """The store that a name means; raises InvalidReference, StorageError, Conflict."""
        location = located(name, self._location)
        if location not in self._stores:
            self._stores[location] = self._opened(location)
        return self._stores[location]

    def close(self) -> None:
        """Close the stores."""
        while self._stores:
            self._stores.popitem()[1].close()


def located(name: StorageName, default: StoreLocation) -> StoreLocation:
    """The place of the store that a name means; `default` where it says nothing of it."""
    spec = name.spec
    if spec is None:
        return default
    if spec.driver and spec.driver not in DRIVERS:
        raise InvalidReference(name.text, f"{spec.driver!r} is no storage driver that we have")
    if spec.options:
        raise Unsupported(f"storage options in a name are not supported: {spec.options[0]}")
    return replace(
        default,
        root=os.path.normpath(spec.graph_root) if spec.graph_root else default.root,
        runroot=os.path.normpath(spec.run_root) if spec.run_root else default.runroot,
        driver=DRIVERS.get(spec.driver, default.driver if not spec.graph_root else ""),
    )
