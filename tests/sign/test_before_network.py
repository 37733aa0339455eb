"""What is known to go wrong is said before anything is asked, or put (cases 66 to 68)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bad_input import Outcome, cli
from tests.sign.ground import IMAGE, Ground, ground
from tests.sign.judging import Signer
from tests.sign.key_makers import pem, private_pem

SIDES = ("--src-tls-verify=false", "--dest-tls-verify=false")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "no policy file"),
        (b"", "not valid JSON"),
        (b"{}", "default"),
        (b'{"default":[{"type":"reject"}],"default":[{"type":"reject"}]}', "duplicate key"),
        (b'{"default":[{"type":"Reject"}]}', "unknown requirement type"),
        (b'{"default":[{"type":"sigstoreSigned","keypath":"/k"}]}', "exactly one of"),
        (b"\xff", "not UTF-8"),
    ],
)
@pytest.mark.parametrize("command", ["copy", "verify"])
def test_s66_a_policy_that_is_missing_or_wrong_is_said_first(
    tmp_path: Path, command: str, content: bytes | None, word: str
) -> None:
    """No registry is asked, and no image admitted."""
    path = tmp_path / "policy.json"
    if content is not None:
        path.write_bytes(content)
    with ground(tmp_path, IMAGE) as place:
        words = {"copy": (*SIDES, place.name, f"docker://{place.registry.host}/copy:1"),
                 "verify": ("--tls-verify=false", place.name)}[command]  # fmt: skip
        cli(tmp_path, "--policy", path, command, *words).refused(word)
        assert place.registry.requests == []


def test_s66_a_key_of_the_policy_that_is_missing_rejects(tmp_path: Path) -> None:
    """As in containers/image keys are read when they are needed; nothing is copied then."""
    with ground(tmp_path, IMAGE) as place:
        place.sign(IMAGE.top.digest)
        key = {"type": "sigstoreSigned", "keyPath": str(tmp_path / "none.pub")}
        place.copy(policy=place.policy(key)).refused("there is no key file")
        good = tmp_path / "good.pub"
        good.write_bytes(place.signer.pem)
        both = {"type": "sigstoreSigned", "keyPaths": [str(good), str(tmp_path / "none.pub")]}
        place.copy(policy=place.policy(both)).refused("there is no key file")
        assert not place.copied.blobs


@pytest.mark.parametrize("target", ["oci:{0}/to:1", "oci-archive:{0}/to", "docker-archive:{0}/to"])
def test_s67_signatures_that_would_be_lost_stop_a_copy_before_its_first_byte(
    tmp_path: Path, target: str
) -> None:
    with ground(tmp_path, IMAGE) as place:
        place.sign(IMAGE.top.digest)
        (tmp_path / "registries.d").mkdir()
        (tmp_path / "registries.d" / "a.yaml").write_text(
            "default-docker:\n  use-sigstore-attachments: true\n"
            f"  lookaside: file://{tmp_path}/lookaside\n"
        )

        def copied(*flags: str) -> Outcome:
            return cli(
                tmp_path, "--policy", str(place.policy()), "--registries.d",
                str(tmp_path / "registries.d"), "copy", "-q", SIDES[0], *flags, place.name,
                target.format(tmp_path),
            )  # fmt: skip

        copied().refused("1 signature", "--remove-signatures")
        assert not (tmp_path / "to").exists()
        layers = [blob.digest for blob in IMAGE.blobs if "layer" in blob.media_type]
        assert layers
        assert not any(place.registry.count(path=str(digest)) for digest in layers)
        assert copied("--remove-signatures").code == 0


def key_file(place: Ground, content: bytes) -> str:
    path = place.path / "key.private"
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "no PEM file"),
        (pem("PRIVATE KEY", b"nothing"), "private key"),
        (Signer().pem, "PUBLIC KEY"),
        (private_pem(Signer().key, passphrase=b"something else"), "passphrase"),
    ],
)
def test_s68_keys_are_loaded_before_anything_is_uploaded(
    tmp_path: Path, content: bytes, word: str
) -> None:
    """skopeo signs when the image is there and its tag has moved."""
    (tmp_path / "pass").write_text("wrong\n")
    with ground(tmp_path, IMAGE) as place:
        target = f"docker://{place.registry.host}/copy:1"
        cli(
            tmp_path, "copy", "-q", *SIDES, "--sign-by-sigstore-private-key",
            key_file(place, content), "--sign-passphrase-file", str(tmp_path / "pass"), place.name,
            target,
        ).refused(word)  # fmt: skip
        assert not place.copied.blobs
        assert not place.copied.tags
        assert place.registry.count(path="/v2/copy/") == 0


def test_s68_attachments_that_are_disabled_are_said_before_the_upload(tmp_path: Path) -> None:
    with ground(tmp_path, IMAGE) as place:
        (tmp_path / "registries.d").mkdir()
        (tmp_path / "registries.d" / "a.yaml").write_text(
            "default-docker:\n  use-sigstore-attachments: false\n"
        )
        key = key_file(place, private_pem(place.signer.key))
        done = cli(
            tmp_path, "--registries.d", str(tmp_path / "registries.d"), "copy", "-q", *SIDES,
            "--sign-by-sigstore-private-key", key, "--remove-signatures", place.name,
            f"docker://{place.registry.host}/copy:1",
        )  # fmt: skip
        done.refused("disabled by configuration")
        assert place.registry.count(path="/v2/copy/") == 0


@pytest.mark.parametrize("identity", ["host.example/app", "host.example/APP:1", "host.example/a:"])
def test_s68_a_name_that_cannot_be_signed_is_said_before_the_upload(
    tmp_path: Path, identity: str
) -> None:
    with ground(tmp_path, IMAGE) as place:
        key = key_file(place, private_pem(place.signer.key))
        done = cli(
            tmp_path, "copy", "-q", *SIDES, "--sign-by-sigstore-private-key", key,
            "--sign-identity", identity, place.name, f"docker://{place.registry.host}/copy:1",
        )  # fmt: skip
        assert done.code == 1
        assert "reference" in done.err
        assert place.registry.count(path="/v2/copy/") == 0


def test_s68_the_name_leads_to_no_image_without_its_signature(tmp_path: Path) -> None:
    """A registry that takes the image and not its signature: the tag is not put."""
    with ground(tmp_path, IMAGE) as place:
        key = key_file(place, private_pem(place.signer.key))
        place.registry.fail(method="PUT", path=r"\.sig$", status=403)
        done = cli(
            tmp_path, "copy", "-q", *SIDES, "--sign-by-sigstore-private-key", key, place.name,
            f"docker://{place.registry.host}/copy:1",
        )  # fmt: skip
        assert done.code == 1
        assert not place.copied.tags
        place.registry.faults.clear()
        done = cli(
            tmp_path, "copy", "-q", *SIDES, "--sign-by-sigstore-private-key", key, place.name,
            f"docker://{place.registry.host}/copy:1",
        )  # fmt: skip
        assert done.code == 0, done.err
        (layer,) = json.loads(
            place.copied.manifests[place.copied.tags[f"sha256-{IMAGE.top.digest.hex}.sig"]].content
        )["layers"]
        assert layer["annotations"]
