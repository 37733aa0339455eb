"""Attachments under certificates of a trusted root: what holds, and everything that does not."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from imgtools.errors import InvalidInput, InvalidKey, InvalidSignature
from imgtools.sign.bundle_checks import (
    KeylessCheck,
    check_bundle_keyless,
    check_sigstore_keyless,
)
from imgtools.sign.bundles.make import make_statement
from imgtools.sign.keyless.public_root import public_root
from imgtools.sign.keys.pem import write_block
from imgtools.sign.model import BundleSignature, SigstoreSignature
from imgtools.sign.payload import make_payload
from imgtools.sign.policies.model import CertificateIdentity
from imgtools.spec.digest import Digest
from imgtools.testing.sigstore import LocalSigstore, entries
from imgtools.testing.sigstore.authority import Leaf
from imgtools.testing.sigstore.rekor import RekorV1
from imgtools.testing.sigstore.signer import (
    BUNDLE,
    CERTIFICATE,
    CHAIN,
    SIGNATURE,
    Signer,
    bundle_bytes,
)
from imgtools.testing.sigstore.transparency import timestamp_list
from tests.sign.key_makers import public_pem

WHO = "user@example.test"
DIGEST = Digest.of(b"image")
NAME = "registry.example.test/app:v1"
PAYLOAD = make_payload("sigstore", DIGEST, NAME, "test 1", 1_795_000_000)
OTHER = make_payload("sigstore", Digest.of(b"other"), NAME, "test 1", 1_795_000_000)
MINUTE = timedelta(minutes=1)
SIGSTORE = LocalSigstore()
SIGNER = SIGSTORE.signer(WHO)
GOOD = SIGNER.attachment(PAYLOAD)


@pytest.fixture(scope="module")
def sigstore() -> LocalSigstore:
    """Services that nobody has to reach."""
    return LocalSigstore()


def trust(sigstore: LocalSigstore, root: dict[str, Any] | None = None) -> KeylessCheck:
    """The user by their address, under the root of `sigstore` or the one given."""
    content = json.dumps(root or sigstore.trusted_root()).encode()
    who = CertificateIdentity(subject=WHO, issuer=sigstore.issuer.url)
    return KeylessCheck(root=content, identities=(who,))


def changed(signature: SigstoreSignature, **annotations: str | None) -> SigstoreSignature:
    """With other annotations; None takes one away."""
    names = {"set": BUNDLE, "certificate": CERTIFICATE, "chain": CHAIN, "by": SIGNATURE}
    new = {**signature.annotations, **{names[key]: value for key, value in annotations.items()}}
    return replace(signature, annotations={key: v for key, v in new.items() if v is not None})


def attached(
    sigstore: LocalSigstore, *, leaf: Leaf | None = None, who: Any = WHO
) -> SigstoreSignature:
    """A signature under a certificate that is made so."""
    return sigstore.signer(who, leaf=leaf).attachment(PAYLOAD)


def test_a_signature_holds_and_says_who_made_it_when(sigstore: LocalSigstore) -> None:
    found = check_sigstore_keyless(attached(sigstore), trust(sigstore))
    assert (found.claim.digest, found.claim.reference) == (DIGEST, NAME)
    assert (found.proof.kind, found.proof.subject) == ("certificate", WHO)
    assert found.proof.issuer == sigstore.issuer.url
    assert found.proof.time is not None


def test_what_comes_along_leads_nowhere(sigstore: LocalSigstore) -> None:
    """The root has its own intermediates, so that no chain is as good as any."""
    good = attached(sigstore)
    other = LocalSigstore().signer(WHO).chain.chain_pem.decode()
    for chain in (None, "junk", other):
        assert check_sigstore_keyless(changed(good, chain=chain), trust(sigstore))


Make = Callable[[LocalSigstore], SigstoreSignature]


def logged(
    *, at: timedelta = timedelta(0), payload: bytes = PAYLOAD, log: RekorV1 | None = None
) -> Make:
    """A signature with an entry of another time, payload or log."""

    def make(sigstore: LocalSigstore) -> SigstoreSignature:
        signer = sigstore.signer(WHO)
        good = signer.attachment(PAYLOAD)
        signature = base64.b64decode(good.annotations[SIGNATURE])
        if payload != PAYLOAD:
            signature = signer.sign(payload)
        when = signer.at + at
        entry = signer.logged(payload, signature, at=when)
        if log is not None:
            entry = log.log_body(json.loads(entry.body), at=when)
        return changed(good, set=entry.annotation())

    return make


def under(**fields: Any) -> Make:
    return lambda sigstore: attached(sigstore, leaf=Leaf(**fields))


def of(*names: x509.GeneralName) -> Make:
    return lambda sigstore: attached(sigstore, who=names)


def with_annotations(**annotations: str | None) -> Make:
    return lambda sigstore: changed(attached(sigstore), **annotations)


def two_certificates(sigstore: LocalSigstore) -> SigstoreSignature:
    good = attached(sigstore)
    return changed(good, certificate=good.annotations[CERTIFICATE] * 2)


def extra_field(sigstore: LocalSigstore) -> SigstoreSignature:
    good = attached(sigstore)
    value = json.loads(good.annotations[BUNDLE])
    return changed(good, set=json.dumps({**value, "more": 1}))


def by_public_key(sigstore: LocalSigstore) -> SigstoreSignature:
    """GHSA-fx35-mq7g-6g98: a key where the certificate is, and logged as such."""
    signer = sigstore.signer(WHO)
    pem = public_pem(signer.key)
    signature = signer.sign(PAYLOAD)
    entry = sigstore.log_v1(entries.hashedrekord(PAYLOAD, signature, pem))
    text = base64.b64encode(signature).decode()
    good = signer.attachment(PAYLOAD)
    return changed(good, certificate=pem.decode(), by=text, set=entry.annotation())


def another_signature(sigstore: LocalSigstore) -> SigstoreSignature:
    signer = sigstore.signer(WHO)
    first, second = signer.attachment(PAYLOAD), signer.attachment(PAYLOAD)
    return changed(first, by=second.annotations[SIGNATURE])


def self_signed(sigstore: LocalSigstore) -> SigstoreSignature:
    own = ec.generate_private_key(ec.SECP256R1())
    return attached(sigstore, leaf=Leaf(signer="self", own_key=own))


REFUSED: dict[str, tuple[Make, str]] = {
    "s48-no-promise": (with_annotations(set=None), "no annotation dev.sigstore.cosign/bundle"),
    "s48-promise-of-other-payload": (logged(payload=OTHER), "of another"),
    "s48-promise-of-other-signature": (another_signature, "of another signature"),
    "s48-promise-of-unknown-log": (logged(log=RekorV1()), "not signed by a Rekor key"),
    "s48-promise-with-extra-field": (extra_field, "other fields"),
    "s48-promise-surrogate": (with_annotations(set="\ud800"), "surrogate"),
    "s48-other-payload": (lambda s: replace(attached(s), payload=OTHER), "another payload"),
    "s49-late": (logged(at=11 * MINUTE), "valid"),
    "s49-early": (logged(at=-MINUTE), "valid"),
    "s53-server-auth": (under(usages=(ExtendedKeyUsageOID.SERVER_AUTH,)), "code signing"),
    "s53-no-usage": (under(usages=None), "extended key usage"),
    "s54-no-issuer": (under(issuer_extensions="none"), "does not say who issued the token"),
    "s54-two-issuers": (under(issuer_v2=b"\x0c\x01x"), "two token issuers"),
    "s55-address-in-a-uri": (of(x509.UniformResourceIdentifier(f"mailto:{WHO}")), "not of"),
    "s55-two-certificates": (two_certificates, "not exactly one PEM block"),
    "s56-authority": (under(authority=True), "authority"),
    "s56-self-signed": (self_signed, "issued by"),
    "s56-other-sigstore": (lambda s: attached(LocalSigstore()), "not signed by a Rekor key"),
    "s57-no-sct": (under(timestamps="none"), "no signed certificate timestamp"),
    "s57-two-scts": (under(timestamps="two"), "2 signed certificate timestamps"),
    "s57-sct-of-unknown-log": (under(timestamps="foreign"), "not trusted then"),
    "s60-public-key": (by_public_key, "PUBLIC KEY"),
}


@pytest.mark.parametrize(("make", "word"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_hold_is_refused(sigstore: LocalSigstore, make: Make, word: str) -> None:
    with pytest.raises(InvalidSignature, match=word):
        check_sigstore_keyless(make(sigstore), trust(sigstore))


def reissued(sigstore: LocalSigstore, stamps: x509.ExtensionType) -> Signer:
    """A signer whose certificate the authority has issued with these timestamps."""
    signer = sigstore.signer(WHO)
    leaf = signer.chain.leaf
    builder = x509.CertificateBuilder(
        leaf.issuer, leaf.subject, leaf.public_key(), leaf.serial_number,
        leaf.not_valid_before_utc, leaf.not_valid_after_utc,
    )  # fmt: skip
    for each in leaf.extensions:
        value = stamps if each.oid == stamps.oid else each.value
        builder = builder.add_extension(value, each.critical)
    issued = builder.sign(sigstore.authority.intermediate_key, SHA384())
    return Signer(sigstore, signer.key, replace(signer.chain, leaf=issued), signer.at)


def test_s57_an_sct_of_another_certificate_is_refused(sigstore: LocalSigstore) -> None:
    """Even by the right log."""
    extension = x509.PrecertificateSignedCertificateTimestamps
    foreign = sigstore.signer(WHO).chain.leaf.extensions.get_extension_for_class(extension)
    forged = reissued(sigstore, foreign.value).attachment(PAYLOAD)
    with pytest.raises(InvalidSignature, match="not by its log"):
        check_sigstore_keyless(forged, trust(sigstore))


def stamp(milliseconds: int = 0, version: int = 0, algorithm: bytes = b"\4\3") -> bytes:
    head = struct.pack(">B32sQH", version, b"\0" * 32, milliseconds, 0)
    return head + algorithm + b"\0\2xx"


def octets(*stamps: bytes) -> bytes:
    content = timestamp_list(*stamps)
    return b"\x04" + bytes([len(content)]) + content


MALFORMED = {
    "after-all-years": octets(stamp(2**64 - 1)),
    "year-33658": octets(stamp(10**15)),
    "unknown-hash": octets(stamp(algorithm=b"\x63\3")),
    "unknown-version": octets(stamp(version=3)),
    "cut": octets(stamp()[:20]),
    "none": octets(),
    "no-octets": b"junk",
    "empty": b"",
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
def test_s57_a_malformed_sct_is_refused_wherever_it_is(
    sigstore: LocalSigstore, content: bytes
) -> None:
    """By the one who looks at attachments and by the one who looks at bundles."""
    oid = x509.PrecertificateSignedCertificateTimestamps.oid
    signer = reissued(sigstore, x509.UnrecognizedExtension(oid, content))
    with pytest.raises(InvalidSignature):
        check_sigstore_keyless(signer.attachment(PAYLOAD), trust(sigstore))
    bundle = bundle_bytes(signer.dsse_bundle(make_statement(DIGEST, reference=NAME)))
    with pytest.raises(InvalidSignature):
        check_bundle_keyless(BundleSignature(content=bundle), trust(sigstore))


@pytest.mark.parametrize("service", ["tlogs", "certificateAuthorities", "ctlogs"])
def test_services_count_only_in_their_time(sigstore: LocalSigstore, service: str) -> None:
    """One that was replaced yesterday vouches for nothing that is signed today."""
    yesterday = (sigstore.clock() - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    root = sigstore.trusted_root()
    for entry in root[service]:
        period = entry.get("publicKey", entry)
        period["validFor"]["end"] = yesterday
    good = attached(sigstore)
    with pytest.raises(InvalidSignature, match=r"trusted|whom the trusted root has"):
        check_sigstore_keyless(good, trust(sigstore, root))
    root[service] += sigstore.trusted_root()[service]
    assert check_sigstore_keyless(good, trust(sigstore, root))


@pytest.mark.parametrize("service", ["tlogs", "certificateAuthorities", "ctlogs"])
def test_a_root_without_a_service_admits_nobody(sigstore: LocalSigstore, service: str) -> None:
    root = {**sigstore.trusted_root(), service: []}
    with pytest.raises(InvalidSignature):
        check_sigstore_keyless(attached(sigstore), trust(sigstore, root))


def test_a_root_that_is_malformed_is_no_answer(sigstore: LocalSigstore) -> None:
    """The file is to blame, not the signature."""
    good = attached(sigstore)
    for content in (b"", b"{}", b'{"mediaType":"application/json"}'):
        with pytest.raises(InvalidKey):
            check_sigstore_keyless(good, replace(trust(sigstore), root=content))
    root = sigstore.trusted_root()
    root["tlogs"][0]["publicKey"]["rawBytes"] = "AAAA"
    with pytest.raises(InvalidKey):
        check_sigstore_keyless(good, trust(sigstore, root))
    anybody = CertificateIdentity(subject=WHO)
    with pytest.raises(InvalidInput):
        check_sigstore_keyless(good, replace(trust(sigstore), identities=(anybody,)))


def test_the_public_root_is_a_root(sigstore: LocalSigstore) -> None:
    """It can be used, and does not know us."""
    with pytest.raises(InvalidSignature, match="not signed by a Rekor key"):
        check_sigstore_keyless(attached(sigstore), replace(trust(sigstore), root=public_root()))


@given(data=st.data())
def test_no_change_of_a_byte_goes_unnoticed(data: st.DataObject) -> None:
    """Of certificate, promise, signature and payload; nor does one end in another error."""
    what = data.draw(st.sampled_from(["payload", CERTIFICATE, BUNDLE, SIGNATURE]))
    good = GOOD.payload if what == "payload" else GOOD.annotations[what].encode()
    position = data.draw(st.integers(0, len(good) - 1))
    byte = data.draw(st.integers(0, 127).filter(lambda b: b != good[position]))
    bad = good[:position] + bytes([byte]) + good[position + 1 :]
    if what == "payload":
        signature = replace(GOOD, payload=bad)
    else:
        signature = replace(GOOD, annotations={**GOOD.annotations, what: bad.decode()})
    try:
        found = check_sigstore_keyless(signature, trust(SIGSTORE))
    except InvalidSignature:
        return
    # White space around and within PEM and JSON, and the spelling of base64, sign nothing.
    assert what != "payload"
    assert (found.claim.digest, found.claim.reference) == (DIGEST, NAME)
    assert found.proof == check_sigstore_keyless(GOOD, trust(SIGSTORE)).proof


@given(der=st.binary(max_size=200), position=st.integers(0, 1000))
def test_any_certificate_is_read_or_refused(der: bytes, position: int) -> None:
    """Bytes written into one, under an entry that is about just that."""
    leaf = SIGNER.chain.leaf_der
    bad = leaf[: position % len(leaf)] + der + leaf[position % len(leaf) + len(der) :]
    pem = write_block("CERTIFICATE", bad)
    raw = base64.b64decode(GOOD.annotations[SIGNATURE])
    entry = SIGSTORE.log_v1(entries.hashedrekord(PAYLOAD, raw, pem), check=False)
    signature = changed(GOOD, certificate=pem.decode(), set=entry.annotation())
    if bad == leaf:
        assert check_sigstore_keyless(signature, trust(SIGSTORE))
        return
    with pytest.raises(InvalidSignature):
        check_sigstore_keyless(signature, trust(SIGSTORE))
