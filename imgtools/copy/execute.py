"""The writes of a copy: blobs of all images in one pool, then manifests from the leaves up,
then the name, then commit.

Nothing is decided here. What the plan left open, the digests of recompressed layers, is
filled in as they become known.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

from imgtools.blob.reader import BlobReader
from imgtools.copy.actions import (
    AnyBlobAction,
    AnyManifestAction,
    CopyPlan,
    Decompress,
    Mount,
    PutIndex,
    PutManifest,
    Recompress,
    Reuse,
    ReuseManifest,
    Skip,
    Tag,
    Transfer,
)
from imgtools.copy.attaching import Arriving, Attaching
from imgtools.copy.rewrite import (
    IndexDraft,
    Key,
    ManifestDraft,
    Schema1Draft,
    Written,
    fill_index,
    fill_manifest,
    fill_schema1,
)
from imgtools.errors import Cancelled, DigestMismatch, Error, SizeMismatch
from imgtools.frozen import dataclass
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, RawManifest, parse
from imgtools.task import Finished, Note, Started, Tally, Task, WorkerPool
from imgtools.transport.base import Announced, BlobOpener, BlobOutcome, Destination, Source

log = logging.getLogger(__name__)

_MOST_THREADS = 4
"""Of compression in all: layers that are compressed at a time, times threads in each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedManifest:
    """A manifest of a finished copy: `old` at the source, `new` as stored; `outcome` is
    put, tagged or present."""

    old: Digest
    new: Descriptor
    platform: str
    outcome: str
    changes: tuple[str, ...] = ()
    referrer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyResult:
    """What a copy did. `top` is what the destination's name points at now, as stored there.

    `blobs` counts outcomes: present, mounted, stored, recompressed, skipped. `bytes_moved`
    are bytes of blobs that were stored, but for what an earlier run had left there.
    `up_to_date` says that nothing had to be done. `images` are the manifests of the image,
    where all were read.
    """

    source: str
    destination: str
    top: Descriptor
    manifests: tuple[CopiedManifest, ...]
    blobs: Mapping[str, int]
    bytes_moved: int
    warnings: tuple[str, ...]
    up_to_date: bool
    images: tuple[Arriving, ...] = ()


def execute(
    plan: CopyPlan,
    source: Source,
    destination: Destination,
    *,
    attaching: Attaching | None = None,
    task: Task,
) -> CopyResult:
    """Do what `plan` says; nothing of it is visible at the destination after an error, but
    for what a registry shows as it arrives.

    With `attaching`, what goes with the manifests is put before the top one gets its name, and
    so also when nothing else is to be done. Raises what the transports raise, Cancelled, and
    SeveralErrors for parallel failures.
    """
    for warning in plan.warnings:
        task.warn(warning)
    run = _Run(plan, source, destination, attaching)
    if attaching is not None and not attaching.check(run.arriving()):
        run.attaching = attaching = None
    if plan.up_to_date:
        if attaching is not None:
            attaching.attach(run.arriving(), destination)
    else:
        run.announce()
        with WorkerPool(task) as pool:
            # Not map, which waits and so would report the first error only.
            for action in plan.blobs:
                pool.submit(partial(run.blob, action, pool.task))
        run.manifests(task)
        task.cancel.check()
        destination.commit()
    return run.result()


class _Run:
    def __init__(
        self,
        plan: CopyPlan,
        source: Source,
        destination: Destination,
        attaching: Attaching | None,
    ) -> None:
        self.plan, self.source, self.destination = plan, source, destination
        self.attaching = attaching
        self.written: dict[Key, Written] = {}
        self.outcomes: list[tuple[str, int]] = []
        self.new: dict[Digest, CopiedManifest] = {}
        # Layers in parallel need no threads within a layer, which cost memory each.
        changed = sum(isinstance(a, Recompress | Decompress) for a in plan.blobs)
        self.threads = max(1, min(_MOST_THREADS, (os.cpu_count() or 1) // max(1, changed)))
        # Transfers may be many at a time; each compressor has buffers of many chunks.
        self.compressors = threading.BoundedSemaphore(_MOST_THREADS)

    def announce(self) -> None:
        """Tell a destination that wants to know what will come, where it is known by now."""
        for action in self.plan.manifests:
            raw = action.raw if action.top and isinstance(action, PutManifest) else None
            if raw is None or not isinstance(self.destination, Announced):
                continue
            view = parse(raw)
            if isinstance(view, Manifest) and not view.is_artifact:
                self.destination.announce(raw, self._opener(view.config))

    def blob(self, action: AnyBlobAction, task: Task) -> None:
        """Do one blob action; runs in a worker."""
        match action:
            case Reuse():
                self.outcomes.append(("present", 0))
                return
            case Skip():
                self.outcomes.append(("skipped", 0))
                return
        try:
            self._move(action, task)
        except Cancelled:
            raise
        except Error as e:
            if str(action.blob.digest) not in e.message:
                e.with_context(f"blob {action.blob.digest}")
            raise

    def _move(self, action: Mount | Transfer | Recompress | Decompress, task: Task) -> None:
        blob = action.blob
        match action:
            case Mount():
                self._put(blob, self._opener(blob), action.role, "stored", task, mount=True)
            case Transfer(measure=""):
                self._put(blob, self._opener(blob), action.role, "stored", task)
            case Transfer(measure=wanted):
                from imgtools.copy.spool import measure

                task.progress(Started(str(blob.digest), f"read {action.role}", None))
                with (
                    self._opener(blob)() as reader,
                    measure(
                        reader,
                        diff_id=wanted == "diff_id",
                        tmpdir=self.plan.tmpdir,
                        task=task,
                        item=str(blob.digest),
                    ) as spool,
                ):
                    task.progress(Finished(str(blob.digest), "read"))
                    self.written[blob.digest, ""] = spool.written
                    real = replace(blob, size=spool.written.size)
                    self._put(real, spool.open, action.role, "stored", task)
            case Recompress(target=target, level=level):
                self._recompress(action, target, level, task)
            case Decompress():
                self._recompress(action, "none", None, task)

    def _recompress(
        self, action: Recompress | Decompress, target: str, level: int | None, task: Task
    ) -> None:
        from imgtools.copy.spool import recompress

        blob, item = action.blob, str(action.blob.digest)
        verb = "decompress" if target == "none" else "recompress"
        task.progress(Started(item, f"{verb} {action.role}", blob.size if blob.size >= 0 else None))
        with contextlib.ExitStack() as stack:
            with self.compressors:
                task.cancel.check()
                reader = stack.enter_context(self._opener(blob)())
                spool = stack.enter_context(
                    recompress(
                        reader,
                        target,
                        level=level,
                        diff_id=action.diff_id,
                        threads=self.threads,
                        tmpdir=self.plan.tmpdir,
                        task=task,
                        item=item,
                    )
                )
            task.progress(Finished(item, "recompressed"))
            written = spool.written
            self.written[blob.digest, target] = written
            new = Descriptor(
                media_type=mt.with_compression(blob.media_type, target) or blob.media_type,
                digest=written.digest,
                size=written.size,
            )
            self._put(new, spool.open, action.role, "recompressed", task)

    def _put(
        self,
        blob: Descriptor,
        opener: BlobOpener,
        role: str,
        stored_as: str,
        task: Task,
        *,
        mount: bool = False,
    ) -> None:
        item = str(blob.digest)
        task.progress(Started(item, role, blob.size))
        origins = (self.source.origin,) if mount else ()
        tally = Tally(task)

        def put() -> BlobOutcome:
            return self.destination.put_blob(blob, opener, mount_from=origins, task=tally.task)

        try:
            outcome = put()
        except (DigestMismatch, SizeMismatch) as e:
            if not e.again:
                raise
            # It came in pieces, or from a mirror that is not asked for it again.
            log.debug("%s; reading it once more", e.message)
            tally.take_back(item)
            outcome = put()
        said = stored_as if outcome == "stored" else outcome
        task.progress(Finished(item, said))
        self.outcomes.append((said, blob.size - tally.kept if outcome == "stored" else 0))

    def _opener(self, blob: Descriptor) -> BlobOpener:
        held = self.plan.held.get(blob.digest, blob.data)
        if held is not None:
            content = held
            return lambda: BlobReader.of(content, blob.digest)
        return lambda: self.source.open_blob(blob)

    def arriving(self) -> tuple[Arriving, ...]:
        """The manifests of the image, and what they are at the destination by now."""
        actions = {action.old.digest: action for action in self.plan.manifests}
        found = []
        for old in self.plan.images:
            new: Descriptor | None = old
            if (done := self.new.get(old.digest)) is not None:
                new = done.new
            elif isinstance(action := actions.get(old.digest), PutManifest | PutIndex):
                new = action.raw.descriptor() if action.raw is not None else None
            top = old.digest == self.plan.images[0].digest
            found.append(Arriving(old=old, new=new, top=top))
        return tuple(found)

    def manifests(self, task: Task) -> None:
        """Put the manifests, those of one level in parallel, the top one last."""
        rest = [action for action in self.plan.manifests if not action.top]
        for level in sorted({action.level for action in rest}):
            with WorkerPool(task) as pool:
                for action in rest:
                    if action.level == level:
                        pool.submit(partial(self._manifest, action, pool.task))
        for action in self.plan.manifests:
            if action.top:
                self._top(action, task)
        if self.attaching is not None and not any(action.top for action in self.plan.manifests):
            self.attaching.attach(self.arriving(), self.destination)

    def _top(self, action: AnyManifestAction, task: Task) -> None:
        """Put the top manifest; where it is seen at once, by digest first, so that its name
        never leads to a manifest without what is attached to it."""
        if self.attaching is None:
            self._manifest(action, task)
            return
        if self.destination.capabilities.remote:
            if isinstance(action, PutManifest | PutIndex):
                self._manifest(replace(action, top=False), task)
            self.attaching.attach(self.arriving(), self.destination)
            self._manifest(action, task)
        else:
            self._manifest(action, task)
            self.attaching.attach(self.arriving(), self.destination)

    def _manifest(self, action: AnyManifestAction, task: Task) -> None:
        task.cancel.check()
        try:
            self.new[action.old.digest] = self._stored(action, task)
        except Cancelled:
            raise
        except Error as e:
            if str(action.old.digest) not in e.message:
                e.with_context(f"manifest {action.old.digest}")
            raise

    def _stored(self, action: AnyManifestAction, task: Task) -> CopiedManifest:
        outcome, referrer = "put", False
        changes: tuple[str, ...] = ()
        match action:
            case ReuseManifest(old=old):
                return CopiedManifest(
                    old=old.digest, new=old, platform=action.platform, outcome="present"
                )
            case Tag(raw=raw):
                outcome, new = "tagged", raw
            case PutManifest() | PutIndex():
                changes, referrer = action.changes, action.referrer
                new = self._final(action, task)
        self.destination.put_manifest(new, top=action.top)
        if new.digest != action.old.digest:
            what = f" ({action.platform})" if action.platform else ""
            task.progress(Note("info", f"manifest {action.old.digest} -> {new.digest}{what}"))
        return CopiedManifest(
            old=action.old.digest,
            new=replace(new.descriptor(), platform=action.old.platform),
            platform=action.platform,
            outcome=outcome,
            changes=changes,
            referrer=referrer,
        )

    def _final(self, action: PutManifest | PutIndex, task: Task) -> RawManifest:
        if action.raw is not None:
            return action.raw
        match action.draft:
            case ManifestDraft() as draft:
                return fill_manifest(draft, self.written)
            case IndexDraft() as draft:
                return fill_index(draft, {old: done.new for old, done in self.new.items()})
            case Schema1Draft() as draft:
                config, raw = fill_schema1(draft, self.written)
                digest = Digest.of(config, draft.algorithm)
                descriptor = Descriptor(
                    media_type=mt.DOCKER_CONFIG, digest=digest, size=len(config)
                )
                self._put(
                    descriptor, lambda: BlobReader.of(config, digest), "config", "stored", task
                )
                return raw
        raise AssertionError("a manifest that waits for layers has a draft")

    def result(self) -> CopyResult:
        """What was done, in the order of the plan."""
        counts: dict[str, int] = {}
        for outcome, _ in self.outcomes:
            counts[outcome] = counts.get(outcome, 0) + 1
        done = tuple(
            self.new[action.old.digest]
            for action in self.plan.manifests
            if action.old.digest in self.new
        )
        tops = [self.new[a.old.digest].new for a in self.plan.manifests if a.top and self.new]
        return CopyResult(
            source=self.plan.source.name,
            destination=self.plan.destination.name,
            top=tops[0] if tops else self.plan.root,
            manifests=done,
            blobs=MappingProxyType(counts),
            bytes_moved=sum(size for _, size in self.outcomes),
            warnings=self.plan.warnings,
            up_to_date=self.plan.up_to_date,
            images=self.arriving(),
        )
