"""The registry client against every preset of the scripted registry, by the transport contract.

What holds for docker's registry has to hold where uploads, tokens, pages and referrers are done
differently; only what cannot be told apart there is asked for less strictly.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from imgtools.errors import Denied, NotFound
from imgtools.testing import contract, contract_blobs
from imgtools.testing.contract import Case, names
from imgtools.testing.contract_kit import Endpoint
from imgtools.testing.presets import PRESETS, Preset
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.options import (
    Credentials,
    DestinationOptions,
    RegistryOptions,
    SourceOptions,
)
from imgtools.transport.table import Transports

CASES: tuple[Case, ...] = (
    contract.single,
    contract.index_of_four,
    contract.artifact,
    contract.missing_parts,
    contract.wrong_bytes,
    contract.failing_source,
    contract.replaced,
    contract.same_blob_at_once,
    contract.asked_before_and_after,
    contract.referrers,
    contract.read_in_parallel,
    contract_blobs.blob_at_an_offset,
    contract_blobs.equal_layers,
    contract_blobs.empty_blob,
)


@contextmanager
def endpoint(preset: Preset) -> Iterator[Endpoint]:
    """A tag in an empty repository of a registry like that."""
    auth = preset.auth
    user = Credentials(username=auth.username, password=auth.password)
    options = RegistryOptions(tls_verify=False, credentials=user if auth.scheme != "none" else None)
    with ScriptedRegistry(dialect=preset.dialect, auth=auth) as registry, Transports() as opened:
        registry.repository("app")
        name = f"docker://{registry.host}/app:v1"
        yield Endpoint(
            destination=partial(
                opened.open_destination, name, DestinationOptions(registry=options)
            ),
            source=partial(opened.open_source, name, SourceOptions(registry=options)),
        )


def is_secretive(name: str) -> bool:
    """Whether absence looks like a refusal there."""
    return PRESETS[name].dialect.not_found in ("denied", "unauthorized")


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
@pytest.mark.parametrize("name", sorted(PRESETS))
def test_contract(name: str, case: Case) -> None:
    with endpoint(PRESETS[name]) as made:
        if case is contract.missing_parts and is_secretive(name):
            # Who only reads cannot tell absence from a refusal; who writes need not.
            with pytest.raises(Denied):
                case(made)
        else:
            case(made)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_absent(name: str) -> None:
    """What is not there is not found, or refused where the registry says no more than that."""
    with (
        endpoint(PRESETS[name]) as made,
        made.source() as source,
        pytest.raises((NotFound, Denied) if is_secretive(name) else NotFound),
    ):
        source.top()
