"""Runs the contract suite over every transport, each case by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgtools.testing.contract import CASES, Case, names
from imgtools.testing.contract_kit import Endpoint
from imgtools.transport.options import DestinationOptions, SourceOptions
from imgtools.transport.table import Transports

LOCAL = {
    "dir": "dir:{}/image",
    "dir-existing": "dir:{}",
    "oci": "oci:{}/layout:some/name:1",
    "oci-archive": "oci-archive:{}/image.tar:name",
    "docker-archive": "docker-archive:{}/image.tar:some/name:1",
}


@pytest.fixture
def endpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Endpoint:
    """The transport named by the parameter, in an empty directory."""
    name = LOCAL[request.param].format(tmp_path)
    spool = tmp_path.parent / f"{tmp_path.name}-spool"
    spool.mkdir()
    transports = Transports()
    return Endpoint(
        destination=lambda: transports.open_destination(
            name, DestinationOptions(tmpdir=str(spool))
        ),
        source=lambda: transports.open_source(name, SourceOptions(tmpdir=str(spool))),
    )


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
@pytest.mark.parametrize("endpoint", sorted(LOCAL), indirect=True)
def test_contract(endpoint: Endpoint, case: Case) -> None:
    case(endpoint)
