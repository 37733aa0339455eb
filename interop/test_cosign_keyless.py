"""Certificates of a sigstore beside cosign: signed by one and verified by the other, with a
certificate authority, logs and timestamps of the tests' own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from imgtools.testing.sigstore.local import LocalSigstore
from interop.rig import Registry
from interop.rig.cosign import Cosign, Format, Ours
from interop.test_cosign import Put, cosign, ours, put

__all__ = ["cosign", "ours", "put"]

ADDRESS = "user@example.test"
VERSIONS: tuple[Literal[1, 2], ...] = (1, 2)


@pytest.fixture
def sigstore(tmp_path: Path) -> Iterator[LocalSigstore]:
    """The services; in tmp_path are the token, the root, and both configurations by the version
    of the log."""
    with LocalSigstore() as services:
        (tmp_path / "token").write_text(services.token(ADDRESS))
        (tmp_path / "root.json").write_bytes(services.trusted_root_json())
        for version in VERSIONS:
            config = services.client_trust_config(rekor=version)
            (tmp_path / f"trust-{version}.json").write_text(json.dumps(config))
            config = services.signing_config(rekor=version)
            (tmp_path / f"signing-{version}.json").write_text(json.dumps(config))
        yield services


def trust(sigstore: LocalSigstore, root: Path, who: str = ADDRESS) -> tuple[str | Path, ...]:
    """The options of both verifiers."""
    issuer = sigstore.issuer.url
    return ("--trusted-root", root, "--certificate-identity", who,
            "--certificate-oidc-issuer", issuer)  # fmt: skip


@pytest.mark.parametrize(("version", "form"), [(1, "bundle"), (2, "bundle"), (1, "sigstore")])
def test_cosign_verifies_our_certificates(
    version: int,
    form: Format,
    sigstore: LocalSigstore,
    any_registry: Registry,
    put: Put,
    cosign: Cosign,
    ours: Ours,
    tmp_path: Path,
) -> None:
    """With every proof that it asks for; the second log is for bundles."""
    place = put(any_registry)
    who = ("--keyless", "--trust-config", tmp_path / f"trust-{version}.json")
    token = ("--identity-token-file", tmp_path / "token")
    ours("sign", "--tls-verify=false", "--format", form, *who, *token, f"docker://{place.name}")
    shown = ("--allow-http-registry", f"--new-bundle-format={str(form == 'bundle').lower()}")
    root = tmp_path / "root.json"
    [found] = json.loads(cosign("verify", *shown, *trust(sigstore, root), place.name))
    assert found["critical"]["image"] == {"docker-manifest-digest": place.image.digest}
    other = trust(sigstore, root, "other@example.test")
    assert ADDRESS in cosign("verify", *shown, *other, place.name, accept=False)
    with LocalSigstore() as stranger:
        root.write_bytes(stranger.trusted_root_json())
    cosign("verify", *shown, *trust(sigstore, root), place.name, accept=False)


@pytest.mark.parametrize("version", VERSIONS)
def test_we_verify_certificates_of_cosign(
    version: int,
    sigstore: LocalSigstore,
    any_registry: Registry,
    put: Put,
    cosign: Cosign,
    ours: Ours,
    tmp_path: Path,
) -> None:
    """In bundles, by the log of each version."""
    place, root = put(any_registry), tmp_path / "root.json"
    flags = ("--signing-config", tmp_path / f"signing-{version}.json", "--trusted-root", root)
    token = ("--identity-token", tmp_path / "token")
    cosign("sign", "--allow-http-registry", "-y", *token, *flags, place.pinned)
    verified(sigstore, ours, place.name, root, "bundle")


def test_we_verify_certificates_of_cosign_in_attachments(
    sigstore: LocalSigstore,
    any_registry: Registry,
    put: Put,
    cosign: Cosign,
    ours: Ours,
    tmp_path: Path,
) -> None:
    """As cosign 2 made them, with the promise of the first log."""
    place, root = put(any_registry), tmp_path / "root.json"
    flags = ("--use-signing-config=false", "--new-bundle-format=false", "--trusted-root", root)
    services = ("--fulcio-url", sigstore.url, "--rekor-url", sigstore.url)
    token = ("--identity-token", tmp_path / "token")
    cosign("sign", "--allow-http-registry", "-y", *token, *flags, *services, place.pinned)
    verified(sigstore, ours, place.name, root, "sigstore")


def verified(sigstore: LocalSigstore, ours: Ours, name: str, root: Path, form: Format) -> None:
    """We verify what cosign signed: of this address, by this root, if no tag is asked for."""
    verify = ("verify", "--tls-verify=false", "--json", "--format", form)
    unnamed = ("--signed-identity", "any", f"docker://{name}")
    said = json.loads(ours(*verify, *trust(sigstore, root), *unnamed).stdout)
    [signature] = said["manifests"][0]["signatures"]
    assert (signature["subject"], signature["issuer"]) == (ADDRESS, sigstore.issuer.url)
    assert signature["time"] is not None
    ours(*verify, *trust(sigstore, root, "other@example.test"), *unnamed, status=1)
    ours(*verify, *trust(sigstore, root), f"docker://{name}", status=1)
    with LocalSigstore() as stranger:
        root.write_bytes(stranger.trusted_root_json())
    ours(*verify, *trust(sigstore, root), *unnamed, status=1)


def test_keys_in_a_log(
    sigstore: LocalSigstore,
    any_registry: Registry,
    put: Put,
    cosign: Cosign,
    ours: Ours,
    tmp_path: Path,
) -> None:
    """A key's signature with an entry, which is asked for; one without is refused."""
    private, public = ours.generate(tmp_path / "ours", "ecdsa-p256")
    root, log = tmp_path / "root.json", tmp_path / "rekor.pub"
    log.write_bytes(sigstore.rekor.public_pem)
    logged, unlogged, theirs = (put(any_registry, name=f"/{n}") for n in ("a", "b", "c"))
    ours.sign(logged.name, private, "sigstore", "--rekor-url", sigstore.url)
    ours.sign(unlogged.name, private, "sigstore")
    flags = ("--use-signing-config=false", "--new-bundle-format=false", "--trusted-root", root)
    services = ("--key", private, "--rekor-url", sigstore.url)
    cosign("sign", "--allow-http-registry", "-y", *flags, *services, theirs.pinned)
    shown = ("--allow-http-registry", "--new-bundle-format=false")
    for place in (logged, unlogged, theirs):
        in_log = place is not unlogged
        rule = ("--rekor-key", log, "--signed-identity", "repository")
        ours.verify(place.name, public, *rule, status=0 if in_log else 1)
        rule = ("--trusted-root", root, "--signed-identity", "repository")
        ours.verify(place.name, public, *rule, status=0 if in_log else 1)
        known = ("--key", public, "--trusted-root", root)
        cosign("verify", *shown, *known, place.name, accept=in_log)


@pytest.mark.parametrize("version", VERSIONS)
def test_keys_in_a_log_by_bundles(
    version: int,
    sigstore: LocalSigstore,
    any_registry: Registry,
    put: Put,
    cosign: Cosign,
    ours: Ours,
    tmp_path: Path,
) -> None:
    """What one signs with a key and enters into a log of each version, the other finds there."""
    private, public = ours.generate(tmp_path / "ours", "ecdsa-p256")
    root = tmp_path / "root.json"
    place, mine = (put(any_registry, name=f"/{name}") for name in ("theirs", "mine"))
    ours.sign(mine.name, private, "bundle", "--trust-config", tmp_path / f"trust-{version}.json")
    known = ("--allow-http-registry", "--key", public, "--trusted-root", root)
    cosign("verify", *known, mine.name)
    flags = ("--signing-config", tmp_path / f"signing-{version}.json", "--trusted-root", root)
    cosign("sign", "--allow-http-registry", "-y", "--key", private, *flags, place.pinned)
    rule = ("--trusted-root", root, "--format", "bundle", "--signed-identity", "any")
    ours.verify(place.name, public, *rule)
    with LocalSigstore() as stranger:
        root.write_bytes(stranger.trusted_root_json())
    ours.verify(place.name, public, *rule, status=1)
