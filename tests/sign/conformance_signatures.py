"""Signatures that others published as test data, verified by us: which hold is a table of ours.

They are those of containers/image (images in `dir:`, simple signatures, log entries), of
sigstore-python and cosign (bundles), of podman and skopeo (keys). None of them is part of this
repository. A signature that is refused has to be refused for the reason of its row.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imgtools.errors import Error
from imgtools.sign.image_places import Kind, image_places
from imgtools.sign.model import Signature, SigstoreSignature
from imgtools.sign.openpgp.blob import decode_blob
from imgtools.sign.policies.evaluate import Subject, judge
from imgtools.sign.policies.model import Chosen
from imgtools.sign.policies.parse import parse_policy
from imgtools.sign.registries_d import RegistriesD
from imgtools.spec.digest import Digest
from imgtools.spec.reference import Reference
from imgtools.transport.options import SourceOptions
from imgtools.transport.table import Transports, parse_name
from tests.sign.conformance_blobs import log_entries, messages
from tests.sign.conformance_bundles import FIXTURES, Case, bundles, checked, keys

INTERNAL = "container-libs/image/signature/internal/testdata"
NOW = datetime(2026, 11, 1, tzinfo=UTC)
"""Certificates of the PKI fixture are valid then."""

SINGLE = "192.168.64.2:5000/cosign-signed-single-sample"
KEY_REKOR = "192.168.64.2:5000/cosign-signed/key-1"
FULCIO_REKOR = "192.168.64.2:5000/cosign-signed/fulcio-rekor-1"
TAGGED = "192.168.64.2:5000/skopeo-signed"
PKI = "localhost:5000/test"
SIMPLE = "testing/manifest"

SET = "dev.sigstore.cosign/bundle"
CERTIFICATE = "dev.sigstore.cosign/certificate"
CHAIN = "dev.sigstore.cosign/chain"
RAW = "dev.cosignproject.cosign/signature"

Change = Callable[[Mapping[str, str]], dict[str, str]]


def run(anchors: Path) -> Iterator[Case]:
    """The name of each case, whether it passed, and the difference if not.

    `anchors` holds source trees of container-libs, sigstore-python, cosign, podman and skopeo.
    """
    fixtures = anchors / FIXTURES
    for name, row in {**SIMPLE_IMAGES, **IMAGES}.items():
        yield checked(f"sign-images:{name}", row.why, row.admit, fixtures)
    yield from messages(fixtures)
    yield from log_entries(anchors / INTERNAL)
    yield from bundles(anchors)
    yield from keys(anchors)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An image in `dir:`, known as `name`, under one requirement of policy.json; `why` it is
    refused ("": it is admitted). `change` is done to its annotations, `other` is a signature
    that it gets in place of its own."""

    image: str
    name: str
    requirement: dict[str, Any]
    identity: dict[str, str] = field(default_factory=lambda: {"type": "matchRepository"})
    why: str = ""
    change: Change | None = None
    other: str = ""

    def admit(self, fixtures: Path) -> None:
        """Raise an Error with all reasons unless the image is admitted."""
        requirement = {**_absolute(self.requirement, fixtures), "signedIdentity": self.identity}
        policy = parse_policy(json.dumps({"default": [requirement]}).encode())
        assert policy.default is not None
        chosen = Chosen(origin="test", scope="default", requirements=policy.default)
        options = SourceOptions()
        with tempfile.TemporaryDirectory() as copied, Transports() as transports:
            # Most of their files are links to those of other images, which we do not follow.
            place = shutil.copytree(fixtures / self.image, f"{copied}/image")
            name = parse_name(f"dir:{place}")
            with transports.open_source(name, options) as source:
                digest = source.top().digest
            places = image_places(name, transports, options, lambda: RegistriesD())

            def read(kind: Kind, /) -> tuple[Signature, ...]:
                return tuple(map(self._changed, self._signatures(fixtures, places, kind, digest)))

            subject = Subject(digest=digest, reference=Reference.parse(self.name, default_tag=""))
            verdict = judge(chosen, subject, read, now=NOW)
        if not verdict.admitted:
            raise Error("; ".join(why for outcome in verdict.outcomes for why in outcome.reasons))

    def _signatures(
        self, fixtures: Path, places: Any, kind: Kind, digest: Digest
    ) -> tuple[Signature, ...]:
        if not self.other:
            return tuple(places.signatures(kind, digest))
        found = decode_blob((fixtures / self.other).read_bytes(), self.other)
        return (found,) if found.format == kind else ()

    def _changed(self, signature: Signature) -> Signature:
        if self.change is None:
            return signature
        assert isinstance(signature, SigstoreSignature)
        return SigstoreSignature(
            payload=signature.payload, annotations=self.change(signature.annotations)
        )


def _absolute(value: Any, root: Path) -> Any:
    """The requirement with its files named in full."""
    if isinstance(value, dict):
        return {
            key: str(root / item) if key.endswith("Path") else _absolute(item, root)
            for key, item in value.items()
        } | {
            key: [str(root / path) for path in item]
            for key, item in value.items()
            if key.endswith("Paths")
        }
    return value


def without(name: str) -> Change:
    """A signature that has not this annotation."""
    return lambda annotations: {k: v for k, v in annotations.items() if k != name}


def replaced(name: str, text: str) -> Change:
    """A signature with another annotation of this name."""
    return lambda annotations: {**annotations, name: text}


def _key(*paths: str, **more: Any) -> dict[str, Any]:
    where = {"keyPath": paths[0]} if len(paths) == 1 else {"keyPaths": list(paths)}
    return {"type": "sigstoreSigned", **where, **more}


def _gpg(*paths: str) -> dict[str, Any]:
    where = {"keyPath": paths[0]} if len(paths) == 1 else {"keyPaths": list(paths)}
    return {"type": "signedBy", "keyType": "GPGKeys", **where}


def _fulcio(
    email: str = "mitr@redhat.com", rekor: str = "rekor.pub", **more: str
) -> dict[str, Any]:
    trust = {
        "caPath": "fulcio_v1.crt.pem",
        "oidcIssuer": "https://github.com/login/oauth",
        "subjectEmail": email,
        **more,
    }
    return {"type": "sigstoreSigned", "fulcio": trust, "rekorPublicKeyPath": rekor}


def _pki(intermediates: bool = True, **who: str) -> dict[str, Any]:
    trust = {
        "caRootsPath": "pki_root_crts.pem",
        "subjectEmail": "qiwan@redhat.com",
        "subjectHostname": "myhost.example.com",
        **who,
    }
    if intermediates:
        trust["caIntermediatesPath"] = "pki_intermediate_crts.pem"
    return {"type": "sigstoreSigned", "pki": trust}


def _cosign(image: str, name: str = SINGLE, why: str = "", **more: Any) -> Row:
    return Row(
        image=f"dir-img-cosign-{image}",
        name=name,
        why=why,
        requirement=more.pop("requirement", _key("cosign.pub")),
        **more,
    )


def _simple(image: str, why: str = "", **more: Any) -> Row:
    return Row(
        image=f"dir-img-{image}",
        name=more.pop("name", f"{SIMPLE}:latest"),
        why=why,
        requirement=more.pop("requirement", _gpg("public-key.gpg")),
        **more,
    )


EXACT = {"type": "matchExact"}
DEFAULT = {"type": "matchRepoDigestOrExact"}
OTHER_TAG = f"{SIMPLE}:notlatest"

SIMPLE_IMAGES: dict[str, Row] = {
    "valid": _simple("valid", identity=EXACT),
    "valid, either of two keys": _simple(
        "valid", requirement=_gpg("public-key-2.gpg", "public-key-1.gpg"), identity=EXACT
    ),
    "valid, a key that is not there": _simple(
        "valid", "not/there", requirement=_gpg("public-key.gpg", "not/there")
    ),
    "valid, another tag": _simple("valid", "not accepted", name=OTHER_TAG, identity=EXACT),
    "valid, another tag by repository": _simple("valid", name=OTHER_TAG),
    "valid, sigstore wanted": _simple("valid", "no sigstore", requirement=_key("cosign.pub")),
    "valid-2": _simple("valid-2", identity=EXACT),
    "valid-2, another tag": _simple("valid-2", "not accepted", name=OTHER_TAG, identity=EXACT),
    "valid-subkey": _simple("valid-subkey", requirement=_gpg("public-key-with-subkey.gpg")),
    "valid-subkey, another key": _simple("valid-subkey", "not among those given"),
    "mixed": _simple("mixed", identity=EXACT),
    "unsigned": _simple("unsigned", "there is no simple signature"),
    "modified-manifest": _simple("modified-manifest", "it is about sha256:"),
    "no-manifest": _simple("no-manifest", "manifest"),
    "manifest-digest-error": _simple("manifest-digest-error", "empty list of signatures"),
    "unknown key": _simple("valid", "not among those given", other="unknown-key.signature"),
    "no JSON": _simple("valid", "not valid JSON", other="invalid-blob.signature"),
    "cleartext": _simple("valid", "no signature of a known format",
                         other="invalid-cleartext.signature"),
    "invalid reference": _simple("valid", "UPPERCASE", other="invalid-reference.signature"),
    "no tag": _simple("valid", identity={"type": "exactRepository", "dockerRepository": SIMPLE},
                      other="no-optional-fields.signature"),
    "no tag, default": _simple("valid", "not accepted", identity=DEFAULT,
                               other="no-optional-fields.signature"),
}  # fmt: skip

_LOGGED = _key("cosign2.pub", rekorPublicKeyPath="rekor.pub")
IMAGES: dict[str, Row] = {
    "cosign-valid": _cosign("valid"),
    "cosign-valid, second of two keys": _cosign(
        "valid", requirement=_key("cosign2.pub", "cosign.pub")
    ),
    "cosign-valid, default": _cosign("valid", why="not accepted", identity=DEFAULT),
    "cosign-valid, exact": _cosign("valid", why="not accepted", identity=EXACT),
    "cosign-valid, another repository": _cosign("valid", SIMPLE, "not accepted"),
    "cosign-valid, another key": _cosign("valid", why="not by", requirement=_key("cosign2.pub")),
    "cosign-valid, GPG wanted": _cosign(
        "valid", why="no simple signature", requirement=_gpg("public-key.gpg")
    ),
    "cosign-valid, no key": _cosign(
        "valid", why="image.signature", requirement=_key("cosign.pub", "image.signature")
    ),
    "cosign-valid, not in a log": _cosign(
        "valid", why=SET, requirement=_key("cosign.pub", rekorPublicKeyPath="rekor.pub"),
        change=without(SET),
    ),
    "cosign-valid, no signature": _cosign("valid", why=RAW, change=without(RAW)),
    "cosign-valid, signature of nothing": _cosign(
        "valid", why="not by", change=replaced(RAW, "aW52YWxpZCBzaWduYXR1cmU=")
    ),
    "cosign-valid, unknown key": _cosign(
        "valid", why="not by", other="unknown-cosign-key.signature"
    ),
    "cosign-valid-2": _cosign("valid-2"),
    "cosign-valid-with-tag": _cosign("valid-with-tag", f"{TAGGED}:tag", identity=EXACT),
    "cosign-valid-with-tag, default": _cosign(
        "valid-with-tag", f"{TAGGED}:tag", identity=DEFAULT
    ),
    "cosign-valid-with-tag, another": _cosign(
        "valid-with-tag", f"{TAGGED}:othertag", "not accepted", identity=EXACT
    ),
    "cosign-mixed": _cosign("mixed"),
    "cosign-modified-manifest": _cosign("modified-manifest", why="it is about sha256:"),
    "cosign-no-manifest": _cosign("no-manifest", why="manifest"),
    "cosign-manifest-digest-error": _cosign(
        "manifest-digest-error", why="empty list of signatures"
    ),
    "cosign-other-attachment": _cosign("other-attachment", why="media type"),
    "key-rekor": _cosign("key-rekor-valid", KEY_REKOR, requirement=_LOGGED),
    "key-rekor, several of both": _cosign(
        "key-rekor-valid", KEY_REKOR,
        requirement=_key("cosign.pub", "cosign2.pub",
                         rekorPublicKeyPaths=["cosign.pub", "rekor.pub"]),
    ),
    "key-rekor, another key": _cosign(
        "key-rekor-valid", KEY_REKOR, "log entry",
        requirement=_key("cosign.pub", rekorPublicKeyPath="rekor.pub"),
    ),
    "key-rekor, another log": _cosign(
        "key-rekor-valid", KEY_REKOR, "log entry",
        requirement=_key("cosign2.pub", rekorPublicKeyPath="cosign.pub"),
    ),
    "key-rekor, log's key is RSA": _cosign(
        "key-rekor-valid", KEY_REKOR, "ECDSA",
        requirement=_key("cosign2.pub", rekorPublicKeyPath="some-rsa-key.pub"),
    ),
    "key-rekor, no entry": _cosign(
        "key-rekor-valid", KEY_REKOR, SET, requirement=_LOGGED, change=without(SET)
    ),
    "key-rekor, entry of nothing": _cosign(
        "key-rekor-valid", KEY_REKOR, "JSON", requirement=_LOGGED,
        change=replaced(SET, "this is not a valid SET"),
    ),
    "fulcio-rekor": _cosign("fulcio-rekor-valid", FULCIO_REKOR, requirement=_fulcio()),
    "fulcio-rekor, somebody else": _cosign(
        "fulcio-rekor-valid", FULCIO_REKOR, "mitr@redhat.com",
        requirement=_fulcio("Mitr@redhat.com"),
    ),
    "fulcio-rekor, another issuer": _cosign(
        "fulcio-rekor-valid", FULCIO_REKOR, "https://github.com/login/oauth",
        requirement=_fulcio(oidcIssuer="https://accounts.google.com"),
    ),
    "fulcio-rekor, another log": _cosign(
        "fulcio-rekor-valid", FULCIO_REKOR, "log", requirement=_fulcio(rekor="cosign.pub")
    ),
    "fulcio-rekor, no entry": _cosign(
        "fulcio-rekor-valid", FULCIO_REKOR, SET, requirement=_fulcio(), change=without(SET)
    ),
    "fulcio-rekor, no certificate": _cosign(
        "fulcio-rekor-valid", FULCIO_REKOR, CERTIFICATE,
        requirement=_fulcio(), change=without(CERTIFICATE),
    ),
    "fulcio-rekor, certificate of nothing": _cosign(
        "fulcio-rekor-valid", FULCIO_REKOR, "certificate",
        requirement=_fulcio(), change=replaced(CERTIFICATE, "this is not a valid certificate"),
    ),
    "fulcio-rekor, no chain": _cosign(
        "fulcio-rekor-valid", FULCIO_REKOR, "certificate",
        requirement=_fulcio(), change=without(CHAIN),
    ),
    "fulcio-rekor, no chain, intermediate trusted": _cosign(
        "fulcio-rekor-valid", FULCIO_REKOR,
        requirement=_fulcio(caPath="fulcio-chain"), change=without(CHAIN),
    ),
    "pki": _cosign("pki-valid", PKI, requirement=_pki()),
    "pki, another host": _cosign(
        "pki-valid", PKI, "myhost.example.com",
        requirement=_pki(subjectHostname="host.example.com"),
    ),
    "pki, another address": _cosign(
        "pki-valid", PKI, "qiwan@redhat.com", requirement=_pki(subjectEmail="mitr@redhat.com")
    ),
    "pki, no chain": _cosign("pki-valid", PKI, requirement=_pki(), change=without(CHAIN)),
    "pki, no intermediate": _cosign(
        "pki-valid", PKI, "certificate", requirement=_pki(False), change=without(CHAIN)
    ),
    "pki, no certificate": _cosign(
        "pki-valid", PKI, CERTIFICATE, requirement=_pki(), change=without(CERTIFICATE)
    ),
}  # fmt: skip
