"""The DELETE requests of the distribution-spec (end-9), with the scope that allows them.

Token servers differ on what that scope is called: some know "delete", some only "*", and
some refuse a request that names an action they do not know, so one is tried after the other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from imgtools.errors import Denied, Error, RegistryError, Unsupported
from imgtools.spec.digest import Digest
from imgtools.transport.registry.api import Repository
from imgtools.transport.registry.failure import read_error
from imgtools.transport.registry.wire.http import Response

log = logging.getLogger(__name__)

DELETED = frozenset({200, 202, 204})
_REFUSED = frozenset({400, 405, 415, 501})
"""What registries answer that cannot delete a tag, or delete at all."""


class TagsFirst(Unsupported):
    """A refusal to delete a manifest that may be due to its tags."""


class Deleting:
    """Deletes manifests and tags of one repository; for one thread."""

    def __init__(self, repository: Repository) -> None:
        """`repository` says where; its own scopes are not used."""
        self._repository = Repository(repository.session, repository.name)
        self._repository.scopes = (f"repository:{repository.name}:pull,push,delete",)
        self._widened = False

    @property
    def where(self) -> str:
        """`host/name`, for messages."""
        return f"{self._repository.session.host}/{self._repository.name}"

    def tag(self, tag: str) -> bool | None:
        """Delete a tag alone: True when it is gone, None when there is no such tag (or this
        registry says so of all tags), False when the registry does not do this.

        Raises Denied, ConnectionFailed, RegistryError.
        """
        response = self._delete(tag)
        if response.status in DELETED:
            response.drain()
            return True
        if response.status == 404:
            response.drain()
            return None
        if response.status in _REFUSED:
            log.debug("%s: tags cannot be deleted: %d", self.where, response.status)
            response.drain()
            return False
        raise self._repository.failure(response)

    def manifest(self, digest: Digest) -> bool:
        """Delete a manifest and with it all of its tags; False when it was not there.

        Raises Unsupported where the registry does not delete, TagsFirst where it may do so
        without the tags, Denied, ConnectionFailed, RegistryError.
        """
        response = self._delete(str(digest))
        if response.status in DELETED or response.status == 404:
            response.drain()
            return response.status != 404
        if response.status not in (*_REFUSED, 409):
            raise self._repository.failure(response)
        kind = TagsFirst if response.status in (400, 409) else Unsupported
        code, detail = read_error(response)
        said = " ".join(part for part in (str(response.status), code, detail) if part)
        raise kind(
            f"{self.where}: the registry does not delete manifests: {said}",
            hint="deletion has to be enabled in the registry, or done in its own interface",
        )

    def _delete(self, target: str) -> Response:
        try:
            return self._allowed(lambda: self._repository.delete_manifest(target))
        finally:
            # Whatever came of it: an answer may get lost, and some delete more than was named.
            self._repository.session.features.known.forget(self._repository.name)

    def _allowed(self, send: Callable[[], Response]) -> Response:
        """The answer to `send`, under the wider scope when the first is refused."""
        if self._widened:
            return send()
        refusal: Error | None = None
        try:
            response = send()
            if response.status not in (401, 403):
                return response
            refusal = self._repository.failure(response)
        except (Denied, RegistryError) as e:
            refusal = e
        log.debug("%s: %s; asking for every action", self.where, refusal.message)
        self._widened = True
        self._repository.scopes = (f"repository:{self._repository.name}:*",)
        try:
            return send()
        except (Denied, RegistryError) as e:
            raise refusal from e
