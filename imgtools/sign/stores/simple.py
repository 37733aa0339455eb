"""Chooses the place of the simple signatures of an image in a registry.

A registry that keeps them itself is asked for them, and lookaside storage is not, as in
containers/image; whether it does is found out when it is first asked.
"""

from __future__ import annotations

from imgtools.sign.registries_d import StorePlaces
from imgtools.sign.stores.lookaside import Lookaside
from imgtools.sign.stores.xrss import SignaturesApi, supports_signatures
from imgtools.spec.reference import Reference
from imgtools.transport.options import RegistryOptions
from imgtools.transport.registry.api import Repository


def simple_store(
    places: StorePlaces, reference: Reference, repository: Repository, options: RegistryOptions
) -> Lookaside | SignaturesApi:
    """Where the simple signatures of `reference` are read and put: in `repository`'s registry
    if that has an API for them, else in lookaside storage. `repository` may be a mirror's.

    Raises RegistryError, Denied, ConnectionFailed for a registry that cannot be asked, and
    InvalidInput for lookaside URLs that cannot be used.
    """

    if supports_signatures(repository):
        return SignaturesApi(repository)
    return Lookaside(places, reference, options)
