"""Keys whose signatures have to be in a log: `verify --key --trusted-root`, and the companion."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from imgtools.errors import InvalidSignature
from imgtools.sign.bundle_checks import check_attestation_key
from imgtools.sign.checks import SET_ANNOTATION, KeyTrust
from imgtools.sign.keys.private import load_private_key
from imgtools.sign.keys.public import load_public_key
from imgtools.sign.model import BUNDLE_MEDIA_TYPE, SigstoreSignature
from imgtools.sign.predicates import Predicate, attestation
from imgtools.sign.stores.attachment import attestation_layer
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, parse
from imgtools.testing.sigstore import LocalSigstore, entries
from tests.bad_input import PLAIN, Outcome
from tests.sign.key_makers import MAKERS, private_pem, public_pem
from tests.sign.keyless_rig import Keyless, keyless

KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
KIND = "https://example.test/p"
DIGEST = Digest.of(b"a manifest")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Keyless]:
    """An unsigned image, a sigstore, and files of the keys."""
    with keyless(tmp_path) as found:
        (tmp_path / "key").write_bytes(private_pem(KEY))
        (tmp_path / "key.pub").write_bytes(public_pem(KEY))
        (tmp_path / "other.pub").write_bytes(public_pem(OTHER))
        yield found


def make(site: Keyless, verb: str, *flags: str | Path, logged: bool) -> None:
    """Sign, or attest, by the key."""
    if logged:
        flags = (*flags, "--rekor-url", site.sigstore.url, "--trusted-root", site.root())
    done = site.run(verb, PLAIN, "--key", site.path / "key", *flags, site.place.name)
    assert done.code == 0, done.err


def verify(site: Keyless, *flags: str | Path, key: str = "key.pub") -> Outcome:
    """Verify by the key, in a log of the sigstore."""
    words = ("--key", site.path / key, "--trusted-root", site.root(), *flags)
    return site.run("verify", PLAIN, *words, site.place.name)


@pytest.mark.parametrize("form", ["sigstore", "bundle"])
def test_only_what_is_logged_counts(site: Keyless, form: str) -> None:
    make(site, "sign", "--format", form, logged=False)
    assert site.run("verify", PLAIN, "--key", site.path / "key.pub", site.place.name).code == 0
    verify(site).refused("annotation" if form == "sigstore" else "log entries", lines=2)
    make(site, "sign", "--format", form, logged=True)
    done = verify(site, "--json")
    assert done.code == 0, done.err
    (signature,) = json.loads(done.out)["manifests"][0]["signatures"]
    assert (signature["format"], bool(signature["time"])) == (form, True)
    assert verify(site, key="other.pub").code == 1


@pytest.mark.parametrize("form", ["sigstore", "bundle"])
def test_the_log_of_another_sigstore_is_none(site: Keyless, form: str) -> None:
    make(site, "sign", "--format", form, logged=True)
    with LocalSigstore() as other:
        (site.path / "other.json").write_bytes(other.trusted_root_json())
    words = ("--key", site.path / "key.pub", "--trusted-root", site.path / "other.json")
    site.run("verify", PLAIN, *words, site.place.name).refused("log", lines=2)


def test_attestations_are_logged_too(site: Keyless) -> None:
    (site.path / "predicate").write_text("{}")
    words = ("--type", KIND, "--predicate", site.path / "predicate")
    make(site, "attest", *words, logged=False)
    verify(site, "--attestation", KIND).refused("log entries", lines=2)
    make(site, "attest", *words, logged=True)
    assert verify(site, "--attestation", KIND).code == 0


def stamped(site: Keyless) -> tuple[str | Path, ...]:
    """The log of the second version by URLs, which needs timestamps."""
    stamps = ("--timestamp-url", f"{site.sigstore.url}/ts", "--trusted-root", site.root())
    return ("--rekor-url", site.sigstore.url, "--rekor-version", "2", *stamps)


@pytest.mark.parametrize("maker", ["ecdsa-p256", "rsa-2048"])
def test_the_second_version_has_keys_too(site: Keyless, maker: str) -> None:
    if maker == "rsa-2048":
        key = MAKERS[maker]()
        (site.path / "key").write_bytes(private_pem(key))
        (site.path / "key.pub").write_bytes(public_pem(key))
    make(site, "sign", "--format", "bundle", *stamped(site), logged=False)
    (entry,) = entries_of(site)
    assert (entry["kindVersion"]["kind"], entry["kindVersion"]["version"]) == (
        "hashedrekord",
        "0.0.2",
    )
    assert verify(site).code == 0
    done = site.run(
        "sign", PLAIN, "--key", site.path / "key", "--format", "bundle", *stamped(site),
        site.place.name,
    )  # fmt: skip
    assert done.out.startswith(b"present "), done.err


@pytest.mark.parametrize("rekor", [1, 2])
def test_a_trust_config_names_the_log_of_keys(site: Keyless, rekor: Literal[1, 2]) -> None:
    config = ("--trust-config", site.config(rekor))
    make(site, "sign", "--format", "bundle", *config, logged=False)
    (site.path / "predicate").write_text("{}")
    words = ("--type", KIND, "--predicate", site.path / "predicate")
    make(site, "attest", *words, *config, logged=False)
    assert verify(site).code == 0
    assert verify(site, "--attestation", KIND).code == 0
    assert len(entries_of(site)) == 2


def entries_of(site: Keyless) -> list[dict[str, Any]]:
    """The log entries of all bundles of the repository."""
    found = []
    for raw in site.repository.manifests.values():
        view = parse(raw)
        if isinstance(view, Manifest) and view.artifact_type == BUNDLE_MEDIA_TYPE:
            bundle = json.loads(site.repository.blobs[view.layers[0].digest])
            found += bundle["verificationMaterial"]["tlogEntries"]
    return found


def test_a_log_that_cannot_have_it_gets_nothing(site: Keyless) -> None:
    """Before anything is sent: no time, no promise, no such kind of key."""
    url = ("--rekor-url", site.sigstore.url, "--trusted-root", site.root())
    second = (*url, "--rekor-version", "2")
    rows = [
        (("--format", "bundle", *second), "timestamp"),
        (("--format", "sigstore", *second), "first version"),
        (("--format", "both", *stamped(site)), "first version"),
        (("--format", "bundle", "--timestamp-url", "u"), "--timestamp-url needs"),
    ]
    for flags, word in rows:
        words = ("--key", site.path / "key", *flags, site.place.name)
        site.run("sign", PLAIN, *words).refused(word)
    (site.path / "key").write_bytes(private_pem(ec.generate_private_key(ec.SECP384R1())))
    words = ("--key", site.path / "key", "--format", "bundle", *stamped(site))
    site.run("sign", PLAIN, *words, site.place.name).refused("P-384")
    assert not site.pushed
    assert not site.sigstore.requests


@pytest.mark.parametrize("kind", ["signed", "attested"])
def test_the_companion_asks_for_a_log(site: Keyless, kind: str) -> None:
    (site.path / "predicate").write_text("{}")
    verb, words = "sign", ("--format", "bundle")
    if kind == "attested":
        verb, words = "attest", ("--type", KIND, "--predicate", str(site.path / "predicate"))
    requirement: dict[str, Any] = {
        "type": kind,
        "keys": [{"keyPath": str(site.path / "key.pub")}],
        "log": {"trustedRootPath": str(site.root())},
    }
    if kind == "attested":
        requirement["predicateType"] = KIND
    companion = site.path / "companion.json"
    companion.write_text(json.dumps({"default": [requirement]}))
    make(site, verb, *words, logged=False)
    target = f"dir:{site.path / 'copy'}"
    copy = ("--policy-companion", companion, "copy", "-q", "--src-tls-verify=false")
    site.run(*copy, site.place.name, target).refused("log entries")
    make(site, verb, *words, logged=True)
    done = site.run(*copy, site.place.name, target)
    assert done.code == 0, done.err
    told = site.run("--policy-companion", companion, "policy", "explain", site.place.name)
    assert f"in a log of {site.root()}" in told.out.decode()
    site.root().write_text("{}")
    site.run("--policy-companion", companion, "policy", "check").refused("trusted root")


def attached(sigstore: LocalSigstore, *, signer: Any = KEY, logged: bytes = b"") -> Any:
    """An envelope as cosign 2 attached it, with the promise of a log that has it, or another
    one of the same key."""
    key = load_private_key(private_pem(signer), lambda: b"", "a test's key")
    payload = attestation(Predicate(type=KIND, body={}), DIGEST, "app")
    signature = key.sign(entries.pae(entries.DSSE_TYPE, payload))
    envelope = entries.envelope(payload, signature)
    other = entries.envelope(logged, key.sign(entries.pae(entries.DSSE_TYPE, logged)))
    entry = sigstore.log_v1(entries.dsse(other if logged else envelope, key.public_pem))
    more = {SET_ANNOTATION: entry.annotation()}
    made = attestation_layer(json.dumps(envelope).encode(), KIND, annotations=more)
    return SigstoreSignature(
        payload=made.content, annotations=made.annotations, media_type=made.media_type
    )


def test_s48_an_attached_envelope_has_its_own_promise() -> None:
    pair = tuple(load_public_key(public_pem(each), "a key") for each in (OTHER, KEY))
    with LocalSigstore() as sigstore:
        trust = KeyTrust(keys=pair, root=sigstore.trusted_root_json())
        found = check_attestation_key(attached(sigstore), trust, KIND, DIGEST)
        assert found.proof.time is not None
        mallory = ec.generate_private_key(ec.SECP256R1())
        refused = [attached(sigstore, logged=b"{}"), attached(sigstore, signer=mallory)]
        with LocalSigstore() as elsewhere:
            refused.append(attached(elsewhere))
        for each in refused:
            with pytest.raises(InvalidSignature):
                check_attestation_key(each, trust, KIND, DIGEST)


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("--trusted-root", "root"), "--trusted-root needs --key or --certificate-identity"),
        (("--key", "key.pub", "--rekor-key", "key.pub", "--trusted-root", "root"), "together"),
    ],
)
def test_options_that_do_not_go_together(site: Keyless, flags: tuple[str, ...], word: str) -> None:
    absolute = [flag if flag.startswith("-") else str(site.path / flag) for flag in flags]
    site.run("verify", PLAIN, *absolute, site.place.name).refused(word)
    assert not site.place.registry.requests
