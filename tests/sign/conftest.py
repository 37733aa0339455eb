"""Fixtures of the tests of signing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from imgtools.spec.digest import Digest
from tests.sign.openpgp_home import MANIFEST, GpgHome, Keys, make_keys, payload


@pytest.fixture(scope="session")
def gpg_keys() -> Iterator[Keys]:
    """OpenPGP keys of every kind in a home of their own."""
    with GpgHome() as home:
        yield make_keys(home, payload(str(Digest.of(MANIFEST))))
