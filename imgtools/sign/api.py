"""Signing an image: which manifests get which signature, and then making and putting them.

Survey reads the manifests and the signatures that they have, plan leaves out what the same
signer has signed by the same name before, execute makes the rest. Signers are checked before
anything is read, so that nothing fails for a passphrase half way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from imgtools.errors import InvalidReference
from imgtools.frozen import dataclass
from imgtools.image.select import is_manifest_entry
from imgtools.sign.image_writers import ImageWriters
from imgtools.sign.model import Format, Signature
from imgtools.sign.protocols import ImageSigner
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Index, RawManifest, parse
from imgtools.spec.reference import Reference
from imgtools.task import Task, WorkerPool

ReadSignatures = Callable[[Format, Digest], Sequence[Signature]]
"""The signatures of one format that a manifest has."""

Manifests = Callable[[Descriptor], RawManifest]
"""Reads a manifest below the top one, verified."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToSign:
    """One signature of the plan: `signer` makes it, unless `present` says that it has."""

    subject: Descriptor
    signer: int
    format: Format
    present: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SignPlan:
    """Every manifest with every signer, the index before its instances; `reference` is the
    name that is signed."""

    reference: str
    steps: tuple[ToSign, ...]


def subjects(top: RawManifest, read: Manifests, *, recursive: bool) -> tuple[Descriptor, ...]:
    """What is signed: the manifest and, with `recursive`, all below an index, each once.

    Signing an index alone says nothing that containers/image asks about, and signing instances
    alone nothing that cosign does, so by default both are signed. Raises what reading raises.
    """
    found: dict[Digest, Descriptor] = {top.digest: top.descriptor()}
    waiting = [top] if recursive else []
    while waiting:
        view = parse(waiting.pop())
        for entry in view.manifests if isinstance(view, Index) else ():
            if not is_manifest_entry(entry) or entry.digest in found:
                continue
            found[entry.digest] = entry
            if mt.kind(entry.media_type) == "index":
                waiting.append(read(entry))
    return tuple(found.values())


def plan_signing(
    wanted: Sequence[Descriptor],
    signers: Sequence[ImageSigner],
    reference: str,
    read: ReadSignatures,
    *,
    again: bool = False,
    task: Task,
) -> SignPlan:
    """What has to be signed; with `again` also what the same signer signed by this name.

    Raises InvalidReference for a name that cannot be signed, and what reading raises.
    """
    reference = signed_name(reference)
    formats = dict.fromkeys(signer.format for signer in signers)
    asked = [] if again else [(kind, subject) for subject in wanted for kind in formats]
    with WorkerPool(task) as pool:
        answers = pool.map(lambda pair: read(pair[0], pair[1].digest), asked)
    have = {
        (kind, subject.digest): tuple(found)
        for (kind, subject), found in zip(asked, answers, strict=True)
    }
    return SignPlan(
        reference=reference,
        steps=tuple(
            ToSign(
                subject=subject,
                signer=number,
                format=signer.format,
                present=signed_before(
                    signer, subject, reference, have.get((signer.format, subject.digest), ())
                ),
            )
            for subject in wanted
            for number, signer in enumerate(signers)
        ),
    )


def execute_signing(
    plan: SignPlan,
    signers: Sequence[ImageSigner],
    places: ImageWriters,
    *,
    task: Task,
) -> tuple[tuple[ToSign, Signature | None], ...]:
    """Make and put what is missing; each step with its new signature, None where there was one.

    Raises Unsupported for a format that has no place there, and what signers and writers
    raise.
    """
    formats = frozenset(step.format for step in plan.steps if not step.present)
    places.preflight(formats)
    writers = places.writers(formats, None, plan.steps[0].subject.digest) if formats else {}
    done: list[tuple[ToSign, Signature | None]] = []
    for step in plan.steps:
        task.cancel.check()
        made = None
        if not step.present:
            made = signers[step.signer].sign(step.subject, plan.reference)
            writers[step.format].put(step.subject, [made])
        done.append((step, made))
    return tuple(done)


def signed_name(reference: str) -> str:
    """The name as it is signed: normalised, with a tag or a digest; raises
    InvalidReference."""
    parsed = Reference.parse(reference, default_tag="")
    if not parsed.tag and parsed.digest is None:
        raise InvalidReference(
            reference,
            "a name to be signed needs a tag or a digest",
            hint="name the image with its tag, or say --sign-identity NAME:TAG",
        )
    if parsed.tag and parsed.digest is not None:
        # What is pinned is in the signature anyway; the tag is what it is known by.
        return f"{parsed.name}:{parsed.tag}"
    return str(parsed)


def signed_before(
    signer: ImageSigner, subject: Descriptor, reference: str, have: Sequence[Signature]
) -> bool:
    """Whether one of the signatures `have` is by `signer`, of this manifest by this name."""
    for signature in have:
        claim = signer.made(signature)
        if claim is not None and (claim.digest, claim.reference) == (subject.digest, reference):
            return True
    return False
