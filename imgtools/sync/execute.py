"""The writes of a sync: units in parallel, each in the order content, attachments, names.

An image's failure is its own. Without `keep_going` the first one keeps further units from
being begun, and what is under way is finished, so that nothing is left half done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from imgtools.errors import Cancelled, Error
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.spec.reference import ImageName
from imgtools.sync.facts import ReferrerFact
from imgtools.sync.looking import Attempt, once
from imgtools.sync.moves import Moves, Trust, Watch, docker_name
from imgtools.sync.options import SyncOptions
from imgtools.sync.plan import ImageAction, SyncPlan, Unit, shown
from imgtools.sync.result import Outcome, OutcomeWord, SyncResult
from imgtools.task import Note, Task, WorkerPool
from imgtools.transport.table import Transports

_TRANSFERS = 24
"""The most at a time, over all images; each holds buffers and a connection."""


def execute(
    plan: SyncPlan,
    options: SyncOptions,
    transports: Transports,
    *,
    attempt: Attempt = once,
    watch: Watch | None = None,
    trust: Trust | None = None,
    task: Task,
) -> SyncResult:
    """Do what `plan` says, each copy by `attempt`; errors are in the result. `trust` is who
    admits the manifests of each image and signs them at their destination. Raises
    Cancelled."""
    at_once = min(options.images_at_once, max(1, len(plan.units)))
    jobs = max(1, min(task.jobs, _TRANSFERS // at_once))
    run = _Run(
        plan, options, transports, attempt, watch or Watch(), trust, replace(task, jobs=jobs)
    )
    for action in plan.images:
        if not action.pending:
            run.settle(action)
    if plan.units:
        with WorkerPool(replace(task, jobs=at_once)) as pool:
            for unit in plan.units:
                pool.submit(partial(run.unit, unit))
    return run.result()


class _Run:
    def __init__(
        self,
        plan: SyncPlan,
        options: SyncOptions,
        transports: Transports,
        attempt: Attempt,
        watch: Watch,
        trust: Trust | None,
        task: Task,
    ) -> None:
        self.moves = Moves(plan, options, transports, watch, trust, task)
        self.plan, self.trust = plan, trust
        self.attempt, self.watch, self.task = attempt, watch, task
        self.lock = threading.Lock()
        self.images: dict[ImageName, Outcome] = {}
        self.moved: dict[ImageName, int] = {}
        self.referrers: list[Outcome] = []
        self.keep_going = options.keep_going
        self.stopping = bool(plan.failures) and not options.keep_going and plan.sources == 0

    def result(self) -> SyncResult:
        """Everything that became known."""
        outcomes = (self.images[action.image.destination] for action in self.plan.images)
        return SyncResult(
            outcomes=(*outcomes, *self.referrers),
            sources=self.plan.sources,
            failures=self.plan.failures,
        )

    # --- units ------------------------------------------------------------------------------

    def settle(self, action: ImageAction) -> None:
        """Note the outcome of an image about which nothing is to be done."""
        if action.decision == "failed":
            self.note(action, "failed", error=action.error)
        else:
            self.note(action, "same", action.current.digest if action.current else None)

    def unit(self, unit: Unit) -> None:
        """Do one unit; runs in a worker. Raises Cancelled only."""
        if self.stopping:
            self.skip(*unit.images, *unit.tags)
            return
        images, raw = [action for action in unit.images if self.admitted(action)], None
        if unit.images and not images:
            self.skip(*unit.tags)
            return
        unit = replace(unit, images=tuple(images))
        if images and (unit.tags or unit.referrers):
            raw = self.content(unit)
            if raw is None:
                return
        elif images:
            raw = self.single(images.pop(0))
            if raw is None and images:
                raw = self.without(unit, images)
            if raw is None:
                return
        for action in unit.tags:
            self.single(action)
        for fact in unit.referrers:
            self.referrer(fact)
        for action in images:
            assert raw is not None, "the content is there"
            self.name(action, raw)

    def without(self, unit: Unit, images: list[ImageAction]) -> RawManifest | None:
        """Put what the images of `unit` are after its first name failed, because it may be
        that name alone that the destination refuses; None if that failed too."""
        if self.stopping:
            self.skip(*images)
            return None
        return self.content(replace(unit, images=tuple(images)))

    def content(self, unit: Unit) -> RawManifest | None:
        """Put what the images of `unit` are, without a name; None if that failed."""
        first, pair, root = unit.images[0], unit.pair, unit.root
        assert pair is not None, "the plan gives it to such units"
        assert root is not None, "and this too"
        self.say(first)
        place = docker_name(pair.destination.with_digest(root.digest))
        done = self.tried(partial(self.moves.copy_image, first, place))
        if isinstance(done, Error):
            for action in (*unit.images, *unit.tags):
                self.note(action, "failed", error=done)
            return None
        with self.lock:
            self.moved[first.image.destination] = done.result.bytes_moved
        raw: RawManifest = done.raw
        return raw

    def single(self, action: ImageAction) -> RawManifest | None:
        """Copy one image to its name; its manifest at the source, None if that failed."""
        self.say(action)
        if self.moves.joins(action):
            self.join(action)
            return None
        done = self.tried(partial(self.moves.copy_image, action, action.image.destination))
        if isinstance(done, Error):
            self.note(action, "failed", error=done)
            return None
        result = done.result
        word: OutcomeWord = "same" if result.up_to_date else _word(action)
        self.note(action, word, result.top.digest, moved=result.bytes_moved)
        raw: RawManifest = done.raw
        return raw

    def join(self, action: ImageAction) -> None:
        """Add the signatures of a tag to those that its destination has of its own."""
        found = self.tried(partial(self.moves.join, action))
        if isinstance(found, Error):
            self.note(action, "failed", error=found)
        else:
            digest, new = found
            self.note(action, _word(action) if new else "same", digest)

    def admitted(self, action: ImageAction) -> bool:
        """Whether policy admits what the image is now; the image has failed if not."""
        admit = self.trust.admit(action.image) if self.trust is not None else None
        if admit is None:
            return True
        found = self.tried(partial(self.moves.judge, action, admit))
        if isinstance(found, Error):
            self.note(action, "failed", error=found)
        return not isinstance(found, Error)

    def name(self, action: ImageAction, raw: RawManifest) -> None:
        """Give a manifest that the destination has one more name."""

        def put() -> None:
            attaching = self.moves.attaching(action)
            with self.moves.destination(action.image.destination) as destination:
                if attaching is not None:
                    arrived = self.moves.arrived[raw.digest]
                    if attaching.check(arrived):
                        attaching.attach(arrived, destination)
                destination.put_manifest(raw, top=True)
                destination.commit()

        error = self.tried(put)
        if isinstance(error, Error):
            self.note(action, "failed", error=error)
        else:
            self.note(action, _word(action), raw.digest)

    def referrer(self, fact: ReferrerFact) -> None:
        """Put a manifest that refers to another, and make it be found by that."""
        digest = fact.descriptor.digest
        source = docker_name(fact.pair.source.with_digest(digest))
        place = docker_name(fact.pair.destination.with_digest(digest))
        result = self.tried(partial(self.moves.copy_referrer, fact, source, place))
        failed = isinstance(result, Error)
        outcome = Outcome(
            source=shown(source),
            destination=shown(place),
            outcome="failed" if failed else "new",
            digest=None if failed else digest,
            moved=0 if isinstance(result, Error) else result,
            error=result if isinstance(result, Error) else None,
            attached=True,
        )
        with self.lock:
            self.referrers.append(outcome)
        self.finished(outcome)

    # --- what became of it ------------------------------------------------------------------

    def tried(self, action: Callable[[], Any]) -> Any:
        """What `action` gives, or its error instead; raises Cancelled."""
        try:
            return self.attempt(action)
        except Cancelled:
            raise
        except Error as e:
            return e

    def skip(self, *actions: ImageAction) -> None:
        """Note images that are left alone because another one failed."""
        for action in actions:
            self.note(action, "skipped")

    def say(self, action: ImageAction) -> None:
        image = action.image
        self.task.progress(
            Note(
                "info",
                f"Copying image ref {image.number}/{image.of} "
                f'from="{shown(image.source)}" to="{shown(image.destination)}"',
            )
        )

    def note(
        self,
        action: ImageAction,
        word: OutcomeWord,
        digest: Digest | None = None,
        *,
        moved: int = 0,
        error: Error | None = None,
    ) -> None:
        """Keep the outcome of an image."""
        name = action.image.destination
        with self.lock:
            moved += self.moved.pop(name, 0)
            outcome = _outcome(action, word, digest, moved=moved, error=error)
            self.images[name] = outcome
        self.finished(outcome)

    def finished(self, outcome: Outcome) -> None:
        if outcome.error is not None and not self.keep_going:
            self.stopping = True
        self.watch.done(outcome)


def _outcome(
    action: ImageAction,
    word: OutcomeWord,
    digest: Digest | None = None,
    *,
    moved: int = 0,
    error: Error | None = None,
) -> Outcome:
    return Outcome(
        source=shown(action.image.source),
        destination=shown(action.image.destination),
        outcome=word,
        digest=digest,
        moved=moved,
        error=error,
    )


def _word(action: ImageAction) -> OutcomeWord:
    return "new" if action.current is None else "changed"
