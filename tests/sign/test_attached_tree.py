"""What is attached by hand, and how `inspect --referrers` shows all that is attached."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imgtools.errors import Error
from imgtools.sign.key_signers import AttachmentSigner, BundleSigner
from imgtools.sign.model import SigstoreSignature
from imgtools.sign.sboms import SBOM_LIMIT, read_sbom
from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, parse
from imgtools.testing.dialects import Dialect
from tests.bad_input import PLAIN, cli
from tests.sign.attest_rig import SPDX, Rig, rig
from tests.sign.ground import HERE, IMAGE, INDEX
from tests.sign.keyless_rig import WHO, Keyless, keyless

NO_API = Dialect(referrers="404-text", subject=False)
KIND = "https://example.test/p"
BOMS = {
    "spdx-json": (json.dumps(SPDX).encode(), "application/spdx+json", "text/spdx+json"),
    "spdx-3": (b'{"@context":"https://spdx.org/rdf/3.0.1/x.jsonld","@graph":[]}',
               "application/spdx+json", "text/spdx+json"),
    "spdx-text": (b"# made by x\nSPDXVersion: SPDX-2.3\n", "text/spdx", "text/spdx"),
    "cyclonedx-json": (b'{"bomFormat":"CycloneDX","specVersion":"1.5"}',
                       "application/vnd.cyclonedx+json", "application/vnd.cyclonedx+json"),
    "cyclonedx-xml": (b'<?xml version="1.0"?>\n<bom xmlns="http://cyclonedx.org/schema/bom/1.5">',
                      "application/vnd.cyclonedx+xml", "application/vnd.cyclonedx+xml"),
    "syft-json": (b'{"artifacts":[],"descriptor":{"name":"syft"}}',
                  "application/vnd.syft+json", "application/vnd.syft+json"),
}  # fmt: skip
"""Documents, and their media types as artifacts and at cosign's tag."""


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Rig]:
    """An image with nothing attached."""
    with rig(tmp_path, IMAGE) as found:
        yield found


def tree(found: Rig, name: str = "") -> list[dict[str, Any]]:
    """What `inspect --referrers --json` shows."""
    done = cli(found.path, "inspect", PLAIN, "--referrers", "--json", name or found.name)
    assert done.code == 0, done.err
    value: list[dict[str, Any]] = json.loads(done.out)
    return value


def sign(found: Rig, *, digest: Digest | None = None) -> SigstoreSignature:
    """A signature that was made elsewhere."""
    signer = AttachmentSigner(found.key(), creator="test 1")
    subject = found.sample.top.descriptor()
    if digest is not None:
        subject = HERE.descriptor()
    return signer.sign(subject, found.name.removeprefix("docker://"))


# --- bills of materials -------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOMS)
def test_kinds_of_bills_are_known_by_what_they_are(name: str) -> None:
    content, artifact, cosign = BOMS[name]
    found = read_sbom(content)
    assert (found.media_type, found.cosign_media_type) == (artifact, cosign)
    assert read_sbom(content, *name.replace("-3", "-json").split("-")) == found


@pytest.mark.parametrize(
    ("content", "flags"),
    [
        (b"{}", ()),
        (b"", ()),
        (b"{", ()),
        (b'{"bomFormat":1}', ()),
        (b"anything", ("spdx",)),
        (b"anything", ("", "json")),
        (b"anything", ("cyclonedx", "text")),
        (json.dumps(SPDX).encode(), ("cyclonedx",)),
        (json.dumps(SPDX).encode(), ("spdx", "text")),
        (b"x" * (SBOM_LIMIT + 1), ("spdx", "text")),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_no_bill_is_refused(content: bytes, flags: tuple[str, ...]) -> None:
    with pytest.raises(Error):
        read_sbom(content, *flags)


def test_a_bill_of_an_unknown_form_is_what_it_is_said_to_be() -> None:
    assert read_sbom(b"anything", "syft", "json").media_type == "application/vnd.syft+json"


@pytest.mark.parametrize("dialect", [Dialect(), NO_API], ids=["api", "fallback"])
def test_a_bill_becomes_a_referrer(tmp_path: Path, dialect: Dialect) -> None:
    with rig(tmp_path, IMAGE, dialect) as found:
        bom = found.file(SPDX, "bom.json")
        done = found.attach("sbom", bom)
        assert done.out.decode().split(maxsplit=1)[0] == "attached"
        assert b"unsigned" in done.out
        (entry,) = tree(found)[0]["Referrers"]
        assert (entry["Kind"], entry["ArtifactType"]) == ("sbom", "application/spdx+json")
        assert entry["ClaimedSigner"] is None
        assert found.attach("sbom", "--sbom", bom).out.startswith(b"present ")
        assert len(tree(found)[0]["Referrers"]) == 1


def test_a_bill_at_cosign_s_tag_is_the_only_one(made: Rig) -> None:
    words = ("--format", "attachment", "--json")
    states = []
    for document in (SPDX, SPDX, {**SPDX, "name": "other"}):
        done = made.attach("sbom", made.file(document, "bom.json"), *words)
        states.append(json.loads(done.out)["state"])
    assert states == ["attached", "present", "replaced"]
    there = made.repository
    view = parse(there.manifests[there.tags[f"sha256-{made.digest.hex}.sbom"]])
    assert isinstance(view, Manifest)
    (layer,) = view.layers
    assert layer.media_type == "text/spdx+json"
    assert json.loads(there.blobs[layer.digest])["name"] == "other"


def test_bills_are_never_signatures_or_attestations(made: Rig) -> None:
    bom = made.file(SPDX, "bom.json")
    assert made.attach("sbom", bom).code == 0
    assert made.attach("sbom", bom, "--format", "attachment").code == 0
    assert made.verify("--signed-identity", "any").code == 1
    assert made.verify("--attestation", "spdxjson").code == 1


# --- what was signed elsewhere -------------------------------------------------------------------


def test_an_envelope_is_attached_and_verified(made: Rig) -> None:
    file = made.file(made.envelope(), "envelope.json")
    assert b"not verified" in made.attach("attestation", file).out
    assert made.verify("--attestation", KIND).code == 0
    assert made.attach("attestation", file).out.startswith(b"present ")


def test_a_bundle_is_attached_and_verified(made: Rig) -> None:
    from imgtools.sign.predicates import Predicate, attestation

    payload = attestation(Predicate(type=KIND, body={}), made.digest, "app")
    bundle = BundleSigner(made.key()).seal(payload).content
    file = made.file(bundle, "bundle.json")
    assert made.attach("attestation", file).code == 0
    assert made.verify("--attestation", KIND).code == 0
    assert made.attach("attestation", file).out.startswith(b"present ")
    made.attach("signature", file).refused("no signature", "attach attestation")


def test_a_signature_is_attached_and_verified(made: Rig) -> None:
    found = sign(made)
    payload = made.file(found.payload, "payload")
    text = found.annotations["dev.cosignproject.cosign/signature"]
    by = ("--signature", made.file(f"{text}\n".encode(), "signature"))
    made.attach("signature", payload).refused("--signature PATH")
    assert made.attach("signature", payload, *by).code == 0
    assert made.verify().code == 0
    assert made.attach("signature", payload, *by).out.startswith(b"present ")


def test_a_signature_as_bytes_with_what_proves_it(made: Rig) -> None:
    found = sign(made)
    raw = made.key().sign(found.payload)
    promise = {"SignedEntryTimestamp": "AA==", "Payload": {"body": "AA=="}}
    done = made.attach(
        "signature", "--payload", made.file(found.payload, "payload"),
        "--signature", made.file(raw, "signature"),
        "--certificate", made.file(b"PEM\n", "certificate"),
        "--certificate-chain", made.file(b"CHAIN\n", "chain"),
        "--rekor-response", made.file({"rekorBundle": promise}, "rekor"),
        "--tsr", made.file(b"\x30\x00", "tsr"),
    )  # fmt: skip
    assert done.code == 0, done.err
    assert made.verify().code == 0
    there = made.repository
    view = parse(there.manifests[there.tags[f"sha256-{made.digest.hex}.sig"]])
    assert isinstance(view, Manifest)
    annotations = view.layers[0].annotations
    assert annotations["dev.sigstore.cosign/certificate"] == "PEM\n"
    assert annotations["dev.sigstore.cosign/chain"] == "CHAIN\n"
    assert json.loads(annotations["dev.sigstore.cosign/bundle"]) == promise
    assert json.loads(annotations["dev.sigstore.cosign/rfc3161timestamp"]) == {
        "SignedRFC3161Timestamp": "MAA="
    }


def test_a_bundle_that_signs_is_attached_as_a_signature(made: Rig) -> None:
    subject = made.sample.top.descriptor()
    bundle = BundleSigner(made.key()).sign(subject, made.name.removeprefix("docker://"))
    file = made.file(bundle.content, "bundle.json")
    made.attach("attestation", file).refused("attach signature")
    made.attach("signature", file, "--certificate", file).refused("leave out --certificate")
    assert made.attach("signature", file).code == 0
    assert made.verify("--format", "bundle").code == 0


def test_s11_what_is_about_another_manifest_is_not_attached(made: Rig) -> None:
    other = sign(made, digest=HERE.digest)
    by = ("--signature", made.file(b"AA==", "signature"))
    made.attach("signature", made.file(other.payload, "payload"), *by).refused("not about")
    envelope = made.file(made.envelope(HERE.digest), "envelope.json")
    made.attach("attestation", envelope).refused("not about")
    assert tree(made)[0]["Referrers"] == []


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"{", b'{"mediaType":"x"}', b"\xff"])
@pytest.mark.parametrize("kind", ["attestation", "signature"])
def test_what_is_neither_bundle_nor_envelope_is_refused(
    made: Rig, kind: str, content: bytes
) -> None:
    by = ("--signature", made.file(b"AA==", "signature")) if kind == "signature" else ()
    made.attach(kind, made.file(content, "file"), *by).refused()


def test_attaching_dry_writes_nothing(made: Rig) -> None:
    before = dict(made.repository.manifests), dict(made.repository.tags)
    bom, envelope = made.file(SPDX, "bom"), made.file(made.envelope(), "envelope")
    for words in (
        ("sbom", bom), ("sbom", bom, "--format", "attachment"), ("attestation", envelope)
    ):  # fmt: skip
        assert made.attach(words[0], *words[1:], "--dry-run").out.startswith(b"planned ")
    assert (made.repository.manifests, made.repository.tags) == before


def test_one_file_is_named(made: Rig) -> None:
    made.attach("sbom").refused("name the file")
    made.attach("sbom", "a", "--sbom", "b").refused("name the file")
    cli(made.path, "attach", "sbom", "oci:x", made.file(SPDX)).refused("registries only")


# --- the tree -----------------------------------------------------------------------------------


def test_who_claims_to_have_signed_is_shown_as_a_claim(tmp_path: Path) -> None:
    with keyless(tmp_path) as site:
        assert site.sign("--format", "both").code == 0
        done = site.run("inspect", PLAIN, "--referrers", site.place.name)
        lines = done.out.decode().splitlines()
        assert sum(f"email {WHO} (issuer" in line for line in lines) == 2
        assert all("unverified" in line for line in lines if WHO in line)
        assert isinstance(site, Keyless)


def test_what_is_attached_to_what_is_attached(made: Rig) -> None:
    """A signature of a bill of materials, and of that signature."""
    assert made.attach("sbom", made.file(SPDX, "bom.json")).code == 0
    (bill,) = tree(made)[0]["Referrers"]
    base = made.name.removesuffix(":1")
    words = ("sign", PLAIN, "--key", made.private)
    assert cli(made.path, *words, f"{base}@{bill['Digest']}").code == 0
    (bill,) = tree(made)[0]["Referrers"]
    (first,) = bill["Referrers"]
    assert first["Tag"] == f"{bill['Digest'].replace(':', '-')}.sig"
    assert cli(made.path, *words, "--format", "bundle", f"{base}@{first['Digest']}").code == 0
    (bill,) = tree(made)[0]["Referrers"]
    (second,) = bill["Referrers"][0]["Referrers"]
    assert (second["Kind"], second["PredicateType"]) == (
        "signature", "https://sigstore.dev/cosign/sign/v1",
    )  # fmt: skip


def test_fields_that_were_there_before_are_still(made: Rig) -> None:
    assert made.attach("sbom", made.file(SPDX, "bom.json")).code == 0
    (top,) = tree(made)
    known = ["Digest", "MediaType", "ArtifactType", "Platform", "Size", "Annotations", "Referrers"]
    assert list(top) == known
    (bill,) = top["Referrers"]
    assert [name for name in bill if name in known] == known


def test_what_is_malformed_is_listed_as_something_else(made: Rig) -> None:
    """And hides nothing that stands beside it."""
    assert made.attach("sbom", made.file(SPDX, "bom.json")).code == 0
    kind = "application/vnd.dev.sigstore.bundle.v0.3+json"
    config = made.registry.push_blob("app", b"{}")
    blob = {"mediaType": kind, "digest": str(config), "size": 2}
    top = made.sample.top
    subject = {"mediaType": top.media_type, "digest": str(top.digest), "size": top.size}
    for layers in ([blob], [blob, blob], []):
        value = {
            "schemaVersion": 2, "mediaType": mt.OCI_MANIFEST, "artifactType": kind,
            "config": {**blob, "mediaType": mt.OCI_EMPTY}, "layers": layers, "subject": subject,
        }  # fmt: skip
        made.registry.push_manifest("app", json.dumps(value).encode(), mt.OCI_MANIFEST)
    index = {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": []}
    tags = [f"sha256-{made.digest.hex}.sig"]
    made.registry.push_manifest("app", json.dumps(index).encode(), mt.OCI_INDEX, tags=tags)
    kinds = sorted(entry["Kind"] for entry in tree(made)[0]["Referrers"])
    assert kinds == ["other", "other", "other", "other", "sbom"]
    assert made.verify("--signed-identity", "any").code == 3


def test_directories_have_their_signatures(tmp_path: Path) -> None:
    with rig(tmp_path, INDEX) as found:
        there = f"dir:{tmp_path / 'kept'}"
        done = cli(
            found.path, "copy", "-q", "--all", "--src-tls-verify=false",
            "--sign-by-sigstore-private-key", found.private,
            "--sign-identity", "example.test/app:1", found.name, there,
        )  # fmt: skip
        assert done.code == 0, done.err
        shown = cli(found.path, "inspect", "--referrers", "--json", there)
        trees = json.loads(shown.out)
        assert len(trees) == 3
        for each in trees:
            (signature,) = each["Referrers"]
            assert (signature["Kind"], signature["ClaimedSigner"]) == ("signature", "a key")
