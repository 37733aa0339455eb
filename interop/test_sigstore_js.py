"""Our bundles beside sigstore's JavaScript library and its Python one: by keys and by
certificates, with the logs of both versions."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sigstore.errors import Error as SigstoreError
from sigstore.models import Bundle, TrustedRoot
from sigstore.verify import Verifier
from sigstore.verify.policy import Identity

from imgtools.sign.model import BundleSignature
from imgtools.sign.stores.referrers import BundleReader
from imgtools.spec.digest import Digest
from imgtools.spec.reference import Reference
from imgtools.testing.sigstore.local import LocalSigstore
from imgtools.transport.options import RegistryOptions
from imgtools.transport.table import Transports
from interop.rig import Registry
from interop.rig.cosign import Ours
from interop.rig.peers import BIN
from interop.test_cosign import Place, Put, ours, put
from tests.sign.key_makers import MAKERS

__all__ = ["ours", "put"]

ADDRESS = "user@example.test"
WORKFLOW = "https://ci.example/ns/app/.github/workflows/release.yml@refs/heads/main"
SIGN = "https://sigstore.dev/cosign/sign/v1"


@pytest.fixture
def sigstore() -> Iterator[LocalSigstore]:
    """The services."""
    with LocalSigstore() as services:
        yield services


def bundle_of(place: Place, directory: Path) -> Path:
    """The only bundle of an image, as a file."""
    reference, options = Reference.parse(place.name), RegistryOptions(tls_verify=False)
    with Transports() as transports:
        reader = BundleReader(transports, reference, options)
        [found] = reader.signatures(Digest.parse(place.image.digest))
    assert isinstance(found, BundleSignature)
    path = directory / "bundle.json"
    path.write_bytes(found.content)
    return path


def javascript(*words: str | Path, accept: bool = True) -> Any:
    """What the library says of a bundle, or why it refuses it."""
    done = subprocess.run(
        ["node", BIN.parent / "sigstore-js" / "verify.js", *words],
        env={"PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert (done.returncode == 0) == accept, done.stderr
    return json.loads(done.stdout) if accept else done.stderr


def changed(path: Path) -> Path:
    """The bundle with another payload."""
    value = json.loads(path.read_bytes())
    payload = value["dsseEnvelope"]["payload"]
    value["dsseEnvelope"]["payload"] = payload[:-8] + "AAAA" + payload[-4:]
    other = path.with_name("changed.json")
    other.write_text(json.dumps(value))
    return other


@pytest.mark.parametrize("kind", MAKERS)
def test_javascript_verifies_our_keys(
    kind: str, any_registry: Registry, put: Put, ours: Ours, tmp_path: Path
) -> None:
    private, public = ours.generate(tmp_path / "ours", kind)
    _, other = ours.generate(tmp_path / "other", kind)
    place = put(any_registry)
    ours.sign(place.name, private, "bundle")
    bundle = bundle_of(place, tmp_path)
    statement = json.loads(javascript("key", bundle, public)["payload"])
    assert statement["predicateType"] == SIGN
    assert statement["subject"] == [
        {
            "digest": {"sha256": place.image.digest.removeprefix("sha256:")},
            "annotations": {"docker-reference": place.name},
        }
    ]
    assert "signature verification failed" in javascript("key", bundle, other, accept=False)
    assert "signature verification failed" in javascript(
        "key", changed(bundle), public, accept=False
    )


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("who", [ADDRESS, WORKFLOW])
def test_libraries_verify_our_certificates(
    who: str,
    version: int,
    sigstore: LocalSigstore,
    any_registry: Registry,
    put: Put,
    ours: Ours,
    tmp_path: Path,
) -> None:
    """With all proofs that they ask for, of the signer and of nobody else."""
    config, root, token = (tmp_path / name for name in ("trust.json", "root.json", "token"))
    config.write_text(json.dumps(sigstore.client_trust_config(rekor=1 if version == 1 else 2)))
    root.write_bytes(sigstore.trusted_root_json())
    token.write_text(sigstore.token(who))
    place, issuer = put(any_registry), sigstore.issuer.url
    flags = ("--tls-verify=false", "--format", "bundle", "--keyless", "--trust-config", config)
    ours("sign", *flags, "--identity-token-file", token, f"docker://{place.name}")
    bundle = bundle_of(place, tmp_path)

    found = javascript("certificate", bundle, root, who, issuer)
    assert (found["identity"], found["issuer"]) == (who, issuer)
    payload = found["payload"].encode()
    trusted = Verifier(trusted_root=TrustedRoot.from_file(str(root)))
    theirs = Bundle.from_json(bundle.read_bytes())
    kind, read = trusted.verify_dsse(theirs, Identity(identity=who, issuer=issuer))
    assert (kind, read) == ("application/vnd.in-toto+json", payload)

    for identity, known_by in (("other@example.test", issuer), (who, "https://other.example")):
        refused = javascript("certificate", bundle, root, identity, known_by, accept=False)
        assert "PolicyError" in refused
        with pytest.raises(SigstoreError):
            trusted.verify_dsse(theirs, Identity(identity=identity, issuer=known_by))
    javascript("certificate", changed(bundle), root, who, issuer, accept=False)
    with LocalSigstore() as stranger:
        root.write_bytes(stranger.trusted_root_json())
    javascript("certificate", bundle, root, who, issuer, accept=False)
    unknown = Verifier(trusted_root=TrustedRoot.from_file(str(root)))
    with pytest.raises(SigstoreError):
        unknown.verify_dsse(theirs, Identity(identity=who, issuer=issuer))
