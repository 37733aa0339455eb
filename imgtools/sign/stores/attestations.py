"""Attestations of one image in a registry: bundles as referrers, envelopes at `.att`.

Whatever is put joins what is there; what it replaces goes afterwards, so that at no time an
image is without an attestation that it had.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from imgtools.errors import InvalidInput
from imgtools.sign.model import BundleSignature, Signature, SigstoreSignature
from imgtools.sign.stores.attachment import DSSE_LAYER, signature_layer
from imgtools.sign.stores.attachments import AttachmentWriter
from imgtools.sign.stores.referrers import BundleWriter, remove_referrer
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.reference import Reference
from imgtools.task import Task
from imgtools.transport.options import RegistryOptions
from imgtools.transport.table import Transports


class AttestationStore:
    """Puts attestations beside the images of one repository."""

    def __init__(
        self,
        transports: Transports,
        reference: Reference,
        options: RegistryOptions,
        *,
        created: datetime,
        task: Task,
    ) -> None:
        """`created` is the time that referrers say they were made at."""
        self._place = transports, reference, options
        self._bundles = BundleWriter(*self._place, created=created, task=task)
        self._envelopes = AttachmentWriter(*self._place, task=task, suffix="att")

    def preflight(self) -> None:
        """Raise Rejected, or what the configuration of registries is wrong with."""
        self._bundles.preflight()

    def put(
        self, subject: Descriptor, attestation: Signature, replaced: Sequence[Signature] = ()
    ) -> bool:
        """Put one beside `subject` and take away `replaced`, of its own form; whether it is new.

        Raises InvalidInput for what is no attestation, and what writing raises, among it
        Unsupported where a registry does not delete what is replaced.
        """
        if isinstance(attestation, SigstoreSignature) and attestation.media_type == DSSE_LAYER:
            gone = frozenset(
                Digest.of(old.payload) for old in replaced if isinstance(old, SigstoreSignature)
            )
            layer = signature_layer(attestation)
            return self._envelopes.put_layers(subject.digest, [layer], without=gone) > 0
        if not isinstance(attestation, BundleSignature):
            raise InvalidInput(f"{attestation.format} signatures hold no attestations")
        count = self._bundles.put(subject, [attestation])
        for old in replaced:
            if isinstance(old, BundleSignature) and old.referrer is not None:
                remove_referrer(*self._place, old.referrer.digest, subject=subject.digest)
        return count > 0
