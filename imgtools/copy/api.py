"""One copy from beginning to end: survey, plan, execute, over open transports or by name.

Tags such as cosign's `sha256-<hex>.sig` are not among a Source's methods and so not copied
here: `imgtools.copy.siblings` does that with these functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from imgtools.copy.actions import CopyPlan
from imgtools.copy.attaching import Attaching
from imgtools.copy.execute import CopyResult, execute
from imgtools.copy.options import CopyOptions
from imgtools.copy.plan import plan_copy
from imgtools.copy.survey import Admit, survey
from imgtools.errors import Cancelled, Error, SeveralErrors
from imgtools.task import Task
from imgtools.transport.base import Destination, Source
from imgtools.transport.options import DestinationOptions, SourceOptions
from imgtools.transport.table import Transports


def prepare(
    source: Source,
    destination: Destination,
    options: CopyOptions | None = None,
    *,
    admit: Admit | None = None,
    task: Task,
) -> CopyPlan:
    """The plan of a copy, with nothing written; raises as `copy_image` does."""
    options = options or CopyOptions()
    with failures_named(source, destination):
        return plan_copy(survey(source, destination, options, admit, task=task), options)


def copy_image(
    source: Source,
    destination: Destination,
    options: CopyOptions | None = None,
    *,
    admit: Admit | None = None,
    attaching: Attaching | None = None,
    task: Task,
) -> CopyResult:
    """Copy what `source` names to where `destination` does, and commit it.

    `admit` is called with the manifests that policy is about (`to_admit`) before any blob is
    read, and raises Rejected to refuse them. `attaching`, with the option `entire`, puts what
    goes with the manifests. Both ends stay open. Raises ImageNotFound, Unsupported,
    DigestWouldChange, the other errors of the transports, and Cancelled; all but the last
    say which copy failed.
    """
    plan = prepare(source, destination, options, admit=admit, task=task)
    with failures_named(source, destination):
        return execute(plan, source, destination, attaching=attaching, task=task)


@contextmanager
def failures_named(source: Source, destination: Destination) -> Iterator[None]:
    """Make every error of the block say which copy failed, but for Cancelled."""
    try:
        yield
    except Cancelled:
        raise
    except Error as e:
        where = f"copy {source.origin.name} to {destination.origin.name}"
        for each in e.errors if isinstance(e, SeveralErrors) else ():
            each.with_context(where)
        e.with_context(where)
        raise


def copy_by_name(
    source: str,
    destination: str,
    options: CopyOptions | None = None,
    *,
    source_options: SourceOptions | None = None,
    destination_options: DestinationOptions | None = None,
    transports: Transports | None = None,
    admit: Admit | None = None,
    task: Task | None = None,
) -> CopyResult:
    """`copy_image` for names such as `docker://busybox` and `oci:dir:tag`, which are opened
    and closed here; also raises InvalidReference.

    With `transports` connections are shared with other calls; else they are this call's.
    """
    if transports is None:
        with Transports(task.cancel if task else None) as own:
            return copy_by_name(
                source,
                destination,
                options,
                source_options=source_options,
                destination_options=destination_options,
                transports=own,
                admit=admit,
                task=task,
            )
    with (
        transports.open_source(source, source_options or SourceOptions()) as opened,
        transports.open_destination(
            destination, destination_options or DestinationOptions()
        ) as target,
    ):
        return copy_image(opened, target, options, admit=admit, task=task or Task())
