"""What verifiers of images have been talked into before: each advisory tried here."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from imgtools.sign.bundles.make import make_key_bundle, make_statement
from imgtools.sign.checks import CERTIFICATE_ANNOTATION, SET_ANNOTATION, SIGNATURE_ANNOTATION
from imgtools.sign.keys.private import load_private_key
from imgtools.sign.model import PAYLOAD_LIMIT, BundleSignature
from imgtools.sign.policies.companion import parse_companion
from imgtools.sign.policies.evaluate import Subject, judge
from imgtools.sign.policies.model import Chosen, Policy
from imgtools.spec import media_type as mt
from imgtools.spec.reference import Reference
from imgtools.testing.sigstore import LocalSigstore
from imgtools.testing.sigstore.entries import hashedrekord
from imgtools.testing.sigstore.signer import bundle_bytes
from tests.bad_input import PLAIN, cli
from tests.sign.ground import IMAGE, ground, tag_of
from tests.sign.judging import DIGEST, NAME, Signer, chosen, policy, verdict
from tests.sign.key_makers import private_pem

USER = "user@example.test"
SLSA = "https://slsa.dev/provenance/v1"


@pytest.fixture(scope="module")
def sigstore() -> LocalSigstore:
    """One for all tests; nobody changes it."""
    return LocalSigstore()


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def companion(*requirements: dict[str, Any]) -> Policy:
    return parse_companion(json.dumps({"default": list(requirements)}).encode())


def keyless(sigstore: LocalSigstore) -> Policy:
    """Bundles under a certificate of one person."""
    who = {"subject": USER, "issuer": sigstore.issuer.url}
    root = text(sigstore.trusted_root_json())
    return companion({"type": "signed", "keyless": {"trustedRootData": root, "identities": [who]}})


def by_key(signer: Signer, **more: Any) -> dict[str, Any]:
    return {"type": "signed", "keys": [{"keyData": text(signer.pem)}], **more}


def bundle(signer: Signer, statement: bytes) -> BundleSignature:
    key = load_private_key(private_pem(signer.key), lambda: b"", "a key")
    return BundleSignature(content=make_key_bundle(statement, key))


def test_cve_2022_23649_an_entry_of_the_log_is_of_this_signature(sigstore: LocalSigstore) -> None:
    """cosign took a log entry for proof that was about another signature, or another key's."""
    signer, other = Signer(), Signer()
    trust = policy(signer.requirement(rekorPublicKeyData=text(sigstore.rekor.public_pem)))
    layer = signer.attachment()
    raw = base64.b64decode(layer.annotations[SIGNATURE_ANNOTATION])

    def with_entry(of: Signer, payload: bytes, signature: bytes) -> Any:
        entry = sigstore.log_v1(hashedrekord(payload, signature, of.pem), check=False)
        return replace(layer, annotations={**layer.annotations, SET_ANNOTATION: entry.annotation()})

    good = with_entry(signer, layer.payload, raw)
    assert verdict(trust, [good]).admitted
    for of, payload, signature in (
        (signer, layer.payload, signer.raw(layer.payload)),
        (other, layer.payload, other.raw(layer.payload)),
        (other, layer.payload, raw),
        (signer, layer.payload + b" ", raw),
    ):
        assert not verdict(trust, [with_entry(of, payload, signature)]).admitted
    # Somebody else's signature with the entry of the good one.
    swapped = {SIGNATURE_ANNOTATION: text(other.raw(layer.payload))}
    assert not verdict(
        trust, [replace(good, annotations={**good.annotations, **swapped})]
    ).admitted  # fmt: skip


@pytest.mark.parametrize("rekor", [1, 2])
def test_cve_2022_36056_the_bundle_s_entry_is_of_its_certificate_and_signature(
    sigstore: LocalSigstore, rekor: Any
) -> None:
    """cosign verify-blob took certificate, signature and entry of different origins."""
    statement = make_statement(DIGEST, reference=NAME)
    good = sigstore.signer(USER).dsse_bundle(statement, rekor=rekor)
    other = sigstore.signer("other@example.test").dsse_bundle(statement, rekor=rekor)
    trust = keyless(sigstore)
    assert verdict(trust, [BundleSignature(content=bundle_bytes(good))]).admitted
    for part in ("certificate", "tlogEntries"):
        mixed = copy.deepcopy(good)
        mixed["verificationMaterial"][part] = other["verificationMaterial"][part]
        assert not verdict(trust, [BundleSignature(content=bundle_bytes(mixed))]).admitted
    mixed = {**other, "verificationMaterial": good["verificationMaterial"]}
    assert not verdict(trust, [BundleSignature(content=bundle_bytes(mixed))]).admitted


@pytest.mark.parametrize("rekor", [1, 2])
def test_cve_2026_22703_the_entry_is_of_this_artifact(sigstore: LocalSigstore, rekor: Any) -> None:
    """GHSA-whqx-f9j3-ch6m: by the same key and certificate, an entry of another artifact."""
    signer = sigstore.signer(USER)
    good = signer.dsse_bundle(make_statement(DIGEST, reference=NAME), rekor=rekor)
    another = signer.dsse_bundle(
        make_statement(IMAGE.top.digest, reference=NAME), rekor=rekor
    )  # fmt: skip
    trust = keyless(sigstore)
    assert verdict(trust, [BundleSignature(content=bundle_bytes(good))]).admitted
    mixed = copy.deepcopy(good)
    mixed["verificationMaterial"]["tlogEntries"] = another["verificationMaterial"]["tlogEntries"]
    found = verdict(trust, [BundleSignature(content=bundle_bytes(mixed))])
    assert not found.admitted


def test_ghsa_fx35_a_key_in_the_place_of_a_certificate_is_nobody_s(sigstore: LocalSigstore) -> None:
    """GHSA-fx35-mq7g-6g98: a raw public key in the certificate's field overrode --key."""
    signer, attacker = Signer(), Signer()
    key: dict[str, Any] = {CERTIFICATE_ANNOTATION: attacker.pem.decode()}
    layer = attacker.attachment(**key)
    assert not verdict(policy(signer.requirement()), [layer]).admitted
    fulcio = {"caData": text(sigstore.root_pem), "oidcIssuer": "https://i", "subjectEmail": USER}
    logged = hashedrekord(
        layer.payload, base64.b64decode(layer.annotations[SIGNATURE_ANNOTATION]), attacker.pem
    )
    entry = sigstore.log_v1(logged).annotation()
    certified = replace(layer, annotations={**layer.annotations, SET_ANNOTATION: entry})
    rekor = text(sigstore.rekor.public_pem)
    wanted = {"type": "sigstoreSigned", "fulcio": fulcio, "rekorPublicKeyData": rekor}
    assert not verdict(policy(wanted), [certified]).admitted
    # In a bundle: as a certificate, as its bytes, and as what the hint names.
    made = json.loads(bundle(attacker, make_statement(DIGEST, reference=NAME)).content)
    spki = text(base64.b64decode("".join(attacker.pem.decode().splitlines()[1:-1])))
    for material in (
        {"certificate": {"rawBytes": text(attacker.pem)}},
        {"certificate": {"rawBytes": spki}},
        {"publicKey": {"hint": spki}},
        {"publicKey": {"hint": attacker.pem.decode(), "rawBytes": spki}},
    ):
        value = {**made, "verificationMaterial": material}
        content = BundleSignature(content=json.dumps(value).encode())
        for trust in (companion(by_key(signer)), keyless(sigstore)):
            assert not verdict(trust, [content]).admitted


def test_cosign_542_an_image_that_is_gone_is_not_verified(tmp_path: Path) -> None:
    """The signature of a manifest that was deleted is no reason to say that it is good."""
    with ground(tmp_path, IMAGE) as place:
        place.sign(IMAGE.top.digest)
        key = tmp_path / "key.pub"
        key.write_bytes(place.signer.pem)
        name = f"docker://{place.registry.host}/app@{IMAGE.top.digest}"
        words = ("verify", PLAIN, "--key", str(key), name)
        assert cli(tmp_path, *words).code == 0
        there = place.registry.repository("app")
        del there.manifests[IMAGE.top.digest]
        del there.tags["1"]
        assert tag_of(IMAGE.top.digest) in there.tags
        done = cli(tmp_path, *words)
        assert (done.code, done.out) == (2, b"")
        assert place.copy().code != 0


def test_guest_components_1590_a_policy_without_an_identity_asks_for_the_default(
    sigstore: LocalSigstore,
) -> None:
    """A requirement that leaves signedIdentity out was taken for one that accepts any name."""
    signer = Signer()
    other = "registry.example/somebody/else:v1"
    layer = signer.attachment(signer.payload(DIGEST, other))
    assert not verdict(policy(signer.requirement()), [layer]).admitted
    assert not verdict(policy(signer.requirement(signedIdentity=None)), [layer]).admitted
    assert verdict(policy(signer.requirement()), [layer], name=other).admitted
    for reference in (other, ""):
        statement = make_statement(DIGEST, reference=reference)
        found = bundle(signer, statement)
        assert not verdict(companion(by_key(signer)), [found]).admitted
        anybody = by_key(signer, signedIdentity={"type": "anyIdentity"})
        assert verdict(companion(anybody), [found]).admitted


def test_cve_2022_35929_no_attestation_is_not_a_good_one() -> None:
    """cosign verify-attestation succeeded where there was no attestation of the wanted type."""
    signer = Signer()
    key = {"keyData": text(signer.pem)}
    wanted = companion({"type": "attested", "predicateType": SLSA, "keys": [key]})
    statement = make_statement(DIGEST, reference=NAME)

    def attested(kind: str, digest: str = DIGEST.hex) -> BundleSignature:
        value = json.loads(statement) | {"predicateType": kind}
        value["subject"] = [{"name": "x", "digest": {"sha256": digest}}]
        return bundle(signer, json.dumps(value).encode())

    def admitted(*found: BundleSignature) -> bool:
        return judged(chosen(wanted), found)

    assert admitted(attested(SLSA))
    assert not admitted()
    assert not admitted(attested("https://spdx.dev/Document"))
    assert not admitted(attested(SLSA.upper()), attested(f"{SLSA} "))
    assert not admitted(attested(SLSA, IMAGE.top.digest.hex))
    assert not admitted(bundle(signer, statement))


def judged(wanted: Chosen, found: Sequence[BundleSignature]) -> bool:
    """Whether attestations admit the image."""
    subject = Subject(digest=DIGEST, reference=Reference.parse(NAME))
    return judge(wanted, subject, lambda kind: found, now=datetime.now(UTC)).admitted


@pytest.mark.parametrize("number", [129, 1000, 5000])
def test_cve_2023_46737_attachments_without_end_are_refused_unread(
    tmp_path: Path, number: int
) -> None:
    """An attacker's attachment kept cosign busy for as long as it had layers."""
    with ground(tmp_path, IMAGE) as place:
        payload = place.signer.payload(IMAGE.top.digest)
        place.put_attachment(IMAGE.top.digest, [(payload, "AA==")] * number)
        assert "128 layers" in place.copy().err
        assert place.verify("--format", "sigstore").code == 3
        assert place.registry.count(path="/blobs/") == 0


def test_cve_2024_29902_large_attachments_are_refused_unread(tmp_path: Path) -> None:
    """And CVE-2024-29903: the size that is announced is the size that would be kept in memory;
    what is not announced is cut off there."""
    with ground(tmp_path, IMAGE) as place:
        raw = place.put_attachment(IMAGE.top.digest, [(place.signer.payload(), "AA==")])
        value = json.loads(raw.content)
        for size in (PAYLOAD_LIMIT + 1, 100 << 30, 2**63):
            value["layers"][0]["size"] = size
            content = json.dumps(value).encode()
            place.registry.push_manifest("app", content, "", tags=[tag_of(IMAGE.top.digest)])
            assert place.verify("--format", "sigstore").code == 3
        assert place.registry.count(path="/blobs/") == 0
        value["layers"][0]["size"] = 10
        content = json.dumps(value).encode()
        place.registry.push_manifest("app", content, "", tags=[tag_of(IMAGE.top.digest)])
        assert place.verify("--format", "sigstore").code == 3


@pytest.mark.parametrize(
    "digest",
    ["sha256:../../../../etc/passwd", "sha256:", "../x", "sha256:" + "A" * 64, "md5:" + "0" * 32,
     "sha256:" + "0" * 63 + "/", "sha256:" + "0" * 64 + "\n"],
)  # fmt: skip
def test_cve_2024_3727_digests_are_digests(tmp_path: Path, digest: str) -> None:
    """Of layers, configs and subjects alike: none becomes part of a path or URL unseen."""
    with ground(tmp_path, IMAGE) as place:
        raw = place.put_attachment(IMAGE.top.digest, [(place.signer.payload(), "AA==")])
        for part in ("layers", "config", "subject"):
            value = json.loads(raw.content)
            if part == "layers":
                value["layers"][0]["digest"] = digest
            else:
                value[part] = {"mediaType": mt.OCI_CONFIG, "size": 2, "digest": digest}
            place.registry.forget_requests()
            place.registry.fail(
                path=tag_of(IMAGE.top.digest), body_override=json.dumps(value).encode(),
                drop_headers=("Docker-Content-Digest", "ETag"),
            )  # fmt: skip
            assert place.verify("--format", "sigstore").code == 3
            assert place.registry.count(path="/blobs/") == 0
            place.registry.faults.clear()
