"""Simple signatures between us and skopeo, by every place that both can keep them in."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from imgtools.errors import InvalidSignature
from imgtools.sign.checks import check_simple
from imgtools.sign.model import SimpleSignature
from imgtools.sign.registries_d import load
from imgtools.sign.simple_signer import SimpleSigner
from imgtools.sign.stores.directory import DirectorySignatures, DirectorySignatureWriter
from imgtools.sign.stores.lookaside import Lookaside
from imgtools.sign.stores.simple import simple_store
from imgtools.sign.stores.xrss import SignaturesApi
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, parse
from imgtools.spec.reference import Reference
from imgtools.task import Task
from imgtools.transport.directory import DirectorySource
from imgtools.transport.directory_writer import DirectoryDestination
from imgtools.transport.options import RegistryOptions
from imgtools.transport.table import Transports
from tests.rig import RegistryServer
from tests.sign.openpgp_home import Keys
from tests.sign.web import Reply, Request, forwarded, web_server

OPTIONS = RegistryOptions(tls_verify=False, tls_verify_given=True)
Kept = dict[str, list[dict[str, object]]]
Preload = Callable[[RegistryServer, str, str], str]


@dataclass(frozen=True, slots=True)
class Skopeo:
    """Debian's skopeo with the test's keys, policy and registries.d, all below `root`."""

    keys: Keys
    root: Path
    registries_d: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "registries_d", self.root / "registries.d")
        self.registries_d.mkdir()

    def __call__(self, *words: str | Path, key: str = "", accept: bool = True) -> str:
        """Run it, with a policy that asks for `key` if one is named; its standard error."""
        policy = ["--insecure-policy"]
        if key:
            (self.root / "key").write_bytes(self.keys.public[key])
            requirement = {
                "type": "signedBy", "keyType": "GPGKeys", "keyPath": str(self.root / "key"),
                "signedIdentity": {"type": "matchRepository"},
            }  # fmt: skip
            (self.root / "policy.json").write_text(json.dumps({"default": [requirement]}))
            policy = ["--policy", str(self.root / "policy.json")]
        done = subprocess.run(
            ["skopeo", *policy, "--registries.d", self.registries_d, "--tmpdir", self.root, *words],
            env={"HOME": str(self.root), "GNUPGHOME": str(self.keys.home.path), "PATH": os.defpath},
            capture_output=True, encoding="utf-8", timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode == 0) == accept, done.stderr
        return done.stderr

    def configure(self, read: str, write: str) -> None:
        """Keep signatures there."""
        text = f"default-docker:\n  sigstore: {read}\n  sigstore-staging: {write}\n"
        (self.registries_d / "a.yaml").write_text(text)

    def pull(self, name: str, key: str, *, accept: bool = True) -> str:
        """Copy an image that has to be signed by `key`."""
        return self("copy", "--src-tls-verify=false", "--remove-signatures", f"docker://{name}",
                    f"oci:{self.root}/pulled", key=key, accept=accept)  # fmt: skip

    def sign(self, host: str, repository: str, key: str) -> None:
        """Copy REPOSITORY:plain to REPOSITORY:v1, signed by `key`."""
        self("copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--sign-by",
             self.keys.fingerprint[key], f"docker://{host}/{repository}:plain",
             f"docker://{host}/{repository}:v1")  # fmt: skip


@pytest.fixture
def skopeo_gpg(gpg_keys: Keys, tmp_path: Path) -> Skopeo:
    """skopeo with the keys."""
    return Skopeo(gpg_keys, tmp_path)


def signer(keys: Keys, name: str) -> SimpleSigner:
    """Ours, with the key `name`."""
    made = SimpleSigner(keys.fingerprint[name], creator="us 1", homedir=str(keys.home.path))
    made.preflight()
    return made


def subject(digest: str) -> Descriptor:
    """The descriptor of a manifest, as far as signing looks at it."""
    return Descriptor(media_type="", digest=Digest.parse(digest), size=1)


def claims(found: object, digest: str, keys: Keys, name: str) -> list[str]:
    """The names that the signatures of `digest` claim, all of them by the key `name`."""
    signatures = found.signatures(Digest.parse(digest))  # type: ignore[attr-defined]
    verified = [check_simple(s, [keys.public[name]]) for s in signatures]
    assert all(str(v.claim.digest) == digest for v in verified)
    assert all(v.proof.key == keys.fingerprint[name] for v in verified)
    return [v.claim.reference for v in verified]


def test_lookaside_in_a_directory(
    skopeo_gpg: Skopeo, registry_plain: RegistryServer, preload: Preload, repository: str
) -> None:
    digest = preload(registry_plain, "oci", f"{repository}:plain")
    name, keys = f"{registry_plain.host}/{repository}:v1", skopeo_gpg.keys
    base = f"file://{skopeo_gpg.root}/signatures"
    skopeo_gpg.configure(base, base)
    reference = Reference.parse(name)
    places = load([str(skopeo_gpg.registries_d)]).for_reference(reference)
    store = Lookaside(places, reference)
    skopeo_gpg.sign(registry_plain.host, repository, "rsa")
    assert claims(store, digest, keys, "rsa") == [name]
    skopeo_gpg.pull(name, "rsa")

    skopeo_gpg.pull(name, "p256", accept=False)
    ours = signer(keys, "p256").sign(subject(digest), name)
    assert store.put(subject(digest), [ours]) == 1
    assert [s.where[-1] for s in store.signatures(Digest.parse(digest))] == ["1", "2"]
    skopeo_gpg.pull(name, "p256")
    skopeo_gpg.pull(name, "rsa")
    skopeo_gpg.pull(name, "other", accept=False)

    with web_server(_files(skopeo_gpg.root / "signatures")) as host:
        skopeo_gpg.configure(f"http://{host}", base)
        read = load([str(skopeo_gpg.registries_d)]).for_reference(reference)
        assert read.lookaside_read == f"http://{host}"
        over_http = Lookaside(read, reference, OPTIONS)
        found = over_http.signatures(Digest.parse(digest))
        assert [s.format for s in found] == ["simple", "simple"]
        assert found[1] == SimpleSignature(blob=ours.blob, where=found[1].where)
        skopeo_gpg.pull(name, "p256")


def _files(root: Path) -> Callable[[Request], Reply]:
    """The files below `root` as a web server gives them."""

    def answer(request: Request) -> Reply:
        path = root / request.path.lstrip("/")
        return Reply(200, path.read_bytes()) if path.is_file() else Reply(404)

    return answer


def test_garbage_beside_a_good_signature_is_an_error_to_both(
    skopeo_gpg: Skopeo, registry_plain: RegistryServer, preload: Preload, repository: str
) -> None:
    digest = preload(registry_plain, "oci", f"{repository}:v1")
    name = f"{registry_plain.host}/{repository}:v1"
    base = f"file://{skopeo_gpg.root}/signatures"
    skopeo_gpg.configure(base, base)
    reference = Reference.parse(name)
    store = Lookaside(load([str(skopeo_gpg.registries_d)]).for_reference(reference), reference)
    store.put(subject(digest), [signer(skopeo_gpg.keys, "rsa").sign(subject(digest), name)])
    skopeo_gpg.pull(name, "rsa")
    folder = skopeo_gpg.root / "signatures" / f"{repository}@{digest.replace(':', '=')}"
    (folder / "signature-2").write_bytes(b"garbage")
    with pytest.raises(InvalidSignature, match="signature-2"):
        store.signatures(Digest.parse(digest))
    skopeo_gpg.pull(name, "rsa", accept=False)


@contextmanager
def signatures_api(
    registry: RegistryServer, kept: dict[str, list[dict[str, object]]]
) -> Iterator[str]:
    """A registry with the signatures API before `registry`; `kept` by path. Gives HOST:PORT."""

    def answer(request: Request) -> Reply:
        if request.path.startswith("/extensions/v2/"):
            entries = kept.setdefault(request.path, [])
            if request.method == "PUT":
                entries.append(json.loads(request.body))
                return Reply(201)
            return Reply(200, json.dumps({"signatures": entries}).encode())
        reply = forwarded(registry.host, request)
        if request.path == "/v2/":
            headers = {**reply.headers, "X-Registry-Supports-Signatures": "1"}
            return Reply(reply.status, reply.body, headers)
        return reply

    with web_server(answer) as host:
        yield host


def test_the_signatures_api_of_a_registry(
    skopeo_gpg: Skopeo, registry_plain: RegistryServer, preload: Preload, repository: str
) -> None:
    digest = preload(registry_plain, "oci", f"{repository}:plain")
    keys = skopeo_gpg.keys
    kept: Kept = {}
    # Where there is the API, this is not looked at.
    skopeo_gpg.configure("file:///nowhere", "file:///nowhere")
    with signatures_api(registry_plain, kept) as host, Transports() as transports:
        name = f"{host}/{repository}:v1"
        reference = Reference.parse(name)
        places = load([str(skopeo_gpg.registries_d)]).for_reference(reference)
        there = transports.repository(reference, OPTIONS, push=True)
        store = simple_store(places, reference, there, OPTIONS)
        assert isinstance(store, SignaturesApi)
        assert store.signatures(Digest.parse(digest)) == ()
        skopeo_gpg.sign(host, repository, "rsa")
        assert claims(store, digest, keys, "rsa") == [name]

        ours = signer(keys, "p256").sign(subject(digest), name)
        assert store.put(subject(digest), [ours, ours]) == 1
        assert store.put(subject(digest), [ours]) == 0
        skopeo_gpg.pull(name, "p256")
        skopeo_gpg.pull(name, "other", accept=False)
        ((path, entries),) = kept.items()
        assert path == f"/extensions/v2/{repository}/signatures/{digest}"
        assert {key: entries[1][key] for key in ("schemaVersion", "type", "content")} == {
            "schemaVersion": 2, "type": "atomic", "content": base64.b64encode(ours.blob).decode(),
        }  # fmt: skip
        left, _, right = str(entries[1]["name"]).partition("@")
        assert (left, len(bytes.fromhex(right))) == (digest, 16)


def test_a_registry_without_the_api_has_lookaside_storage(
    registry_plain: RegistryServer, repository: str
) -> None:
    reference = Reference.parse(f"{registry_plain.host}/{repository}:v1")
    places = load([], lookaside="file:///nowhere").for_reference(reference)
    with Transports() as transports:
        there = transports.repository(reference, OPTIONS)
        assert isinstance(simple_store(places, reference, there, OPTIONS), Lookaside)


def test_dir_shows_signatures_with_the_image(
    skopeo_gpg: Skopeo, images_dir: Path, tmp_path: Path
) -> None:
    """Of the image and of an instance; and nothing at all before it is committed."""
    keys, target = skopeo_gpg.keys, tmp_path / "image"
    sign = partial(signer(keys, "rsa").sign, reference="registry.example/ns/app:v1")
    with DirectorySource(str(images_dir / "dir" / "oci")) as source:
        top = source.top()
        for commit in (False, True):
            with DirectoryDestination(str(target)) as destination:
                writer = DirectorySignatureWriter(destination, top.digest)
                writer.preflight()
                other = Digest.of(b"", "sha512")
                signature = sign(subject(str(top.digest)))
                assert writer.put(subject(str(top.digest)), [signature]) == 1
                assert writer.put(subject(str(top.digest)), [signature]) == 0
                assert writer.put(subject(str(other)), [signature]) == 1
                _copy_blobs(source, destination)
                destination.put_manifest(top, top=True)
                if commit:
                    destination.commit()
            assert target.exists() == commit
    assert (target / "version").read_text() == "Directory Transport Version: 1.2\n"
    assert (target / f"sha512-{other.hex}.signature-1").read_bytes() == signature.blob
    with DirectorySource(str(target)) as source:
        assert claims(DirectorySignatures(source), str(top.digest), keys, "rsa") == [
            "registry.example/ns/app:v1"
        ]
        (kept,) = DirectorySignatures(source).signatures(other)
        assert kept.where == f"dir:{target}, signature 1"


def _copy_blobs(source: DirectorySource, destination: DirectoryDestination) -> None:
    manifest = parse(source.top())
    assert isinstance(manifest, Manifest)
    for descriptor in (manifest.config, *manifest.layers):
        destination.put_blob(descriptor, partial(source.open_blob, descriptor), task=Task())


def test_dir_with_signatures_goes_both_ways(
    skopeo_gpg: Skopeo, registry_plain: RegistryServer, preload: Preload, repository: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    digest = preload(registry_plain, "oci", f"{repository}:plain")
    name, keys = f"{registry_plain.host}/{repository}:v1", skopeo_gpg.keys
    base = f"file://{tmp_path}/signatures"
    skopeo_gpg.configure(base, base)
    skopeo_gpg.sign(registry_plain.host, repository, "rsa")
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    skopeo_gpg("copy", "--src-tls-verify=false", f"docker://{name}", f"dir:{theirs}")
    with DirectorySource(str(theirs)) as source:
        reader = DirectorySignatures(source)
        assert claims(reader, digest, keys, "rsa") == [name]
        with DirectoryDestination(str(ours)) as destination:
            writer = DirectorySignatureWriter(destination, Digest.parse(digest))
            writer.put(subject(digest), reader.signatures(Digest.parse(digest)))
            _copy_blobs(source, destination)
            destination.put_manifest(source.top(), top=True)
            destination.commit()
    assert (ours / "signature-1").read_bytes() == (theirs / "signature-1").read_bytes()
    # From there skopeo takes it to where the policy asks for it.
    shutil.rmtree(tmp_path / "signatures")
    skopeo_gpg("copy", "--dest-tls-verify=false", f"dir:{ours}",
               f"docker://{registry_plain.host}/{repository}:v1")  # fmt: skip
    skopeo_gpg.pull(name, "rsa")
