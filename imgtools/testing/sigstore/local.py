"""`LocalSigstore`: a certificate authority, logs, timestamps and tokens, all of one test's own.

    sigstore = LocalSigstore()
    signer = sigstore.signer("user@example.test")
    signature = signer.attachment(payload)

    with LocalSigstore() as sigstore:
        config = sigstore.client_trust_config(rekor=2)      # its URLs answer until the block ends
        sigstore.fail(path="/api/v1/log/entries", status=503)

Everything works without a network; only a `with` block listens, on a loopback port.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

from imgtools.testing.connection import Connection, Exchange, Manners
from imgtools.testing.faults import Fault, FaultScript
from imgtools.testing.listener import Listener
from imgtools.testing.sigstore import trust
from imgtools.testing.sigstore.authority import AuthorityOptions, CertificateAuthority, Chain, Leaf
from imgtools.testing.sigstore.clock import Clock, system_clock
from imgtools.testing.sigstore.entries import TransparencyEntry
from imgtools.testing.sigstore.rekor import RekorV1, RekorV2
from imgtools.testing.sigstore.services import Services
from imgtools.testing.sigstore.signer import Signer
from imgtools.testing.sigstore.timestamps import TimestampAuthority
from imgtools.testing.sigstore.tokens import TokenIssuer

NOWHERE = "http://127.0.0.1:9"


class LocalSigstore:
    """The services of sigstore; use it in a `with` block to have them served."""

    def __init__(
        self, *, clock: Clock = system_clock, authority: AuthorityOptions | None = None
    ) -> None:
        """`clock` is everybody's; certificates of authorities begin a year before it."""
        self.clock = clock
        self.issuer = TokenIssuer(clock=clock)
        self.authority = CertificateAuthority(clock=clock, options=authority)
        self.certificate_log = self.authority.log
        self.rekor = RekorV1(clock=clock)
        self.rekor2 = RekorV2()
        self.timestamps = TimestampAuthority(clock=clock)
        self.services = Services(
            authority=self.authority,
            rekor=self.rekor,
            rekor2=self.rekor2,
            timestamps=self.timestamps,
            issuer=self.issuer,
        )
        self.url = NOWHERE
        self.faults = FaultScript()
        self.requests: list[Exchange] = []
        self._closing = threading.Event()
        self._listener: Listener | None = None

    # --- life -----------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Listen; `url` is the address of every service."""
        self._listener = Listener(self._serve, self._closing)
        self.url = f"http://127.0.0.1:{self._listener.port}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cut everything and wait for every thread."""
        self._closing.set()
        if self._listener is not None:
            self._listener.stop()
        self.url = NOWHERE

    def _serve(self, sock: socket.socket, number: int) -> None:
        Connection(
            sock,
            number,
            handle=self.services.handle,
            choose=self.faults.choose,
            record=self.requests.append,
            latency=lambda: 0.0,
            closing=self._closing,
            manners=Manners(),
        ).serve()

    def fail(self, **fault: Any) -> int:
        """Add a `Fault`, given by its fields; its number, for `faults.applied`."""
        return self.faults.add(Fault(**fault))

    # --- certificates, entries, timestamps ----------------------------------------------------

    def issue(
        self,
        identity: str | Sequence[x509.GeneralName],
        issuer: str | None = None,
        public_key: CertificatePublicKeyTypes | None = None,
        *,
        at: datetime | None = None,
        leaf: Leaf | None = None,
    ) -> Chain:
        """A certificate; see `CertificateAuthority.issue`.

        The issuer is the token issuer unless it is given; a key that nobody has is made when
        none is given.
        """
        key = public_key or ec.generate_private_key(ec.SECP256R1()).public_key()
        return self.authority.issue(identity, issuer or self.issuer.url, key, at=at, leaf=leaf)

    def signer(
        self,
        identity: str | Sequence[x509.GeneralName] = "user@example.test",
        issuer: str | None = None,
        *,
        at: datetime | None = None,
        leaf: Leaf | None = None,
    ) -> Signer:
        """A new key with its certificate, which can sign and log."""
        key = ec.generate_private_key(ec.SECP256R1())
        if leaf is not None and leaf.signer == "self" and leaf.own_key is not None:
            key = leaf.own_key
        chain = self.issue(identity, issuer, key.public_key(), at=at, leaf=leaf)
        return Signer(self, key, chain, at or self.clock())

    def log_v1(
        self, proposal: Mapping[str, Any], *, at: datetime | None = None, check: bool = True
    ) -> TransparencyEntry:
        """An entry of the first Rekor; see `entries` for proposals."""
        return self.rekor.log(proposal, at=at, check=check)

    def log_v2(self, proposal: Mapping[str, Any], *, check: bool = True) -> TransparencyEntry:
        """An entry of the second Rekor."""
        return self.rekor2.log(proposal, check=check)

    def timestamp(self, message: bytes, *, at: datetime | None = None) -> bytes:
        """A TimeStampResp of `message`, DER."""
        return self.timestamps.timestamp(message, at=at)

    def token(self, identity: str = "user@example.test", **options: Any) -> str:
        """An identity token; see `TokenIssuer.token`."""
        return self.issuer.token(identity, **options)

    # --- whom to trust --------------------------------------------------------------------------

    @property
    def root_pem(self) -> bytes:
        """The root of the authority, PEM: Fulcio's caPath."""
        return self.authority.root.public_bytes(Encoding.PEM)

    @property
    def intermediate_pem(self) -> bytes:
        """The intermediate of the authority, PEM."""
        return self.authority.intermediate.public_bytes(Encoding.PEM)

    def trusted_root(self) -> dict[str, Any]:
        """TrustedRoot: authority, certificate log, both Rekors, timestamp authority."""
        start = self.authority.start
        rekor, rekor2, certificates = self.rekor, self.rekor2, self.certificate_log
        stamps = self.timestamps
        chain = (self.authority.intermediate, self.authority.root)
        return {
            "mediaType": trust.TRUSTED_ROOT,
            "tlogs": [
                trust.log(f"https://{rekor.name}", rekor.spki, rekor.identifier, start),
                trust.log(
                    f"https://{rekor2.name}", rekor2.spki, rekor2.identifier, start, key="ed25519"
                ),
            ],
            "certificateAuthorities": [
                trust.authority("https://fulcio.sigstore.test", chain, start)
            ],
            "ctlogs": [
                trust.log(
                    "https://ctfe.sigstore.test", certificates.spki, certificates.identifier, start
                )
            ],
            "timestampAuthorities": [
                trust.authority("https://tsa.sigstore.test", stamps.chain, stamps.start, stamps.end)
            ],
        }

    def signing_config(self, *, rekor: Literal[1, 2] = 1) -> dict[str, Any]:
        """SigningConfig with one Rekor; the second one comes with the timestamp authority."""
        start = self.authority.start
        stamps = [trust.service(f"{self.url}/ts", 1, start)] if rekor == 2 else []
        return {
            "mediaType": trust.SIGNING_CONFIG,
            "caUrls": [trust.service(self.url, 1, start)],
            "oidcUrls": [trust.service(self.url, 1, start)],
            "rekorTlogUrls": [trust.service(self.url, rekor, start)],
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaUrls": stamps,
            "tsaConfig": {"selector": "ANY"},
        }

    def client_trust_config(self, *, rekor: Literal[1, 2] = 1) -> dict[str, Any]:
        """ClientTrustConfig: the trusted root and the signing config."""
        return {
            "mediaType": trust.CLIENT_TRUST_CONFIG,
            "trustedRoot": self.trusted_root(),
            "signingConfig": self.signing_config(rekor=rekor),
        }

    def trusted_root_json(self) -> bytes:
        """TrustedRoot as a file has it."""
        return json.dumps(self.trusted_root(), indent=1).encode()
