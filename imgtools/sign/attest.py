"""Attesting something of an image: which manifests get which statement, then making them.

Survey reads the attestations that are there, plan leaves out what the same signer has said
before in the same words, execute signs and puts the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field

from imgtools.errors import Unsupported
from imgtools.frozen import dataclass
from imgtools.sign.bundles.statement import Statement, parse_statement
from imgtools.sign.model import Format, Signature
from imgtools.sign.predicates import Predicate, attestation, says_the_same
from imgtools.sign.protocols import StatementSigner
from imgtools.sign.stores.attestations import AttestationStore
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.task import Task, WorkerPool

ReadAttestations = Callable[[Digest], Sequence[Signature]]
"""The attestations of a manifest, in every form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToAttest:
    """One attestation of the plan: `signer` makes it of `statement`, unless `present` says that
    it has; `replaced` are those that it takes the place of."""

    subject: Descriptor
    signer: int
    format: Format
    statement: bytes = field(repr=False)
    present: bool = False
    replaced: tuple[Signature, ...] = ()


def plan_attesting(
    wanted: Sequence[Descriptor],
    signers: Sequence[StatementSigner],
    predicate: Predicate,
    name: str,
    read: ReadAttestations,
    *,
    replace: bool = False,
    task: Task,
) -> tuple[ToAttest, ...]:
    """What has to be attested of the manifests `wanted` of the repository `name`; with
    `replace` in place of what the same signer said in statements of the same type.

    Raises Unsupported for a manifest that no statement can name, InvalidInput for a predicate
    that cannot be signed, and what reading raises.
    """
    for subject in wanted:
        if subject.digest.algorithm != "sha256":
            raise Unsupported(
                f"{subject.digest} cannot be attested: statements name manifests by sha256"
            )
    with WorkerPool(task) as pool:
        answers = pool.map(lambda subject: tuple(read(subject.digest)), wanted)
    return tuple(
        _step(subject, number, signer, attestation(predicate, subject.digest, name), have, replace)
        for subject, have in zip(wanted, answers, strict=True)
        for number, signer in enumerate(signers)
    )


def execute_attesting(
    plan: Sequence[ToAttest],
    signers: Sequence[StatementSigner],
    store: AttestationStore,
    *,
    task: Task,
) -> None:
    """Make and put what is missing. Raises what signers and the store raise."""
    store.preflight()
    for step in plan:
        task.cancel.check()
        if not step.present:
            made = signers[step.signer].seal(step.statement)
            store.put(step.subject, made, step.replaced)


def _step(
    subject: Descriptor,
    number: int,
    signer: StatementSigner,
    statement: bytes,
    have: Sequence[Signature],
    replace: bool,
) -> ToAttest:
    new = parse_statement(statement)
    own = [(signature, _own(signer, signature, subject, new)) for signature in have]
    said = [(signature, found) for signature, found in own if found is not None]
    same = [signature for signature, found in said if says_the_same(found, new)]
    others = len(said) > len(same)
    return ToAttest(
        subject=subject,
        signer=number,
        format=signer.format,
        statement=statement,
        present=bool(same) and not (replace and others),
        replaced=tuple(signature for signature, _ in said) if replace else (),
    )


def _own(
    signer: StatementSigner, signature: Signature, subject: Descriptor, new: Statement
) -> Statement | None:
    """What the same signer said of the subject before in a statement of this type."""
    found = signer.sealed(signature)
    if found is None or found.predicate_type != new.predicate_type:
        return None
    return found if found.is_about(subject.digest) else None
