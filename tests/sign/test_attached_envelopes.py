"""Attestations as cosign 2 attached them keyless: envelope, certificate and a log's promise."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from imgtools.errors import InvalidSignature
from imgtools.sign.bundle_checks import KeylessCheck, check_attestation_keyless
from imgtools.sign.checks import CERTIFICATE_ANNOTATION, SET_ANNOTATION
from imgtools.sign.model import SigstoreSignature, Verified
from imgtools.sign.policies.model import CertificateIdentity
from imgtools.sign.predicates import Predicate, attestation
from imgtools.sign.stores.attachment import attestation_layer
from imgtools.spec.digest import Digest
from imgtools.testing.sigstore import LocalSigstore, entries

WHO = "user@example.test"
KIND = "https://example.test/p"
DIGEST = Digest.of(b"a manifest")


@pytest.fixture(scope="module")
def sigstore() -> Iterator[LocalSigstore]:
    """One sigstore for all; nothing is ever asked of it by those who verify."""
    with LocalSigstore() as found:
        yield found


def payload(kind: str = KIND, digest: Digest = DIGEST) -> bytes:
    return attestation(Predicate(type=kind, body={}), digest, "app")


def attached(
    sigstore: LocalSigstore,
    *,
    who: str = WHO,
    content: bytes = b"",
    more: Mapping[str, str] | None = None,
) -> SigstoreSignature:
    """A layer of .att; `more` are annotations in place of those that belong there."""
    signer = sigstore.signer(who)
    content = content or payload()
    signature = signer.sign(entries.pae(entries.DSSE_TYPE, content))
    envelope = entries.envelope(content, signature)
    pem = signer.chain.leaf_pem
    entry = sigstore.log_v1(entries.dsse(envelope, pem))
    annotations = {CERTIFICATE_ANNOTATION: pem.decode(), SET_ANNOTATION: entry.annotation()}
    return layer(envelope, {**annotations, **(more or {})})


def layer(envelope: Mapping[str, Any], annotations: Mapping[str, str]) -> SigstoreSignature:
    made = attestation_layer(json.dumps(envelope).encode(), KIND, annotations=annotations)
    return SigstoreSignature(
        payload=made.content, annotations=made.annotations, media_type=made.media_type
    )


def check(sigstore: LocalSigstore, signature: SigstoreSignature, *, who: str = WHO) -> Verified:
    identity = CertificateIdentity(subject=who, issuer=sigstore.issuer.url)
    trust = KeylessCheck(root=sigstore.trusted_root_json(), identities=(identity,))
    return check_attestation_keyless(signature, trust, KIND, DIGEST)


def test_it_holds_under_the_root(sigstore: LocalSigstore) -> None:
    found = check(sigstore, attached(sigstore))
    assert (found.proof.subject, found.proof.issuer) == (WHO, sigstore.issuer.url)
    assert found.proof.time is not None
    assert found.claim.digest == DIGEST


def test_by_somebody_else(sigstore: LocalSigstore) -> None:
    with pytest.raises(InvalidSignature, match="not of"):
        check(sigstore, attached(sigstore, who="other@example.test"))


def test_s59_about_another_image_or_of_another_type(sigstore: LocalSigstore) -> None:
    for content in (payload(digest=Digest.of(b"other")), payload(kind=f"{KIND}2")):
        with pytest.raises(InvalidSignature, match=r"not about|of type"):
            check(sigstore, attached(sigstore, content=content))


@pytest.mark.parametrize("name", [CERTIFICATE_ANNOTATION, SET_ANNOTATION])
def test_s48_what_proves_it_has_to_be_there(sigstore: LocalSigstore, name: str) -> None:
    with pytest.raises(InvalidSignature, match="no annotation"):
        check(sigstore, attached(sigstore, more={name: ""}))


def test_s48_the_promise_of_another_attestation(sigstore: LocalSigstore) -> None:
    """By the same signer at the same time, of the same image."""
    other = attached(sigstore).annotations
    for name in (CERTIFICATE_ANNOTATION, SET_ANNOTATION):
        with pytest.raises(InvalidSignature, match="of another"):
            check(sigstore, attached(sigstore, more={name: other[name]}))
    with pytest.raises(InvalidSignature, match="of another signature"):
        mine = attached(sigstore)
        check(sigstore, replace(mine, annotations=other))


def test_s48_the_promise_of_an_image_s_signature(sigstore: LocalSigstore) -> None:
    """A hashedrekord of the same bytes says nothing about an envelope."""
    signer = sigstore.signer(WHO)
    message = entries.pae(entries.DSSE_TYPE, payload())
    signature = signer.sign(message)
    pem = signer.chain.leaf_pem
    entry = sigstore.log_v1(entries.hashedrekord(message, signature, pem))
    annotations = {CERTIFICATE_ANNOTATION: pem.decode(), SET_ANNOTATION: entry.annotation()}
    made = layer(entries.envelope(payload(), signature), annotations)
    with pytest.raises(InvalidSignature, match="expected a dsse"):
        check(sigstore, made)


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec.update(signatures=[]),
        lambda spec: spec.update(signatures=spec["signatures"] * 2),
        lambda spec: spec.update(signatures=["x"]),
        lambda spec: spec.update(signatures={}),
        lambda spec: spec.pop("payloadHash"),
        lambda spec: spec["payloadHash"].update(algorithm="sha512"),
        lambda spec: spec["payloadHash"].update(value="0" * 64),
        lambda spec: spec["signatures"][0].pop("verifier"),
        lambda spec: spec["signatures"][0].update(signature="AAAA"),
    ],
    ids=["none", "two", "text", "object", "no hash", "sha512", "hash", "no verifier", "other"],
)
def test_s48_entries_that_say_something_else(sigstore: LocalSigstore, change: Any) -> None:
    """A log signs what it is told to by whoever runs it."""
    signer = sigstore.signer(WHO)
    signature = signer.sign(entries.pae(entries.DSSE_TYPE, payload()))
    envelope, pem = entries.envelope(payload(), signature), signer.chain.leaf_pem
    body = json.loads(sigstore.log_v1(entries.dsse(envelope, pem)).body)
    change(body["spec"])
    promise = sigstore.rekor.log_body(body).annotation()
    annotations = {CERTIFICATE_ANNOTATION: pem.decode(), SET_ANNOTATION: promise}
    with pytest.raises(InvalidSignature, match="log"):
        check(sigstore, layer(envelope, annotations))


def test_s49_logged_when_the_certificate_was_not_valid(sigstore: LocalSigstore) -> None:
    signer = sigstore.signer(WHO)
    signature = signer.sign(entries.pae(entries.DSSE_TYPE, payload()))
    envelope, pem = entries.envelope(payload(), signature), signer.chain.leaf_pem
    for apart in (timedelta(hours=1), -timedelta(hours=1)):
        entry = sigstore.log_v1(entries.dsse(envelope, pem), at=sigstore.clock() + apart)
        annotations = {CERTIFICATE_ANNOTATION: pem.decode(), SET_ANNOTATION: entry.annotation()}
        with pytest.raises(InvalidSignature, match="valid"):
            check(sigstore, layer(envelope, annotations))


def test_s48_the_log_of_another_sigstore(sigstore: LocalSigstore) -> None:
    with LocalSigstore() as other:
        made = attached(other)
        with pytest.raises(InvalidSignature, match="not signed by a Rekor key"):
            check(sigstore, made)


def test_an_envelope_that_was_changed(sigstore: LocalSigstore) -> None:
    made = attached(sigstore)
    value = json.loads(made.payload)
    value["payload"] = entries.encode(payload().replace(b"app", b"apq"))
    with pytest.raises(InvalidSignature, match="of another payload"):
        check(sigstore, replace(made, payload=json.dumps(value).encode()))
