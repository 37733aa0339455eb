"""The table of short-lived certificates, judged by a policy with `fulcio` in it."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from imgtools.sign.payload import cosign_payload
from imgtools.testing.sigstore import LocalSigstore
from tests.sign.attachments import DIGEST, EMAIL, REFERENCE, attached
from tests.sign.judging import Signer, policy, verdict
from tests.sign.test_fulcio import ROWS


@pytest.fixture(scope="module")
def sigstore() -> LocalSigstore:
    """One for all tests; nobody changes it."""
    return LocalSigstore()


def requirement(sigstore: LocalSigstore, **more: Any) -> dict[str, Any]:
    """Trust in the local sigstore and in one person."""
    fulcio = {
        "caData": base64.b64encode(sigstore.root_pem).decode(),
        "oidcIssuer": sigstore.issuer.url,
        "subjectEmail": EMAIL,
    }
    rekor = base64.b64encode(sigstore.rekor.public_pem).decode()
    return {"type": "sigstoreSigned", "fulcio": fulcio, "rekorPublicKeyData": rekor, **more}


@pytest.mark.parametrize("name", ROWS)
def test_fulcio_table_by_a_policy(sigstore: LocalSigstore, name: str) -> None:
    """The same verdicts as of the function, with its reasons."""
    row = ROWS[name]
    signature = row.make(sigstore)
    found = verdict(policy(requirement(sigstore)), [signature], digest=DIGEST, name=REFERENCE)
    (outcome,) = found.outcomes
    assert found.admitted is (row.reason is None), outcome.reasons
    assert found.signed is found.admitted
    if row.reason is not None:
        assert row.reason in " ".join(outcome.reasons)
        assert not outcome.unsigned


def test_fulcio_table_by_a_policy_cosign_tagless(sigstore: LocalSigstore) -> None:
    """Refused by the default rule, accepted by one that asks for the repository."""
    payload = cosign_payload(DIGEST, REFERENCE.rpartition(":")[0])
    signature = attached(sigstore.signer(EMAIL), payload)
    for rule, admitted in (({}, False), ({"signedIdentity": {"type": "matchRepository"}}, True)):
        trust = policy(requirement(sigstore, **rule))
        found = verdict(trust, [signature], digest=DIGEST, name=REFERENCE)
        assert found.admitted is admitted


def test_fulcio_table_is_whole() -> None:
    """Eighteen rows and the one of cosign."""
    assert len(ROWS) == 18
    assert sum(row.reason is None for row in ROWS.values()) == 4


def test_signatures_by_keys_count_for_nothing_under_certificates(sigstore: LocalSigstore) -> None:
    """Neither does a key whose entry is in the log, nor a certificate without its signature."""
    trust = policy(requirement(sigstore))
    signer = Signer()
    layer = signer.attachment(signer.payload(DIGEST, REFERENCE))
    found = verdict(trust, [layer], digest=DIGEST, name=REFERENCE)
    assert not found.admitted
    good = attached(sigstore.signer(EMAIL))
    stolen = {**good.annotations, **layer.annotations}
    both = signer.attachment(layer.payload, **stolen)
    assert not verdict(trust, [both], digest=DIGEST, name=REFERENCE).admitted
