"""Sigstore bundles: parsing, envelopes, statements, keys."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgtools.errors import InvalidInput, InvalidSignature
from imgtools.sign.bundles.dsse import IN_TOTO, pre_authentication, signed_message
from imgtools.sign.bundles.make import make_key_bundle, make_statement
from imgtools.sign.bundles.model import Bundle, Envelope
from imgtools.sign.bundles.parse import MEDIA_TYPES, parse_bundle
from imgtools.sign.bundles.statement import (
    COSIGN_SIGN,
    STATEMENT_V01,
    STATEMENT_V1,
    parse_statement,
    signature_claim,
    signed_reference,
)
from imgtools.sign.bundles.verify_key import verify_message_with_key, verify_with_key
from imgtools.sign.bundles.write import write_bundle
from imgtools.sign.keys.private import LocalKey
from imgtools.sign.model import ATTESTATION_LIMIT, Proof
from imgtools.spec.digest import Digest
from tests.sign.key_makers import MAKERS
from tests.sign.store_site import DIGEST, new_key, public

NAME = "example.test/app:v1"
KEY = new_key()
SEED = make_key_bundle(make_statement(DIGEST, reference=NAME), KEY)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def changed(change: Callable[[Any], object], seed: bytes = SEED) -> bytes:
    """The bundle with a change of its JSON."""
    value = json.loads(seed)
    change(value)
    return json.dumps(value).encode()


def signed(
    payload: bytes, key: LocalKey = KEY, *, payload_type: str = IN_TOTO, signatures: int = 1
) -> bytes:
    """A bundle around any payload, whose signature holds."""
    one = {"sig": b64(key.sign(pre_authentication(payload_type, payload)))}
    return json.dumps(
        {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": ""}},
            "dsseEnvelope": {
                "payload": b64(payload),
                "payloadType": payload_type,
                "signatures": [one] * signatures,
            },
        }
    ).encode()


ENTRY: dict[str, Any] = {
    "logIndex": "7",
    "logId": {"keyId": b64(b"l" * 32)},
    "kindVersion": {"kind": "dsse", "version": "0.0.1"},
    "integratedTime": "1795325351",
    "inclusionPromise": {"signedEntryTimestamp": b64(b"set")},
    "inclusionProof": {
        "logIndex": "7",
        "rootHash": b64(b"r" * 32),
        "treeSize": "8",
        "hashes": [b64(b"h" * 32)],
        "checkpoint": {"envelope": "log\n8\n"},
    },
    "canonicalizedBody": b64(b"{}"),
}
FULL: dict[str, Any] = {
    "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
    "verificationMaterial": {
        "certificate": {"rawBytes": b64(b"certificate")},
        "tlogEntries": [ENTRY],
        "timestampVerificationData": {"rfc3161Timestamps": [{"signedTimestamp": b64(b"ts")}]},
    },
    "messageSignature": {
        "messageDigest": {"algorithm": "SHA2_256", "digest": b64(bytes.fromhex(DIGEST.hex))},
        "signature": b64(b"sig"),
    },
}


# Making


def test_bundle_is_sigstore_go_s_byte_for_byte() -> None:
    """Fields in the order of the protocol buffers, the hint that sigstore-go looks keys up by."""
    bundle = json.loads(SEED)
    envelope = bundle["dsseEnvelope"]
    assert SEED.decode() == (
        '{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json",'
        '"verificationMaterial":{"publicKey":{"hint":"'
        f"{b64(bytes.fromhex(public(KEY).spki_sha256))}"
        '"}},"dsseEnvelope":{"payload":"'
        f'{envelope["payload"]}","payloadType":"application/vnd.in-toto+json",'
        f'"signatures":[{{"sig":"{envelope["signatures"][0]["sig"]}"}}]}}}}'
    )
    assert base64.b64decode(envelope["payload"]).decode() == (
        '{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"'
        f'{DIGEST.hex}"}},"annotations":{{"docker-reference":"example.test/app:v1"}}}}],'
        '"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}'
    )


def test_statement_without_a_name_is_cosign_s() -> None:
    assert make_statement(DIGEST).decode() == (
        '{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"'
        f'{DIGEST.hex}"}},"annotations":{{}}}}],'
        '"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}'
    )


def test_attestations_have_any_predicate() -> None:
    statement = parse_statement(
        make_statement(DIGEST, predicate_type="https://x.test/p", predicate={"a": [1, {"b": None}]})
    )
    assert statement.predicate == {"a": [1, {"b": None}]}
    assert statement.predicate_type == "https://x.test/p"
    assert statement.is_about(DIGEST)
    assert not statement.is_about(Digest.of(b"other"))
    assert not statement.is_about(Digest.of(b"other", "sha512"))


def test_what_no_verifier_would_read_is_not_made() -> None:
    with pytest.raises(InvalidInput, match="sha256"):
        make_statement(Digest.of(b"x", "sha512"))
    with pytest.raises(InvalidInput, match="docker-reference"):
        make_statement(DIGEST, annotations={"docker-reference": "h/x:y"})
    with pytest.raises(InvalidInput, match="bytes"):
        make_statement(DIGEST, predicate={"a": "x" * ATTESTATION_LIMIT})


@pytest.mark.parametrize("kind", MAKERS)
def test_every_kind_of_key_makes_bundles(kind: str) -> None:
    key = LocalKey.of(MAKERS[kind](), "a test's key")
    bundle = parse_bundle(make_key_bundle(make_statement(DIGEST, reference=NAME), key))
    statement, proof = verify_with_key(bundle, [public(key)])
    assert signature_claim(statement).reference == NAME
    assert proof == Proof(kind="key", key=public(key).spki_sha256)


# Parsing


def test_every_field_is_read_and_written_again() -> None:
    bundle = parse_bundle(json.dumps(FULL).encode())
    assert bundle.certificates == (b"certificate",)
    assert bundle.key_hint is None
    assert bundle.timestamps == (b"ts",)
    assert bundle.message is not None
    assert bundle.message.digest == DIGEST
    (entry,) = bundle.entries
    assert (entry.log_index, entry.integrated_time, entry.promise) == (7, 1795325351, b"set")
    assert entry.proof is not None
    assert (entry.proof.tree_size, entry.proof.hashes) == (8, (b"h" * 32,))
    assert json.loads(write_bundle(bundle)) == FULL
    assert parse_bundle(write_bundle(bundle)) == bundle


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_versions_have_their_own_form_of_certificates(media_type: str) -> None:
    single: dict[str, Any] = {"certificate": {"rawBytes": b64(b"leaf")}}
    chain: dict[str, Any] = {
        "x509CertificateChain": {"certificates": [{"rawBytes": b64(c)} for c in (b"leaf", b"ca")]}
    }
    is_new = MEDIA_TYPES[media_type] == (0, 3)
    right, wrong = (single, chain) if is_new else (chain, single)
    value = {**FULL, "mediaType": media_type, "verificationMaterial": right}
    bundle = parse_bundle(json.dumps(value).encode())
    assert bundle.certificates[0] == b"leaf"
    assert parse_bundle(write_bundle(bundle)) == bundle
    with pytest.raises(InvalidSignature):
        parse_bundle(json.dumps({**value, "verificationMaterial": wrong}).encode())


def test_numbers_may_be_numbers_and_null_is_absence() -> None:
    value = copy.deepcopy(FULL)
    entry = value["verificationMaterial"]["tlogEntries"][0]
    entry["logIndex"], entry["integratedTime"], entry["inclusionPromise"] = 7, None, None
    value["dsseEnvelope"] = None
    (found,) = parse_bundle(json.dumps(value).encode()).entries
    assert (found.log_index, found.integrated_time, found.promise) == (7, 0, None)


def entry_with(**more: Any) -> Callable[[Any], object]:
    return lambda v: v["verificationMaterial"].update(tlogEntries=[{**ENTRY, **more}])


def proof_with(**more: Any) -> Callable[[Any], object]:
    return entry_with(inclusionProof={**ENTRY["inclusionProof"], **more})


def material(**more: Any) -> Callable[[Any], object]:
    return lambda v: v["verificationMaterial"].update(more)


def stamps(*items: Any) -> Callable[[Any], object]:
    return material(timestampVerificationData={"rfc3161Timestamps": list(items)})


REFUSED: dict[str, Callable[[Any], object]] = {
    "s58-version-0.4": lambda v: v.update(
        mediaType="application/vnd.dev.sigstore.bundle.v0.4+json"
    ),
    "s58-old-spelling-0.4": lambda v: v.update(
        mediaType="application/vnd.dev.sigstore.bundle+json;version=0.4"
    ),
    "s58-no-media-type": lambda v: v.pop("mediaType"),
    "s58-other-media-type": lambda v: v.update(mediaType="application/json"),
    "s58-media-type-in-capitals": lambda v: v.update(mediaType=v["mediaType"].upper()),
    "s58-both-contents": lambda v: v.update(messageSignature=FULL["messageSignature"]),
    "s58-no-content": lambda v: v.pop("dsseEnvelope"),
    "no-material": lambda v: v.pop("verificationMaterial"),
    "key-and-certificate": material(certificate={"rawBytes": b64(b"c")}),
    "neither-key-nor-certificate": lambda v: v["verificationMaterial"].pop("publicKey"),
    "unknown-field": lambda v: v.update(more=1),
    "unknown-null": lambda v: v.update(more=None),
    "unknown-in-material": material(more=1),
    "unknown-in-entry": entry_with(more=1),
    "snake-case": lambda v: v.update(media_type=v.pop("mediaType")),
    "hint-is-a-number": material(publicKey={"hint": 1}),
    "hint-is-half-a-pair": material(publicKey={"hint": "\ud800"}),
    "base64-url": lambda v: v["dsseEnvelope"].update(payload="_-8="),
    "base64-without-padding": lambda v: v["dsseEnvelope"].update(payload="AAA"),
    "base64-with-space": lambda v: v["dsseEnvelope"].update(payload="AA A="),
    "base64-with-newline": lambda v: v["dsseEnvelope"].update(payload="AAA=\n"),
    "base64-with-stray-bits": lambda v: v["dsseEnvelope"].update(payload="AAB="),
    "base64-not-ascii": lambda v: v["dsseEnvelope"].update(payload="é"),
    "payload-is-a-list": lambda v: v["dsseEnvelope"].update(payload=[]),
    "envelope-is-a-list": lambda v: v.update(dsseEnvelope=[]),
    "signatures-is-an-object": lambda v: v["dsseEnvelope"].update(signatures={}),
    "negative-index": entry_with(logIndex="-1"),
    "index-with-zeros": entry_with(logIndex="007"),
    "index-too-large": entry_with(logIndex=str(2**63)),
    "index-huge": entry_with(logIndex="9" * 5000),
    "index-is-a-fraction": entry_with(logIndex=1.5),
    "index-is-true": entry_with(logIndex=True),
    "entry-without-log": entry_with(logId=None),
    "entry-without-kind": entry_with(kindVersion=None),
    "entry-without-body": entry_with(canonicalizedBody=""),
    "hash-of-31-bytes": proof_with(hashes=[b64(b"h" * 31)]),
    "root-of-33-bytes": proof_with(rootHash=b64(b"h" * 33)),
    "s38-hashes": proof_with(hashes=[b64(b"h" * 32)] * 65),
    "s38-checkpoint": proof_with(checkpoint={"envelope": "x" * 65537}),
    "s38-entries": material(tlogEntries=[ENTRY] * 9),
    "s38-signatures": lambda v: v["dsseEnvelope"].update(signatures=[{"sig": "AA=="}] * 9),
    "s51-33-timestamps": stamps(*({"signedTimestamp": b64(b"%d" % n)} for n in range(33))),
    "s51-same-timestamp-twice": stamps(*[{"signedTimestamp": b64(b"t")}] * 2),
    "empty-timestamp": stamps({}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_s58_what_is_no_bundle_is_refused(name: str) -> None:
    with pytest.raises(InvalidSignature):
        parse_bundle(changed(REFUSED[name]))


DOCUMENTS = {
    "empty": b"",
    "a-list": b"[]",
    "duplicate-key": SEED[:-1] + b',"mediaType":"x"}',
    "duplicate-inside": SEED.replace(b'"payloadType"', b'"payload":"","payloadType"'),
    "trailing-data": SEED + b"{}",
    "byte-order-mark": b"\xef\xbb\xbf" + SEED,
    "not-a-number": SEED[:-1] + b',"x":NaN}',
    "nested": b'{"a":' * 200000 + b"1" + b"}" * 200000,
    "not-utf-8": SEED.replace(b"sigstore", b"sigst\xffre"),
    "s38-too-large": SEED + b" " * ATTESTATION_LIMIT,
    "s38-too-many-values": SEED[:-1] + b',"x":[' + b"[],[]," * 10_000 + b"0]}",
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_s38_what_is_no_strict_json_is_refused(name: str) -> None:
    with pytest.raises(InvalidSignature):
        parse_bundle(DOCUMENTS[name])


# Envelopes and statements


def test_pre_authentication_is_that_of_the_specification() -> None:
    """The example of DSSE's protocol.md."""
    made = pre_authentication("http://example.com/HelloWorld", b"hello world")
    assert made == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pre_authentication("é", b"") == "DSSEv1 2 é 0 ".encode()


@pytest.mark.parametrize("signatures", [0, 2])
def test_s59_an_envelope_has_exactly_one_signature(signatures: int) -> None:
    bundle = parse_bundle(signed(make_statement(DIGEST), signatures=signatures))
    with pytest.raises(InvalidSignature, match="exactly one"):
        verify_with_key(bundle, [public(KEY)])


@pytest.mark.parametrize("kind", ["application/json", "", IN_TOTO + " ", IN_TOTO.upper()])
def test_s59_the_payload_is_in_toto_s(kind: str) -> None:
    bundle = parse_bundle(signed(make_statement(DIGEST), payload_type=kind))
    with pytest.raises(InvalidSignature, match="envelope holds"):
        verify_with_key(bundle, [public(KEY)])


def statement_with(**more: Any) -> bytes:
    value = json.loads(make_statement(DIGEST, reference=NAME))
    return json.dumps({k: v for k, v in {**value, **more}.items() if v != "absent"}).encode()


def subject_with(**more: Any) -> bytes:
    return statement_with(subject=[{"digest": {"sha256": DIGEST.hex}, **more}])


NO_STATEMENTS = {
    "type": statement_with(_type="https://in-toto.io/Statement/v2"),
    "no-type": statement_with(_type="absent"),
    "no-subject": statement_with(subject=[]),
    "subject-is-an-object": statement_with(subject={}),
    "too-many-subjects": statement_with(subject=[{"digest": {"sha256": DIGEST.hex}}] * 1025),
    "no-predicate-type": statement_with(predicateType=""),
    "predicate-is-a-list": statement_with(predicate=[]),
    "unknown-field": statement_with(condition="never"),
    "unknown-subject-field": subject_with(condition="never"),
    "upper-case-digest": statement_with(subject=[{"digest": {"sha256": DIGEST.hex.upper()}}]),
    "short-digest": statement_with(subject=[{"digest": {"sha256": DIGEST.hex[:63]}}]),
    "digest-with-newline": statement_with(subject=[{"digest": {"sha256": DIGEST.hex + "\n"}}]),
    "digest-is-a-number": statement_with(subject=[{"digest": {"sha256": 1}}]),
    "no-digest": statement_with(subject=[{"name": "x"}]),
    "name-is-a-number": subject_with(name=1),
    "annotations-are-a-list": subject_with(annotations=["x"]),
    "half-a-pair": subject_with(annotations={"docker-reference": "\ud800"}),
    "half-a-pair-in-predicate": statement_with(predicate={"a": [{"\udfff": 1}]}),
    "duplicate-key": make_statement(DIGEST)[:-1] + b',"_type":"x"}',
    "not-a-number": make_statement(DIGEST).replace(b'"predicate":{}', b'"predicate":{"a":NaN}'),
    "nested": make_statement(DIGEST).replace(
        b'"predicate":{}', b'"predicate":{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"
    ),
    "trailing-data": make_statement(DIGEST) + b"x",
    "empty": b"",
}


@pytest.mark.parametrize("name", NO_STATEMENTS)
def test_s59_signed_payloads_that_are_no_statements_are_refused(name: str) -> None:
    bundle = parse_bundle(signed(NO_STATEMENTS[name]))
    with pytest.raises(InvalidSignature):
        verify_with_key(bundle, [public(KEY)])


NO_SIGNATURES = {
    "provenance": make_statement(
        DIGEST, reference=NAME, predicate_type="https://slsa.dev/provenance/v1"
    ),
    "two-subjects": statement_with(subject=[{"digest": {"sha256": DIGEST.hex}}] * 2),
    "only-sha512": statement_with(subject=[{"digest": {"sha512": "0" * 128}}]),
    "reference-is-a-number": subject_with(annotations={"docker-reference": 1}),
}


@pytest.mark.parametrize("name", NO_SIGNATURES)
def test_s59_statements_that_are_no_signatures_of_an_image_are_refused(name: str) -> None:
    """cosign counts any statement; whoever may attest something may not sign thereby."""
    statement, _ = verify_with_key(parse_bundle(signed(NO_SIGNATURES[name])), [public(KEY)])
    with pytest.raises(InvalidSignature):
        signature_claim(statement)


def test_s59_the_subject_is_the_digest_that_is_claimed() -> None:
    other = Digest.of(b"other")
    claim = signature_claim(parse_statement(make_statement(other)))
    assert claim.digest == other != DIGEST


def test_s10_cosign_s_statements_name_nobody() -> None:
    """Their claim has no reference, so that only a policy that wants none is met."""
    for kind in (STATEMENT_V1, STATEMENT_V01):
        statement = parse_statement(statement_with(_type=kind, subject=[
            {"digest": {"sha256": DIGEST.hex}, "annotations": {"git": "abc", "n": 1}}
        ]))  # fmt: skip
        assert signed_reference(statement) == ""
        claim = signature_claim(statement)
        assert claim.reference == ""
        assert claim.annotations == {"git": "abc"}


def test_names_and_words_of_the_signer_are_read() -> None:
    made = make_statement(DIGEST, reference=NAME, annotations={"z": "1", "a": "<2>"})
    claim = signature_claim(parse_statement(made))
    assert (claim.reference, claim.annotations) == (NAME, {"a": "<2>", "z": "1"})
    named = parse_statement(subject_with(name="x", uri="u", mediaType="m", annotations=None))
    assert named.subjects[0].name == "x"
    assert named.predicate_type == COSIGN_SIGN


# Keys


def test_one_of_several_keys_is_enough_and_is_named() -> None:
    bundle, other = parse_bundle(SEED), public(new_key())
    _, proof = verify_with_key(bundle, [other, public(KEY)])
    assert proof.key == public(KEY).spki_sha256
    for keys in ([], [other], [other, public(new_key())]):
        with pytest.raises(InvalidSignature):
            verify_with_key(bundle, keys)


def test_s47_nothing_in_a_bundle_selects_a_key() -> None:
    """Neither the hint of the trusted key nor a certificate makes another key's signature
    hold, and no hint at all makes the right key's fail."""
    forger = new_key()
    hint = b64(bytes.fromhex(public(KEY).spki_sha256))
    forged = changed(
        material(publicKey={"hint": hint}), make_key_bundle(make_statement(DIGEST), forger)
    )
    with pytest.raises(InvalidSignature):
        verify_with_key(parse_bundle(forged), [public(KEY)])
    for key in ({}, {"hint": ""}, {"hint": b64(bytes.fromhex(public(forger).spki_sha256))}):
        verify_with_key(parse_bundle(changed(material(publicKey=key))), [public(KEY)])

    def with_certificate(value: Any) -> None:
        value["verificationMaterial"] = {"certificate": {"rawBytes": b64(b"junk")}}

    verify_with_key(parse_bundle(changed(with_certificate)), [public(KEY)])


def test_a_changed_payload_does_not_hold() -> None:
    other = b64(make_statement(Digest.of(b"other"), reference=NAME))
    with pytest.raises(InvalidSignature):
        verify_with_key(
            parse_bundle(changed(lambda v: v["dsseEnvelope"].update(payload=other))), [public(KEY)]
        )


def test_messages_are_verified_as_they_are() -> None:
    def bundle(message: bytes, digest: dict[str, str] | None) -> Bundle:
        signature: dict[str, Any] = {"signature": b64(KEY.sign(message))}
        if digest is not None:
            signature["messageDigest"] = digest
        value = {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {}},
            "messageSignature": signature,
        }
        return parse_bundle(json.dumps(value).encode())

    right = {"algorithm": "SHA2_256", "digest": b64(bytes.fromhex(Digest.of(b"hello").hex))}
    wrong = {"algorithm": "SHA2_256", "digest": b64(b"\0" * 32)}
    for digest in (right, None):
        found = verify_message_with_key(bundle(b"hello", digest), b"hello", [public(KEY)])
        assert found[0] == Digest.of(b"hello")
    with pytest.raises(InvalidSignature, match="is about"):
        verify_message_with_key(bundle(b"hello", wrong), b"hello", [public(KEY)])
    with pytest.raises(InvalidSignature):
        verify_message_with_key(bundle(b"hello", None), b"hell0", [public(KEY)])
    with pytest.raises(InvalidSignature, match="not a statement"):
        verify_with_key(bundle(b"hello", right), [public(KEY)])
    with pytest.raises(InvalidSignature, match="a statement"):
        verify_message_with_key(parse_bundle(SEED), b"hello", [public(KEY)])


# Mutations


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=20)
    | st.sampled_from(["", "AA=="]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where there are values in a document."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    if isinstance(value, dict | list):
        for key, item in items:
            found += paths(item, (*path, key))
    return found


def outcome(content: bytes) -> str:
    """ "refused", or what holds."""
    try:
        statement, _ = verify_with_key(parse_bundle(content), [public(KEY)])
        claim = signature_claim(statement)
    except InvalidSignature:
        return "refused"
    return f"{claim.digest} {claim.reference}"


@settings(max_examples=150)
@given(st.integers(0, len(SEED) - 1), st.integers(1, 255))
def test_changed_bytes_are_never_admitted_as_something_else(place: int, change: int) -> None:
    content = bytearray(SEED)
    content[place] ^= change
    assert outcome(bytes(content)) in ("refused", f"{DIGEST} {NAME}")


@settings(max_examples=150)
@given(st.data())
def test_changed_values_are_never_admitted_as_something_else(data: st.DataObject) -> None:
    seed = SEED if data.draw(st.booleans()) else json.dumps(FULL).encode()
    value = json.loads(seed)
    *above, last = data.draw(st.sampled_from(paths(value)))
    inner = value
    for key in above:
        inner = inner[key]
    inner[last] = data.draw(JUNK)
    assert outcome(json.dumps(value).encode()) in ("refused", f"{DIGEST} {NAME}")


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_signed_junk_is_no_signature(payload: bytes) -> None:
    assert outcome(signed(payload)) == "refused"


def test_the_seed_holds() -> None:
    assert outcome(SEED) == f"{DIGEST} {NAME}"
    envelope = Envelope(payload_type=IN_TOTO, payload=b"x", signatures=(b"s",))
    assert signed_message(envelope) == (pre_authentication(IN_TOTO, b"x"), b"s")
