"""Fulcio, Rekor and timestamp authorities as a signer meets them, tokens, and configurations."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest

from imgtools.cli.settings import Settings
from imgtools.cli.sign_token import token_source
from imgtools.errors import Denied, Error, InvalidInput, InvalidSignature, Unsupported
from imgtools.sign.bundle_checks import KeylessCheck, check_bundle_keyless
from imgtools.sign.keyless.certified import Certifier
from imgtools.sign.keyless.public_root import public_root, public_signing_config
from imgtools.sign.keyless.rekor import key_log, log_signature
from imgtools.sign.keyless.services import Services, read_signing_config, read_trust_config
from imgtools.sign.keyless.signers import KeylessAttachmentSigner, KeylessBundleSigner
from imgtools.sign.keyless.tokens import parse_token
from imgtools.sign.keyless.web import Web, service_url
from imgtools.sign.model import SigstoreSignature
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.testing.sigstore import LocalSigstore
from imgtools.testing.sigstore.authority import Leaf
from imgtools.testing.sigstore.entries import TransparencyEntry
from imgtools.testing.sigstore.rekor import RekorV1, RekorV2
from imgtools.transport.options import RegistryOptions
from tests.bad_input import QUICK
from tests.sign.web import Reply, Request, web_server

NAME = "registry.example.test/app:v1"
SUBJECT = Descriptor(media_type="application/x", digest=Digest.of(b"image"), size=5)
WHO = "user@example.test"


@pytest.fixture
def sigstore() -> Iterator[LocalSigstore]:
    """Services on loopback."""
    with LocalSigstore() as found:
        yield found


def web() -> Web:
    return Web(RegistryOptions(), policy=QUICK)


def services(sigstore: LocalSigstore, rekor: Any = 1) -> Services:
    config = sigstore.client_trust_config(rekor=rekor)
    return read_trust_config(json.dumps(config).encode(), "the config")


def certifier(sigstore: LocalSigstore, found: Services, **options: Any) -> Certifier:
    return Certifier(
        found, lambda: parse_token(sigstore.token(WHO), "a test's token"), web(), **options
    )


def attachment_signer(
    sigstore: LocalSigstore, found: Services | None = None
) -> KeylessAttachmentSigner:
    found = found or services(sigstore)
    return KeylessAttachmentSigner(found, certifier(sigstore, found), web(), creator="test 1")


def bundle_signer(sigstore: LocalSigstore, rekor: Any = 1) -> KeylessBundleSigner:
    found = services(sigstore, rekor)
    return KeylessBundleSigner(found, certifier(sigstore, found), web())


# --- certificates -------------------------------------------------------------------------------


def test_an_authority_of_the_first_version_is_asked_too(sigstore: LocalSigstore) -> None:
    sigstore.fail(path="/api/v2/signingCert", status=404)
    signer = attachment_signer(sigstore)
    assert signer.made(signer.sign(SUBJECT, NAME))
    assert [e.path for e in sigstore.requests if "signingCert" in e.path] == [
        "/api/v2/signingCert",
        "/api/v1/signingCert",
    ]


def test_a_certificate_is_used_until_its_last_minute(sigstore: LocalSigstore) -> None:
    now = datetime.now(UTC)
    times = iter([now, now + timedelta(minutes=8), now + timedelta(minutes=9, seconds=30)])
    source = certifier(sigstore, services(sigstore), clock=lambda: next(times))
    first = source.certified()
    assert source.certified() is first
    # The clock is asked only about a certificate that there is.
    assert source.certified() is first
    assert source.certified() is not first


def test_nothing_secret_is_in_a_representation(sigstore: LocalSigstore) -> None:
    token = parse_token(sigstore.token(WHO), "a token")
    assert token.text not in repr(token)
    assert "EllipticCurve" not in repr(certifier(sigstore, services(sigstore)).certified())


def of_another_key(sigstore: LocalSigstore) -> bytes:
    chain = sigstore.issue(WHO)
    return certificates(chain.leaf_pem, chain.chain_pem)


def of_another_sigstore(sigstore: LocalSigstore) -> bytes:
    return of_another_key(LocalSigstore())


def certificates(*pems: bytes) -> bytes:
    chain = {"chain": {"certificates": [pem.decode() for pem in pems]}}
    return json.dumps({"signedCertificateEmbeddedSct": chain}).encode()


BAD_ANSWERS: dict[str, tuple[Callable[[LocalSigstore], bytes], str]] = {
    "another-key": (of_another_key, "another key"),
    "another-sigstore": (of_another_sigstore, "another key"),
    "no-chain": (lambda s: certificates(s.issue(WHO).leaf_pem), "1 certificates"),
    "no-certificates": (lambda s: certificates(), "0 certificates"),
    "endless": (lambda s: certificates(s.root_pem * 11), "11 certificates"),
    "detached-sct": (lambda s: b'{"signedCertificateDetachedSct":{}}', "detached"),
    "numbers": (
        lambda s: b'{"signedCertificateEmbeddedSct":{"chain":{"certificates":[1]}}}',
        "no list",
    ),
    "not-json": (lambda s: b"<html>", "not valid JSON"),
    "twice": (lambda s: b'{"a":1,"a":1}', "not valid JSON"),
    "large": (lambda s: b" " * 300_000, "larger"),
}


@pytest.mark.parametrize(("body", "word"), BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_what_fulcio_answers_is_verified(
    sigstore: LocalSigstore, body: Callable[[LocalSigstore], bytes], word: str
) -> None:
    sigstore.fail(path="signingCert", body_override=body(sigstore))
    with pytest.raises(InvalidSignature, match=word) as failure:
        certifier(sigstore, services(sigstore)).certified()
    assert f"Fulcio ({sigstore.url})" in failure.value.message


@pytest.mark.parametrize(
    ("leaf", "rootless"),
    [
        (Leaf(timestamps="two"), False),
        (Leaf(timestamps="none"), False),
        (Leaf(authority=True), True),
        (Leaf(usages=None), True),
        (Leaf(issuer_extensions="none"), True),
    ],
    ids=["two-scts", "no-sct", "authority", "no-usage", "no-issuer"],
)
def test_certificates_that_nobody_would_accept_are_not_used(
    sigstore: LocalSigstore, leaf: Leaf, rootless: bool
) -> None:
    """With a root, and what is wrong in itself without one."""
    sigstore.services.leaf = leaf
    with pytest.raises(InvalidSignature):
        certifier(sigstore, services(sigstore)).certified()
    without = certifier(sigstore, replace(services(sigstore), root=None))
    if rootless:
        with pytest.raises(InvalidSignature):
            without.certified()
    else:
        assert without.certified()


def test_a_foreign_authority_is_refused_only_under_a_root(sigstore: LocalSigstore) -> None:
    """Without one there is nobody to tell it by."""
    with LocalSigstore() as other:
        foreign = replace(services(sigstore), authority=other.url)
        other.issuer, other.services.issuer = sigstore.issuer, sigstore.issuer
        with pytest.raises(InvalidSignature, match="not signed by its key"):
            certifier(sigstore, foreign).certified()
        signer = attachment_signer(sigstore, replace(foreign, root=None))
        assert isinstance(made := signer.sign(SUBJECT, NAME), SigstoreSignature)
        assert signer.made(made) is None


# --- logs ---------------------------------------------------------------------------------------

Change = Callable[[LocalSigstore, TransparencyEntry], TransparencyEntry]


def by_another_log(sigstore: LocalSigstore, entry: TransparencyEntry) -> TransparencyEntry:
    return RekorV1().log_body(json.loads(entry.body))


def long_ago(sigstore: LocalSigstore, entry: TransparencyEntry) -> TransparencyEntry:
    return sigstore.rekor.log_body(json.loads(entry.body), at=sigstore.clock() - timedelta(days=1))


def of_something_else(sigstore: LocalSigstore, entry: TransparencyEntry) -> TransparencyEntry:
    signer = sigstore.signer(WHO)
    return signer.logged(b"something", signer.sign(b"something"))


def without_promise(sigstore: LocalSigstore, entry: TransparencyEntry) -> TransparencyEntry:
    return replace(entry, promise=b"")


def other_index(sigstore: LocalSigstore, entry: TransparencyEntry) -> TransparencyEntry:
    return replace(entry, log_index=entry.log_index + 1)


def wrong_root(sigstore: LocalSigstore, entry: TransparencyEntry) -> TransparencyEntry:
    return replace(entry, proof=replace(entry.proof, root=b"\0" * 32))


def long_proof(sigstore: LocalSigstore, entry: TransparencyEntry) -> TransparencyEntry:
    return replace(entry, proof=replace(entry.proof, hashes=(b"\0" * 32,)))


def foreign_checkpoint(sigstore: LocalSigstore, entry: TransparencyEntry) -> TransparencyEntry:
    proof = entry.proof
    note = (RekorV2() if entry.version == "0.0.2" else RekorV1()).checkpoint(proof.size, proof.root)
    return replace(entry, proof=replace(proof, checkpoint=note))


def lying(sigstore: LocalSigstore, change: Change, rekor: int = 1) -> None:
    """Have the log change each entry that it answers with."""
    log = sigstore.rekor if rekor == 1 else sigstore.rekor2
    honest = log.log

    def log_changed(proposal: Any, **options: Any) -> TransparencyEntry:
        with mock.patch.object(log, "log", honest):
            return change(sigstore, honest(proposal, **options))

    log.log = log_changed  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "change", [by_another_log, long_ago, of_something_else, without_promise, other_index]
)
@pytest.mark.parametrize("make", [attachment_signer, bundle_signer])
def test_an_entry_that_is_not_ours_is_not_attached(
    sigstore: LocalSigstore, change: Change, make: Callable[..., Any]
) -> None:
    signer = make(sigstore)
    lying(sigstore, change)
    with pytest.raises(InvalidSignature):
        signer.sign(SUBJECT, NAME)


@pytest.mark.parametrize("rekor", [1, 2])
@pytest.mark.parametrize("change", [wrong_root, long_proof, foreign_checkpoint])
def test_s52_a_bundle_gets_no_entry_that_is_not_in_its_log(
    sigstore: LocalSigstore, change: Change, rekor: int
) -> None:
    signer = bundle_signer(sigstore, rekor)
    lying(sigstore, change, rekor)
    with pytest.raises(InvalidSignature):
        signer.sign(SUBJECT, NAME)


def test_without_a_root_an_entry_is_still_about_this_signature(sigstore: LocalSigstore) -> None:
    """A foreign log cannot be told from the right one then, another artifact can."""
    signer = attachment_signer(sigstore, replace(services(sigstore), root=None))
    lying(sigstore, by_another_log)
    assert signer.sign(SUBJECT, NAME)
    lying(sigstore, of_something_else)
    with pytest.raises(InvalidSignature, match="of another"):
        signer.sign(SUBJECT, NAME)


def test_an_entry_that_is_there_already_is_read(sigstore: LocalSigstore) -> None:
    """After an answer that was lost, the log says where it has the entry."""
    signer = sigstore.signer(WHO)
    signature = signer.sign(b"payload")
    entries = [
        log_signature(web(), sigstore.url, b"payload", signature, signer.chain.leaf_pem)
        for _ in range(2)
    ]
    assert entries[0] == entries[1]
    assert len(sigstore.rekor.entries) == 1
    sigstore.fail(method="POST", path="/log/entries", set_headers={"Location": "/api/../x"})
    with pytest.raises(InvalidSignature, match="does not say where"):
        log_signature(web(), sigstore.url, b"payload", signature, signer.chain.leaf_pem)


@pytest.mark.parametrize(
    "body", [b"{}", b'{"a":{},"b":{}}', b'{"a":1}', b'{"a":{"verification":{}}}', b"null", b"["]
)
def test_answers_of_a_log_are_read_strictly(sigstore: LocalSigstore, body: bytes) -> None:
    sigstore.fail(method="POST", path="/log/entries", status=201, body=body)
    with pytest.raises(InvalidSignature):
        key_log(web(), sigstore.url, None)(b"payload", b"signature", b"key")


def test_a_key_is_logged_under_a_root(sigstore: LocalSigstore) -> None:
    signer = sigstore.signer(WHO)
    pem = signer.chain.leaf_pem
    about = (b"payload", signer.sign(b"payload"), pem)
    log = key_log(web(), sigstore.url, sigstore.trusted_root_json())
    assert "SignedEntryTimestamp" in json.loads(log(*about))
    lying(sigstore, by_another_log)
    with pytest.raises(InvalidSignature, match="not signed by a Rekor key"):
        log(b"payload", signer.sign(b"payload"), pem)


# --- timestamps ---------------------------------------------------------------------------------


def test_a_timestamp_of_something_else_is_refused(sigstore: LocalSigstore) -> None:
    """By its number, and where the request's is repeated by what it is over."""
    signer = bundle_signer(sigstore, 2)
    answer = sigstore.timestamps.answer
    foreign = sigstore.timestamp(b"something else")
    with (
        mock.patch.object(sigstore.timestamps, "answer", return_value=foreign),
        pytest.raises(InvalidSignature, match="another request"),
    ):
        signer.sign(SUBJECT, NAME)

    def other_message(request: Any) -> bytes:
        return answer(replace(request, digest=b"\0" * 32))

    with (
        mock.patch.object(sigstore.timestamps, "answer", other_message),
        pytest.raises(InvalidSignature, match="timestamp"),
    ):
        signer.sign(SUBJECT, NAME)
    found = signer.sign(SUBJECT, NAME)
    who = (signer._certifier.certified().identity,)
    trust = KeylessCheck(root=sigstore.trusted_root_json(), identities=who)
    assert check_bundle_keyless(found, trust).claim.reference == NAME


def test_what_is_no_timestamp_is_refused(sigstore: LocalSigstore) -> None:
    signer = bundle_signer(sigstore, 2)
    sigstore.fail(path="/ts", body_override=b"no")
    with pytest.raises(InvalidSignature, match="no timestamp"):
        signer.sign(SUBJECT, NAME)


# --- tokens -------------------------------------------------------------------------------------


def token_of(claims: bytes) -> str:
    return f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.c2ln"


@pytest.mark.parametrize(
    "claims",
    [
        b"", b"null", b"[]", b"{", b'{"iss":"a"}', b'{"exp":9999999999}', b'{"iss":1,"exp":1}',
        b'{"iss":"a","exp":"1"}', b'{"iss":"a","exp":true}', b'{"iss":"a","exp":NaN}',
        b'{"iss":"a","exp":1e99}', b'{"iss":"","exp":9999999999}', b'{"iss":"a","iss":"b"}',
        b'{"iss":"\xff"}', b"[" * 20_000,
    ],
)  # fmt: skip
def test_claims_that_are_none(claims: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse_token(token_of(claims), "the token")


def test_a_token_that_has_expired_says_so() -> None:
    end = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    text = token_of(json.dumps({"iss": "https://i", "exp": end.timestamp()}).encode())
    assert parse_token(f" {text}\n", "it", now=end - timedelta(seconds=1)).expires == end
    with pytest.raises(Denied, match="2026-01-02T03:04:05Z"):
        parse_token(text, "it", now=end)


def test_the_service_of_github_is_asked(
    sigstore: LocalSigstore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own secret, for a token for sigstore; a refusal says what to do."""
    token = sigstore.token("repo:team/app")
    seen: list[Request] = []

    def answer(request: Request) -> Reply:
        seen.append(request)
        return Reply(200, json.dumps({"value": token}).encode())

    settings = Settings(projected_token="/nonexistent")
    source = token_source(settings, None, None)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    with pytest.raises(Denied, match="ACTIONS_ID_TOKEN_REQUEST_TOKEN"):
        source()
    with web_server(answer) as host:
        monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "secret")
        monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"http://{host}/token?v=1")
        assert source().text == token
    assert seen[0].headers["Authorization"] == "bearer secret"
    assert "audience=sigstore" in seen[0].path


def test_without_any_token_no_browser_is_opened() -> None:
    with (
        mock.patch("id.detect_credential", return_value=None),
        pytest.raises(Unsupported, match="opening a browser"),
    ):
        token_source(Settings(projected_token="/nonexistent"), None, None)()


# --- configurations -----------------------------------------------------------------------------


def test_the_public_sigstore_is_known() -> None:
    found = read_signing_config(public_signing_config(), public_root(), "the public one")
    assert found.authority == "https://fulcio.sigstore.dev"
    assert found.promising_log().url == "https://rekor.sigstore.dev"
    assert found.timestamps


def config(**changes: Any) -> bytes:
    """A ClientTrustConfig whose signing config is changed."""
    value = LocalSigstore().client_trust_config(rekor=2)
    value["signingConfig"].update(changes)
    return json.dumps(value).encode()


def service(url: str, version: int = 1, start: str = "2025-01-01T00:00:00Z", **period: str) -> Any:
    return {"url": url, "majorApiVersion": version, "validFor": {"start": start, **period}}


def test_the_newest_services_in_use_are_chosen() -> None:
    logs = [
        service("https://old", 1),
        service("https://ended", 2, end="2025-02-01T00:00:00Z"),
        service("https://later", 2, start="2999-01-01T00:00:00Z"),
        service("https://new", 2, start="2025-03-01T00:00:00Z"),
        service("https://newer", 2, start="2025-04-01T00:00:00Z"),
        service("https://unknown", 3),
    ]
    found = read_trust_config(config(rekorTlogUrls=logs), "it")
    assert [log.url for log in found.logs] == ["https://newer", "https://new", "https://old"]
    assert found.bundle_log().version == 2
    assert found.promising_log().url == "https://old"


@pytest.mark.parametrize(
    ("selector", "count"),
    [({"selector": "ANY"}, 1), ({}, 1), ({"selector": "ALL"}, 3),
     ({"selector": "EXACT", "count": 2}, 2)],
)  # fmt: skip
def test_as_many_timestamps_as_the_configuration_says(selector: dict[str, Any], count: int) -> None:
    stamps = [service(f"https://tsa{n}") for n in range(3)]
    found = read_trust_config(config(tsaUrls=stamps, tsaConfig=selector), "it")
    assert len(found.timestamps) == count


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", InvalidInput),
        (b"{}", InvalidInput),
        (config(mediaType="x"), InvalidInput),
        (config(caUrls=[]), InvalidInput),
        (config(caUrls={}), InvalidInput),
        (config(caUrls=[{"majorApiVersion": 1}]), InvalidInput),
        (config(caUrls=[service("u", start="soon")]), InvalidInput),
        (config(caUrls=[service("u", start="2025-01-01T00:00:00")]), InvalidInput),
        (config(tsaConfig={"selector": "EXACT", "count": 9}), InvalidInput),
        (config(tsaConfig={"selector": "EXACT"}), InvalidInput),
        (config(tsaConfig={"selector": "SOME"}), InvalidInput),
        (config(rekorTlogUrls=[service("a", 2), service("b", 2)],
                rekorTlogConfig={"selector": "ALL"}), Unsupported),
    ],
    ids=map(str, range(12)),
)  # fmt: skip
def test_configurations_that_cannot_be_used(content: bytes, error: type[Error]) -> None:
    with pytest.raises(error):
        read_trust_config(content, "it")


def test_a_log_without_times_needs_timestamps(sigstore: LocalSigstore) -> None:
    found = replace(services(sigstore, 2), timestamps=())
    with pytest.raises(InvalidInput, match="vouches for no time"):
        KeylessBundleSigner(found, certifier(sigstore, found), web())
    with pytest.raises(InvalidInput, match="trusted root"):
        KeylessBundleSigner(replace(found, root=None), certifier(sigstore, found), web())
    with pytest.raises(Unsupported):
        replace(found, logs=()).bundle_log()


@pytest.mark.parametrize("url", ["", "host", "ftp://h", "http://", "https://u@h", "https://h?q",
                                 "https://h#f", "http://[x"])  # fmt: skip
def test_urls_of_services(url: str) -> None:
    with pytest.raises(InvalidInput):
        service_url(url, "/x")
    assert service_url("https://h/base/", "/x") == "https://h/base/x"
