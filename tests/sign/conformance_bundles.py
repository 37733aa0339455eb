"""Bundles and keys that others published as test data; see `conformance_signatures`.

The roots of trust are those that the sigstore package brings along, but where a fixture comes
with its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from imgtools.errors import Error
from imgtools.sign.bundles.parse import parse_bundle
from imgtools.sign.bundles.statement import Statement
from imgtools.sign.bundles.verify_certificate import (
    verify_message_with_certificate,
    verify_with_certificate,
)
from imgtools.sign.keys.private import load_private_key
from imgtools.sign.keys.public import load_public_key
from imgtools.sign.policies.model import CertificateIdentity

Case = tuple[str, bool, str]

ASSETS = "sigstore-python/test/assets"
COSIGN = "cosign/pkg/cosign/testdata"
FIXTURES = "container-libs/image/signature/fixtures"
PODMAN = "podman/test/e2e/testdata"
SKOPEO = "skopeo/integration/fixtures"

GITHUB = "https://github.com/login/oauth"
ACTIONS = "https://token.actions.githubusercontent.com"
BEACON = (
    "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/"
    ".github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main"
)
RELEASE = "https://github.com/trailofbits/rfc8785.py/.github/workflows/release.yml@refs/tags/v0.1.2"
ANYBODY = ("", "")

# Bundle, what was signed ("": it is in an envelope), the root, whose certificate, and why it is
# refused ("": it holds).
BUNDLES: tuple[tuple[str, str, str, tuple[str, str], str], ...] = (
    ("bundle.txt.sigstore", "bundle.txt", "staging", ("a@tny.town", GITHUB), ""),
    ("bundle.txt.sigstore", "bundle.txt", "staging", ("A@tny.town", GITHUB), "a@tny.town"),
    ("bundle.txt.sigstore", "bundle.txt", "staging", ("a@tny.town", ACTIONS), GITHUB),
    ("bundle.txt.sigstore", "a.txt", "staging", ANYBODY, "the bundle is about sha256:"),
    ("bundle.txt.sigstore", "bundle.txt", "production", ANYBODY, "does not hold"),
    ("bundle_v3.txt.sigstore", "bundle_v3.txt", "staging", ("william@yossarian.net", GITHUB), ""),
    ("bundle_v3_alt.txt.sigstore", "bundle_v3_alt.txt", "staging",
     ("william@yossarian.net", GITHUB), ""),
    ("integration/bundle_v3.txt.sigstore", "integration/bundle_v3.txt", "staging",
     ("william@yossarian.net", GITHUB), ""),
    ("bundle_v3_github.whl.sigstore", "bundle_v3_github.whl", "production", (RELEASE, ACTIONS), ""),
    ("bundle_v3_github.whl.sigstore", "bundle_v3_github.whl", "staging", ANYBODY, "does not hold"),
    ("staging-rekor-v2.txt.sigstore.json", "staging-rekor-v2.txt", "staging",
     ("jku@goto.fi", GITHUB), ""),
    ("a.dsse.staging-rekor-v2.txt.sigstore.json", "", "staging", (BEACON, ACTIONS), ""),
    ("tsa/bundle.txt.sigstore", "tsa/bundle.txt", "staging+tsa", ANYBODY, ""),
    ("tsa/bundle.txt.sigstore#first", "tsa/bundle.txt", "staging+tsa", ANYBODY, ""),
    ("tsa/bundle.txt.sigstore#untimed", "tsa/bundle.txt", "staging+tsa", ANYBODY, ""),
    ("tsa/bundle.txt.sigstore#first", "tsa/bundle.txt", "staging", ANYBODY, "timestamp"),
    ("tsa/bundle.duplicate.sigstore", "tsa/bundle.txt", "staging+tsa", ANYBODY, "twice"),
    ("tsa/bundle.many_timestamp.sigstore", "tsa/bundle.txt", "staging+tsa", ANYBODY, "at most 32"),
    ("tsa/bundle.txt.late_timestamp.sigstore", "tsa/bundle.txt", "staging", ANYBODY,
     "does not hold"),
    ("bundle_cve_2022_36056.txt.sigstore", "bundle_cve_2022_36056.txt", "staging", ANYBODY,
     "inconsistent"),
    ("bundle_no_cert_v1.txt.sigstore", "bundle_no_cert_v1.txt", "staging", ANYBODY,
     "x509CertificateChain is empty"),
    ("bundle_no_checkpoint.txt.sigstore", "bundle_no_checkpoint.txt", "staging", ANYBODY,
     "checkpoint"),
    ("bundle_no_checkpoint.txt.bundle", "bundle_no_checkpoint.txt", "staging", ANYBODY, "JSON"),
    ("bundle_no_log_entry.txt.sigstore", "bundle_no_log_entry.txt", "staging", ANYBODY,
     "0 log entries"),
    ("bundle_invalid_version.txt.sigstore", "bundle_invalid_version.txt", "staging", ANYBODY,
     "media type"),
    ("bundle_v3_no_signed_time.txt.sigstore.json", "bundle_v3_no_signed_time.txt", "staging",
     ANYBODY, "nobody vouches for the time"),
    ("integration/Python-3.12.5.tgz.sigstore", "a.txt", "production", ANYBODY,
     "the bundle is about sha256:"),
)  # fmt: skip


def checked(name: str, why: str, verify: Callable[..., object], *given: Any) -> Case:
    """The case `name`: `verify`, with what is given, raises an Error with the text `why`, or
    none for ""."""
    try:
        verify(*given)
    except Error as e:
        if why and why in e.message:
            return name, True, ""
        return name, False, f"is refused ({e.message}), expected: {why or 'it holds'}"
    except FileNotFoundError as e:
        return name, False, f"there is no {e.filename}"
    return name, not why, f"holds, expected: {why}"


def bundles(anchors: Path) -> Iterator[Case]:
    """The bundles of sigstore-python and of cosign."""
    assets = anchors / ASSETS
    for number, (file, artifact, root, who, why) in enumerate(BUNDLES, start=1):
        name = f"sign-bundles:{number} {file}"
        yield checked(name, why, _verify, assets, file, artifact, root, who)
    for name, who, why in (
        ("cosign's attestation", ("cody@soyland.com", GITHUB), ""),
        ("cosign's attestation of somebody else", ("cody@example.com", GITHUB), "cody@soyland.com"),
    ):
        yield checked(f"sign-bundles:{name}", why, _attestation, anchors, who)


def _verify(assets: Path, file: str, artifact: str, root: str, who: tuple[str, str]) -> None:
    bundle = parse_bundle(_read(assets, file))
    trusted = _root(root.partition("+")[0])
    if root.endswith("+tsa"):
        authority = json.loads((assets / "tsa/ca.json").read_bytes())
        trusted = json.dumps(json.loads(trusted) | {"timestampAuthorities": [authority]}).encode()
    if artifact:
        message = (assets / artifact).read_bytes()
        verify_message_with_certificate(bundle, message, trusted, [_identity(who)])
    else:
        verify_with_certificate(bundle, trusted, [_identity(who)])


def _read(assets: Path, file: str) -> bytes:
    """The bundle; "#first" is for its first timestamp only, "#untimed" leaves it as the only
    time, without the log's."""
    name, _, part = file.partition("#")
    content = (assets / name).read_bytes()
    if not part:
        return content
    value = json.loads(content)
    material = value["verificationMaterial"]
    del material["timestampVerificationData"]["rfc3161Timestamps"][1:]
    if part == "untimed":
        for entry in material["tlogEntries"]:
            del entry["inclusionPromise"], entry["integratedTime"]
    return json.dumps(value).encode()


def _attestation(anchors: Path, who: tuple[str, str]) -> Statement:
    root = (anchors / COSIGN / "trusted_root_pgi.json").read_bytes()
    bundle = parse_bundle((anchors / COSIGN / "oci-attestation.sigstore.json").read_bytes())
    return verify_with_certificate(bundle, root, [_identity(who)])[0]


def _identity(who: tuple[str, str]) -> CertificateIdentity:
    if who == ANYBODY:
        return CertificateIdentity(subject_regexp=".*", issuer_regexp=".*")
    return CertificateIdentity(subject=who[0], issuer=who[1])


def _root(name: str) -> bytes:
    """One of the roots in the sigstore package."""
    host = {"staging": "sigstage", "production": "sigstore"}[name]
    place = f"https%3A%2F%2Ftuf-repo-cdn.{host}.dev"
    return files("sigstore._store").joinpath(place, "trusted_root.json").read_bytes()


def keys(anchors: Path) -> Iterator[Case]:
    """Private keys with the public ones that belong to them, and public keys."""
    podman, skopeo, cosign = anchors / PODMAN, anchors / SKOPEO, anchors / COSIGN

    def pair(private: Path, public: Path, passphrase: bytes) -> None:
        key = load_private_key(private.read_bytes(), passphrase, str(private))
        if key.public_pem != load_public_key(public.read_bytes(), str(public)).pem:
            raise Error("it is not the private key of this public one")

    def public(path: Path) -> None:
        load_public_key(path.read_bytes(), str(path))

    secret = podman / "sigstore-key.key"
    word = (podman / "sigstore-key.key.pass").read_bytes().split(b"\n")[0]
    theirs, other = podman / "sigstore-key.pub", anchors / FIXTURES / "cosign.pub"
    yield checked("sign-keys:podman", "", pair, secret, theirs, word)
    for name, why, key, passphrase in (
        ("passphrase", "passphrase is wrong", theirs, word + b"\n"),
        ("public key", "not the private key", other, word),
    ):
        yield checked(f"sign-keys:podman, another {name}", why, pair, secret, key, passphrase)
    rows = {
        "skopeo with-passphrase": (skopeo / "with-passphrase.pub", "PGP PUBLIC KEY"),
        "skopeo no-passphrase": (skopeo / "no-passphrase.pub", "PGP PUBLIC KEY"),
        "cosign google": (cosign / "google", ""),
        "cosign rsa": (cosign / "rsa", ""),
        "cosign letsencrypt": (cosign / "letsencrypt-testflume-2021", "PEM"),
        "cosign garbage": (cosign / "garbage-there-are-limits", "PEM"),
        "containers cosign": (anchors / FIXTURES / "cosign.pub", ""),
        "containers cosign2": (anchors / FIXTURES / "cosign2.pub", ""),
        "containers rekor": (anchors / FIXTURES / "rekor.pub", ""),
        "containers RSA": (anchors / FIXTURES / "some-rsa-key.pub", ""),
        "containers signature": (anchors / FIXTURES / "image.signature", "PEM"),
    }
    for name, (path, why) in rows.items():
        yield checked(f"sign-keys:{name}", why, public, path)
