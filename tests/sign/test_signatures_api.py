"""The signatures API of a registry when it answers something else than signatures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from imgtools.errors import Denied, InvalidSignature, LimitExceeded, RegistryError, Unsupported
from imgtools.sign.model import SigstoreSignature, SimpleSignature
from imgtools.sign.stores.xrss import SignaturesApi, supports_signatures
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.transport.options import RegistryOptions
from imgtools.transport.registry.access.challenge_cache import ChallengeCache
from imgtools.transport.registry.api import Repository
from imgtools.transport.registry.session import Session
from imgtools.transport.registry.wire.retry import RetryPolicy
from tests.sign.web import Answer, Reply, Request, web_server

OPTIONS = RegistryOptions(tls_verify=False, tls_verify_given=True)
DIGEST = Digest.parse(f"sha256:{'ab' * 32}")
SUBJECT = Descriptor(media_type="", digest=DIGEST, size=1)
ENTRY = {"schemaVersion": 2, "name": f"{DIGEST}@x", "type": "atomic", "content": "owE="}
HEADER = {"X-Registry-Supports-Signatures": "1"}


@contextmanager
def registry(answer: Answer) -> Iterator[Repository]:
    """A repository of a registry that answers by `answer`; nothing is tried twice."""
    with web_server(answer) as host:
        session = Session(host, OPTIONS, ChallengeCache(None), RetryPolicy(attempts=1))
        try:
            yield Repository(session, "ns/app", push=True)
        finally:
            session.close()


def listing(value: Any, status: int = 200) -> Answer:
    """Answers with a list of signatures."""
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return lambda request: Reply(status if request.path != "/v2/" else 200, content)


@pytest.mark.parametrize(
    ("status", "value", "expected"),
    [(200, "1", True), (401, "1", True), (200, "", False), (200, "2", False),
     (200, "1, 1", False), (200, "true", False), (404, "", False), (403, "1", True)],
)  # fmt: skip
def test_the_header_decides(status: int, value: str, expected: bool) -> None:
    """And is asked for once."""
    seen: list[str] = []

    def answer(request: Request) -> Reply:
        seen.append(f"{request.method} {request.path}")
        return Reply(status, b"", {"X-Registry-Supports-Signatures": value})

    with registry(answer) as found:
        assert supports_signatures(found) == expected
        # What tells the registry from others (TLS or not) asks for the same.
        asked = len(seen)
        assert supports_signatures(found) == expected
    assert set(seen) == {"GET /v2/"}
    assert len(seen) == asked


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_s61_a_registry_out_of_order_is_not_one_without_signatures(status: int) -> None:
    with registry(lambda _: Reply(status, b"", HEADER)) as found, pytest.raises(RegistryError):
        supports_signatures(found)


@pytest.mark.parametrize("status", [204, 401, 403, 404, 429, 500])
def test_s61_only_200_says_what_signatures_there_are(status: int) -> None:
    answer = listing({"signatures": []}, status)
    with registry(answer) as found, pytest.raises((RegistryError, Denied)):
        SignaturesApi(found).signatures(DIGEST)


@pytest.mark.parametrize("value", [{"signatures": []}, {"signatures": None}, {}])
def test_there_may_be_none(value: Any) -> None:
    with registry(listing(value)) as found:
        assert SignaturesApi(found).signatures(DIGEST) == ()


def test_other_versions_and_types_are_passed_over() -> None:
    entries = [{**ENTRY, "schemaVersion": 1}, {**ENTRY, "type": "other", "content": 3}, ENTRY]
    with registry(listing({"signatures": entries, "more": 1})) as found:
        (signature,) = SignaturesApi(found).signatures(DIGEST)
    assert signature.blob == b"\xa3\x01"
    assert signature.where == f"the signatures of ns/app@{DIGEST}, number 3"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"[]",
        b'{"signatures":[],"signatures":[]}',
        b"<html>",
        {"signatures": {}},
        {"signatures": ["x"]},
        {"signatures": [{**ENTRY, "content": ""}]},
        {"signatures": [{**ENTRY, "content": None}]},
        {"signatures": [{**ENTRY, "content": "ow E="}]},
        {"signatures": [{**ENTRY, "content": "owE"}]},
        {"signatures": [{**ENTRY, "content": "é"}]},
    ],
)
def test_s34_a_list_that_is_malformed_is_an_error(value: Any) -> None:
    with registry(listing(value)) as found, pytest.raises(InvalidSignature):
        SignaturesApi(found).signatures(DIGEST)


def test_s38_the_list_is_bounded() -> None:
    many = listing({"signatures": [ENTRY] * 129})
    with registry(many) as found, pytest.raises(LimitExceeded, match="128 signatures"):
        SignaturesApi(found).signatures(DIGEST)
    with registry(listing(b" " * (4 * 1024 * 1024 + 1))) as found, pytest.raises(LimitExceeded):
        SignaturesApi(found).signatures(DIGEST)


def test_what_is_refused_is_an_error() -> None:
    """201 alone says that a signature is kept."""
    with registry(listing({"signatures": []})) as found:
        store = SignaturesApi(found)
        store.preflight()
        assert store.holds == {"simple"}
        with pytest.raises(RegistryError, match="PUT"):
            store.put(SUBJECT, [SimpleSignature(blob=b"\xa3")])
        with pytest.raises(Unsupported, match="sigstore signatures"):
            store.put(SUBJECT, [SigstoreSignature(payload=b"{}")])
