"""OpenPGP messages and the files of `dir:` that are changed, for our own reader and for GnuPG."""

from __future__ import annotations

import base64
from contextlib import ExitStack
from random import Random

from imgtools.sign.model import SigstoreSignature, SimpleSignature
from imgtools.sign.openpgp.blob import decode_blob, encode_blob
from imgtools.sign.openpgp.packets import read_message
from tests.sign.fuzz.kit import OTHER_DIGEST, Target, accepted, says_it_is
from tests.sign.fuzz.mutate import changed_bytes
from tests.sign.judging import DIGEST, NAME, Signer, policy, verdict
from tests.sign.openpgp_home import GpgHome, payload

KIND = "atomic container signature"


def targets(stack: ExitStack) -> dict[str, Target]:
    """By who reads what is changed."""
    home = stack.enter_context(GpgHome())
    home.make_key("signer")
    home.make_key("foreign")
    contents = [payload(str(DIGEST), NAME), payload(str(OTHER_DIGEST), NAME)]
    blobs = [
        home.sign(content, "signer", *options)
        for content in contents
        for options in ((), ("--compress-algo", "none"))
    ]
    blobs += [
        home.sign(contents[0], "foreign"),
        home.sign(contents[0], "signer", "--detach-sign"),
        home.sign(contents[0], "signer", "--clear-sign"),
    ]
    ring = home("--export", "signer@example.com")
    return {"blob": Blobs(blobs), "gpg": Messages(blobs, ring, set(contents))}


class Blobs:
    """Files of signatures, as far as they are read without GnuPG."""

    def __init__(self, blobs: list[bytes]) -> None:
        self.signer = Signer()
        self.trust = policy(self.signer.requirement())
        found = encode_blob(self.signer.attachment())
        self.files = [*blobs, found, b"\0simple-signing\n" + blobs[0]]
        self.signed = self.signer.payload()

    def one(self, random: Random) -> bool:
        """See Target."""
        found = decode_blob(changed_bytes(random.choice(self.files), random), "a file")
        if isinstance(found, SimpleSignature):
            message = read_message(found.blob, "a file")
            assert len(message.key_id) == 16
            return False
        assert isinstance(found, SigstoreSignature)
        for verified in accepted(verdict(self.trust, [found])):
            assert isinstance(verified.signature, SigstoreSignature)
            assert verified.signature.payload == self.signed
            return True
        return False


class Messages:
    """Messages as GnuPG verifies them."""

    def __init__(self, blobs: list[bytes], ring: bytes, contents: set[bytes]) -> None:
        data = base64.b64encode(ring).decode()
        self.trust = policy({"type": "signedBy", "keyType": "GPGKeys", "keyData": data})
        self.blobs, self.contents = blobs, contents

    def one(self, random: Random) -> bool:
        """See Target."""
        found = SimpleSignature(blob=changed_bytes(random.choice(self.blobs[:5]), random))
        for verified in accepted(verdict(self.trust, [found])):
            assert isinstance(verified.signature, SimpleSignature)
            content = read_message(verified.signature.blob, "a message").payload
            assert content in self.contents, found
            assert says_it_is(content, kind=KIND), found
            return True
        return False
