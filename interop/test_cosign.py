"""Keys, signatures and attestations beside cosign: what it makes we verify, and the other way.

Attachments and bundles are tried on every registry, so with and without its referrers API.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imgtools.sign.keys.private import load_private_key
from imgtools.sign.keys.public import load_public_key
from interop.rig import Image, Registry
from interop.rig.cosign import FORMATS, PASSPHRASE, Cosign, Format, Ours
from tests.rig import RunCli
from tests.sign.key_makers import MAKERS, private_pem, public_pem

SIGN = "https://sigstore.dev/cosign/sign/v1"
KIND = "https://example.com/kind/v1"

# How a tool writes the keys that cosign imports.
FORMS = {
    "ecdsa-p256": "TraditionalOpenSSL",
    "ecdsa-p384": "PKCS8",
    "ecdsa-p521": "TraditionalOpenSSL",
    "rsa-2048": "TraditionalOpenSSL",
    "ed25519": "PKCS8",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An image in a registry: its repository, `name` with a tag, `pinned` by digest, and the
    digests of the image and its instances."""

    repository: str
    image: Image

    @property
    def name(self) -> str:
        """By tag."""
        return f"{self.repository}:v1"

    @property
    def pinned(self) -> str:
        """By digest."""
        return f"{self.repository}@{self.image.digest}"

    @property
    def everything(self) -> list[str]:
        """The index and its instances, by digest."""
        below = json.loads(self.image.manifest).get("manifests", [])
        return [self.pinned, *(f"{self.repository}@{entry['digest']}" for entry in below)]


Put = Callable[..., Place]


@pytest.fixture
def cosign(tmp_path: Path) -> Cosign:
    """cosign in a new home."""
    home = tmp_path / "cosign"
    home.mkdir()
    return Cosign(home)


@pytest.fixture
def ours(run_cli: RunCli) -> Ours:
    """imgtools."""
    return Ours(run_cli)


@pytest.fixture
def put(repository: str, images: dict[str, Image], ours: Ours) -> Put:
    """put(registry, kind) copies a test image there."""

    def copy(registry: Registry, kind: str = "oci", name: str = "") -> Place:
        place = Place(repository=f"{registry.host}/{repository}{name}", image=images[kind])
        source = f"dir:{place.image.directory}"
        ours("copy", "--all", "--dest-tls-verify=false", source, f"docker://{place.name}")
        return place

    return copy


@pytest.mark.parametrize("kind", MAKERS)
def test_cosign_signs_with_keys_that_we_write(
    kind: str, any_registry: Registry, put: Put, cosign: Cosign, ours: Ours, tmp_path: Path
) -> None:
    """cosign signs with a hash by the size of the key, and verifies with SHA-256, as
    containers/image does. We take both, but under policy.json."""
    private, public = ours.generate(tmp_path / "ours", kind)
    _, other = ours.generate(tmp_path / "other", kind)
    place, by_sha256 = put(any_registry), kind in ("ecdsa-p256", "rsa-2048")
    for form in FORMATS:
        cosign.sign(place.pinned, private, form)
        cosign.verify(place.name, public, form, accept=by_sha256)
        cosign.verify(place.name, other, form, accept=False)
        flags = ("--format", form, "--signed-identity", "any")
        ours.verify(place.name, public, *flags)
        ours.verify(place.name, other, *flags, status=1)
    requirement = {
        "type": "sigstoreSigned",
        "keyPath": str(public),
        "signedIdentity": {"type": "matchRepository"},
    }
    (tmp_path / "policy.json").write_text(json.dumps({"default": [requirement]}))
    ours("--policy", tmp_path / "policy.json", "copy", "--src-tls-verify=false",
         f"docker://{place.name}", f"dir:{tmp_path}/out",
         status=0 if by_sha256 else 1)  # fmt: skip


@pytest.mark.parametrize("kind", MAKERS)
def test_cosign_verifies_what_keys_of_every_kind_sign(
    kind: str, any_registry: Registry, put: Put, cosign: Cosign, ours: Ours, tmp_path: Path
) -> None:
    private, public = ours.generate(tmp_path / "ours", kind)
    place = put(any_registry)
    ours.sign(place.name, private, "both")
    for form in FORMATS:
        cosign.verify(place.name, public, form)


def test_we_sign_with_keys_that_cosign_writes(
    any_registry: Registry, put: Put, cosign: Cosign, ours: Ours
) -> None:
    private, public = cosign.generate("theirs")
    _, other = cosign.generate("other")
    assert private.read_text().startswith("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n")
    place = put(any_registry)
    ours.sign(place.name, private, "both")
    for form in FORMATS:
        cosign.verify(place.name, public, form)
        cosign.verify(place.name, other, form, accept=False)
        ours.verify(place.name, public, "--format", form)


@pytest.mark.parametrize("kind", MAKERS)
def test_keys_that_cosign_imports_stay_what_they_are(
    kind: str, cosign: Cosign, tmp_path: Path
) -> None:
    """Plain keys of other tools, which we would read as they are."""
    key = MAKERS[kind]()
    plain = private_pem(key, FORMS[kind])
    (tmp_path / "plain.pem").write_bytes(plain)
    cosign("import-key-pair", "--key", tmp_path / "plain.pem", "--output-key-prefix", "theirs")
    content = (cosign.home / "theirs.key").read_bytes()
    imported = load_private_key(content, PASSPHRASE.encode(), "theirs")
    public = load_public_key((cosign.home / "theirs.pub").read_bytes(), "theirs")
    assert imported.public_pem == public.pem == public_pem(key)
    assert load_private_key(plain, None, "plain").public_pem == public.pem


def test_cosign_verifies_an_index_that_we_sign(
    registry: Registry, put: Put, cosign: Cosign, ours: Ours, tmp_path: Path
) -> None:
    """Every manifest of it, in both formats; the name that was signed is among what it shows."""
    private, public = ours.generate(tmp_path / "ours", "ecdsa-p256")
    place = put(registry, "index")
    ours.sign(place.name, private, "both")
    assert len(place.everything) == 6
    for pinned in place.everything:
        [attached] = cosign.verify(pinned, public, "sigstore")
        assert attached["critical"]["identity"] == {"docker-reference": place.name}
        [bundled] = cosign.verify(pinned, public, "bundle")
        assert bundled["critical"]["type"] == SIGN
        assert bundled["optional"] == {"docker-reference": place.name}
    tree = cosign("tree", "--allow-http-registry", place.name)
    tag = place.image.digest.replace(":", "-")
    assert f"Signatures for an image tag: {place.repository}:{tag}.sig\n" in tree
    assert f"{SIGN} artifacts via OCI referrer: {place.repository}@sha256:" in tree
    found = json.loads(cosign("download", "signature", "--allow-http-registry", place.name))
    assert found["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert len(found["dsseEnvelope"]["signatures"]) == 1


def test_we_verify_an_index_that_cosign_signs(
    registry: Registry, put: Put, cosign: Cosign, ours: Ours
) -> None:
    """Its attachments name the repository, its bundles nothing, and that has to be wanted."""
    private, public = cosign.generate("theirs")
    _, other = cosign.generate("other")
    place = put(registry, "index")
    refused = ours.verify(place.name, public, status=1)
    assert "is not signed" in refused.stderr
    for form in FORMATS:
        cosign.sign(place.pinned, private, form, "--recursive", "-a", "team=blue")
        rule = "repository" if form == "sigstore" else "any"
        flags = ("--format", form, "--signed-identity", rule)
        every = ("--all", "--strict", "--json", *flags)
        said = json.loads(ours.verify(place.name, public, *every).stdout)
        assert len(said["manifests"]) == 6
        for manifest in said["manifests"]:
            [signature] = manifest["signatures"]
            assert signature["annotations"] == {"team": "blue"}
            assert signature["identity"] == (place.repository if form == "sigstore" else None)
        ours.verify(place.name, other, *flags, status=1)
        ours.verify(place.repository + "@" + place.image.digest, public, *flags)
        refused = ours.verify(place.name, public, "--format", form, status=1)
        assert "is not accepted" in refused.stderr
        assert f"--signed-identity {rule} accepts" in refused.stderr
    for form in FORMATS:
        cosign.verify(place.name, public, form, "-a", "team=blue")
        cosign.verify(place.name, public, form, "-a", "team=red", accept=False)


@pytest.mark.parametrize("form", FORMATS)
def test_both_ask_for_annotations_of_the_other(
    form: Format, any_registry: Registry, put: Put, cosign: Cosign, ours: Ours, tmp_path: Path
) -> None:
    private, public = ours.generate(tmp_path / "ours", "ecdsa-p256")
    theirs, mine = (put(any_registry, name=f"/{name}") for name in ("theirs", "mine"))
    cosign.sign(theirs.pinned, private, form, "-a", "stage=prod", "-a", "team=a")
    ours.sign(mine.name, private, form, "-a", "stage=prod", "-a", "team=a")
    rule = ("--format", form, "--signed-identity", "any")
    for place in (theirs, mine):
        for said, holds in (("stage=prod", True), ("team=a", True), ("stage=test", False)):
            ours.verify(place.name, public, *rule, "--annotations", said, status=0 if holds else 1)
            cosign.verify(place.name, public, form, "-a", said, accept=holds)


def test_signatures_of_both_stay_side_by_side(
    registry: Registry, put: Put, cosign: Cosign, ours: Ours, tmp_path: Path
) -> None:
    """Whoever comes second keeps what is there, and a copy carries both along."""
    place = put(registry)
    pairs = {
        "ours": ours.generate(tmp_path / "ours", "ecdsa-p256"),
        "theirs": cosign.generate("theirs"),
        "again": ours.generate(tmp_path / "again", "ecdsa-p256"),
    }
    ours.sign(place.name, pairs["ours"][0], "both")
    for form in FORMATS:
        cosign.sign(place.pinned, pairs["theirs"][0], form)
    ours.sign(place.name, pairs["again"][0], "both")
    elsewhere = f"{registry.host}/elsewhere/{place.repository.partition('/')[2]}:v1"
    insecure = ("--src-tls-verify=false", "--dest-tls-verify=false")
    ours("copy", *insecure, "--referrers", f"docker://{place.name}", f"docker://{elsewhere}")
    for form in FORMATS:
        for _, public in pairs.values():
            assert len(cosign.verify(place.name, public, form)) == 1
            ours.verify(place.name, public, "--format", form, "--signed-identity", "any")
    for _, public in pairs.values():
        cosign.verify(elsewhere, public, "bundle")
        ours.verify(elsewhere, public, "--format", "bundle", "--signed-identity", "any")


@pytest.mark.parametrize("form", FORMATS)
def test_we_verify_attestations_of_cosign(
    form: Format, registry: Registry, put: Put, cosign: Cosign, ours: Ours, tmp_path: Path
) -> None:
    """They are no signatures, though cosign takes one in a bundle for that."""
    private, public = cosign.generate("theirs")
    _, other = cosign.generate("other")
    place = put(registry)
    (tmp_path / "predicate").write_text('{"made": "by hand"}')
    cosign.attest(place.pinned, private, form, KIND, tmp_path / "predicate")
    ours.verify(place.name, public, "--attestation", KIND)
    ours.verify(place.name, public, "--attestation", KIND + "1", status=1)
    ours.verify(place.name, other, "--attestation", KIND, status=1)
    refused = ours.verify(place.name, public, "--signed-identity", "any", status=1)
    assert "is not signed" in refused.stderr
    cosign.verify(place.name, public, form, accept=form == "bundle")


@pytest.mark.parametrize("form", FORMATS)
def test_cosign_verifies_our_attestations(
    form: Format, registry: Registry, put: Put, cosign: Cosign, ours: Ours, tmp_path: Path
) -> None:
    """In a bundle, and as cosign 2 attached them."""
    private, public = ours.generate(tmp_path / "ours", "ecdsa-p256")
    place = put(registry)
    attest(ours, place, private, form, KIND, tmp_path)
    found: dict[str, Any] = cosign.verify_attestation(place.name, public, form, KIND)
    assert found["payloadType"] == "application/vnd.in-toto+json"
    statement = json.loads(base64.b64decode(found["payload"]))
    assert statement["predicate"] == {"made": "by us"}
    ours.verify(place.name, public, "--attestation", KIND)


# The short names of types that both have.
TYPES = ("slsaprovenance", "slsaprovenance1", "spdx", "spdxjson", "cyclonedx", "vuln", "openvex",
         "link", "custom")  # fmt: skip


@pytest.mark.parametrize("kind", TYPES)
def test_short_names_of_types_mean_the_same(
    kind: str, any_registry: Registry, put: Put, cosign: Cosign, ours: Ours, tmp_path: Path
) -> None:
    """cosign finds by its name what we attested by the same one."""
    private, public = ours.generate(tmp_path / "ours", "ecdsa-p256")
    place = put(any_registry)
    attest(ours, place, private, "bundle", kind, tmp_path)
    cosign.verify_attestation(place.name, public, "bundle", kind)


def attest(ours: Ours, place: Place, key: Path, form: Format, kind: str, directory: Path) -> None:
    """Attest a few words of an image."""
    (directory / "predicate").write_text('{"made": "by us"}')
    kept = "bundle" if form == "bundle" else "attachment"
    flags = ("--tls-verify=false", "--key", key, "--type", kind, "--format", kept)
    ours("attest", *flags, "--predicate", directory / "predicate", f"docker://{place.name}")
