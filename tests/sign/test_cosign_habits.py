"""What cosign does in its own way, and what `verify` makes of that: hashes by the size of the
key, names without a tag or none at all, attestations at a tag of their own."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from imgtools.sign.bundles.make import make_envelope, make_key_bundle, make_statement
from imgtools.sign.keys.private import load_private_key
from imgtools.sign.model import BundleSignature, SigstoreSignature
from imgtools.sign.payload import cosign_payload
from imgtools.sign.stores.attachment import DSSE_LAYER, attestation_layer
from imgtools.sign.stores.attachments import AttachmentWriter
from imgtools.sign.stores.referrers import BundleWriter
from imgtools.spec.digest import Digest
from imgtools.spec.reference import Reference
from imgtools.task import Task
from imgtools.testing import images
from imgtools.transport.options import RegistryOptions
from imgtools.transport.table import Transports
from tests.bad_input import PLAIN, cli
from tests.sign.ground import Ground, ground
from tests.sign.key_makers import private_pem, public_pem

IMAGE = images.random_image("cosign", layers=1)
DIGEST = IMAGE.top.digest
KIND = "https://example.com/kind/v1"
REPOSITORY = ("--signed-identity", "repository")
ANY = ("--signed-identity", "any")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Ground]:
    """A registry with an image."""
    with ground(tmp_path, IMAGE) as found:
        yield found


def cosigned(place: Ground) -> bytes:
    """cosign's payload: the repository, and no tag."""
    return cosign_payload(DIGEST, f"{place.registry.host}/app", {"team": "blue"})


@pytest.mark.parametrize(
    ("curve", "algorithm"),
    [(ec.SECP384R1(), hashes.SHA384()), (ec.SECP521R1(), hashes.SHA512())],
    ids=["P-384", "P-521"],
)
def test_hashes_by_the_size_of_the_key(
    place: Ground, curve: ec.EllipticCurve, algorithm: hashes.HashAlgorithm
) -> None:
    """cosign 3 signs so; policy.json is held to what containers/image verifies."""
    key, payload = ec.generate_private_key(curve), cosigned(place)
    signature = base64.b64encode(key.sign(payload, ec.ECDSA(algorithm))).decode()
    place.put_attachment(DIGEST, [(payload, signature)])
    public = place.path / "large.pub"
    public.write_bytes(public_pem(key))
    done = cli(place.path, "verify", PLAIN, "--key", public, *REPOSITORY, place.name)
    assert done.code == 0, done.err
    requirement = {
        "type": "sigstoreSigned",
        "keyPath": str(public),
        "signedIdentity": {"type": "matchRepository"},
    }
    place.copy(policy=place.policy(requirement)).refused("it is not by the key")


def test_a_name_without_a_tag_has_to_be_wanted(place: Ground) -> None:
    payload = cosigned(place)
    signature = base64.b64encode(place.signer.raw(payload)).decode()
    place.put_attachment(DIGEST, [(payload, signature)])
    said = json.loads(place.verify("--json", *REPOSITORY).out)
    [found] = said["manifests"][0]["signatures"]
    assert found["identity"] == f"{place.registry.host}/app"
    assert found["annotations"] == {"team": "blue"}
    refused = place.verify()
    refused.refused("without a tag or a digest", lines=3)
    assert refused.err.endswith("--signed-identity repository accepts a name without a tag\n")


def put_bundle(place: Ground, payload: bytes) -> None:
    """A bundle by the key, as a referrer."""
    signer = load_private_key(private_pem(place.signer.key), None, "key")
    reference = Reference.parse(place.name.removeprefix("docker://"))
    options = RegistryOptions(tls_verify=False)
    bundle = BundleSignature(content=make_key_bundle(payload, signer))
    with Transports() as transports:
        writer = BundleWriter(
            transports, reference, options, created=datetime.now(UTC), task=Task()
        )
        writer.put(IMAGE.top.descriptor(), [bundle])


def test_no_name_has_to_be_wanted(place: Ground) -> None:
    put_bundle(place, make_statement(DIGEST, annotations={"team": "blue"}))
    said = json.loads(place.verify("--json", *ANY).out)
    [found] = said["manifests"][0]["signatures"]
    assert (found["identity"], found["annotations"]) == (None, {"team": "blue"})
    for flags in ((), REPOSITORY):
        refused = place.verify(*flags)
        refused.refused("the signature names no image", lines=3)
        assert refused.err.endswith(
            "--signed-identity any accepts a signature that names only the digest\n"
        )


def put_attestation(place: Ground, digest: Digest = DIGEST) -> None:
    """cosign 2's: an envelope at the image's tag `.att`, about `digest`."""
    signer = load_private_key(private_pem(place.signer.key), None, "key")
    statement = make_statement(digest, predicate_type=KIND, predicate={"made": "by hand"})
    layer = attestation_layer(make_envelope(statement, signer), KIND)
    made = SigstoreSignature(
        payload=layer.content, annotations=layer.annotations, media_type=DSSE_LAYER
    )
    reference = Reference.parse(place.name.removeprefix("docker://"))
    options = RegistryOptions(tls_verify=False)
    with Transports() as transports:
        writer = AttachmentWriter(transports, reference, options, task=Task(), suffix="att")
        writer.put(IMAGE.top.descriptor(), [made])


def test_attestations_at_a_tag(place: Ground) -> None:
    """By the key, of the type, and never as a signature."""
    put_attestation(place)
    assert place.verify("--attestation", KIND).code == 0
    place.verify("--attestation", f"{KIND}1").refused("not of", lines=2)
    other = place.path / "other.pub"
    other.write_bytes(public_pem(ec.generate_private_key(ec.SECP256R1())))
    flags = ("verify", PLAIN, "--attestation", KIND, "--key", other)
    cli(place.path, *flags, place.name).refused("the signature is not by", lines=2)
    refused = place.verify(*ANY)
    refused.refused("is not signed", "there is no sigstore attachment", lines=2)


def test_attestations_at_a_tag_of_another_image(place: Ground) -> None:
    put_attestation(place, Digest.of(b"another manifest"))
    place.verify("--attestation", KIND).refused(f"it is not about {DIGEST}", lines=2)


def test_attestations_that_cannot_be_read_are_not_absent(place: Ground) -> None:
    """A registry that fails for the tag leaves nobody able to tell."""
    place.registry.fail(path=r"\.att$", status=500)
    assert place.verify("--attestation", KIND).code == 3
