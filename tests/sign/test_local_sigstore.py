"""The sigstore that tests have is one: sigstore's own client signs with it and verifies.

What it writes is checked with implementations that are not ours: the client, its timestamp
library, and the vectors of RFC 6962.
"""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit

import pytest
import rfc3161_client
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from sigstore import dsse
from sigstore.errors import Error as SigstoreError
from sigstore.models import Bundle, ClientTrustConfig, InvalidBundle, TrustedRoot
from sigstore.oidc import IdentityToken
from sigstore.sign import SigningContext
from sigstore.verify import Verifier, policy
from sigstore_models.trustroot.v1 import TrustedRoot as TrustedRootModel

from imgtools.sign.certificates.identity import identified
from imgtools.testing.sigstore import LocalSigstore, entries, merkle
from imgtools.testing.sigstore.authority import Leaf
from imgtools.testing.sigstore.clock import SetClock
from imgtools.testing.sigstore.rekor import Refused
from imgtools.testing.sigstore.signer import bundle_bytes
from imgtools.testing.sigstore.timestamps import TimestampAuthority

EMAIL = "user@example.test"
WORKFLOW = "team/app/.github/workflows/release.yml@refs/heads/main"
RekorVersion = Literal[1, 2]


@pytest.fixture(scope="module")
def sigstore() -> LocalSigstore:
    """One without a network; its logs have some entries, so that proofs are not empty."""
    local = LocalSigstore()
    signer = local.signer()
    for _ in range(5):
        signer.message_bundle(b"x", rekor=1)
        signer.message_bundle(b"x", rekor=2)
    return local


@pytest.fixture
def served() -> Iterator[LocalSigstore]:
    """One that listens."""
    with LocalSigstore() as local:
        yield local


def _verifier(local: LocalSigstore) -> Verifier:
    root = TrustedRootModel.from_json(local.trusted_root_json())
    return Verifier(trusted_root=TrustedRoot(root))


def _policy(local: LocalSigstore, identity: str = EMAIL) -> policy.Identity:
    return policy.Identity(identity=identity, issuer=local.issuer.url)


# --- sigstore's client --------------------------------------------------------------------------


@pytest.mark.parametrize("rekor", [1, 2])
def test_client_signs_and_verifies(served: LocalSigstore, rekor: RekorVersion) -> None:
    """Everything a keyless signature needs, over HTTP, in both versions of Rekor."""
    config = ClientTrustConfig.from_json(json.dumps(served.client_trust_config(rekor=rekor)))
    verifier = Verifier(trusted_root=config.trusted_root)
    statement = (
        dsse.StatementBuilder()
        .subjects([dsse.Subject(name="app", digest={"sha256": "ab" * 32})])
        .predicate_type("https://sigstore.dev/cosign/sign/v1")
        .predicate({})
        .build()
    )
    context = SigningContext.from_trust_config(config)
    with context.signer(IdentityToken(served.token(EMAIL))) as signer:
        artifact = signer.sign_artifact(b"content")
        envelope = signer.sign_dsse(statement)
    verifier.verify_artifact(b"content", artifact, _policy(served))
    kind, payload = verifier.verify_dsse(envelope, _policy(served))
    assert (kind, json.loads(payload)["subject"][0]["name"]) == (entries.DSSE_TYPE, "app")
    with pytest.raises(SigstoreError):
        verifier.verify_artifact(b"content", artifact, _policy(served, "other@example.test"))
    asked = [exchange.target for exchange in served.requests]
    assert asked.count(f"/api/v{rekor}/log/entries") == 2
    assert asked.count("/ts") == (2 if rekor == 2 else 0)


@pytest.mark.parametrize("rekor", [1, 2])
@pytest.mark.parametrize("stamped", [False, True])
def test_client_verifies_what_is_made_without_network(
    sigstore: LocalSigstore, rekor: RekorVersion, stamped: bool
) -> None:
    """Bundles of `Signer`; the second Rekor's need a timestamp."""
    signer = sigstore.signer()
    options: Any = {"rekor": rekor, "timestamped": stamped}
    message = bundle_bytes(signer.message_bundle(b"content", **options))
    envelope = bundle_bytes(signer.dsse_bundle(b"{}", **options))
    verifier = _verifier(sigstore)
    if rekor == 2 and not stamped:
        for content in (message, envelope):
            with pytest.raises(InvalidBundle, match="promise or signed timestamp"):
                Bundle.from_json(content)
        return
    verifier.verify_artifact(b"content", Bundle.from_json(message), _policy(sigstore))
    found = verifier.verify_dsse(Bundle.from_json(envelope), _policy(sigstore))
    assert found == (entries.DSSE_TYPE, b"{}")


Change = Callable[[LocalSigstore, dict[str, Any]], object]


def _proof(bundle: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = bundle["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]
    return found


def _other_root(local: LocalSigstore, bundle: dict[str, Any]) -> None:
    """A tree that the log has signed, and whose root is another one."""
    root, proof = hashlib.sha256(b"elsewhere").digest(), _proof(bundle)
    rekor = local.rekor2 if "log2025" in proof["checkpoint"]["envelope"] else local.rekor
    proof["checkpoint"]["envelope"] = rekor.checkpoint(int(proof["treeSize"]), root)
    proof["rootHash"] = entries.encode(root)


BAD: dict[str, Change] = {
    "wrong-tree": _other_root,
    "proof-cut": lambda local, b: _proof(b)["hashes"].pop(),
    "checkpoint-of-another-log": lambda local, b: _proof(b)["checkpoint"].update(
        envelope=LocalSigstore().rekor.checkpoint(1, b"x" * 32)
    ),
    "no-entry": lambda local, b: b["verificationMaterial"]["tlogEntries"].clear(),
    "timestamp-of-something-else": lambda local, b: b["verificationMaterial"].update(
        timestampVerificationData={
            "rfc3161Timestamps": [{"signedTimestamp": entries.encode(local.timestamp(b"x"))}]
        },
        tlogEntries=[
            {k: v for k, v in entry.items() if k not in ("inclusionPromise", "integratedTime")}
            for entry in b["verificationMaterial"]["tlogEntries"]
        ],
    ),
}


@pytest.mark.parametrize("rekor", [1, 2])
@pytest.mark.parametrize("name", BAD)
def test_client_refuses_what_is_made_badly(
    sigstore: LocalSigstore, name: str, rekor: RekorVersion
) -> None:
    """Each knob breaks what it says, for a verifier that is not ours."""
    bundle = sigstore.signer().message_bundle(b"content", rekor=rekor)
    BAD[name](sigstore, bundle)
    with pytest.raises(SigstoreError):
        _verifier(sigstore).verify_artifact(
            b"content", Bundle.from_json(bundle_bytes(bundle)), _policy(sigstore)
        )


@pytest.mark.parametrize(
    "leaf",
    [
        Leaf(timestamps="none"),
        Leaf(timestamps="two"),
        Leaf(timestamps="foreign"),
        Leaf(usages=(ExtendedKeyUsageOID.SERVER_AUTH,)),
        Leaf(issuer_extensions="v2"),
        Leaf(authority=True),
        Leaf(key_usage=False),
        Leaf(unknown_critical=True),
    ],
)
def test_client_refuses_bad_certificates(sigstore: LocalSigstore, leaf: Leaf) -> None:
    """What `Leaf` can do wrong (an issuer only in its newer form is wrong to this client)."""
    bundle = sigstore.signer(leaf=leaf).message_bundle(b"content")
    with pytest.raises((SigstoreError, x509.ExtensionNotFound)):
        _verifier(sigstore).verify_artifact(
            b"content", Bundle.from_json(bundle_bytes(bundle)), _policy(sigstore)
        )


def test_time_is_the_clock_s() -> None:
    """A signature of another year, and an entry after the certificate has expired."""
    clock = SetClock(datetime(2025, 6, 1, tzinfo=UTC))
    local = LocalSigstore(clock=clock)
    signer = local.signer()
    bundle = signer.message_bundle(b"content")
    promised = bundle["verificationMaterial"]["tlogEntries"][0]["integratedTime"]
    assert int(promised) == int(clock.now.timestamp())
    _verifier(local).verify_artifact(
        b"content", Bundle.from_json(bundle_bytes(bundle)), _policy(local)
    )
    clock.advance(timedelta(minutes=11))
    late = signer.message_bundle(b"content", at=clock())
    with pytest.raises(SigstoreError):
        _verifier(local).verify_artifact(
            b"content", Bundle.from_json(bundle_bytes(late)), _policy(local)
        )


# --- logs and timestamps ------------------------------------------------------------------------

# The eight entries and the roots of the trees of them that every implementation of RFC 6962 tests.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
PROOFS = {
    (0, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (5, 8): (
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (2, 3): ("fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",),
}


def test_tree_is_that_of_rfc_6962() -> None:
    """Roots and proofs of the entries that implementations share."""
    hashed = [merkle.leaf_hash(leaf) for leaf in LEAVES]
    assert merkle.root([]) == hashlib.sha256().digest()
    assert tuple(merkle.root(hashed[: n + 1]).hex() for n in range(8)) == ROOTS
    for (index, size), proof in PROOFS.items():
        found = merkle.inclusion_proof(hashed[:size], index)
        assert tuple(each.hex() for each in found) == proof


def test_log_refuses_what_nobody_signed(sigstore: LocalSigstore) -> None:
    """As Rekor does, unless it is told to take it."""
    signer = sigstore.signer()
    proposal = entries.hashedrekord(b"a", signer.sign(b"b"), signer.chain.leaf_pem)
    with pytest.raises(Refused, match="does not verify"):
        sigstore.log_v1(proposal)
    assert sigstore.log_v1(proposal, check=False).kind == "hashedrekord"
    with pytest.raises(Refused, match="malformed"):
        sigstore.log_v1({"kind": "dsse", "apiVersion": "0.0.1"})
    with pytest.raises(Refused, match=r"rekord 0\.0\.1 are not taken"):
        sigstore.log_v1({"kind": "rekord", "apiVersion": "0.0.1"})
    digest = hashlib.sha256(b"a").digest()
    wrong = entries.hashedrekord_v2(digest, signer.sign(b"b"), signer.chain.leaf_pem)
    with pytest.raises(Refused, match="does not verify"):
        sigstore.log_v2(wrong)


def test_log_takes_public_keys(sigstore: LocalSigstore) -> None:
    """Signatures with keys are logged as well, in both versions."""
    signer = sigstore.signer()
    spki = PublicFormat.SubjectPublicKeyInfo
    pem = signer.key.public_key().public_bytes(Encoding.PEM, spki)
    signature = signer.sign(b"a")
    first = sigstore.log_v1(entries.hashedrekord(b"a", signature, pem))
    digest = hashlib.sha256(b"a").digest()
    second = sigstore.log_v2(entries.hashedrekord_v2(digest, signature, pem))
    assert base64.b64encode(pem) in first.body
    assert b"publicKey" in second.body
    assert replace(first, promise=b"").bundle_json().get("inclusionPromise") is None


def test_timestamps_are_those_of_rfc_3161(sigstore: LocalSigstore) -> None:
    """Verified by sigstore's library, also with the number of the request and without a chain."""
    authority = sigstore.timestamps
    at = datetime(2026, 5, 1, 12, tzinfo=UTC)
    builder = rfc3161_client.VerifierBuilder()
    builder = builder.tsa_certificate(authority.chain[0]).add_root_certificate(authority.chain[1])
    for certificate in (True, False):
        token = authority.timestamp(b"message", at=at, nonce=2**63, certificate=certificate)
        answer = rfc3161_client.decode_timestamp_response(token)
        assert answer.tst_info.gen_time == at
        assert builder.nonce(2**63).build().verify_message(answer, b"message")
        with pytest.raises(rfc3161_client.VerificationError):
            builder.nonce(2**63).build().verify_message(answer, b"another")
    other = TimestampAuthority(usage=ExtendedKeyUsageOID.CODE_SIGNING)
    wrong = rfc3161_client.decode_timestamp_response(other.timestamp(b"message"))
    builder = rfc3161_client.VerifierBuilder().add_root_certificate(other.chain[1])
    with pytest.raises(rfc3161_client.VerificationError, match="purpose"):
        builder.tsa_certificate(other.chain[0]).build().verify_message(wrong, b"message")


# --- over HTTP ----------------------------------------------------------------------------------


def _ask(url: str, body: object = None, token: str = "") -> tuple[int, bytes]:
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=content)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except HTTPError as e:
        with e:
            return e.code, e.read()


def test_certificates_for_skopeo(served: LocalSigstore) -> None:
    """The first version of Fulcio's API: a key and a proof that one has it, PEM as answer."""
    key = ec.generate_private_key(ec.SECP256R1())
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    proof = key.sign(EMAIL.encode(), ec.ECDSA(hashes.SHA256()))
    body = {
        "publicKey": {"content": entries.encode(spki), "algorithm": "ecdsa"},
        "signedEmailAddress": entries.encode(proof),
        "certificateSigningRequest": None,
    }
    url = f"{served.url}/api/v1/signingCert"
    status, content = _ask(url, body, served.token(EMAIL))
    leaf, *issuers = x509.load_pem_x509_certificates(content)
    assert (status, len(issuers)) == (201, 2)
    assert leaf.public_key() == key.public_key()
    assert _ask(url, body, served.token("other@example.test"))[0] == 400
    assert _ask(url, body, LocalSigstore().token(EMAIL))[0] == 401
    assert _ask(url, body, served.token(EMAIL, lifetime=timedelta(seconds=-1)))[0] == 401
    assert _ask(url, body, served.token(EMAIL, audience="else"))[0] == 401
    assert _ask(url, body)[0] == 401


def test_certificates_of_workflows(served: LocalSigstore) -> None:
    """A token like GitHub's becomes a URI and the extensions that Fulcio makes of it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = "repo:team/app:ref:refs/heads/main"
    claims = {"job_workflow_ref": WORKFLOW, "repository": "team/app", "ref": "refs/heads/main"}
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    body = {
        "publicKeyRequest": {
            "publicKey": {"algorithm": "ECDSA", "content": pem.decode()},
            "proofOfPossession": entries.encode(
                key.sign(subject.encode(), ec.ECDSA(hashes.SHA256()))
            ),
        }
    }
    token = served.token(subject, claims=claims)
    status, content = _ask(f"{served.url}/api/v2/signingCert", body, token)
    assert status == 200
    pems = json.loads(content)["signedCertificateEmbeddedSct"]["chain"]["certificates"]
    found = identified(x509.load_pem_x509_certificate(pems[0].encode()))
    assert [name.value for name in found.names] == [f"https://github.com/{WORKFLOW}"]
    arc = "1.3.6.1.4.1.57264.1."
    assert found.extensions[f"{arc}9"] == f"https://github.com/{WORKFLOW}"
    assert found.extensions[f"{arc}5"] == "team/app"
    assert found.extensions[f"{arc}14"] == "refs/heads/main"


def test_log_over_http(served: LocalSigstore) -> None:
    """Entries are found again, and what is there already is not logged twice."""
    signer = served.signer()
    proposal = entries.hashedrekord(b"a", signer.sign(b"a"), signer.chain.leaf_pem)
    url = f"{served.url}/api/v1/log"
    status, content = _ask(f"{url}/entries", proposal)
    ((uuid, entry),) = json.loads(content).items()
    assert (status, entry["logIndex"]) == (201, 0)
    assert _ask(f"{url}/entries", proposal)[0] == 409
    assert json.loads(_ask(f"{url}/entries/{uuid}")[1]) == {uuid: entry}
    assert json.loads(_ask(f"{url}/entries?logIndex=0")[1]) == {uuid: entry}
    assert _ask(f"{url}/entries?logIndex=7")[0] == 404
    assert _ask(f"{url}/entries", {"kind": "hashedrekord"})[0] == 400
    assert json.loads(_ask(url)[1])["treeSize"] == 1
    assert _ask(f"{url}/publicKey")[1] == served.rekor.public_pem
    assert _ask(f"{served.url}/ts", {})[0] == 400
    assert _ask(f"{served.url}/nothing")[0] == 404


def test_services_fail_on_request(served: LocalSigstore) -> None:
    """With the faults of the test registry."""
    number = served.fail(path="/api/v1/log", status=503, nth=1)
    assert _ask(f"{served.url}/api/v1/log")[0] == 503
    assert _ask(f"{served.url}/api/v1/log")[0] == 200
    assert served.faults.applied(number) == 1


def test_people_come_in(served: LocalSigstore) -> None:
    """Authorization code and PKCE: a code is good once, for who asked for it."""
    served.issuer.user = "somebody@example.test"
    found = json.loads(_ask(f"{served.url}/.well-known/openid-configuration")[1])
    challenge = base64.urlsafe_b64encode(hashlib.sha256(b"verifier").digest()).rstrip(b"=")
    back = f"{served.url}/back"
    query = f"code_challenge={challenge.decode()}&redirect_uri={back}&state=s&nonce=n"
    _ask(f"{found['authorization_endpoint']}?{query}")
    (code,) = parse_qs(urlsplit(served.requests[-1].target).query)["code"]

    def redeem(verifier: str) -> tuple[int, bytes]:
        body = f"code={code}&code_verifier={verifier}".encode()
        try:
            with urllib.request.urlopen(found["token_endpoint"], body, timeout=20) as answer:
                return answer.status, answer.read()
        except HTTPError as e:
            with e:
                return e.code, e.read()

    status, content = redeem("verifier")
    token = IdentityToken(json.loads(content)["id_token"])
    assert (status, token.identity) == (200, "somebody@example.test")
    assert redeem("verifier")[0] == 400
    assert json.loads(_ask(found["jwks_uri"])[1])["keys"][0]["kty"] == "EC"
