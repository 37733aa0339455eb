"""Options that say which store of images a verb works with, and the store opened by them.

The engine is imported when a store is really used. Whoever is not root moves into the user
namespace of containers then, early and once, so that files of other ids can be handled.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import click

from imgtools.blob.placing import HERE, Placing
from imgtools.cli.output import notes
from imgtools.cli.state import Cli
from imgtools.errors import StorageError
from imgtools.task import Note
from imgtools.transport.base import Opener
from imgtools.transport.table import Transports

if TYPE_CHECKING:
    from engine.ids.model import IdMode, IdOptions, IdSession
    from engine.storage.options import StoreLocation
    from engine.storage.store import Store

_NAMES = ("root", "runroot", "storage_driver", "storage_opt")
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
_OTHER_ROOT = "name a directory that can be written with --root or XDG_DATA_HOME"
_OTHER_RUNROOT = "name a directory that can be written with --runroot or XDG_RUNTIME_DIR"


def store_flags(function: Any) -> Any:
    """A decorator that adds podman's options for the place and driver of the store."""
    decorators = (
        click.option("--root", type=click.Path(), metavar="DIR",
                     help="The store of images (default: as containers-storage.conf says)."),
        click.option("--runroot", type=click.Path(), metavar="DIR",
                     help="What of the store is lost with a reboot."),
        click.option("--storage-driver", metavar="DRIVER",
                     help="overlay, or vfs for plain copies (default: what works)."),
        click.option("--storage-opt", multiple=True, metavar="NAME=VALUE",
                     help="ignore_chown_errors=true takes what ids cannot be given for root's."),
    )  # fmt: skip
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


class StoreAccess:
    """The store that the options of one command name, opened as often as needed."""

    def __init__(self, cli: Cli, kwargs: dict[str, Any]) -> None:
        """Takes the values of `store_flags` out of `kwargs`."""
        self._cli = cli
        given = {name: kwargs.pop(name) for name in _NAMES}
        # What stands behind the verb counts more than what stands in front of it.
        found: dict[str, Any] = {name: given[name] or cli.values.get(name) for name in _NAMES}
        front = cli.values.get("storage_opt") or ()
        self._values = {**found, "storage_opt": (*front, *(given["storage_opt"] or ()))}
        self._location: StoreLocation | None = None
        self._session: IdSession | None = None

    @property
    def location(self) -> StoreLocation:
        """Where the store is. Of the user who ran the command: found out before its user
        namespace is entered. Raises InvalidInput, Unsupported, StorageError."""
        if self._location is None:
            from engine.storage.location import StoreFlags
            from imgtools.cli.engine_host import locate_store

            found = locate_store(
                os.environ,
                StoreFlags(
                    root=_absolute(self._values["root"]),
                    run_root=_absolute(self._values["runroot"]),
                    driver=self._values["storage_driver"] or "",
                    options=tuple(self._values["storage_opt"]),
                ),
            )
            for warning in found.warnings:
                notes(Note("warning", warning))
            self._location = found.location
        return self._location

    def enter(self, mode: IdMode | None = None) -> IdSession:
        """Get the ids that files in the store have; before any thread is started.

        `mode` None is the most that works. Where user namespaces are refused, what there is has
        to do: it is enough for all but running something in an image.
        """
        if self._session is None:
            from engine.ids.session import obtain_ids

            self._session = obtain_ids(self._ids(mode))
        return self._session

    @contextmanager
    def placing(self, mode: IdMode | None = None) -> Iterator[Placing]:
        """What writes files that the user names, as the user; to be asked for before the ids
        are (`mode` as for `enter`), for a block in which files are written."""
        from engine.ids.session import loses_own_id

        if self._session is not None or not loses_own_id(self._ids(mode)):
            yield HERE
            return
        from engine.ids.outside import start_outside

        with closing(start_outside()) as outside:
            yield outside

    def _ids(self, mode: IdMode | None) -> IdOptions:
        from engine.storage.layout import OURS, Layout
        from imgtools.cli.engine_host import id_options

        own_mounts = os.geteuid() != 0
        give = (Layout(self.location.root).base, os.path.join(self.location.runroot, OURS))
        return id_options(os.environ, mode=mode, mount_namespace=own_mounts, give=give)

    def open(self, location: StoreLocation | None = None) -> Store:
        """The store, made if it is not there; `location` is another one than the options say."""
        from engine.storage.store import Store

        where = location or self.location
        self.enter()
        try:
            return Store.open(where)
        except StorageError as e:
            # A home may be / or missing in a pod: only here is it known what names another.
            if isinstance(e.__cause__, OSError) and e.__cause__.errno in _NOT_WRITABLE:
                below = e.path.startswith(where.runroot.rstrip("/") + "/")
                e.hint = _OTHER_RUNROOT if below else _OTHER_ROOT
            raise

    def look(self) -> Store:
        """The store, for who reads and writes its records only, which are this user's own: no
        namespace is entered where there is a store already."""
        from engine.storage.layout import Layout
        from engine.storage.store import Store

        if not os.path.exists(Layout(self.location.root).store_file):
            return self.open()
        return Store.open(self.location)

    def opener(self) -> Opener:
        """Opens `containers-storage:` names."""
        from engine.storage.transport import StorageOpener

        location = self.location
        self.enter()
        return StorageOpener(location, self.open, self._cli.task(notes))

    def transports(self, *, warn: Callable[[str], object]) -> Transports:
        """What opens names of all transports, images in the store included."""
        return Transports(self._cli.cancel, warn=warn, more={"containers-storage": self.opener})


@contextmanager
def open_store(cli: Cli, kwargs: dict[str, Any]) -> Iterator[Store]:
    """The store that the options of a verb name, for the block; takes them out of `kwargs`."""
    with StoreAccess(cli, kwargs).open() as store:
        yield store


def _absolute(path: str | None) -> str:
    return os.path.abspath(path) if path else ""
