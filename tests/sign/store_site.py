"""A registry with one image, and signatures for it: what tests of stores begin with."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives.asymmetric import ec

from imgtools.sign.keys.private import LocalKey
from imgtools.sign.keys.public import PublicKey, load_public_key
from imgtools.sign.model import SIMPLE_SIGNING_LAYER, SigstoreSignature
from imgtools.sign.payload import make_payload
from imgtools.sign.stores.attachment import SIGNATURE_ANNOTATION
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.spec.reference import Reference
from imgtools.task import Task
from imgtools.testing.dialects import Dialect
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.options import RegistryOptions, Timeouts
from imgtools.transport.registry.wire.retry import RetryPolicy
from imgtools.transport.table import Transports

CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
QUICK = RetryPolicy(first=0.001, longest=0.002)
IMAGE = RawManifest.of(
    json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": mt.OCI_MANIFEST,
            "config": {
                "mediaType": mt.OCI_CONFIG,
                "digest": str(Digest.of(CONFIG)),
                "size": len(CONFIG),
            },
            "layers": [],
        }
    ).encode()
)
DIGEST = IMAGE.digest
SIG = f"sha256-{DIGEST.hex}.sig"
FALLBACK = f"sha256-{DIGEST.hex}"
NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class Site:
    """A registry that holds IMAGE as app:v1, and how it is reached."""

    registry: ScriptedRegistry
    transports: Transports
    reference: Reference
    options: RegistryOptions

    @property
    def place(self) -> tuple[Transports, Reference, RegistryOptions]:
        """What readers and writers are made of."""
        return self.transports, self.reference, self.options

    @property
    def subject(self) -> Descriptor:
        """The image."""
        return IMAGE.descriptor()

    def at(self, tag: str) -> RawManifest:
        """The manifest of a tag, which is there."""
        there = self.registry.repository("app")
        return there.manifests[there.tags[tag]]

    def blob(self, digest: str | Digest) -> bytes:
        """A blob, which is there."""
        digest = digest if isinstance(digest, Digest) else Digest.parse(digest)
        return self.registry.repository("app").blobs[digest]

    def put(self, content: bytes | dict[str, Any], *tags: str, media_type: str = "") -> RawManifest:
        """A manifest in the repository, without a request."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.registry.push_manifest("app", data, media_type, tags=tags)


@contextmanager
def site(dialect: Dialect | None = None, **more: Any) -> Iterator[Site]:
    """A site whose registry speaks `dialect`; failing requests are repeated without waiting."""
    quick = mock.patch("imgtools.transport.registry.session.RetryPolicy", return_value=QUICK)
    with quick, ScriptedRegistry(dialect=dialect, **more) as registry, Transports() as transports:
        registry.push_blob("app", CONFIG)
        registry.push_manifest("app", IMAGE.content, IMAGE.media_type, tags=["v1"])
        yield Site(
            registry=registry,
            transports=transports,
            reference=Reference.parse(f"{registry.host}/app:v1"),
            options=RegistryOptions(
                tls_verify=False, timeouts=Timeouts(connect=5, first_byte=5, idle=5)
            ),
        )


def new_key() -> LocalKey:
    """A P-256 key."""
    return LocalKey.of(ec.generate_private_key(ec.SECP256R1()), "a test's key")


def public(key: LocalKey) -> PublicKey:
    """Its public half, as a policy would have it."""
    return load_public_key(key.public_pem, "a test's key")


def signature(
    key: LocalKey,
    reference: str = "example.test/app:v1",
    *,
    digest: Digest = DIGEST,
    timestamp: int = 1_795_324_458,
    annotations: Mapping[str, str] = NOTHING,
) -> SigstoreSignature:
    """A signature as skopeo makes it."""
    payload = make_payload("sigstore", digest, reference, "test 1.0", timestamp)
    text = base64.b64encode(key.sign(payload)).decode()
    return SigstoreSignature(
        payload=payload, annotations={SIGNATURE_ANNOTATION: text, **annotations}
    )


def attachment(site: Site, *payloads: bytes, layer_type: str = SIMPLE_SIGNING_LAYER) -> RawManifest:
    """An attachment that somebody else wrote, in the repository at its tag."""
    config = b"{}"
    layers = []
    for payload in (config, *payloads):
        site.registry.push_blob("app", payload)
        layers.append(
            {
                "mediaType": layer_type,
                "digest": str(Digest.of(payload)),
                "size": len(payload),
                "annotations": {SIGNATURE_ANNOTATION: "AA=="},
            }
        )
    return site.put(
        {
            "schemaVersion": 2,
            "mediaType": mt.OCI_MANIFEST,
            "config": {"mediaType": mt.OCI_CONFIG, "digest": layers[0]["digest"], "size": 2},
            "layers": layers[1:],
        },
        SIG,
    )


def task() -> Task:
    """A task of its own."""
    return Task()
