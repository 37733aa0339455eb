"""What somebody who may write beside an image could try: memory, time, terminals, links, logs."""

from __future__ import annotations

import base64
import gzip
import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from imgtools.blob.reader import BlobReader
from imgtools.errors import Error, InvalidKey, InvalidSignature, LimitExceeded, UnsafePath
from imgtools.sign import image_places as places_module
from imgtools.sign.bundles.make import make_key_bundle, make_statement
from imgtools.sign.certificates.identity import AlternativeName, Identified, match
from imgtools.sign.image_places import source_bundles
from imgtools.sign.keys.private import load_private_key
from imgtools.sign.model import SIGNATURES_LIMIT, BundleSignature
from imgtools.sign.openpgp import gpg
from imgtools.sign.openpgp.blob import encode_blob
from imgtools.sign.policies.companion import parse_companion
from imgtools.sign.policies.model import CertificateIdentity
from imgtools.sign.registries_d import StorePlaces
from imgtools.sign.stores import lookaside, lookaside_web
from imgtools.sign.stores.directory import DirectorySignatures
from imgtools.sign.stores.lookaside import Lookaside
from imgtools.sign.stores.referrer import bundle_manifest
from imgtools.sign.stores.referrers import BundleWriter
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.spec.reference import Reference
from imgtools.task import Task
from imgtools.transport import directory as directory_module
from imgtools.transport.directory import DirectorySource
from imgtools.transport.options import RegistryOptions, SourceOptions
from imgtools.transport.table import Transports
from tests.rig import RunCli
from tests.sign.ground import IMAGE, ground, tag_of
from tests.sign.judging import Signer, attachment, policy, verdict
from tests.sign.key_makers import private_pem
from tests.sign.openpgp_home import PASSPHRASE, Keys
from tests.sign.web import Reply, web_server

DIGEST = IMAGE.top.digest
REFERENCE = Reference.parse("registry.example/ns/app:v1")
BLOB = b"\xa3" + b"x" * 999


# --- memory -----------------------------------------------------------------------------------


def in_directory(path: Path) -> object:
    """Signatures of `dir:`."""
    (path / "version").write_text("Directory Transport Version: 1.1\n")
    (path / "manifest.json").write_bytes(IMAGE.top.content)
    for number in range(1, 12):
        (path / f"signature-{number}").write_bytes(BLOB)
    with (
        Transports() as transports,
        transports.open_source(f"dir:{path}", SourceOptions()) as source,
    ):
        assert isinstance(source, DirectorySource)
        return DirectorySignatures(source).signatures(DIGEST)


def in_lookaside_directory(path: Path) -> object:
    """Signatures in files."""
    folder = path / f"ns/app@sha256={DIGEST.hex}"
    folder.mkdir(parents=True)
    for number in range(1, 12):
        (folder / f"signature-{number}").write_bytes(BLOB)
    base = f"file://{path}"
    return Lookaside(StorePlaces(lookaside_read=base, lookaside_write=base), REFERENCE).signatures(
        DIGEST
    )


def in_lookaside_web(path: Path) -> object:
    """Signatures without end on a web server."""
    with web_server(lambda request: Reply(200, BLOB)) as server:
        base = f"http://{server}"
        places = StorePlaces(lookaside_read=base, lookaside_write=base)
        options = RegistryOptions(tls_verify=False)
        return Lookaside(places, REFERENCE, options).signatures(DIGEST)


@pytest.mark.parametrize("read", [in_directory, in_lookaside_directory, in_lookaside_web])
def test_s38_all_signatures_together_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    """A hundred and twenty-eight of 4 MiB would be half a gibibyte, for one that proves nothing."""
    monkeypatch.setattr(lookaside, "TOTAL_LIMIT", 10_500)
    monkeypatch.setattr(lookaside_web, "TOTAL_LIMIT", 10_500)
    monkeypatch.setattr(directory_module, "_SIGNATURES_LIMIT", 10_500)
    with pytest.raises(LimitExceeded):
        read(tmp_path)


def test_s38_too_many_signatures_of_a_directory_are_an_error(tmp_path: Path) -> None:
    """Not the first so many: what is left out may be what mattered."""
    assert in_directory(tmp_path)
    for number in range(12, SIGNATURES_LIMIT + 2):
        (tmp_path / f"signature-{number}").write_bytes(BLOB)
    with pytest.raises(LimitExceeded):
        in_directory(tmp_path)


class _Layout:
    """A source with one bundle, which refers to everything as often as it is asked for."""

    def __init__(self, often: int) -> None:
        self.often, self.content = often, b"{}" + b" " * 998
        self.raw = bundle_manifest(
            IMAGE.top.descriptor(), make_bundle(), datetime(2026, 1, 1, tzinfo=UTC)
        )
        value = json.loads(self.raw.content)
        value["layers"][0] |= {"digest": str(Digest.of(self.content)), "size": 1000}
        self.raw = RawManifest.of(json.dumps(value).encode())

    def referrers(self, digest: Digest) -> list[Descriptor]:
        return [self.raw.descriptor()] * self.often

    def manifest(self, descriptor: Descriptor) -> RawManifest:
        return self.raw

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        return BlobReader.of(self.content, descriptor.digest)


def make_bundle() -> bytes:
    """A bundle by somebody."""
    key = load_private_key(private_pem(Signer().key), lambda: b"", "a key")
    return make_key_bundle(make_statement(DIGEST, reference="h.io/a:1"), key)


def test_s38_bundles_of_a_layout_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    found: Any = _Layout(10)
    assert len(source_bundles(found, DIGEST, "a layout")) == 10
    for name, signatures in (("TOTAL_LIMIT", True), ("ATTESTATIONS_TOTAL", False)):
        monkeypatch.setattr(places_module, name, 9_500)
        with pytest.raises(LimitExceeded):
            source_bundles(found, DIGEST, "a layout", signatures=signatures)


def test_s39_signatures_are_not_unpacked_on_the_way(tmp_path: Path) -> None:
    """A registry that sends its payload compressed sends another one; nothing expands it."""
    with ground(tmp_path, IMAGE) as place:
        place.sign(DIGEST)
        there = place.registry.repository("app")
        raw = there.manifests[there.tags[tag_of(DIGEST)]]
        (layer,) = json.loads(raw.content)["layers"]
        content = there.blobs[Digest.parse(layer["digest"])]
        place.registry.fail(
            path=f"/blobs/{layer['digest']}",
            body_override=gzip.compress(content),
            set_headers={"Content-Encoding": "gzip"},
        )
        assert place.verify("--format", "sigstore").code == 3
        done = place.copy()
        assert done.code == 1
        assert "is not admitted" not in done.err


# --- time -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+@x",
        r"(a|a)*@x",
        r"(.*)(.*)(.*)(.*)(.*)(.*)x@",
        r"([a-z]+)*[0-9]@x",
        r"(a?){64}a{64}@x",
    ],
)
def test_names_in_certificates_keep_no_expression_busy(pattern: str) -> None:
    """Whoever gets a certificate chooses the name: an engine that goes back would not return."""
    names = (AlternativeName(kind="email", value="a" * 2000 + "!"),)
    found = Identified(names=names, issuer="https://issuer" + "a" * 2000)
    rules = [
        CertificateIdentity(subject_regexp=pattern, issuer_regexp=".*"),
        CertificateIdentity(subject=names[0].value, issuer_regexp=r"https://issuer(a+)+$!"),
    ]
    with pytest.raises(InvalidSignature, match="not of"):
        match(found, rules)


@pytest.mark.parametrize(
    "pattern", [r"(?=a)a", r"(a)\1", r"(?<!x)a", "(?P<a", "a{100000}", "a" * 10_001]
)
def test_expressions_that_are_not_regular_are_refused_with_the_policy(pattern: str) -> None:
    """Also those that are too long when they are written out."""
    who = {"subjectRegExp": pattern, "issuer": "https://issuer"}
    keyless = {"trustedRootPath": "/root.json", "identities": [who]}
    content = json.dumps({"default": [{"type": "signed", "keyless": keyless}]}).encode()
    with pytest.raises(Error, match="subjectRegExp"):
        parse_companion(content)


def test_gnupg_that_does_not_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpg_keys: Keys
) -> None:
    """Whatever a message or a key ring does to it."""
    blob = gpg_keys.home.sign(b"x", "p256")
    real = shutil.which("gpg")
    program = tmp_path / "gpg"
    ring = [gpg_keys.public["p256"]]
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(gpg, "_LONGEST", 0.5)
    for word, expected in (("--verify", InvalidSignature), ("--import", InvalidKey)):
        program.write_text(
            f'#!/bin/sh\ncase "$*" in *{word}*) exec sleep 600;; *) exec {real} "$@";; esac\n'
        )
        program.chmod(0o755)
        with pytest.raises(expected):
            gpg.verify_message(blob, ring, "a message")
    program.unlink()
    monkeypatch.setattr(gpg, "_LONGEST", 60)
    assert gpg.verify_message(blob, ring, "a message").payload == b"x"


def test_a_directory_that_changes_is_read_once(tmp_path: Path) -> None:
    """Who judged its manifest, and who uses it, see the same."""
    in_directory(tmp_path)
    with Transports() as transports, transports.open_source(
        f"dir:{tmp_path}", SourceOptions()
    ) as source:  # fmt: skip
        assert source.top().digest == DIGEST
        (tmp_path / "manifest.json").write_bytes(IMAGE.top.content + b"\n")
        assert source.top().digest == source.resolve().digest == DIGEST


def test_as_many_signatures_as_are_read_are_judged() -> None:
    """The good one last."""
    signer, other = Signer(), Signer()
    bad = [other.attachment() for _ in range(SIGNATURES_LIMIT - 1)]
    assert verdict(policy(signer.requirement()), [*bad, signer.attachment()]).admitted


# --- terminals and logs -----------------------------------------------------------------------

NASTY = "\x1b]0;owned\x07\x1b[2J\r\nimgtools: verified\u202e\u0000"


def test_texts_of_others_do_not_steer_a_terminal(tmp_path: Path) -> None:
    """Media types, annotations, payloads, names: each in a message, and on one line."""
    with ground(tmp_path, IMAGE) as place:
        payload = json.loads(place.signer.payload(DIGEST))
        layers = []
        for path in ("docker-reference", "docker-manifest-digest", "type"):
            changed = json.loads(json.dumps(payload))
            part = changed["critical"]
            inner = {"docker-reference": "identity", "docker-manifest-digest": "image"}.get(path)
            (part[inner] if inner else part)[path] = NASTY
            content = json.dumps(changed).encode()
            layers.append((content, base64.b64encode(place.signer.raw(content)).decode()))
        layers.append((b"{}", NASTY))
        raw = place.put_attachment(DIGEST, layers)
        changed = json.loads(raw.content)
        changed["layers"][3]["mediaType"] = NASTY
        for content in (raw.content, json.dumps(changed).encode()):
            place.registry.push_manifest("app", content, "", tags=[tag_of(DIGEST)])
            for done in (place.copy(), place.verify("--format", "sigstore")):
                assert done.code != 0
                lines = done.err.splitlines()
                assert lines
                assert all(line.startswith("imgtools: ") for line in lines)
                assert all(line.isprintable() for line in lines), done.err


def test_names_that_were_signed_are_shown_as_text(tmp_path: Path, run_cli: RunCli) -> None:
    """A bundle may name anything, and --signed-identity any asks for nothing."""
    with ground(tmp_path, IMAGE) as place, Transports() as transports:
        key = load_private_key(private_pem(place.signer.key), lambda: b"", "a key")
        statement = json.loads(make_statement(DIGEST, reference="h.io/a:1"))
        statement["subject"][0]["annotations"]["docker-reference"] = NASTY
        content = make_key_bundle(json.dumps(statement).encode(), key)
        BundleWriter(
            transports, Reference.parse(place.name.removeprefix("docker://")),
            RegistryOptions(tls_verify=False), created=datetime.now(UTC), task=Task(),
        ).put(IMAGE.top.descriptor(), [BundleSignature(content=content)])  # fmt: skip
        assert place.verify().code == 1
        done = place.verify("--signed-identity", "any")
        assert done.code == 0, done.err
        lines = done.out.decode().splitlines()
        assert len(lines) == 2
        assert all(line.isprintable() for line in lines)
        shown = place.verify("--signed-identity", "any", "--json").out
        assert shown.isascii()
        assert len(shown.splitlines()) == 1
        assert b"\x1b" not in shown
        data = place.signer.requirement()["keyData"]
        wanted = {"type": "signed", "keys": [{"keyData": data}],
                  "signedIdentity": {"type": "anyIdentity"}}  # fmt: skip
        (tmp_path / "companion.json").write_text(json.dumps({"default": [wanted]}))
        logged = run_cli(
            "--debug", "--policy", place.policy(), "--policy-companion",
            tmp_path / "companion.json", "copy", "-q", "--src-tls-verify=false", place.name,
            f"dir:{tmp_path}/copy", check=True,
        )  # fmt: skip
        lines = logged.stderr.splitlines()
        assert any("is signed by" in line for line in lines)
        assert all(line.isprintable() and line.startswith("DEBUG") for line in lines)


def test_passphrases_and_keys_are_in_no_log(
    run_cli: RunCli, gpg_keys: Keys, tmp_path: Path
) -> None:
    """--debug tells what is done, also by GnuPG's module, and not with what."""
    secret = "a passphrase that nobody reads"
    with ground(tmp_path, IMAGE) as place:
        (run_cli.work / "pass").write_text(f"{secret}\n")
        (run_cli.work / "gpg-pass").write_text(f"{PASSPHRASE}\n")
        run_cli("generate-sigstore-key", "--output-prefix", "key", "--passphrase-file", "pass",
                check=True)  # fmt: skip
        private = (run_cli.work / "key.private").read_text()
        target = f"docker://{place.registry.host}/copy"
        plain = ("--src-tls-verify=false", "--dest-tls-verify=false")
        environment = {"GNUPGHOME": str(gpg_keys.home.path)}
        keyed = ("--sign-by-sigstore-private-key", "key.private", "--sign-passphrase-file", "pass")
        locked = ("--sign-by", gpg_keys.fingerprint["locked"], "--sign-passphrase-file", "gpg-pass")
        for number, flags in enumerate((keyed, locked)):
            done = run_cli("--debug", "copy", *plain, *flags, place.name, f"{target}:{number}",
                           env=environment)  # fmt: skip
            assert done.returncode == 0, done.stderr
            said = done.stdout + done.stderr
            assert "DEBUG" in said or "debug" in said
            for word in (secret, PASSPHRASE, *private.splitlines()[1:3]):
                assert word not in said


# --- links ------------------------------------------------------------------------------------


def test_signatures_are_not_read_through_links(tmp_path: Path) -> None:
    """A directory from somebody else could show files that only we may read."""
    image = tmp_path / "image"
    image.mkdir()
    (tmp_path / "secret").write_bytes(encode_blob(Signer().attachment()))
    in_directory(image)
    (image / "signature-1").unlink()
    (image / "signature-1").symlink_to(tmp_path / "secret")
    with (
        Transports() as transports,
        transports.open_source(f"dir:{image}", SourceOptions()) as source,
        pytest.raises(UnsafePath),
    ):
        assert isinstance(source, DirectorySource)
        DirectorySignatures(source).signatures(DIGEST)


def test_attachments_of_others_are_no_reason_to_fail() -> None:
    """Whatever stands beside a good signature, in whatever order."""
    signer = Signer()
    odd = [
        attachment(b"\xff\xfe", "AAAA"),
        attachment(b"", "\udcff"),
        attachment(signer.payload(), "MAA="),
        attachment(signer.payload(), "A" * 100_000),
        attachment(b"{}", "", media_type=NASTY),
    ]
    assert verdict(policy(signer.requirement()), [*odd, signer.attachment()]).admitted
    assert not verdict(policy(signer.requirement()), odd).admitted
