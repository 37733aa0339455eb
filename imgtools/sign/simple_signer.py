"""Makes simple signatures: GnuPG's messages with simple signing payloads in them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from imgtools.errors import InvalidReference, InvalidSignature, Unsupported
from imgtools.sign.key_signers import NONE, saying
from imgtools.sign.model import Claim, Format, Signature, SimpleSignature
from imgtools.sign.payload import make_payload
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.reference import Reference


class SimpleSigner:
    """An ImageSigner with a secret key in a GnuPG key ring."""

    def __init__(
        self,
        key: str,
        *,
        creator: str,
        homedir: str | None = None,
        passphrase: bytes | None = None,
        annotations: Mapping[str, str] = NONE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`key` is a fingerprint, key id or mail address in the user's own key ring, or the
        one of `homedir`; `creator` is the name and version that signatures say who made
        them; `annotations` are the signer's own words; `clock` gives seconds since 1970.
        Without `passphrase` GnuPG's agent asks."""
        self._key = key
        self._creator = creator
        self._homedir = homedir
        self._passphrase = passphrase
        self._clock = clock
        self._annotations = annotations

    @property
    def format(self) -> Format:
        """ "simple"."""
        return "simple"

    def preflight(self) -> None:
        """Make a signature that nobody gets, so that a key that is not there, has expired or
        has another passphrase is known now. Raises InvalidKey, Unsupported."""
        self._sign(b"preflight")

    def sign(self, subject: Descriptor, reference: str) -> SimpleSignature:
        """See ImageSigner. Raises InvalidReference for a reference without tag and digest,
        Unsupported for a manifest that is not known by sha256."""
        if subject.digest.algorithm != "sha256":
            raise Unsupported(f"simple signatures are of sha256 digests, not of {subject.digest}")
        named = Reference.parse(reference, default_tag="")
        if not named.tag and named.digest is None:
            raise InvalidReference(reference, "a name to be signed needs a tag or a digest")
        payload = make_payload(
            "simple",
            subject.digest,
            str(named),
            self._creator,
            int(self._clock()),
            self._annotations,
        )
        return SimpleSignature(blob=self._sign(payload), where=f"the new signature of {reference}")

    def made(self, signature: Signature) -> Claim | None:
        """See ImageSigner; raises InvalidKey, Unsupported."""
        from imgtools.sign.checks import check_simple
        from imgtools.sign.openpgp.gpg import export_key

        if not isinstance(signature, SimpleSignature):
            return None
        try:
            keys = [export_key(self._key, homedir=self._homedir)]
            return saying(check_simple(signature, keys).claim, self._annotations)
        except InvalidSignature:
            return None

    def _sign(self, payload: bytes) -> bytes:
        from imgtools.sign.openpgp.gpg import sign_message

        return sign_message(payload, self._key, homedir=self._homedir, passphrase=self._passphrase)
