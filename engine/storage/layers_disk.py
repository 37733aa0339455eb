"""The store as layers and snapshots see it: its place, its driver, who owns its files.

Driver and ownership are decided when a store is made and kept in its store.json: what one
driver makes another cannot read. Opening an existing store tries nothing and is quick.
"""

from __future__ import annotations

import json
import os
from contextlib import closing

from engine.runtime.kernel.proc import boot_id
from engine.storage.drivers.base import Driver
from engine.storage.drivers.choice import NAMES, choose_driver
from engine.storage.drivers.flat import FlatDriver
from engine.storage.drivers.overlay import OverlayDriver
from engine.storage.layers_workspace import Workspace
from engine.storage.layout import Layout
from engine.storage.options import DriverChoice, Ownership, StoreLocation
from engine.storage.ownership_ids import Ids, best_ownership, survey_ids
from imgtools.blob.files import storage_errors, write_file
from imgtools.errors import Conflict, InvalidInput, NotFound
from imgtools.frozen import dataclass
from imgtools.spec import strict_json

VERSION = 1
LIMIT = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """An open store. `boot` is the kernel's id of this boot, "" where there is none to read."""

    location: StoreLocation
    layout: Layout
    choice: DriverChoice
    driver: Driver
    ids: Ids
    boot: str
    workspace: Workspace

    @property
    def ownership(self) -> Ownership:
        """Who owns the files on disk."""
        return self.choice.ownership


def open_disk(location: StoreLocation) -> Disk:
    """Open the store at `location`, which is made if it is not there.

    Raises InvalidInput (unknown driver, a damaged store.json), Conflict (the store was made
    with another driver or ownership and is in use), StorageError.
    """
    layout = Layout(location.root)
    workspace = Workspace(layout.tmp)
    ids = survey_ids()
    choice = read_choice(layout)
    if choice is None or (_differs(choice, location) and _empty(layout)):
        choice = decide(location, ids)
        with storage_errors(layout.base):
            for path in (layout.layers, layout.snapshots):
                os.makedirs(path, mode=0o700, exist_ok=True)
        write_file(layout.store_file, _document(choice), mode=0o600)
    elif _differs(choice, location):
        raise Conflict(
            f"the store in {layout.base} was made with driver {choice.name} and "
            f"{choice.ownership.value} owners, and has layers",
            hint="ask for these, or use another root",
        )
    driver: Driver
    if choice.name == "overlay":
        driver = OverlayDriver(choice.ownership, choice.userxattr)
    else:
        driver = FlatDriver(choice.ownership)
    return Disk(
        location=location,
        layout=layout,
        choice=choice,
        driver=driver,
        ids=ids,
        boot=boot_id(),
        workspace=workspace,
    )


def decide(location: StoreLocation, ids: Ids) -> DriverChoice:
    """What a store made now at `location` would use, by trying; for reports too.

    Raises InvalidInput, StorageError.
    """
    ownership = location.ownership or best_ownership(ids)
    workspace = Workspace(Layout(location.root).tmp)
    with closing(workspace), workspace.directory() as inside:

        def directory() -> str:
            path = os.path.join(inside, str(len(os.listdir(inside))))
            os.mkdir(path, 0o700)
            return path

        return choose_driver(location.driver, directory, ownership, superuser=ids.superuser)


def read_choice(layout: Layout) -> DriverChoice | None:
    """What was decided for this store; None if there is no store. Raises InvalidInput."""
    try:
        document = read_document(layout.store_file)
    except NotFound:
        return None
    try:
        if document["version"] != VERSION or document["driver"] not in NAMES:
            raise ValueError("another version")
        return DriverChoice(
            name=str(document["driver"]),
            userxattr=bool(document["userxattr"]),
            ownership=Ownership(document["ownership"]),
            reason=str(document["reason"]),
        )
    except (KeyError, ValueError) as e:
        raise InvalidInput(f"{layout.store_file} is not of this version, or damaged") from e


def read_document(path: str) -> dict[str, object]:
    """The JSON object in a file of ours. Raises NotFound, StorageError, InvalidInput."""
    with storage_errors(path):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            return strict_json.loads_object(file.read(LIMIT + 1), path, limit=LIMIT)


def _document(choice: DriverChoice) -> bytes:
    return json.dumps(
        {
            "version": VERSION,
            "driver": choice.name,
            "userxattr": choice.userxattr,
            "ownership": choice.ownership.value,
            "reason": choice.reason,
        }
    ).encode()


def _differs(choice: DriverChoice, location: StoreLocation) -> bool:
    return location.driver not in ("", choice.name) or location.ownership not in (
        None,
        choice.ownership,
    )


def _empty(layout: Layout) -> bool:
    """Whether the store has no layers and no snapshots."""
    with storage_errors(layout.base):
        for path in (layout.layers, layout.snapshots):
            for name in os.listdir(path) if os.path.isdir(path) else ():
                below = os.path.join(path, name)
                if path == layout.snapshots or os.listdir(below):
                    return False
    return True
