"""Attachments that were signed under a certificate, and the judgement of one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from imgtools.sign.checks import FulcioCheck, check_sigstore_fulcio
from imgtools.sign.keys.public import load_rekor_key
from imgtools.sign.model import SigstoreSignature, Verified
from imgtools.sign.payload import make_payload
from imgtools.spec.digest import Digest
from imgtools.testing.sigstore import LocalSigstore
from imgtools.testing.sigstore.signer import BUNDLE, Signer

EMAIL = "user@example.test"
DIGEST = Digest.of(b"a manifest")
REFERENCE = "registry.example/team/app:v1"
PAYLOAD = make_payload("sigstore", DIGEST, REFERENCE, "test 1", 1_700_000_000)


def attached(signer: Signer, payload: bytes = PAYLOAD, **options: Any) -> SigstoreSignature:
    """An attachment by `signer`."""
    return signer.attachment(payload, **options)


def with_annotation(
    signature: SigstoreSignature, name: str, value: str | None
) -> SigstoreSignature:
    """The same with an annotation replaced, or removed."""
    annotations = {key: text for key, text in signature.annotations.items() if key != name}
    if value is not None:
        annotations[name] = value
    return replace(signature, annotations=annotations)


def with_entry(
    signature: SigstoreSignature, change: Callable[[dict[str, Any]], object]
) -> SigstoreSignature:
    """The same with its log entry changed in place."""
    entry = json.loads(signature.annotations[BUNDLE])
    change(entry)
    return with_annotation(signature, BUNDLE, json.dumps(entry))


def check_of(sigstore: LocalSigstore, **changes: Any) -> FulcioCheck:
    """Trust in the local sigstore and in one person."""
    check = FulcioCheck(
        roots=sigstore.root_pem,
        rekor=(load_rekor_key(sigstore.rekor.public_pem, "the log's key"),),
        issuer=sigstore.issuer.url,
        email=EMAIL,
    )
    return replace(check, **changes)


def judge(sigstore: LocalSigstore, signature: SigstoreSignature, **changes: Any) -> Verified:
    """What is verified of an attachment; raises InvalidSignature."""
    return check_sigstore_fulcio(signature, check_of(sigstore, **changes))
