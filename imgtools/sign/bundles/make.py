"""Makes bundles with a key: the statement, its envelope, and the bundle around them.

The layouts are those of cosign 3 and sigstore-go, so that what we make verifies there; our
only addition is the annotation that says which name was signed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from imgtools.errors import InvalidInput
from imgtools.sign.bundles.dsse import IN_TOTO, pre_authentication
from imgtools.sign.bundles.model import Bundle, Envelope
from imgtools.sign.bundles.statement import (
    COSIGN_SIGN,
    REFERENCE_ANNOTATION,
    STATEMENT_LIMIT,
    STATEMENT_V1,
)
from imgtools.sign.bundles.write import encoded, write_bundle
from imgtools.sign.model import BUNDLE_MEDIA_TYPE
from imgtools.sign.protocols import KeySigner
from imgtools.spec import strict_json
from imgtools.spec.digest import Digest

if TYPE_CHECKING:
    from imgtools.sign.keys.public import PublicKey

    BundleLog = Callable[[Bundle, PublicKey], Bundle]


def make_statement(
    digest: Digest,
    *,
    reference: str = "",
    name: str = "",
    predicate_type: str = COSIGN_SIGN,
    predicate: Mapping[str, Any] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> bytes:
    """The statement that `predicate` holds for the manifest `digest`: the payload to sign.

    Without a predicate it is cosign's signature of an image. `reference` is the name to sign,
    "" for none, and `name` what attestations call their subject; `annotations` are the
    signer's own words. Raises InvalidInput for a digest that verifiers do not know and for a
    statement that is too large.
    """
    if digest.algorithm != "sha256":
        raise InvalidInput(f"{digest} cannot be signed: signatures name manifests by sha256")
    if annotations and REFERENCE_ANNOTATION in annotations:
        raise InvalidInput(f"the annotation {REFERENCE_ANNOTATION} is for the name that is signed")
    words = dict(annotations or {})
    if reference:
        words[REFERENCE_ANNOTATION] = reference
    subject: dict[str, Any] = {"name": name} if name else {}
    subject["digest"] = {"sha256": digest.hex}
    if words or predicate_type == COSIGN_SIGN:
        subject["annotations"] = dict(sorted(words.items()))
    payload = strict_json.dumps(
        {
            "_type": STATEMENT_V1,
            "subject": [subject],
            "predicateType": predicate_type,
            "predicate": dict(predicate or {}),
        }
    )
    if len(payload) > STATEMENT_LIMIT:
        raise InvalidInput(f"the statement has {len(payload)} bytes: at most {STATEMENT_LIMIT}")
    return payload


def make_key_bundle(payload: bytes, signer: KeySigner, *, log: BundleLog | None = None) -> bytes:
    """A bundle v0.3 with the statement `payload` signed by `signer`, entered into `log`.

    The hint is sigstore-go's: the SHA-256 of the public key's SPKI, in base64. Raises what
    the signer and the log raise, and InvalidKey.
    """
    from imgtools.sign.keys.public import load_public_key

    key = load_public_key(signer.public_pem, "the public key of the signer")
    signature = signer.sign(pre_authentication(IN_TOTO, payload))
    bundle = Bundle(
        media_type=BUNDLE_MEDIA_TYPE,
        version=(0, 3),
        key_hint=encoded(bytes.fromhex(key.spki_sha256)),
        envelope=Envelope(payload_type=IN_TOTO, payload=payload, signatures=(signature,)),
    )
    return write_bundle(bundle if log is None else log(bundle, key))


def make_envelope(payload: bytes, signer: KeySigner) -> bytes:
    """A bare DSSE envelope with the statement `payload`, as cosign 2 attaches it: fields in
    the order of its Go type. Raises what the signer raises."""
    signature = signer.sign(pre_authentication(IN_TOTO, payload))
    return strict_json.dumps(
        {
            "payloadType": IN_TOTO,
            "payload": encoded(payload),
            "signatures": [{"keyid": "", "sig": encoded(signature)}],
        }
    )
