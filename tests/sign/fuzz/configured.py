"""Policies, companions and registries.d that are changed: none becomes an open door."""

from __future__ import annotations

import base64
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

from imgtools.errors import Error
from imgtools.sign.policies.companion import parse_companion
from imgtools.sign.policies.inspect import described
from imgtools.sign.policies.model import Policy
from imgtools.sign.policies.parse import parse_policy
from imgtools.sign.policies.scopes import choose
from imgtools.sign.registries_d import load
from imgtools.sign.stores.lookaside import Lookaside
from imgtools.spec.reference import ImageName, Reference
from imgtools.testing.sigstore import LocalSigstore
from tests.sign.fuzz.kit import Target
from tests.sign.fuzz.mutate import changed_bytes, changed_json
from tests.sign.judging import DIGEST, NAME, Signer, verdict

NAMES = (
    "docker://registry.example/ns/app:v1",
    f"docker://registry.example/ns/app@{DIGEST}",
    "docker://busybox",
    "dir:/nowhere/at/all",
    "oci:/nowhere:tag",
    "docker-archive:/nowhere",
    "containers-storage:[overlay@/nowhere]app",
)


def targets(stack: ExitStack) -> dict[str, Target]:
    """By what is changed."""
    directory = stack.enter_context(tempfile.TemporaryDirectory())
    return {
        "policy": Policies(),
        "companion": Companions(),
        "registries.d": Places(Path(directory)),
    }


class Policies:
    """policy.json: nothing in it admits without a signature, before or after."""

    def __init__(self) -> None:
        signer, sigstore = Signer(), LocalSigstore()
        ca = base64.b64encode(sigstore.root_pem).decode()
        rekor = base64.b64encode(sigstore.rekor.public_pem).decode()
        who = {"oidcIssuer": "https://issuer", "subjectEmail": "a@b.c"}
        identity = {"type": "remapIdentity", "prefix": "registry.example", "signedPrefix": "h.io"}
        exact = {"type": "exactRepository", "dockerRepository": "registry.example/ns/app"}
        keyed = signer.requirement(signedIdentity=exact)
        fulcio = {"type": "sigstoreSigned", "fulcio": {"caData": ca, **who},
                  "rekorPublicKeyData": rekor, "signedIdentity": identity}  # fmt: skip
        pki = {"type": "sigstoreSigned", "pki": {"caRootsData": ca, "subjectEmail": "a@b.c"}}
        gpg = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/nowhere"}
        self.value: dict[str, Any] = {
            "default": [{"type": "reject"}],
            "transports": {
                "docker": {"registry.example/ns/app": [keyed], "registry.example": [fulcio, pki],
                           "": [signer.requirement()], "*.example": [gpg]},
                "dir": {"/nowhere": [keyed], "": [{"type": "reject"}]},
                "oci": {"": [{"type": "signedBaseLayer", "baseLayerIdentity": exact}]},
            },
        }  # fmt: skip
        self.foreign = [Signer().attachment(), sigstore.signer().attachment(signer.payload())]

    def one(self, random: Random) -> bool:
        """See Target."""
        return self.held(parse_policy(changed_json(json.dumps(self.value).encode(), random)))

    def held(self, found: Policy) -> bool:
        """Somebody else's signatures admit nothing."""
        for name in NAMES:
            transport, _, rest = name.partition(":")
            chosen = choose(accepting(found), ImageName(transport=transport, rest=rest))
            assert chosen.requirements, found
            for requirement in chosen.requirements:
                assert described(requirement)
        assert not verdict(accepting(found), self.foreign).admitted, found
        return False


def accepting(found: Policy) -> Policy:
    """A companion without a default goes with a policy that rejects."""
    from dataclasses import replace

    from imgtools.sign.policies.model import Reject

    return found if found.default is not None else replace(found, default=(Reject(),))


class Companions(Policies):
    """The companion, likewise."""

    def __init__(self) -> None:
        super().__init__()
        sigstore = LocalSigstore()
        signer = Signer()
        key = {
            "keyData": base64.b64encode(signer.pem).decode(),
            "notAfter": "2099-01-01T00:00:00Z",
            "notBefore": "2020-01-01T00:00:00+02:00",
        }
        root = base64.b64encode(json.dumps(sigstore.trusted_root()).encode()).decode()
        who = {"subjectRegExp": "a+@b", "issuer": "https://issuer"}
        keyless = {"trustedRootData": root, "identities": [who]}
        signed = {"type": "signed", "keys": [key], "signedIdentity": {"type": "anyIdentity"}}
        bundled = {"type": "signed", "keyless": keyless, "formats": ["bundle"]}
        attested = {"type": "attested", "predicateType": "https://x", "keys": [key]}
        either = {"type": "anyOf", "alternatives": [[signed, attested], [bundled],
                                                    [signer.requirement()]]}  # fmt: skip
        self.value = {
            "default": [either],
            "transports": {"docker": {"registry.example": [bundled], NAME: [either, signed]}},
        }

    def one(self, random: Random) -> bool:
        """See Target."""
        return self.held(parse_companion(changed_json(json.dumps(self.value).encode(), random)))


class Places:
    """registries.d: nothing is read outside of what it says, and nothing but errors comes out."""

    TEXT = b"""\
default-docker:
  lookaside: https://signatures.example/x
docker:
  registry.example/ns:
    lookaside: file:///nowhere/a
    lookaside-staging: file:///nowhere/b
    use-sigstore-attachments: true
  "*.example":
    sigstore: file:///nowhere/c
"""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "a.yaml"

    def one(self, random: Random) -> bool:
        """See Target."""
        self.file.write_bytes(changed_bytes(self.TEXT, random))
        found = load((str(self.file.parent),), lookaside="file:///nowhere")
        for name in (NAME, "busybox"):
            reference = Reference.parse(name)
            places = found.for_reference(reference)
            assert places.attachments in (None, True, False)
            try:
                Lookaside(places, reference)
            except Error:
                continue
        return False
