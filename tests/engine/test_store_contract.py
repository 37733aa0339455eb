"""The transport contract over `containers-storage:`, with either driver."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.storage.options import StoreLocation
from engine.storage.store import Store
from engine.storage.transport import StorageOpener
from imgtools.task import Task
from imgtools.testing.contract import CASES, Case, names
from imgtools.testing.contract_kit import Endpoint
from imgtools.transport.options import DestinationOptions, SourceOptions
from imgtools.transport.table import Transports


@pytest.fixture(params=["flat", "overlay"])
def endpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Endpoint:
    location = StoreLocation(
        root=str(tmp_path / "root"), runroot=str(tmp_path / "run"), driver=request.param
    )
    transports = Transports(
        more={"containers-storage": lambda: StorageOpener(location, Store.open, Task())}
    )
    name = "containers-storage:example.org/some/name:1"
    return Endpoint(
        destination=lambda: transports.open_destination(name, DestinationOptions()),
        source=lambda: transports.open_source(name, SourceOptions()),
    )


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
def test_contract(endpoint: Endpoint, case: Case) -> None:
    case(endpoint)
