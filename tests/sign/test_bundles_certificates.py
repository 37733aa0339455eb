"""Bundles with certificates: what a trusted root admits, and everything that it does not."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgtools.errors import InvalidInput, InvalidKey, InvalidSignature
from imgtools.sign.bundles.make import make_key_bundle, make_statement
from imgtools.sign.bundles.parse import parse_bundle
from imgtools.sign.bundles.statement import Statement, signature_claim
from imgtools.sign.bundles.verify_certificate import (
    verify_message_with_certificate,
    verify_with_certificate,
)
from imgtools.sign.model import Proof
from imgtools.sign.policies.model import CertificateIdentity
from imgtools.spec.digest import Digest
from imgtools.testing.sigstore import LocalSigstore
from imgtools.testing.sigstore.authority import AuthorityOptions, Leaf
from imgtools.testing.sigstore.signer import Signer, bundle_bytes
from imgtools.testing.sigstore.timestamps import TimestampAuthority
from tests.sign.store_site import DIGEST, new_key

NAME = "example.test/app:v1"
PAYLOAD = make_statement(DIGEST, reference=NAME)
USER = "user@example.test"
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def sigstore() -> LocalSigstore:
    """Services that need no network."""
    return LocalSigstore()


def rules(sigstore: LocalSigstore, subject: str = USER) -> list[CertificateIdentity]:
    return [CertificateIdentity(subject=subject, issuer=sigstore.issuer.url)]


def verify(
    sigstore: LocalSigstore,
    bundle: dict[str, Any],
    *,
    root: dict[str, Any] | None = None,
    wanted: list[CertificateIdentity] | None = None,
) -> tuple[Statement, Proof]:
    trusted = json.dumps(root or sigstore.trusted_root()).encode()
    return verify_with_certificate(
        parse_bundle(bundle_bytes(bundle)),
        trusted,
        rules(sigstore) if wanted is None else wanted,
    )


def material(bundle: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = bundle["verificationMaterial"]
    return found


def entry(bundle: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = material(bundle)["tlogEntries"][0]
    return found


@pytest.mark.parametrize("rekor", [1, 2])
def test_both_logs_prove_who_signed_and_when(sigstore: LocalSigstore, rekor: Any) -> None:
    statement, proof = verify(sigstore, sigstore.signer().dsse_bundle(PAYLOAD, rekor=rekor))
    claim = signature_claim(statement)
    assert (claim.digest, claim.reference) == (DIGEST, NAME)
    assert (proof.kind, proof.subject, proof.issuer) == ("certificate", USER, sigstore.issuer.url)
    assert proof.time is not None
    assert abs(proof.time - datetime.now(UTC)) < timedelta(minutes=5)


@pytest.mark.parametrize("rekor", [1, 2])
def test_messages_are_verified_too(sigstore: LocalSigstore, rekor: Any) -> None:
    root = sigstore.trusted_root_json()
    bundle = parse_bundle(bundle_bytes(sigstore.signer().message_bundle(b"hello", rekor=rekor)))
    found = verify_message_with_certificate(bundle, b"hello", root, rules(sigstore))
    assert found[0] == Digest.of(b"hello")
    with pytest.raises(InvalidSignature, match="is about"):
        verify_message_with_certificate(bundle, b"hell0", root, rules(sigstore))
    with pytest.raises(InvalidSignature):
        verify_with_certificate(bundle, root, rules(sigstore))


def test_old_bundles_with_a_chain_and_all_they_promise(sigstore: LocalSigstore) -> None:
    """Version 0.2: only the leaf of the chain counts, the trusted root has the rest."""
    signer = sigstore.signer()
    bundle = signer.dsse_bundle(PAYLOAD)
    chain = [signer.chain.leaf, *signer.chain.issuers]
    encoded = [base64.b64encode(c.public_bytes(Encoding.DER)).decode() for c in chain]
    bundle["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.2"
    del material(bundle)["certificate"]
    material(bundle)["x509CertificateChain"] = {"certificates": [{"rawBytes": e} for e in encoded]}
    verify(sigstore, bundle)


# Certificates


LEAVES = {
    "s57-no-sct": Leaf(timestamps="none"),
    "s57-two-scts": Leaf(timestamps="two"),
    "s57-sct-of-another-log": Leaf(timestamps="foreign"),
    "s53-no-usage": Leaf(usages=None),
    "s53-other-usage": Leaf(usages=(ExtendedKeyUsageOID.SERVER_AUTH,)),
    "no-key-usage": Leaf(key_usage=False),
    "s54-no-issuer": Leaf(issuer_extensions="none"),
    "s54-issuers-differ": Leaf(issuer_v2=b"\x0c\x09https://x"),
    "s54-trailing-der": Leaf(issuer_v2=b"\x0c\x01xy"),
    "s56-authority": Leaf(authority=True),
    "unknown-critical": Leaf(unknown_critical=True),
}


@pytest.mark.parametrize("name", LEAVES)
def test_s53_s54_s56_s57_certificates_that_do_not_hold(sigstore: LocalSigstore, name: str) -> None:
    bundle = sigstore.signer(leaf=LEAVES[name]).dsse_bundle(PAYLOAD)
    with pytest.raises(InvalidSignature):
        verify(sigstore, bundle)


def test_s54_the_newer_issuer_extension_alone_is_enough(sigstore: LocalSigstore) -> None:
    for extensions in ("v1", "v2"):
        leaf = Leaf(issuer_extensions=extensions)
        _, proof = verify(sigstore, sigstore.signer(leaf=leaf).dsse_bundle(PAYLOAD))
        assert proof.issuer == sigstore.issuer.url


def test_s56_a_certificate_that_nobody_issued(sigstore: LocalSigstore) -> None:
    own = ec.generate_private_key(ec.SECP256R1())
    bundle = sigstore.signer(leaf=Leaf(signer="self", own_key=own)).dsse_bundle(PAYLOAD)
    with pytest.raises(InvalidSignature):
        verify(sigstore, bundle)


def test_s56_what_comes_with_a_bundle_is_no_root(sigstore: LocalSigstore) -> None:
    other = LocalSigstore()
    root = sigstore.trusted_root()
    for part in ("tlogs", "ctlogs", "timestampAuthorities"):
        root[part] += other.trusted_root()[part]
    signer = other.signer(issuer=sigstore.issuer.url)
    bundle = signer.dsse_bundle(PAYLOAD)
    with pytest.raises(InvalidSignature):
        verify(sigstore, bundle, root=root)
    root["certificateAuthorities"] += other.trusted_root()["certificateAuthorities"]
    verify(sigstore, bundle, root=root)


def test_s53_an_intermediate_for_other_purposes_issues_no_signers() -> None:
    usages = (ExtendedKeyUsageOID.TIME_STAMPING,)
    constrained = LocalSigstore(authority=AuthorityOptions(usages=usages))
    with pytest.raises(InvalidSignature):
        verify(constrained, constrained.signer().dsse_bundle(PAYLOAD))
    anybody = LocalSigstore(authority=AuthorityOptions(usages=None))
    verify(anybody, anybody.signer().dsse_bundle(PAYLOAD))


def test_s60_a_key_is_no_certificate(sigstore: LocalSigstore) -> None:
    root = sigstore.trusted_root_json()
    bundle = make_key_bundle(PAYLOAD, new_key())
    with pytest.raises(InvalidSignature, match="certificate"):
        verify_with_certificate(parse_bundle(bundle), root, rules(sigstore))
    made = sigstore.signer().dsse_bundle(PAYLOAD)
    spki = new_key().public_pem
    material(made)["certificate"]["rawBytes"] = base64.b64encode(spki).decode()
    with pytest.raises(InvalidSignature, match="malformed"):
        verify(sigstore, made)


# Identities


IDENTITIES: list[tuple[str, str, CertificateIdentity, bool]] = [
    (name, is_, CertificateIdentity(**wanted), holds)
    for name, is_, wanted, holds in [
        ("email", USER, {"subject": USER, "issuer": "{}"}, True),
        ("s55-case", USER, {"subject": USER.upper(), "issuer": "{}"}, False),
        ("part", USER, {"subject": "user@example", "issuer": "{}"}, False),
        (
            "uri",
            "https://ci.test/w@refs/heads/main",
            {"subject": "https://ci.test/w@refs/heads/main", "issuer": "{}"},
            True,
        ),
        ("dns", "host.example.test", {"subject": "host.example.test", "issuer": "{}"}, True),
        ("regexp", USER, {"subject_regexp": r".+@example\.test", "issuer": "{}"}, True),
        ("regexp-part", USER, {"subject_regexp": r"@example\.test", "issuer": "{}"}, False),
        (
            "regexp-prefix",
            "user@example.test.evil.test",
            {"subject_regexp": r".+@example\.test", "issuer": "{}"},
            False,
        ),
        ("other-issuer", USER, {"subject": USER, "issuer": "https://other.test"}, False),
        ("issuer-regexp", USER, {"subject": USER, "issuer_regexp": r"https://.*"}, True),
        ("issuer-regexp-part", USER, {"subject": USER, "issuer_regexp": r"https://oidc"}, False),
    ]
]


@pytest.mark.parametrize(
    ("is_", "wanted", "holds"), [row[1:] for row in IDENTITIES], ids=[row[0] for row in IDENTITIES]
)
def test_s55_identities_match_as_a_whole(
    sigstore: LocalSigstore, is_: str, wanted: CertificateIdentity, holds: bool
) -> None:
    issuer = sigstore.issuer.url if wanted.issuer == "{}" else wanted.issuer
    rule = CertificateIdentity(
        subject=wanted.subject,
        subject_regexp=wanted.subject_regexp,
        issuer=issuer,
        issuer_regexp=wanted.issuer_regexp,
    )
    nobody = CertificateIdentity(subject="nobody", issuer="https://nobody.test")
    bundle = sigstore.signer(is_).dsse_bundle(PAYLOAD)
    if holds:
        assert verify(sigstore, bundle, wanted=[nobody, rule])[1].subject == is_
        return
    with pytest.raises(InvalidSignature, match="not of"):
        verify(sigstore, bundle, wanted=[nobody, rule])


def test_s55_a_user_name_of_fulcio(sigstore: LocalSigstore) -> None:
    name = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7"), b"\x0c\x03bob")
    bundle = sigstore.signer([name]).dsse_bundle(PAYLOAD)
    assert verify(sigstore, bundle, wanted=rules(sigstore, "bob"))[1].subject == "bob"
    with pytest.raises(InvalidSignature):
        verify(sigstore, bundle)


def test_whoever_wants_anybody_is_refused(sigstore: LocalSigstore) -> None:
    bundle = sigstore.signer().dsse_bundle(PAYLOAD)
    with pytest.raises(InvalidSignature):
        verify(sigstore, bundle, wanted=[])
    with pytest.raises(InvalidInput):
        verify(sigstore, bundle, wanted=[CertificateIdentity(subject=USER)])


# Times


def minutes(count: int) -> timedelta:
    return timedelta(minutes=count)


@pytest.mark.parametrize("rekor", [1, 2])
@pytest.mark.parametrize("after", [-5, 15])
def test_s49_signatures_before_and_after_the_certificate(
    sigstore: LocalSigstore, rekor: Any, after: int
) -> None:
    signer = sigstore.signer()
    bundle = signer.dsse_bundle(PAYLOAD, rekor=rekor, at=signer.at + minutes(after))
    with pytest.raises(InvalidSignature):
        verify(sigstore, bundle)


def test_s49_old_signatures_hold(sigstore: LocalSigstore) -> None:
    then = sigstore.clock() - timedelta(days=30)
    for rekor in (1, 2):
        bundle = sigstore.signer(at=then).dsse_bundle(PAYLOAD, rekor=rekor)
        assert verify(sigstore, bundle)[1].time == then


def test_s50_the_second_log_vouches_for_no_time(sigstore: LocalSigstore) -> None:
    """Without a timestamp nobody does, whatever the entry says."""
    bundle = sigstore.signer().dsse_bundle(PAYLOAD, rekor=2, timestamped=False)
    with pytest.raises(InvalidSignature, match="time"):
        verify(sigstore, bundle)
    entry(bundle)["integratedTime"] = str(int(sigstore.clock().timestamp()))
    entry(bundle)["inclusionPromise"] = {"signedEntryTimestamp": "AAAA"}
    with pytest.raises(InvalidSignature, match="time"):
        verify(sigstore, bundle)


def test_s50_a_first_entry_without_a_promise_has_no_time(sigstore: LocalSigstore) -> None:
    bundle = sigstore.signer().dsse_bundle(PAYLOAD)
    del entry(bundle)["inclusionPromise"]
    with pytest.raises(InvalidSignature, match="time"):
        verify(sigstore, bundle)


def stamp(sigstore: LocalSigstore, signer: Signer, bundle: dict[str, Any], **more: Any) -> str:
    """A timestamp of a bundle's signature, or of `message`."""
    signature = base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"])
    token = more.pop("authority", sigstore.timestamps).timestamp(
        more.pop("message", signature), at=more.pop("at", signer.at)
    )
    return base64.b64encode(token).decode()


@pytest.mark.parametrize("rekor", [1, 2])
@pytest.mark.parametrize("bad", ["other-bytes", "other-authority", "other-usage", "junk", "late"])
def test_s51_every_timestamp_has_to_hold(sigstore: LocalSigstore, rekor: Any, bad: str) -> None:
    """Also beside another one that does, or a log that vouches for the time."""
    signer = sigstore.signer()
    bundle = signer.dsse_bundle(PAYLOAD, rekor=rekor, timestamped=True)
    verify(sigstore, bundle)
    wrong_usage = TimestampAuthority(usage=ExtendedKeyUsageOID.CODE_SIGNING)
    made = {
        "other-bytes": lambda: stamp(sigstore, signer, bundle, message=b"other"),
        "other-authority": lambda: stamp(sigstore, signer, bundle, authority=TimestampAuthority()),
        "other-usage": lambda: stamp(sigstore, signer, bundle, authority=wrong_usage),
        "junk": lambda: base64.b64encode(b"junk").decode(),
        "late": lambda: stamp(sigstore, signer, bundle, at=signer.at + minutes(30)),
    }[bad]()
    material(bundle)["timestampVerificationData"]["rfc3161Timestamps"].append(
        {"signedTimestamp": made}
    )
    with pytest.raises(InvalidSignature):
        verify(sigstore, bundle)


PERIODS: list[tuple[str, str]] = [
    ("certificateAuthorities", ""),
    ("timestampAuthorities", ""),
    ("tlogs", "publicKey"),
    ("ctlogs", "publicKey"),
]


@pytest.mark.parametrize(("part", "inner"), PERIODS, ids=[part for part, _ in PERIODS])
def test_s51_authorities_and_logs_count_in_their_period(
    sigstore: LocalSigstore, part: str, inner: str
) -> None:
    """A key that was replaced vouches for what was before, and for nothing after."""
    now = sigstore.clock()
    bundle = sigstore.signer().dsse_bundle(PAYLOAD, timestamped=True)
    for start, end, holds in (
        (now - timedelta(days=1), now + timedelta(days=1), True),
        (now - timedelta(days=2), now - timedelta(days=1), False),
        (now + timedelta(days=1), now + timedelta(days=2), False),
    ):
        root = sigstore.trusted_root()
        for found in root[part]:
            place = found[inner] if inner else found
            place["validFor"] = {"start": start.isoformat(), "end": end.isoformat()}
        if holds:
            verify(sigstore, bundle, root=root)
            continue
        with pytest.raises(InvalidSignature):
            verify(sigstore, bundle, root=root)


# Log entries


def flip(text: str) -> str:
    data = bytearray(base64.b64decode(text))
    data[len(data) // 2] ^= 1
    return base64.b64encode(data).decode()


def replaced(key: str, change: Callable[[Any], Any]) -> Change:
    return lambda bundle: entry(bundle).update({key: change(entry(bundle)[key])})


def proof(key: str, change: Callable[[Any], Any]) -> Change:
    def apply(bundle: dict[str, Any]) -> None:
        found = entry(bundle)["inclusionProof"]
        found[key] = change(found[key])

    return apply


ENTRIES: dict[str, Change] = {
    "s48-promise": replaced(
        "inclusionPromise",
        lambda p: {"signedEntryTimestamp": flip(p["signedEntryTimestamp"])},
    ),
    "s48-time": replaced("integratedTime", lambda t: str(int(t) + 1)),
    "s48-index": replaced("logIndex", lambda i: str(int(i) + 1)),
    "s48-body": replaced("canonicalizedBody", flip),
    "s48-log": replaced("logId", lambda i: {"keyId": flip(i["keyId"])}),
    "s52-root": proof("rootHash", flip),
    "s52-short-proof": proof("hashes", lambda h: h[:-1]),
    "s52-long-proof": proof("hashes", lambda h: [*h, h[0]]),
    "s52-other-hash": proof("hashes", lambda h: [*h[:-1], flip(h[-1])]),
    "s52-size": proof("treeSize", lambda s: str(int(s) + 1)),
    "s52-proof-index": proof("logIndex", lambda i: str(int(i) - 1)),
    "s52-no-checkpoint": proof("checkpoint", lambda c: {"envelope": ""}),
    "s52-checkpoint": proof(
        "checkpoint", lambda c: {"envelope": c["envelope"].replace("\n", " 1\n", 1)}
    ),
    "s52-no-proof": lambda b: entry(b).pop("inclusionProof"),
    "s58-two-entries": lambda b: material(b)["tlogEntries"].append(entry(b)),
    "s58-no-entry": lambda b: material(b).update(tlogEntries=[]),
    "kind": replaced("kindVersion", lambda k: {"kind": "intoto", "version": "0.0.2"}),
    "version": replaced("kindVersion", lambda k: {**k, "version": "0.0.3"}),
    "s59-two-signatures": lambda b: b["dsseEnvelope"]["signatures"].append(
        b["dsseEnvelope"]["signatures"][0]
    ),
    "payload": lambda b: b["dsseEnvelope"].update(
        payload=base64.b64encode(make_statement(DIGEST)).decode()
    ),
    "signature": lambda b: b["dsseEnvelope"]["signatures"][0].update(sig="AAAA"),
}


# The second log makes no promise, and says where an entry is in its proof, and which log it is
# by the key of its checkpoint: the same words beside these prove nothing, and are not asked.
OF_THE_FIRST_LOG = frozenset({"s48-promise", "s48-time", "s48-index", "s48-log"})


@pytest.mark.parametrize(
    ("rekor", "name"),
    [(1, name) for name in ENTRIES]
    + [(2, name) for name in sorted(ENTRIES.keys() - OF_THE_FIRST_LOG)],
)
def test_s48_s52_entries_that_do_not_hold(sigstore: LocalSigstore, rekor: Any, name: str) -> None:
    bundle = [sigstore.signer().dsse_bundle(PAYLOAD, rekor=rekor) for _ in range(3)][-1]
    verify(sigstore, bundle)
    ENTRIES[name](bundle)
    with pytest.raises(InvalidSignature):
        verify(sigstore, bundle)


@pytest.mark.parametrize("rekor", [1, 2])
def test_s48_the_entry_of_another_signature(sigstore: LocalSigstore, rekor: Any) -> None:
    """CVE-2022-36056: an entry that holds, of the same signer, and of something else."""
    signer = sigstore.signer()
    bundle = signer.dsse_bundle(PAYLOAD, rekor=rekor)
    other = signer.dsse_bundle(make_statement(Digest.of(b"other")), rekor=rekor)
    again = signer.dsse_bundle(PAYLOAD, rekor=rekor)
    for found in (other, again):
        mixed = copy.deepcopy(bundle)
        material(mixed)["tlogEntries"] = material(found)["tlogEntries"]
        with pytest.raises(InvalidSignature):
            verify(sigstore, mixed)


def test_s52_a_log_that_the_root_does_not_have(sigstore: LocalSigstore) -> None:
    root = sigstore.trusted_root()
    root["tlogs"] = LocalSigstore().trusted_root()["tlogs"]
    for rekor in (1, 2):
        bundle = sigstore.signer().dsse_bundle(PAYLOAD, rekor=rekor)
        with pytest.raises(InvalidSignature):
            verify(sigstore, bundle, root=root)


# Roots, and junk


ROOTS: dict[str, bytes] = {
    "empty": b"",
    "a-list": b"[]",
    "no-type": b"{}",
    "other-type": b'{"mediaType":"application/json"}',
    "duplicate": b'{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1",'
    b'"tlogs":[],"tlogs":[]}',
    "tlogs": b'{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1",'
    b'"tlogs":{}}',
    "time": b'{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1",'
    b'"tlogs":[{"publicKey":{"validFor":{"start":"yesterday"}}}]}',
}


@pytest.mark.parametrize("name", ROOTS)
def test_what_is_no_trusted_root_is_a_bad_key(sigstore: LocalSigstore, name: str) -> None:
    bundle = parse_bundle(bundle_bytes(sigstore.signer().dsse_bundle(PAYLOAD)))
    with pytest.raises(InvalidKey):
        verify_with_certificate(bundle, ROOTS[name], rules(sigstore))


def test_an_empty_root_admits_nobody(sigstore: LocalSigstore) -> None:
    for part in ("tlogs", "ctlogs", "certificateAuthorities"):
        bundle = sigstore.signer().dsse_bundle(PAYLOAD)
        with pytest.raises(InvalidSignature):
            verify(sigstore, bundle, root={**sigstore.trusted_root(), part: []})


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_changed_bundles_are_never_admitted_as_something_else(
    sigstore: LocalSigstore, data: st.DataObject
) -> None:
    rekor: Any = data.draw(st.sampled_from([1, 2]))
    content = bytearray(bundle_bytes(sigstore.signer().dsse_bundle(PAYLOAD, rekor=rekor)))
    for _ in range(data.draw(st.integers(1, 3))):
        # Signatures are of different lengths, and examples must not be.
        place = data.draw(st.integers(0, 2**20)) % len(content)
        content[place] ^= data.draw(st.integers(1, 127))
    try:
        statement, found = verify_with_certificate(
            parse_bundle(bytes(content)), sigstore.trusted_root_json(), rules(sigstore)
        )
    except InvalidSignature:
        return
    assert signature_claim(statement).digest == DIGEST
    assert found.subject == USER
