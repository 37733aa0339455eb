"""Simple signatures in a registry that has an API for them (OpenShift's).

Such a registry says `X-Registry-Supports-Signatures: 1` in its answer to /v2/; lookaside
storage is not asked then. Only simple signatures have a place there.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from typing import Any

from imgtools.errors import InvalidJSON, InvalidSignature, LimitExceeded, Unsupported
from imgtools.sign.model import (
    PAYLOAD_LIMIT,
    SIGNATURES_LIMIT,
    Format,
    Signature,
    SimpleSignature,
)
from imgtools.spec import strict_json
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.transport.registry.api import Repository

_HEADER = "X-Registry-Supports-Signatures"
_SCHEMA_VERSION = 2
_TYPE = "atomic"
_LIST_LIMIT = 4 * 1024 * 1024
_ANSWERED = frozenset({200, 401, 403, 404, 405})
"""Answers to /v2/ that are the registry's own, whether it lets us in or not."""


def supports_signatures(repository: Repository) -> bool:
    """Whether the registry of `repository` keeps signatures itself; one request a session.

    Raises RegistryError for an answer that is none (a registry out of order must not look
    like one without signatures), Denied, ConnectionFailed.
    """
    features = repository.session.features
    if features.signatures_api is not None:
        return features.signatures_api
    response = repository.ping()
    if response.status not in _ANSWERED:
        raise repository.failure(response)
    response.drain()
    found = response.header(_HEADER) == "1"
    features.found_signatures_api(found)
    return found


class SignaturesApi:
    """Reads and writes the simple signatures of one repository."""

    def __init__(self, repository: Repository) -> None:
        """`repository` of a registry that `supports_signatures`."""
        self._repository = repository

    @property
    def holds(self) -> frozenset[Format]:
        """Simple signatures."""
        return frozenset(("simple",))

    def signatures(self, digest: Digest) -> tuple[SimpleSignature, ...]:
        """See SignatureReader; entries of other versions and types are passed over.

        Raises InvalidSignature for a list that is malformed.
        """
        where = f"the signatures of {self._repository.name}@{digest}"
        with self._repository.signatures(digest) as response:
            if response.status != 200:
                raise self._repository.failure(response)
            content = response.body(_LIST_LIMIT, where)
        try:
            entries = strict_json.loads_object(content, where, limit=_LIST_LIMIT).get("signatures")
        except InvalidJSON as e:
            raise InvalidSignature(e.message) from e
        if entries is None:
            return ()
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise InvalidSignature(f"{where} are not a list of objects")
        if len(entries) > SIGNATURES_LIMIT:
            raise LimitExceeded(where, SIGNATURES_LIMIT, unit="signatures")
        return tuple(
            SimpleSignature(blob=_content(entry, where), where=f"{where}, number {number}")
            for number, entry in enumerate(entries, 1)
            if entry.get("schemaVersion") == _SCHEMA_VERSION and entry.get("type") == _TYPE
        )

    def preflight(self) -> None:
        """Nothing can be known before it is tried."""

    def put(self, subject: Descriptor, signatures: Sequence[Signature]) -> int:
        """See SignatureWriter; raises Unsupported for other formats."""
        blobs: dict[bytes, None] = {}
        for signature in signatures:
            if not isinstance(signature, SimpleSignature):
                raise Unsupported(
                    f"the signatures API of {self._repository.session.host} keeps no"
                    f" {signature.format} signatures"
                )
            blobs[signature.blob] = None
        present = {s.blob for s in self.signatures(subject.digest)}
        new = [blob for blob in blobs if blob not in present]
        for blob in new:
            self._put_one(subject.digest, blob)
        return len(new)

    def _put_one(self, digest: Digest, blob: bytes) -> None:
        content = strict_json.dumps(
            {
                "schemaVersion": _SCHEMA_VERSION,
                "name": f"{digest}@{os.urandom(16).hex()}",
                "type": _TYPE,
                "content": base64.b64encode(blob).decode("ascii"),
            }
        )
        with self._repository.put_signature(digest, content) as response:
            if response.status != 201:
                raise self._repository.failure(response)
            response.drain()


def _content(entry: dict[str, Any], where: str) -> bytes:
    text = entry.get("content")
    try:
        blob = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        blob = b""
    if not blob:
        raise InvalidSignature(f"{where}: an entry has no content in base64")
    if len(blob) > PAYLOAD_LIMIT:
        raise LimitExceeded(where, PAYLOAD_LIMIT)
    return blob
