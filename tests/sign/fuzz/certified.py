"""Under certificates: log entries, certificates, chains and roots that are changed."""

from __future__ import annotations

import base64
import copy
import json
import re
from dataclasses import replace
from random import Random
from typing import Any

from imgtools.sign.bundles.make import make_statement
from imgtools.sign.model import BundleSignature, SigstoreSignature
from imgtools.sign.policies.companion import parse_companion
from imgtools.testing.sigstore import LocalSigstore
from imgtools.testing.sigstore.entries import hashedrekord
from imgtools.testing.sigstore.signer import BUNDLE, CERTIFICATE, CHAIN, SIGNATURE, bundle_bytes
from tests.sign.fuzz.kit import OTHER_DIGEST, Target, accepted, says_it_is
from tests.sign.fuzz.mutate import changed_bytes, changed_json, changed_text
from tests.sign.judging import DIGEST, NAME, Signer, policy, verdict

EMAIL = "user@example.test"


def targets() -> dict[str, Target]:
    """By what is changed."""
    sigstore = LocalSigstore()
    return {
        "log-entry": LoggedKeys(sigstore),
        "fulcio": Certificates(sigstore),
        "under-root": UnderRoot(sigstore),
        "root": Roots(sigstore),
        "keyless": Keyless(sigstore),
    }


def text(content: bytes) -> str:
    """base64."""
    return base64.b64encode(content).decode()


class LoggedKeys:
    """The log entry of a signature by a key."""

    def __init__(self, sigstore: LocalSigstore) -> None:
        signer = Signer()
        rekor = text(sigstore.rekor.public_pem)
        self.trust = policy(signer.requirement(rekorPublicKeyData=rekor))
        self.found = [self._logged(sigstore, signer, p) for p in (signer.payload(),) * 2]
        self.found.append(self._logged(sigstore, signer, signer.payload(OTHER_DIGEST)))
        self.entries = [json.loads(f.annotations[BUNDLE])["Payload"] for f in self.found]

    def _logged(self, sigstore: LocalSigstore, signer: Signer, payload: bytes) -> SigstoreSignature:
        raw = signer.raw(payload)
        entry = sigstore.log_v1(hashedrekord(payload, raw, signer.pem))
        annotations = {SIGNATURE: text(raw), BUNDLE: entry.annotation()}
        return SigstoreSignature(payload=payload, annotations=annotations)

    def one(self, random: Random) -> bool:
        """See Target."""
        at = random.randrange(len(self.found))
        base = self.found[at]
        annotations = dict(base.annotations)
        match random.randrange(5):
            case 0:
                annotations[BUNDLE] = random.choice(self.found).annotations[BUNDLE]
            case 1:
                annotations[SIGNATURE] = changed_text(annotations[SIGNATURE], random)
            case _:
                annotations[BUNDLE] = changed_json(annotations[BUNDLE].encode(), random).decode(
                    "utf-8", "replace"
                )
        found = replace(base, annotations=annotations)
        for verified in accepted(verdict(self.trust, [found])):
            entry = json.loads(found.annotations[BUNDLE])["Payload"]
            assert entry == self.entries[at], found
            assert says_it_is(found.payload), found
            assert verified.signature == found
            return True
        return False


class Certificates:
    """Certificate, chain and log entry of an attachment under a short-lived certificate."""

    def __init__(self, sigstore: LocalSigstore) -> None:
        fulcio = {
            "caData": text(sigstore.root_pem),
            "oidcIssuer": sigstore.issuer.url,
            "subjectEmail": EMAIL,
        }
        rekor = text(sigstore.rekor.public_pem)
        requirement = {"type": "sigstoreSigned", "fulcio": fulcio, "rekorPublicKeyData": rekor}
        self.trust = policy(requirement)
        payload = Signer().payload()
        self.good = sigstore.signer(EMAIL).attachment(payload)
        self.others = [
            sigstore.signer("other@example.test").attachment(payload),
            LocalSigstore().signer(EMAIL).attachment(payload),
        ]

    def one(self, random: Random) -> bool:
        """See Target."""
        annotations = dict(self.good.annotations)
        name = random.choice((CERTIFICATE, CERTIFICATE, CHAIN, BUNDLE, SIGNATURE))
        match random.randrange(5):
            case 0:
                annotations[name] = random.choice(self.others).annotations[name]
            case 1:
                annotations[name] = changed_text(annotations[name], random)
            case _ if name in (CERTIFICATE, CHAIN):
                annotations[name] = changed_pem(annotations[name], random)
            case _:
                annotations[name] = changed_json(annotations[name].encode(), random).decode(
                    "utf-8", "replace"
                )
        found = replace(self.good, annotations=annotations)
        if not accepted(verdict(self.trust, [found])):
            return False
        for name in (CERTIFICATE, SIGNATURE):
            assert content_of(found.annotations[name]) == content_of(self.good.annotations[name])
        before, after = (json.loads(s.annotations[BUNDLE])["Payload"] for s in (self.good, found))
        assert before == after, found
        return True


class UnderRoot(Certificates):
    """The same, held against a trusted root."""

    def __init__(self, sigstore: LocalSigstore) -> None:
        super().__init__(sigstore)
        identity = {"subject": EMAIL, "issuer": sigstore.issuer.url}
        keyless = {"trustedRootData": text(sigstore.trusted_root_json()), "identities": [identity]}
        requirement = {"type": "signed", "formats": ["sigstore"], "keyless": keyless}
        self.trust = parse_companion(json.dumps({"default": [requirement]}).encode())


def changed_pem(pem: str, random: Random) -> str:
    """A change within what a PEM block holds."""

    def change(match: re.Match[str]) -> str:
        raw = base64.b64decode("".join(match[2].split()))
        return f"{match[1]}{text(changed_bytes(raw, random))}\n{match[3]}"

    pattern = r"(-----BEGIN [A-Z ]+-----\n)([^-]*)(-----END [A-Z ]+-----)"
    return re.sub(pattern, change, pem, count=1)


def content_of(pem: str) -> bytes:
    """What base64, in a PEM block or bare, holds."""
    bare = re.sub(r"-----[A-Z ]+-----", "", pem)
    return base64.b64decode("".join(bare.split()))


class Roots:
    """Keys, roots and trusted roots that are changed: nobody else's signature becomes good."""

    def __init__(self, sigstore: LocalSigstore) -> None:
        self.sigstore, self.signer = sigstore, Signer()
        foreign = LocalSigstore()
        payload = self.signer.payload()
        self.foreign = [foreign.signer(EMAIL).attachment(payload), Signer().attachment()]
        self.bundle = bundle_bytes(
            foreign.signer(EMAIL).dsse_bundle(make_statement(DIGEST, reference=NAME))
        )
        self.trusted = json.dumps(sigstore.trusted_root()).encode()
        pem = (self.signer.pem, sigstore.rekor.public_pem, sigstore.root_pem)
        self.pem = [content.decode() for content in pem]

    def one(self, random: Random) -> bool:
        """See Target."""
        key, rekor, root = self.pem
        match random.randrange(3):
            case 0:
                key, rekor = (self._changed(item, random) for item in (key, rekor))
            case 1:
                root = self._changed(root, random)
            case _:
                return self._trusted(random)
        keyed = {"type": "sigstoreSigned", "keyData": text(key.encode())}
        fulcio = {
            "caData": text(root.encode()),
            "oidcIssuer": self.sigstore.issuer.url,
            "subjectEmail": EMAIL,
        }
        certified = {
            "type": "sigstoreSigned",
            "fulcio": fulcio,
            "rekorPublicKeyData": text(rekor.encode()),
        }
        for requirement in (keyed, certified):
            assert not verdict(policy(requirement), self.foreign).admitted, requirement
        return False

    def _changed(self, pem: str, random: Random) -> str:
        return changed_pem(pem, random) if random.random() < 0.6 else changed_text(pem, random)

    def _trusted(self, random: Random) -> bool:
        from imgtools.sign.bundles.trusted_root import TrustedRoot

        root = TrustedRoot(changed_json(self.trusted, random))
        now = self.sigstore.clock()
        root.at([now], now)
        for found in (root.timestamp_authorities, root.logs):
            assert isinstance(found, tuple)
        return False


class Keyless:
    """Bundles under certificates, and the root that they are held to."""

    def __init__(self, sigstore: LocalSigstore) -> None:
        self.sigstore = sigstore
        statement = make_statement(DIGEST, reference=NAME)
        signer = sigstore.signer(EMAIL)
        self.bundles = [signer.dsse_bundle(statement, rekor=kind) for kind in (1, 2)]
        self.root = sigstore.trusted_root()

    def one(self, random: Random) -> bool:
        """See Target."""
        at = random.randrange(2)
        base = bundle_bytes(self.bundles[at])
        changed = changed_json(base, random)
        if random.random() < 0.2:
            changed = bundle_bytes(self._mixed(at, random))
        if not accepted(verdict(self._trust(), [BundleSignature(content=changed)])):
            return False
        before, after = json.loads(base), json.loads(changed)
        assert before["dsseEnvelope"]["payload"] == after["dsseEnvelope"]["payload"], changed
        assert proven(before) == proven(after), changed
        return True

    def _trust(self) -> Any:
        identity = {"subject": EMAIL, "issuer": self.sigstore.issuer.url}
        root = text(json.dumps(self.root).encode())
        keyless = {"trustedRootData": root, "identities": [identity]}
        requirement = {"type": "signed", "keyless": keyless}
        return parse_companion(json.dumps({"default": [requirement]}).encode())

    def _mixed(self, at: int, random: Random) -> dict[str, Any]:
        """A bundle with a part of the other one."""
        mixed = copy.deepcopy(self.bundles[at])
        part = random.choice(("certificate", "tlogEntries", "timestampVerificationData"))
        other = self.bundles[1 - at]["verificationMaterial"]
        mixed["verificationMaterial"][part] = other[part]
        return mixed


def proven(bundle: dict[str, Any]) -> tuple[Any, ...]:
    """What of a bundle proves something: certificate, signature, and what was logged."""
    material = bundle["verificationMaterial"]
    (entry,) = material["tlogEntries"]
    (signature,) = bundle["dsseEnvelope"]["signatures"]
    return (
        material["certificate"]["rawBytes"],
        signature["sig"],
        entry["canonicalizedBody"],
        bundle["dsseEnvelope"]["payloadType"],
    )
