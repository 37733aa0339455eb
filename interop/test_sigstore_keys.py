"""Keys, signatures and payloads beside containers/image: what we make it uses, what it makes we
read, and what it thinks of crafted ones."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import utils

from imgtools.errors import InvalidKey, InvalidSignature
from imgtools.sign.keys.generate import generate, write_pair
from imgtools.sign.keys.private import load_private_key
from imgtools.sign.keys.public import PublicKey, load_public_key
from imgtools.sign.payload import cosign_payload, make_payload, parse_payload
from imgtools.spec.digest import Digest
from interop.rig.peers import BIN
from tests.conftest import preload, registry_plain
from tests.rig import RegistryServer
from tests.sign import test_payload as table
from tests.sign.key_makers import MAKERS, private_pem, public_pem

__all__ = ["preload", "registry_plain"]

LAYER = "application/vnd.dev.cosign.simplesigning.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
PASSPHRASE = b"correct horse"

Preload = Callable[[RegistryServer, str, str], str]
ORDER_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

# Rows of the payload table that it accepts and we refuse; the table says why.
STRICTER = frozenset({"nesting-5000", "duplicate-deep", "creator-null", "timestamp-null"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An image in a registry, its attachment, and a policy about it."""

    registry: RegistryServer
    repository: str
    digest: str
    root: Path

    @property
    def name(self) -> str:
        """What is signed."""
        return f"{self.registry.host}/{self.repository}:v1"

    @property
    def attachment(self) -> str:
        """The tag of the signatures."""
        return self.digest.replace(":", "-") + ".sig"

    def payload(self) -> bytes:
        """A good one, as it would write it."""
        return make_payload(
            "sigstore", Digest.parse(self.digest), self.name, "test 1", 1_700_000_000
        )

    def cimage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run containers/image in a home of its own."""
        return subprocess.run(
            [BIN / "cimage", *arguments],
            env={"HOME": str(self.root), "PATH": "/usr/bin:/bin", "TMPDIR": str(self.root)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=60,
        )

    def copy(self, destination: str, *key: str) -> str:
        """Have the image copied under the policy, signed with `key`; "" or what went wrong."""
        policy, source = f"{self.root}/policy.json", f"docker://{self.name}"
        done = self.cimage("copy", policy, str(self.root), source, destination, *key)
        return "" if done.returncode == 0 else done.stderr or "no reason"

    def policy(self, public: bytes | None, identity: str = "matchRepoDigestOrExact") -> None:
        """Ask for a signature by `public`, or for nothing."""
        requirement: dict[str, Any] = {"type": "insecureAcceptAnything"}
        if public is not None:
            requirement = {
                "type": "sigstoreSigned",
                "keyData": base64.b64encode(public).decode(),
                "signedIdentity": {"type": identity},
            }
        (self.root / "policy.json").write_text(json.dumps({"default": [requirement]}))

    def attach(self, *layers: tuple[bytes, bytes]) -> None:
        """Put payloads and their signatures where it looks for them."""
        described = []
        for payload, signature in layers:
            digest = self.registry.put_blob(self.repository, payload)
            described.append(
                {
                    "mediaType": LAYER,
                    "digest": digest,
                    "size": len(payload),
                    "annotations": {SIGNATURE: base64.b64encode(signature).decode()},
                }
            )
        config = self.registry.put_blob(self.repository, b"{}")
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": config, "size": 2},
            "layers": described,
        }
        content = json.dumps(manifest).encode()
        self.registry.put_manifest(self.repository, self.attachment, content, MANIFEST)

    def admitted(self) -> str:
        """ "" when the image is copied under the policy, else what is said."""
        return self.copy(f"dir:{self.root}/out")

    def signatures(self) -> list[tuple[bytes, bytes]]:
        """The payloads and signatures of the attachment."""
        found = []
        for layer in self.registry.manifest(self.repository, self.attachment).json()["layers"]:
            assert layer["mediaType"] == LAYER
            blob = self.registry.request("GET", f"/v2/{self.repository}/blobs/{layer['digest']}")
            signature = base64.b64decode(layer["annotations"][SIGNATURE], validate=True)
            found.append((blob.body, signature))
        return found


@pytest.fixture
def place(
    registry_plain: RegistryServer, repository: str, preload: Preload, tmp_path: Path
) -> Place:
    """A new image that nobody signed."""
    (tmp_path / "all.yaml").write_text("default-docker:\n  use-sigstore-attachments: true\n")
    digest = preload(registry_plain, "oci", f"{repository}:v1")
    return Place(registry=registry_plain, repository=repository, digest=digest, root=tmp_path)


def test_it_signs_with_keys_that_we_write(place: Place) -> None:
    """A pair of generate-sigstore-key, and what is read back of the signature."""
    private, public = write_pair(f"{place.root}/my", *generate(PASSPHRASE))
    place.policy(None)
    assert place.copy(f"docker://{place.name}", private, PASSPHRASE.decode()) == ""
    [(payload, signature)] = place.signatures()
    key = load_public_key(Path(public).read_bytes(), public)
    key.verify(signature, payload)
    claim = parse_payload(payload, kind="sigstore")
    assert (str(claim.digest), claim.reference) == (place.digest, place.name)
    assert claim.creator.startswith("containers/image ")
    assert claim.timestamp is not None
    again = make_payload("sigstore", claim.digest, claim.reference, claim.creator, claim.timestamp)
    assert again == payload
    place.policy(key.pem)
    assert place.admitted() == ""


def test_we_sign_with_keys_that_it_writes(place: Place) -> None:
    """Its own pair, its passphrase, and a wrong one."""
    done = place.cimage("generate", f"{place.root}/its", PASSPHRASE.decode())
    assert done.returncode == 0, done.stderr
    content = (place.root / "its.private").read_bytes()
    key = load_private_key(content, PASSPHRASE, "its")
    assert key.public_pem == (place.root / "its.pub").read_bytes()
    with pytest.raises(InvalidKey, match="passphrase is wrong"):
        load_private_key(content, b"another", "its")
    place.attach((place.payload(), key.sign(place.payload())))
    place.policy(key.public_pem)
    assert place.admitted() == ""


@pytest.mark.parametrize("kind", MAKERS)
def test_it_verifies_what_keys_of_every_kind_sign(place: Place, kind: str) -> None:
    made = MAKERS[kind]()
    key = load_private_key(private_pem(made), None, "k")
    place.attach((place.payload(), key.sign(place.payload())))
    place.policy(key.public_pem)
    assert place.admitted() == ""
    place.policy(public_pem(MAKERS[kind]()))
    assert "signature" in place.admitted()


def test_it_verifies_cosigns_payload_by_repository(place: Place) -> None:
    key = load_private_key(private_pem(MAKERS["ecdsa-p256"]()), None, "k")
    repository = place.name.removesuffix(":v1")
    payload = cosign_payload(Digest.parse(place.digest), repository, {"team": "blue"})
    place.attach((payload, key.sign(payload)))
    place.policy(key.public_pem, "matchRepository")
    assert place.admitted() == ""
    place.policy(key.public_pem)
    assert "is not accepted" in place.admitted()


def holds(key: PublicKey, signature: bytes, payload: bytes) -> bool:
    """What we think."""
    try:
        key.verify(signature, payload)
        parse_payload(payload, kind="sigstore")
    except InvalidSignature:
        return False
    return True


def test_signatures_hold_for_it_as_for_us(place: Place) -> None:
    """Encodings of ECDSA, malleated ones, and several layers."""
    key = load_private_key(private_pem(MAKERS["ecdsa-p256"]()), None, "k")
    payload = place.payload()
    good = key.sign(payload)
    r, s = utils.decode_dss_signature(good)
    place.policy(key.public_pem)
    rows = {
        "good": good,
        "malleated": utils.encode_dss_signature(r, ORDER_P256 - s),
        "raw": r.to_bytes(32) + s.to_bytes(32),
        "der-trailing": good + b"\0",
        "der-cut": good[:-1],
        "long-length": b"\x30\x81" + good[1:],
        "raw-swapped": s.to_bytes(32) + r.to_bytes(32),
        "zeros": bytes(64),
    }
    verdicts = {}
    for name, signature in rows.items():
        place.attach((payload, signature))
        verdicts[name] = place.admitted() == ""
        assert holds(key.public, signature, payload) == verdicts[name], name
    assert [name for name, good in verdicts.items() if good] == ["good", "malleated", "raw"]
    place.attach((payload, b"bad"), (payload, good))
    assert place.admitted() == ""


def test_payloads_are_judged_as_by_it(place: Place) -> None:
    """Every row of the payload table, signed; where the verdicts differ ours is stricter."""
    key = load_private_key(private_pem(MAKERS["ed25519"]()), None, "k")
    place.policy(key.public_pem)
    rows = {**table.ACCEPTED, **{name: row[0] for name, row in table.REFUSED.items()}}
    differ = set()
    for name, row in rows.items():
        payload = row.replace(str(table.DIGEST).encode(), place.digest.encode())
        payload = payload.replace(table.NAME.encode(), place.name.encode())
        place.attach((payload, key.sign(payload)))
        ours, theirs = holds(key.public, key.sign(payload), payload), place.admitted() == ""
        assert ours == (name in table.ACCEPTED), name
        if ours != theirs:
            assert theirs, f"{name}: we accept what it refuses"
            differ.add(name)
    assert differ == STRICTER
