"""Bundles made with a key that a log has: the entry, its proofs, and its time."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from imgtools.errors import InvalidKey, InvalidSignature
from imgtools.sign.bundles.dsse import IN_TOTO, pre_authentication
from imgtools.sign.bundles.make import make_key_bundle, make_statement
from imgtools.sign.bundles.parse import parse_bundle
from imgtools.sign.bundles.verify_key import verify_with_key
from imgtools.sign.certificates.jcs import canonical
from imgtools.sign.keys.pem import read_block
from imgtools.sign.keys.private import LocalKey
from imgtools.spec.digest import Digest
from imgtools.testing.sigstore import LocalSigstore, entries, merkle
from imgtools.testing.sigstore.entries import encode
from tests.sign.store_site import DIGEST, new_key, public

KEY = new_key()
PAYLOAD = make_statement(DIGEST)


@pytest.fixture(scope="module")
def sigstore() -> LocalSigstore:
    """Services that need no network; each log has a few entries of others already."""
    found = LocalSigstore()
    for number in range(5):
        for rekor in (1, 2):
            logged(found, rekor, payload=make_statement(Digest.of(b"%d" % number)))
    return found


def logged(
    sigstore: LocalSigstore,
    rekor: int,
    *,
    key: LocalKey = KEY,
    pem: bytes = b"",
    payload: bytes = PAYLOAD,
    timestamped: bool | None = None,
) -> dict[str, Any]:
    """A bundle with its entry, as cosign makes them with a key."""
    bundle: dict[str, Any] = json.loads(make_key_bundle(payload, key))
    envelope = bundle["dsseEnvelope"]
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    pem = pem or key.public_pem
    if rekor == 1:
        entry = sigstore.log_v1(entries.dsse(envelope, pem), check=False)
    else:
        digest = hashlib.sha256(pre_authentication(IN_TOTO, payload)).digest()
        entry = sigstore.log_v2(entries.hashedrekord_v2(digest, signature, pem), check=False)
    material = bundle["verificationMaterial"]
    material["tlogEntries"] = [entry.bundle_json()]
    if rekor == 2 if timestamped is None else timestamped:
        token = base64.b64encode(sigstore.timestamp(signature)).decode()
        material["timestampVerificationData"] = {"rfc3161Timestamps": [{"signedTimestamp": token}]}
    return bundle


def verify(sigstore: LocalSigstore, bundle: dict[str, Any], root: bytes | None = None) -> Any:
    return verify_with_key(
        parse_bundle(json.dumps(bundle).encode()),
        [public(KEY)],
        trusted_root=sigstore.trusted_root_json() if root is None else root,
    )[1]


def entry(bundle: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = bundle["verificationMaterial"]["tlogEntries"][0]
    return found


@pytest.mark.parametrize("rekor", [1, 2])
def test_both_logs_say_since_when(sigstore: LocalSigstore, rekor: int) -> None:
    proof = verify(sigstore, logged(sigstore, rekor))
    assert (proof.kind, proof.key) == ("key", public(KEY).spki_sha256)
    assert abs(proof.time - sigstore.clock()) < timedelta(minutes=5)


@pytest.mark.parametrize("rekor", [1, 2])
@pytest.mark.parametrize("size", range(1, 10))
def test_proofs_hold_in_trees_of_every_shape(rekor: int, size: int) -> None:
    own = LocalSigstore()
    for _ in range(size):
        bundle = logged(own, rekor)
    verify(own, bundle)


def test_without_a_root_logs_are_not_asked(sigstore: LocalSigstore) -> None:
    bundle = logged(sigstore, 1)
    entry(bundle)["integratedTime"] = "1"
    found = verify_with_key(parse_bundle(json.dumps(bundle).encode()), [public(KEY)])
    assert found[1].time is None


def flip(text: str) -> str:
    data = bytearray(base64.b64decode(text))
    data[len(data) // 2] ^= 1
    return base64.b64encode(data).decode()


def changed(key: str, change: Callable[[Any], Any], *path: str) -> Callable[[Any], None]:
    def apply(bundle: Any) -> None:
        inner = entry(bundle)
        for name in path:
            inner = inner[name]
        inner[key] = change(inner[key])

    return apply


def in_proof(key: str, change: Callable[[Any], Any]) -> Callable[[Any], None]:
    return changed(key, change, "inclusionProof")


BOTH: dict[str, Callable[[Any], object]] = {
    "s48-body": changed("canonicalizedBody", flip),
    "s48-other-kind": changed("kind", lambda k: "intoto", "kindVersion"),
    "s52-root": in_proof("rootHash", flip),
    "s52-short": in_proof("hashes", lambda h: h[:-1]),
    "s52-long": in_proof("hashes", lambda h: [*h, h[0]]),
    "s52-hash": in_proof("hashes", lambda h: [flip(h[0]), *h[1:]]),
    "s52-size": in_proof("treeSize", lambda s: str(int(s) + 1)),
    "s52-index": in_proof("logIndex", lambda i: str(int(i) - 1)),
    "s52-index-beyond": in_proof("logIndex", lambda i: "1000"),
    "s52-empty-tree": in_proof("treeSize", lambda s: "0"),
    "s52-checkpoint": in_proof(
        "checkpoint", lambda c: {"envelope": c["envelope"].replace("\n", "x\n", 1)}
    ),
    "s52-checkpoint-short": in_proof("checkpoint", lambda c: {"envelope": "x"}),
    "s52-checkpoint-unsigned": in_proof(
        "checkpoint", lambda c: {"envelope": c["envelope"].split("\n\n")[0] + "\n\n"}
    ),
    "s52-no-checkpoint": in_proof("checkpoint", lambda c: None),
    "s52-no-proof": lambda b: entry(b).pop("inclusionProof"),
    "s58-two-entries": lambda b: b["verificationMaterial"]["tlogEntries"].append(entry(b)),
    "s58-no-entry": lambda b: b["verificationMaterial"].pop("tlogEntries"),
}
FIRST: dict[str, Callable[[Any], object]] = {
    "s48-time": changed("integratedTime", lambda t: str(int(t) + 1)),
    "s48-index": changed("logIndex", lambda i: str(int(i) + 1)),
    "s48-index-inexact": changed("logIndex", lambda i: str(2**60)),
    "s48-log": changed("keyId", flip, "logId"),
    "s48-promise": changed("signedEntryTimestamp", flip, "inclusionPromise"),
    "s48-no-promise": lambda b: entry(b).pop("inclusionPromise"),
}


@pytest.mark.parametrize(
    ("rekor", "change"),
    [*((1, c) for c in (BOTH | FIRST).values()), *((2, c) for c in BOTH.values())],
    ids=[*(f"1-{n}" for n in BOTH | FIRST), *(f"2-{n}" for n in BOTH)],
)
def test_s48_s52_entries_that_do_not_hold(
    sigstore: LocalSigstore, rekor: int, change: Callable[[Any], object]
) -> None:
    bundle = logged(sigstore, rekor)
    verify(sigstore, bundle)
    change(bundle)
    with pytest.raises(InvalidSignature):
        verify(sigstore, bundle)


@pytest.mark.parametrize("rekor", [1, 2])
def test_s48_entries_of_other_signatures_and_other_keys(
    sigstore: LocalSigstore, rekor: int
) -> None:
    """Each holds by itself: of the same key for another image, or again for this one; and one
    that says that somebody else's key made this signature."""
    bundle = logged(sigstore, rekor)
    for other in (
        logged(sigstore, rekor, payload=make_statement(Digest.of(b"other"))),
        logged(sigstore, rekor),
    ):
        mixed = copy.deepcopy(bundle)
        mixed["verificationMaterial"]["tlogEntries"] = [entry(other)]
        with pytest.raises(InvalidSignature, match="another"):
            verify(sigstore, mixed)
    with pytest.raises(InvalidSignature, match="another"):
        verify(sigstore, logged(sigstore, rekor, pem=new_key().public_pem))


def dsse_in_second_log(
    sigstore: LocalSigstore, *, payload: bytes = PAYLOAD, key: LocalKey = KEY, count: int = 1
) -> dict[str, Any]:
    """A bundle whose entry is a dsse 0.0.2, the first of a log of its own, with what it says of
    `payload` and `key`."""
    bundle = logged(sigstore, 2)
    signature = bundle["dsseEnvelope"]["signatures"][0]["sig"]
    _, der = read_block(key.public_pem, "a test's key")
    verifier = {"keyDetails": "PKIX_ECDSA_P256_SHA_256", "publicKey": {"rawBytes": encode(der)}}
    digest = encode(hashlib.sha256(payload).digest())
    spec = {
        "payloadHash": {"algorithm": "SHA2_256", "digest": digest},
        "signatures": [{"content": signature, "verifier": verifier}] * count,
    }
    body = canonical({"apiVersion": "0.0.2", "kind": "dsse", "spec": {"dsseV002": spec}})
    root = merkle.leaf_hash(body)
    entry(bundle).update(
        kindVersion={"kind": "dsse", "version": "0.0.2"},
        canonicalizedBody=encode(body),
        inclusionProof={
            "logIndex": "0",
            "treeSize": "1",
            "rootHash": encode(root),
            "hashes": [],
            "checkpoint": {"envelope": sigstore.rekor2.checkpoint(1, root)},
        },
    )
    return bundle


def test_the_second_log_s_own_form_of_envelopes(sigstore: LocalSigstore) -> None:
    assert verify(sigstore, dsse_in_second_log(sigstore)).time is not None
    for wrong in (
        dsse_in_second_log(sigstore, payload=b"other"),
        dsse_in_second_log(sigstore, key=new_key()),
        dsse_in_second_log(sigstore, count=2),
        dsse_in_second_log(sigstore, count=0),
    ):
        with pytest.raises(InvalidSignature, match="another"):
            verify(sigstore, wrong)


def test_s50_the_second_log_vouches_for_no_time(sigstore: LocalSigstore) -> None:
    with pytest.raises(InvalidSignature, match="time"):
        verify(sigstore, logged(sigstore, 2, timestamped=False))


@pytest.mark.parametrize("rekor", [1, 2])
def test_s52_logs_that_the_root_does_not_have_or_not_then(
    sigstore: LocalSigstore, rekor: int
) -> None:
    bundle = logged(sigstore, rekor)
    root = sigstore.trusted_root()
    root["tlogs"] = LocalSigstore().trusted_root()["tlogs"]
    with pytest.raises(InvalidSignature):
        verify(sigstore, bundle, json.dumps(root).encode())
    root = sigstore.trusted_root()
    for log in root["tlogs"]:
        log["publicKey"]["validFor"]["end"] = (sigstore.clock() - timedelta(days=1)).isoformat()
    with pytest.raises(InvalidSignature):
        verify(sigstore, bundle, json.dumps(root).encode())
    root["tlogs"][0]["publicKey"]["rawBytes"] = "AAAA"
    del root["tlogs"][0]["publicKey"]["validFor"]
    with pytest.raises(InvalidKey):
        verify(sigstore, bundle, json.dumps(root).encode())
