"""Checks credentials with a registry, and what a user calls the thing to log in to.

The base URL of the distribution-spec (end-1) answers 200 to whoever may come in; a registry
with a token server gives a token without scopes to whoever it knows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from imgtools.errors import ConnectionFailed, InvalidInput, InvalidReference
from imgtools.frozen import dataclass
from imgtools.spec.reference import Reference, check_repository
from imgtools.transport.registry.access.auth_files import normalise_key
from imgtools.transport.registry.access.token_server import TokenRefused
from imgtools.transport.registry.wire.url import Origin

if TYPE_CHECKING:
    from imgtools.transport.registry.session import Session


_HOST = re.compile(r"[a-z0-9.:_\[\]-]+")
"""What a host and port may be made of; more is checked where a URL is made of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What credentials are for: a registry or, when `namespace` is not "", a part of it."""

    registry: str
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.registry}/{self.namespace}" if self.namespace else self.registry

    @property
    def reference(self) -> Reference:
        """A reference for looking up what is configured of the registry."""
        return Reference(registry=self.registry, repository=self.namespace)


def parse_account(text: str) -> Account:
    """`REGISTRY[/NAMESPACE[/REPOSITORY]]`, or a URL of which only the host counts.

    Docker Hub gets its one name. Raises InvalidInput, InvalidReference.
    """
    if text.startswith("docker:"):
        raise InvalidReference(
            text, "a registry is named as it is", hint="leave out docker://, as in quay.io"
        )
    rest = text.removeprefix("https://").removeprefix("http://")
    host, slash, namespace = rest.partition("/")
    if rest != text:
        namespace = slash = ""
    registry = normalise_key(host)
    try:
        origin = Origin.of(f"https://{registry}")
    except ConnectionFailed as e:
        raise InvalidReference(text, "not the name of a registry") from e
    if not origin.host or not _HOST.fullmatch(registry):
        raise InvalidReference(text, "not the name of a registry")
    if slash:
        if ":" in namespace or "@" in namespace:
            raise InvalidInput(f'reference "{text}" contains tag or digest')
        check_repository(text, namespace)
    return Account(registry=registry, namespace=namespace)


def accepts(session: Session) -> bool:
    """Whether the registry accepts the credentials of `session`, False for wrong ones.

    Raises Denied for what is refused for another reason, RegistryError, ConnectionFailed.
    """
    try:
        response = session.request("GET", "/v2/", repository="", scopes=())
    except TokenRefused as e:
        if e.status == 401:
            return False
        raise
    if response.status == 401:
        response.drain()
        return False
    if response.status != 200:
        raise session.failure(response, "")
    response.drain()
    return True
