"""Signed entry timestamps: what a log promised, in its one form, and nothing else."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from imgtools.errors import InvalidKey, InvalidSignature
from imgtools.sign.certificates.jcs import canonical
from imgtools.sign.certificates.rekor import verify_set
from imgtools.sign.keys.public import PublicKey, load_rekor_key
from imgtools.testing.sigstore import LocalSigstore, entries
from imgtools.testing.sigstore.signer import Signer

PAYLOAD = b"what was signed"
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Case:
    """A signature by a key, with its log; `body` and `payload` are as the log has them."""

    def __init__(self) -> None:
        self.sigstore = LocalSigstore()
        self.signer: Signer = self.sigstore.signer()
        self.pem = self.signer.key.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        self.signature = self.signer.sign(PAYLOAD)
        self.keys = (load_rekor_key(self.sigstore.rekor.public_pem, "the log's key"),)
        self.proposal = entries.hashedrekord(PAYLOAD, self.signature, self.pem)
        self.entry = self.sigstore.log_v1(self.proposal, at=AT)

    def verify(self, annotation: str | bytes, **changes: Any) -> datetime:
        """The time that an annotation proves."""
        options: dict[str, Any] = {
            "rekor_keys": self.keys,
            "payload": PAYLOAD,
            "signature": self.signature,
            "verifier_pem": self.pem,
        }
        return verify_set(annotation, **(options | changes))

    def promised(self, payload: dict[str, Any]) -> str:
        """An annotation with any payload, signed by the log."""
        key = self.sigstore.rekor.key
        promise = key.sign(canonical(payload), ec.ECDSA(hashes.SHA256()))
        return json.dumps({"SignedEntryTimestamp": entries.encode(promise), "Payload": payload})

    def payload(self) -> dict[str, Any]:
        """What the log signed."""
        found: dict[str, Any] = json.loads(self.entry.annotation())["Payload"]
        return found

    def with_body(self, change: Callable[[dict[str, Any]], object]) -> str:
        """An annotation whose body was changed before the log signed it."""
        body = json.loads(self.entry.body)
        change(body)
        return self.promised(self.payload() | {"body": entries.encode(json.dumps(body).encode())})


@pytest.fixture(scope="module")
def case() -> Case:
    """One for all tests; nobody changes it."""
    return Case()


def test_promise_holds(case: Case) -> None:
    """In any layout of the JSON, for a key and for a certificate, as text and as bytes."""
    annotation = case.entry.annotation()
    assert case.verify(annotation) == AT
    loose = json.dumps(dict(reversed(json.loads(annotation).items())), indent=3)
    assert case.verify(loose.encode()) == AT
    logged = case.signer.logged(PAYLOAD, case.signature, at=AT + timedelta(seconds=1))
    pem = case.signer.chain.leaf_pem
    assert case.verify(logged.annotation(), verifier_pem=pem) == AT + timedelta(seconds=1)


def test_promise_of_any_of_the_logs(case: Case) -> None:
    """Keys are rotated; another log's alone is not enough."""
    other = load_rekor_key(LocalSigstore().rekor.public_pem, "another log's key")
    assert case.verify(case.entry.annotation(), rekor_keys=(other, *case.keys)) == AT
    for keys in ((other,), ()):
        with pytest.raises(InvalidSignature, match="not signed by a Rekor key"):
            case.verify(case.entry.annotation(), rekor_keys=keys)


def test_label_of_the_key_does_not_count(case: Case) -> None:
    """The bytes are compared: containers/image does not look at the PEM type either."""
    renamed = case.pem.replace(b"PUBLIC KEY", b"SOMETHING ELSE")
    assert case.verify(case.entry.annotation(), verifier_pem=renamed) == AT


def test_log_key_that_is_not_ecdsa(case: Case) -> None:
    """Such a key cannot be a log's of this version."""
    key = PublicKey.of(ed25519.Ed25519PrivateKey.generate().public_key(), "a key")
    with pytest.raises(InvalidKey, match="expected ECDSA"):
        case.verify(case.entry.annotation(), rekor_keys=(key,))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"payload": PAYLOAD + b" "}, "another payload"),
        ({"payload": b""}, "another payload"),
        ({"signature": b"0"}, "another signature"),
        ({"signature": b""}, "another signature"),
        ({"verifier_pem": b""}, "not exactly one PEM block"),
        ({"verifier_pem": b"nothing"}, "not exactly one PEM block"),
    ],
)
def test_s48_entry_of_something_else(case: Case, changes: dict[str, Any], reason: str) -> None:
    """The entry has to be of this payload, this signature and this key."""
    with pytest.raises(InvalidSignature, match=reason):
        case.verify(case.entry.annotation(), **changes)


def test_s48_entry_of_another_key(case: Case) -> None:
    """A key that did not sign, and one with something behind it."""
    other = LocalSigstore().rekor.public_pem
    for pem in (other, case.signer.chain.leaf_pem):
        with pytest.raises(InvalidSignature, match="another key or certificate"):
            case.verify(case.entry.annotation(), verifier_pem=pem)
    for pem in (case.pem + case.pem, case.pem + b"\n", b"\n" + case.pem, case.pem + b"x"):
        with pytest.raises(InvalidSignature, match="not exactly one PEM block"):
            case.verify(case.entry.annotation(), verifier_pem=pem)


FIELDS: dict[str, Callable[[dict[str, Any]], object]] = {
    "outer-extra": lambda e: e.update(extra=1),
    "outer-missing": lambda e: e.pop("SignedEntryTimestamp"),
    "outer-case": lambda e: e.update(payload=e.pop("Payload")),
    "no-payload": lambda e: e.pop("Payload"),
    "payload-list": lambda e: e.update(Payload=[]),
    "payload-null": lambda e: e.update(Payload=None),
    "set-null": lambda e: e.update(SignedEntryTimestamp=None),
    "set-empty": lambda e: e.update(SignedEntryTimestamp=""),
    "set-space": lambda e: e.update(SignedEntryTimestamp=e["SignedEntryTimestamp"] + " "),
    "set-line-end": lambda e: e.update(SignedEntryTimestamp=e["SignedEntryTimestamp"] + "\n"),
    "set-trailing": lambda e: e.update(
        SignedEntryTimestamp=entries.encode(base64.b64decode(e["SignedEntryTimestamp"]) + b"\0")
    ),
    "set-url-safe": lambda e: e.update(SignedEntryTimestamp="-_8="),
    "set-raw": lambda e: e.update(SignedEntryTimestamp=entries.encode(b"\1" * 64)),
    "set-not-ascii": lambda e: e.update(SignedEntryTimestamp="\u0665" * 4),
    "extra": lambda e: e["Payload"].update(extra=1),
    "missing": lambda e: e["Payload"].pop("logIndex"),
    "case": lambda e: e["Payload"].update(LogID=e["Payload"].pop("logID")),
    "time-text": lambda e: e["Payload"].update(integratedTime="1"),
    "time-float": lambda e: e["Payload"].update(integratedTime=1.0),
    "time-bool": lambda e: e["Payload"].update(integratedTime=True),
    "time-negative": lambda e: e["Payload"].update(integratedTime=-1),
    "time-huge": lambda e: e["Payload"].update(integratedTime=253_402_300_800),
    "time-enormous": lambda e: e["Payload"].update(integratedTime=10**400),
    "time-other": lambda e: e["Payload"].update(integratedTime=1),
    "index-negative": lambda e: e["Payload"].update(logIndex=-1),
    "index-huge": lambda e: e["Payload"].update(logIndex=2**53),
    "index-null": lambda e: e["Payload"].update(logIndex=None),
    "log-id-number": lambda e: e["Payload"].update(logID=1),
    "log-id-surrogate": lambda e: e["Payload"].update(logID="\ud800"),
    "body-object": lambda e: e["Payload"].update(body={}),
    "body-text": lambda e: e["Payload"].update(body="{}"),
}


@pytest.mark.parametrize("name", FIELDS)
def test_s48_form_of_the_promise(case: Case, name: str) -> None:
    """Exactly two and exactly four fields, each of its type and within its range."""
    entry = json.loads(case.entry.annotation())
    FIELDS[name](entry)
    with pytest.raises(InvalidSignature):
        case.verify(json.dumps(entry))


@pytest.mark.parametrize(
    "payload",
    [
        {"integratedTime": 253_402_300_800},
        {"integratedTime": -1},
        {"logIndex": -1},
        {"body": ""},
        {"body": "e30"},
        {"body": "e30=\n"},
        {"body": entries.encode(b"[]")},
        {"body": entries.encode(b"{")},
        {"extra": 1},
    ],
)
def test_s48_form_even_if_the_log_signed_it(case: Case, payload: dict[str, Any]) -> None:
    """A log that is trusted cannot promise what has no meaning."""
    with pytest.raises(InvalidSignature):
        case.verify(case.promised(case.payload() | payload))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"a":NaN}',
        '{"Payload":{},"Payload":{},"SignedEntryTimestamp":""}',
        "\ufeff{}",
        "\ud800",
        '{"Payload":' + "[" * 100_000,
        '{"Payload":' * 5000,
        '{"a":' + "9" * 10_000 + "}",
        " " * 2_000_000,
    ],
)
def test_s48_no_promise_at_all(case: Case, text: str) -> None:
    """Anything may stand in an annotation."""
    with pytest.raises(InvalidSignature):
        case.verify(text)
    trailing = case.entry.annotation() + text
    if text.strip():
        with pytest.raises(InvalidSignature):
            case.verify(trailing)


BODIES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "kind-dsse": (lambda b: b.update(kind="dsse"), "expected a hashedrekord 0.0.1"),
    "kind-missing": (lambda b: b.pop("kind"), "expected a hashedrekord 0.0.1"),
    "version-2": (lambda b: b.update(apiVersion="0.0.2"), "expected a hashedrekord 0.0.1"),
    "version-number": (lambda b: b.update(apiVersion=1), "expected a hashedrekord 0.0.1"),
    "no-spec": (lambda b: b.pop("spec"), "has no text spec.signature.publicKey.content"),
    "spec-text": (lambda b: b.update(spec="x"), "has no text"),
    "no-data": (lambda b: b["spec"].pop("data"), "has no text spec.data.hash.algorithm"),
    "no-hash": (lambda b: b["spec"]["data"].pop("hash"), "has no text spec.data.hash.algorithm"),
    "sha512": (
        lambda b: b["spec"]["data"]["hash"].update(algorithm="sha512"),
        "expected sha256",
    ),
    "hash-upper": (
        lambda b: b["spec"]["data"]["hash"].update(value="AB" * 32),
        "another payload",
    ),
    "no-signature": (lambda b: b["spec"].pop("signature"), "has no text spec.signature"),
    "signature-object": (
        lambda b: b["spec"]["signature"].update(content={}),
        "has no text spec.signature.content",
    ),
    "signature-not-base64": (
        lambda b: b["spec"]["signature"].update(content="!!"),
        "is not base64",
    ),
    "key-not-pem": (
        lambda b: b["spec"]["signature"]["publicKey"].update(content=entries.encode(b"x")),
        "the logged key is not exactly one PEM block",
    ),
    "key-null": (
        lambda b: b["spec"]["signature"].update(publicKey=None),
        "has no text spec.signature.publicKey.content",
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_s48_body_of_the_entry(case: Case, name: str) -> None:
    """The log has signed it, and still only a hashedrekord 0.0.1 of these bytes counts."""
    change, reason = BODIES[name]
    with pytest.raises(InvalidSignature, match=reason):
        case.verify(case.with_body(change))


def test_unknown_fields_of_the_body(case: Case) -> None:
    """Entries may get more fields in time; the log vouches for them."""
    assert case.verify(case.with_body(lambda b: b["spec"].update(more=[1]))) == AT


@settings(max_examples=400)
@given(data=st.data())
def test_changed_promises_are_never_admitted(case: Case, data: st.DataObject) -> None:
    """One byte changed, taken out or put in: refused, or it is the same document."""
    original = case.entry.annotation().encode()
    position = data.draw(st.integers(0, len(original) - 1))
    byte = bytes((data.draw(st.integers(0, 255)),))
    cut = data.draw(st.integers(0, 1))
    changed = original[:position] + byte + original[position + cut :]
    try:
        found = case.verify(changed)
    except InvalidSignature:
        return
    assert found == AT
    assert json.loads(changed) == json.loads(original)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(outer=JSON, inner=JSON, body=JSON)
def test_any_document_is_refused(case: Case, outer: Any, inner: Any, body: Any) -> None:
    """Whatever JSON somebody writes, signed by the log or not."""
    texts = [json.dumps(outer), json.dumps({"SignedEntryTimestamp": "MAA=", "Payload": inner})]
    encoded = entries.encode(json.dumps(body).encode())
    texts.append(case.promised(case.payload() | {"body": encoded}))
    for text in texts:
        with pytest.raises(InvalidSignature):
            case.verify(text)
