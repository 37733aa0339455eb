"""Short-lived certificates and their log entries: what is accepted, and every way to be refused.

The table is what containers/image decides about the same attachments; where we refuse more,
a test of its own says so.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from imgtools.errors import InvalidInput, InvalidKey, InvalidSignature
from imgtools.sign.certificates.fulcio import verify_certificate, verify_fulcio
from imgtools.sign.certificates.pem import CHAIN_LIMIT
from imgtools.sign.identity import MatchRepoDigestOrExact, matches
from imgtools.sign.model import SigstoreSignature
from imgtools.sign.payload import cosign_payload
from imgtools.sign.policies.model import CertificateIdentity
from imgtools.spec.reference import Reference
from imgtools.testing.sigstore import LocalSigstore
from imgtools.testing.sigstore.authority import AuthorityOptions, Chain, Leaf
from imgtools.testing.sigstore.signer import BUNDLE, CERTIFICATE, CHAIN
from tests.sign.attachments import (
    DIGEST,
    EMAIL,
    PAYLOAD,
    REFERENCE,
    attached,
    judge,
    with_annotation,
    with_entry,
)

TLS = (ExtendedKeyUsageOID.SERVER_AUTH,)
OTHER_ISSUER = "https://other.example"


@pytest.fixture(scope="module")
def sigstore() -> LocalSigstore:
    """One for all tests; nobody changes it."""
    return LocalSigstore()


@pytest.fixture(scope="module")
def issued(sigstore: LocalSigstore) -> Chain:
    """A certificate as it should be."""
    return sigstore.issue(EMAIL)


# --- the table ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """An attachment, and why it is refused; accepted where `reason` is None."""

    make: Callable[[LocalSigstore], SigstoreSignature]
    reason: str | None = None


def _late(sigstore: LocalSigstore) -> SigstoreSignature:
    signer = sigstore.signer(EMAIL)
    return attached(signer, at=signer.at + timedelta(minutes=11))


def _early(sigstore: LocalSigstore) -> SigstoreSignature:
    signer = sigstore.signer(EMAIL)
    return attached(signer, at=signer.at - timedelta(seconds=1))


def _of_leaf(**leaf: object) -> Callable[[LocalSigstore], SigstoreSignature]:
    return lambda sigstore: attached(sigstore.signer(EMAIL, leaf=Leaf(**leaf)))  # type: ignore[arg-type]


def _changed(name: str, value: str | None) -> Callable[[LocalSigstore], SigstoreSignature]:
    return lambda sigstore: with_annotation(attached(sigstore.signer(EMAIL)), name, value)


def _tampered(sigstore: LocalSigstore) -> SigstoreSignature:
    signature = attached(sigstore.signer(EMAIL))
    return with_entry(signature, lambda e: e["Payload"].update(integratedTime=1_700_000_000))


def _extra_field(sigstore: LocalSigstore) -> SigstoreSignature:
    return with_entry(attached(sigstore.signer(EMAIL)), lambda e: e["Payload"].update(extra=1))


def _of_other_signature(sigstore: LocalSigstore) -> SigstoreSignature:
    signer = sigstore.signer(EMAIL)
    other = attached(signer).annotations[BUNDLE]
    return with_annotation(attached(signer), BUNDLE, other)


def _spaced(sigstore: LocalSigstore) -> SigstoreSignature:
    signature = attached(sigstore.signer(EMAIL))
    return SigstoreSignature(payload=PAYLOAD + b" ", annotations=signature.annotations)


def _two_certificates(sigstore: LocalSigstore) -> SigstoreSignature:
    signer = sigstore.signer(EMAIL)
    both = (signer.chain.leaf_pem + sigstore.signer("other@example.test").chain.leaf_pem).decode()
    return with_annotation(attached(signer), CERTIFICATE, both)


ROWS = {
    "ok": Row(lambda s: attached(s.signer(EMAIL))),
    "old": Row(lambda s: attached(s.signer(EMAIL, at=s.clock() - timedelta(days=30)))),
    "no-sct": Row(_of_leaf(timestamps="none")),
    "issuer-v2-only": Row(_of_leaf(issuer_extensions="v2")),
    "late": Row(_late, "was valid from"),
    "early": Row(_early, "was valid from"),
    "wrong-email": Row(lambda s: attached(s.signer("other@example.test")), "email other@"),
    "wrong-issuer": Row(lambda s: attached(s.signer(EMAIL, OTHER_ISSUER)), "other.example"),
    "no-chain": Row(_changed(CHAIN, None), "no root that is trusted"),
    "no-set": Row(_changed(BUNDLE, None), "no annotation dev.sigstore.cosign/bundle"),
    "wrong-eku": Row(_of_leaf(usages=TLS), "extended key usage"),
    "uri-san": Row(
        lambda s: attached(s.signer([x509.UniformResourceIdentifier(EMAIL)])), "uri user@"
    ),
    "no-issuer": Row(_of_leaf(issuer_extensions="none"), "does not say who issued the token"),
    "set-tampered": Row(_tampered, "not signed by a Rekor key"),
    "set-extra-field": Row(_extra_field, "other fields"),
    "set-of-other-signature": Row(_of_other_signature, "of another signature"),
    "payload-and-space": Row(_spaced, "of another payload"),
    "two-certificates": Row(_two_certificates, "not exactly one PEM block"),
}


@pytest.mark.parametrize("name", ROWS)
def test_fulcio_table(sigstore: LocalSigstore, name: str) -> None:
    """What containers/image accepts is accepted, what it refuses is refused."""
    row = ROWS[name]
    signature = row.make(sigstore)
    if row.reason is None:
        found = judge(sigstore, signature)
        assert (found.claim.digest, found.claim.reference) == (DIGEST, REFERENCE)
        assert (found.proof.subject, found.proof.issuer) == (EMAIL, sigstore.issuer.url)
        return
    with pytest.raises(InvalidSignature, match=row.reason):
        judge(sigstore, signature)


def test_fulcio_table_cosign_tagless(sigstore: LocalSigstore) -> None:
    """cosign signs a name without a tag, which holds and does not match by the default rule."""
    payload = cosign_payload(DIGEST, "registry.example/team/app")
    found = judge(sigstore, attached(sigstore.signer(EMAIL), payload))
    image = Reference.parse(REFERENCE)
    assert matches(MatchRepoDigestOrExact(), image, found.claim.reference) is not None


# --- by number ----------------------------------------------------------------------------------


def _verify(sigstore: LocalSigstore, issued: Chain, **changes: object) -> str:
    """The subject that a chain proves just after it was issued."""
    options: dict[str, object] = {
        "roots_pem": sigstore.root_pem,
        "at": issued.leaf.not_valid_before_utc,
        "oidc_issuer": sigstore.issuer.url,
        "subject_email": EMAIL,
    }
    options |= changes
    leaf = options.pop("leaf", issued.leaf_pem)
    above = options.pop("chain", issued.chain_pem)
    _, proof = verify_fulcio(leaf, above, **options)  # type: ignore[arg-type]
    return proof.subject


def test_s48_entry_of_another_key_or_log(sigstore: LocalSigstore) -> None:
    """The log entry has to be about this certificate, and in a log that is trusted."""
    signer, other = sigstore.signer(EMAIL), sigstore.signer(EMAIL)
    swapped = with_annotation(attached(signer), CERTIFICATE, other.chain.leaf_pem.decode())
    with pytest.raises(InvalidSignature, match="of another key or certificate"):
        judge(sigstore, swapped)
    foreign = LocalSigstore()
    with pytest.raises(InvalidSignature, match="not signed by a Rekor key"):
        judge(sigstore, attached(foreign.signer(EMAIL)))


@pytest.mark.parametrize(
    ("offset", "holds"), [(-1, False), (0, True), (600, True), (601, False), (10**9, False)]
)
def test_s49_time_is_within_the_leaf(sigstore: LocalSigstore, offset: int, holds: bool) -> None:
    """Both ends of the validity belong to it, and the authority has to be valid too."""
    chain = sigstore.issue(EMAIL)
    at = chain.leaf.not_valid_before_utc + timedelta(seconds=offset)
    if holds:
        assert _verify(sigstore, chain, at=at) == EMAIL
    else:
        with pytest.raises(InvalidSignature, match="was valid from"):
            _verify(sigstore, chain, at=at)


def test_s49_time_is_within_the_authority() -> None:
    """A leaf that outlives its authority is refused afterwards."""
    short = LocalSigstore(authority=AuthorityOptions(lifetime=timedelta(days=365, minutes=5)))
    chain = short.issue(EMAIL)
    at = chain.leaf.not_valid_before_utc
    assert _verify(short, chain, at=at + timedelta(minutes=4)) == EMAIL
    with pytest.raises(InvalidSignature, match=r"intermediate.* was valid from"):
        _verify(short, chain, at=at + timedelta(minutes=6))


@pytest.mark.parametrize("usages", [None, TLS, (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)])
def test_s53_leaf_is_for_code_signing(
    sigstore: LocalSigstore, usages: tuple[x509.ObjectIdentifier, ...] | None
) -> None:
    """Fulcio's leaves say so themselves; others are refused, also without any such extension."""
    with pytest.raises(InvalidSignature, match=r"extended key usage|not for code signing"):
        _verify(sigstore, sigstore.issue(EMAIL, leaf=Leaf(usages=usages)))


@pytest.mark.parametrize(
    ("usages", "holds"),
    [
        (None, True),
        ((ExtendedKeyUsageOID.CODE_SIGNING, *TLS), True),
        ((ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,), True),
        (TLS, False),
    ],
)
def test_s53_intermediate_may_certify_code_signing(
    usages: tuple[x509.ObjectIdentifier, ...] | None, holds: bool
) -> None:
    """An authority that is constrained to something else cannot issue for it."""
    constrained = LocalSigstore(authority=AuthorityOptions(usages=usages))
    chain = constrained.issue(EMAIL)
    if holds:
        assert _verify(constrained, chain) == EMAIL
    else:
        with pytest.raises(InvalidSignature, match=r"intermediate.*does not include code signing"):
            _verify(constrained, chain)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\x0c\x15https://other.example", "two token issuers"),
        (b"\x0c\x02ab\x00", "no DER UTF8String"),
        (b"\x0c\x81\x02ab", "no DER UTF8String"),
        (b"\x0c\x84\xff\xff\xff\xffab", "no DER UTF8String"),
        (b"\x16\x02ab", "no DER UTF8String"),
        (b"\x0c\x02\xff\xfe", "no DER UTF8String"),
        (b"\x0c", "no DER UTF8String"),
        (b"", "no DER UTF8String"),
        (b"\x0c\x02a\n", "no line of text"),
    ],
)
def test_s54_issuers_agree(sigstore: LocalSigstore, value: bytes, reason: str) -> None:
    """Two issuers that differ, or a second one that is not exactly one string."""
    with pytest.raises(InvalidSignature, match=reason):
        _verify(sigstore, sigstore.issue(EMAIL, leaf=Leaf(issuer_v2=value)))


def test_s54_issuer_is_missing(sigstore: LocalSigstore) -> None:
    """Without an issuer nothing is known about who checked the address."""
    with pytest.raises(InvalidSignature, match="does not say who issued"):
        _verify(sigstore, sigstore.issue(EMAIL, leaf=Leaf(issuer_extensions="none")))
    assert _verify(sigstore, sigstore.issue(EMAIL, leaf=Leaf(issuer_extensions="v1"))) == EMAIL


@pytest.mark.parametrize(
    "names",
    [
        (x509.UniformResourceIdentifier(EMAIL),),
        (x509.UniformResourceIdentifier(f"mailto:{EMAIL}"),),
        (x509.DNSName(EMAIL),),
        (x509.RFC822Name("User@example.test"),),
        (x509.RFC822Name("user@EXAMPLE.test"),),
        (x509.RFC822Name(f"x{EMAIL}"),),
        (x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7"), b"\x0c\x11" + b"a" * 17),),
        (),
    ],
)
def test_s55_only_this_address_is_the_address(
    sigstore: LocalSigstore, names: tuple[x509.GeneralName, ...]
) -> None:
    """The same text as another kind of name, or in another case, is somebody else."""
    with pytest.raises(InvalidSignature, match="the certificate is of"):
        _verify(sigstore, sigstore.issue(names))


@pytest.mark.parametrize(
    "text", ["https://x.example/\nhttps://y.example", "https://x\x1b[2J", "\0"]
)
def test_s55_names_are_lines_of_text(sigstore: LocalSigstore, text: str) -> None:
    """A name is compared and shown; one that breaks either is nobody's, whoever else is named."""
    with pytest.raises(InvalidSignature, match="no line of text"):
        _verify(
            sigstore,
            sigstore.issue((x509.UniformResourceIdentifier(text), x509.RFC822Name(EMAIL))),
        )
    endless = x509.UniformResourceIdentifier("https://x.example/" + "a" * 3000)
    with pytest.raises(InvalidSignature, match="too long"):
        _verify(sigstore, sigstore.issue((endless, x509.RFC822Name(EMAIL))))


def test_s55_address_among_others_and_not_in_the_subject(sigstore: LocalSigstore) -> None:
    """One of several names is enough; the distinguished name never is."""
    several = (x509.UniformResourceIdentifier("https://ci.example/x"), x509.RFC822Name(EMAIL))
    assert _verify(sigstore, sigstore.issue(several)) == EMAIL
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.EMAIL_ADDRESS, EMAIL),
            x509.NameAttribute(NameOID.COMMON_NAME, EMAIL),
        ]
    )
    with pytest.raises(InvalidSignature, match="the certificate is of uri"):
        _verify(sigstore, sigstore.issue(several[:1], leaf=Leaf(subject=subject)))


def test_s55_exactly_one_certificate(sigstore: LocalSigstore) -> None:
    """Two in one annotation, one with text around it, one that is cut: which one is meant?"""
    chain, other = sigstore.issue(EMAIL), sigstore.issue(EMAIL)
    for leaf in (
        chain.leaf_pem + other.leaf_pem,
        chain.leaf_pem * 2,
        b"",
        b"# mine\n" + chain.leaf_pem,
        chain.leaf_pem + b"x",
        chain.leaf_pem[:-20],
        chain.leaf_pem.replace(b"\n", b"\n\x00", 1),
        chain.leaf_der,
    ):
        with pytest.raises(InvalidSignature):
            _verify(sigstore, chain, leaf=leaf)
    assert _verify(sigstore, chain, leaf=b"\n" + chain.leaf_pem.replace(b"\n", b"\r\n")) == EMAIL


def test_s56_authority_is_no_signer(sigstore: LocalSigstore) -> None:
    """Neither a leaf that is an authority, nor the authorities themselves."""
    with pytest.raises(InvalidSignature, match="one of an authority"):
        _verify(sigstore, sigstore.issue(EMAIL, leaf=Leaf(authority=True)))
    chain = sigstore.issue(EMAIL)
    for pem in (sigstore.root_pem, sigstore.intermediate_pem):
        with pytest.raises(InvalidSignature, match="one of an authority"):
            _verify(sigstore, chain, leaf=pem)


def test_s56_self_signed_leaf(sigstore: LocalSigstore) -> None:
    """Whoever signs a certificate of their own proves nothing, even with it in the chain."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "me")])
    own = sigstore.issue(
        EMAIL,
        None,
        key.public_key(),
        leaf=Leaf(signer="self", own_key=key, subject=subject),
    )
    for chain in (b"", own.leaf_pem, own.leaf_pem * 2, sigstore.root_pem):
        with pytest.raises(InvalidSignature, match=r"no root that is trusted|is not an authority"):
            _verify(sigstore, own, chain=chain)
    with pytest.raises(InvalidSignature, match="is not an authority"):
        _verify(sigstore, own, roots_pem=own.leaf_pem)


def test_s56_root_that_comes_along_is_not_trusted(sigstore: LocalSigstore) -> None:
    """A whole chain of somebody's own, wherever its root is put."""
    foreign = LocalSigstore()
    chain = foreign.issue(EMAIL, sigstore.issuer.url)
    reason = "no root that is trusted|not signed by its key|authorities below it"
    for above in (chain.chain_pem, foreign.root_pem + chain.chain_pem, chain.chain_pem * 3):
        with pytest.raises(InvalidSignature, match=reason):
            _verify(sigstore, chain, chain=above)
    # The same names, and another key.
    mixed = foreign.intermediate_pem + sigstore.root_pem
    with pytest.raises(InvalidSignature, match="not signed by its key"):
        _verify(sigstore, chain, chain=mixed)


def test_s56_roots_and_intermediates_that_are_named(sigstore: LocalSigstore) -> None:
    """An intermediate may be the root that is named; the chain need not come along then."""
    chain = sigstore.issue(EMAIL)
    both = b"# Fulcio\n" + sigstore.intermediate_pem + b"\n\n" + sigstore.root_pem
    assert _verify(sigstore, chain, roots_pem=both, chain=b"") == EMAIL
    assert _verify(sigstore, chain, roots_pem=sigstore.intermediate_pem) == EMAIL


@pytest.mark.parametrize("timestamps", ["none", "foreign", "two"])
def test_s57_certificate_timestamp_is_optional_here(
    sigstore: LocalSigstore, timestamps: str
) -> None:
    """The log entry has the whole certificate, and containers/image asks for no more."""
    chain = sigstore.issue(EMAIL, leaf=Leaf(timestamps=timestamps))  # type: ignore[arg-type]
    assert _verify(sigstore, chain) == EMAIL


def test_s60_public_key_is_no_certificate(sigstore: LocalSigstore) -> None:
    """A bare key in the annotation, logged as such, is nobody's."""
    signer = sigstore.signer(EMAIL)
    pem = signer.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(InvalidSignature, match="is a PUBLIC KEY"):
        _verify(sigstore, signer.chain, leaf=pem)
    renamed = pem.replace(b"PUBLIC KEY", b"CERTIFICATE")
    with pytest.raises(InvalidSignature, match=r"no valid X.509|serial"):
        _verify(sigstore, signer.chain, leaf=renamed)
    bare = with_annotation(attached(signer), CERTIFICATE, pem.decode())
    with pytest.raises(InvalidSignature, match=r"another key or certificate|PUBLIC KEY"):
        judge(sigstore, bare)


# --- more of the same ---------------------------------------------------------------------------


def test_certificates_with_unknown_critical_extensions(sigstore: LocalSigstore) -> None:
    """What has to be understood and is not."""
    with pytest.raises(InvalidSignature, match="critical extension"):
        _verify(sigstore, sigstore.issue(EMAIL, leaf=Leaf(unknown_critical=True)))


def test_issuer_without_the_right(sigstore: LocalSigstore) -> None:
    """A leaf cannot issue another leaf, although its signature is good."""
    middle = sigstore.signer(EMAIL, leaf=Leaf(subject=_common_name("middle"), usages=None))
    own = Leaf(signer="self", own_key=middle.key, subject=_common_name("middle"))
    below = sigstore.issue(EMAIL, leaf=own)
    above = middle.chain.leaf_pem + sigstore.intermediate_pem + sigstore.root_pem
    with pytest.raises(InvalidSignature, match="'CN=middle' is not an authority"):
        _verify(sigstore, below, chain=above)


def test_path_length_is_kept(sigstore: LocalSigstore) -> None:
    """The intermediate allows no authority below itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _common_name("too deep")
    deep = sigstore.authority.authority_certificate(
        key.public_key(),
        name,
        sigstore.authority.intermediate.subject,
        sigstore.authority.intermediate_key,
        path_length=None,
        usages=None,
    )
    leaf = sigstore.issue(EMAIL, leaf=Leaf(signer="self", own_key=key, subject=name))
    above = deep.public_bytes(Encoding.PEM) + sigstore.intermediate_pem + sigstore.root_pem
    with pytest.raises(InvalidSignature, match="allows 0 authorities below it, and there are 1"):
        _verify(sigstore, leaf, chain=above)


def test_search_is_bounded(sigstore: LocalSigstore) -> None:
    """Authorities that all have one name and one key, and issue each other, cost little."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _common_name("maze")
    maze = b"".join(
        sigstore.authority.authority_certificate(
            key.public_key(), name, name, key, path_length=None, usages=None
        ).public_bytes(Encoding.PEM)
        for _ in range(CHAIN_LIMIT)
    )
    leaf = sigstore.issue(EMAIL, leaf=Leaf(signer="self", own_key=key, subject=name))
    with pytest.raises(InvalidSignature, match="within 100 signatures"):
        _verify(sigstore, leaf, chain=maze)
    with pytest.raises(InvalidSignature, match=f"more than {CHAIN_LIMIT} certificates"):
        _verify(sigstore, leaf, chain=maze + sigstore.root_pem)


@pytest.mark.parametrize(
    ("roots", "reason"),
    [
        (b"", "not PEM"),
        (b"hello", "not PEM"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "no valid X.509|serial",
        ),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n", "not PEM"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "has a PUBLIC KEY"),
    ],
)
def test_roots_that_cannot_be_used(sigstore: LocalSigstore, roots: bytes, reason: str) -> None:
    """They are ours, so it is another error than a bad signature."""
    with pytest.raises(InvalidKey, match=reason):
        _verify(sigstore, sigstore.issue(EMAIL), roots_pem=roots)


# --- identities of any kind ---------------------------------------------------------------------

WORKFLOW = "https://github.com/team/app/.github/workflows/release.yml@refs/heads/main"
CI = "https://token.actions.githubusercontent.com"


def _who(subject: str = "", subject_regexp: str = "", **issuer: str) -> CertificateIdentity:
    return CertificateIdentity(
        subject=subject, subject_regexp=subject_regexp, **(issuer or {"issuer": CI})
    )


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        (_who(WORKFLOW), True),
        (_who(WORKFLOW[:-1]), False),
        (_who(subject_regexp=r"https://github\.com/team/.*"), True),
        (_who(subject_regexp=r"https://github\.com/team/"), False),
        (_who(subject_regexp=r"github"), False),
        (_who(subject_regexp=r"https://github\.com/tea[^/]*/.*|x"), True),
        (_who(WORKFLOW, issuer_regexp=r"https://token\.actions\..*\.com"), True),
        (_who(WORKFLOW, issuer_regexp=r"token"), False),
        (_who(WORKFLOW, issuer=f"{CI}/"), False),
    ],
)
def test_workflow_identities(
    sigstore: LocalSigstore, rule: CertificateIdentity, holds: bool
) -> None:
    """A URI, exactly or by an expression that matches all of it."""
    chain = sigstore.issue(WORKFLOW, CI)
    options = {"roots_pem": sigstore.root_pem, "at": chain.leaf.not_valid_before_utc}
    others = (_who("somebody@example.test"), rule)
    if holds:
        _, proof = verify_certificate(chain.leaf_pem, chain.chain_pem, identities=others, **options)
        assert (proof.subject, proof.issuer) == (WORKFLOW, CI)
        return
    with pytest.raises(InvalidSignature, match="the certificate is of uri https"):
        verify_certificate(chain.leaf_pem, chain.chain_pem, identities=others, **options)


@pytest.mark.parametrize(
    "name",
    [
        x509.RFC822Name(EMAIL),
        x509.DNSName("build.example.test"),
        x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7"), b"\x0c\x05robot"),
    ],
)
def test_every_kind_of_name_can_be_wanted(sigstore: LocalSigstore, name: x509.GeneralName) -> None:
    """E-mail addresses, host names and Fulcio's user names."""
    text = "robot" if isinstance(name, x509.OtherName) else str(name.value)
    chain = sigstore.issue([name], CI)
    _, proof = verify_certificate(
        chain.leaf_pem,
        chain.chain_pem,
        roots_pem=sigstore.root_pem,
        at=chain.leaf.not_valid_before_utc,
        identities=[_who(text)],
    )
    assert proof.subject == text


@pytest.mark.parametrize(
    "rule",
    [
        CertificateIdentity(),
        CertificateIdentity(subject="a"),
        CertificateIdentity(issuer="a"),
        CertificateIdentity(subject="a", subject_regexp="a", issuer="a"),
        CertificateIdentity(subject_regexp="(", issuer="a"),
    ],
)
def test_rules_that_want_anybody(sigstore: LocalSigstore, rule: CertificateIdentity) -> None:
    """A certificate alone says nothing: who is wanted, and who vouches, has to be said."""
    chain = sigstore.issue(EMAIL)
    with pytest.raises(InvalidInput):
        verify_certificate(
            chain.leaf_pem,
            chain.chain_pem,
            roots_pem=sigstore.root_pem,
            at=chain.leaf.not_valid_before_utc,
            identities=[rule],
        )


# --- anything at all ----------------------------------------------------------------------------


@settings(max_examples=400)
@given(data=st.data())
def test_changed_certificates_are_never_admitted(
    sigstore: LocalSigstore, issued: Chain, data: st.DataObject
) -> None:
    """One byte of the leaf or of an issuer changed: refused, in one way."""
    of_leaf = data.draw(st.booleans())
    changed = bytearray(issued.leaf_der if of_leaf else _der(issued.issuers[0]))
    position = data.draw(st.integers(0, len(changed) - 1))
    changed[position] ^= data.draw(st.integers(1, 255))
    leaf = _pem(bytes(changed)) if of_leaf else issued.leaf_pem
    above = issued.chain_pem if of_leaf else _pem(bytes(changed)) + sigstore.root_pem
    with pytest.raises(InvalidSignature):
        _verify(sigstore, issued, leaf=leaf, chain=above)


def test_certificate_has_one_encoding(sigstore: LocalSigstore) -> None:
    """Signatures are whole bytes; a reader that drops unused bits would see the same one."""
    for _ in range(64):
        issued = sigstore.issue(EMAIL)
        if not issued.leaf.signature[-1] & 1:
            break
    good = issued.leaf_der
    unused = len(good) - len(issued.leaf.signature) - 1
    changed = good[:unused] + b"\1" + good[unused + 1 :]
    with pytest.raises(InvalidSignature, match="broken number of bytes"):
        _verify(sigstore, issued, leaf=_pem(changed))


@pytest.mark.parametrize("tag", [b"\x02", b"\x82"])
def test_serial_numbers_are_positive(sigstore: LocalSigstore, issued: Chain, tag: bytes) -> None:
    """Of the certificate, and of the issuer as the key identifier has it: no warning either."""
    above = issued.issuers[0]
    identifier = above.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    if tag == b"\x02":
        serial = issued.leaf.serial_number.to_bytes(20)
        changed = issued.leaf_der.replace(serial, b"\xff" + serial[1:], 1)
    else:
        changed = issued.leaf_der.replace(
            b"\x80\x14" + identifier, b"\x82\x14\xff" + identifier[1:]
        )
    assert changed != issued.leaf_der
    with pytest.raises(InvalidSignature, match="serial number that is not positive"):
        _verify(sigstore, issued, leaf=_pem(changed))


@given(leaf=st.binary(max_size=200), chain=st.binary(max_size=200))
def test_any_bytes_are_refused(
    sigstore: LocalSigstore, issued: Chain, leaf: bytes, chain: bytes
) -> None:
    """As PEM, and as what is in it."""
    with pytest.raises(InvalidSignature):
        _verify(sigstore, issued, leaf=leaf)
    with pytest.raises(InvalidSignature):
        _verify(sigstore, issued, leaf=_pem(leaf), chain=_pem(chain))
    if chain.strip():
        with pytest.raises(InvalidSignature):
            _verify(sigstore, issued, chain=chain)


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def _pem(der: bytes) -> bytes:
    body = base64.encodebytes(der)
    return b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
