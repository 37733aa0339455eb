"""Runs the contract suite over the registry transport, against a real registry."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from imgtools.testing.contract import CASES, Case, names
from imgtools.testing.contract_kit import Endpoint
from imgtools.transport.options import DestinationOptions, RegistryOptions, SourceOptions
from imgtools.transport.table import Transports
from tests.rig import RegistryServer


@pytest.fixture
def endpoint(registry_plain: RegistryServer, repository: str) -> Iterator[Endpoint]:
    """A tag in a repository of its own."""
    name = f"docker://{registry_plain.host}/{repository}:v1"
    options = RegistryOptions(tls_verify=False)
    with Transports() as transports:
        yield Endpoint(
            destination=lambda: transports.open_destination(
                name, DestinationOptions(registry=options)
            ),
            source=lambda: transports.open_source(name, SourceOptions(registry=options)),
        )


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
def test_contract(endpoint: Endpoint, case: Case) -> None:
    case(endpoint)
