"""What the ONBUILD of an image asks for when a working container is made of it: commands are run
and files copied as in a build whose context is the current directory, as buildah has it.

What commands print goes to standard error: scripts read the container's name from the other.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from imgtools.cli.build_values import proxies
from imgtools.errors import Error, Unsupported
from imgtools.frozen import dataclass

if TYPE_CHECKING:
    from engine.containers.engine import Engine
    from engine.storage.store import Store
    from engine.working.registry import Held
    from imgtools.build.copying.model import CopySource
    from imgtools.build.planning.model import CopyFrom, CopyWork, RunWork, Step
    from imgtools.spec.platform import Platform
    from imgtools.task import Task
    from imgtools.transport.options import RegistryOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What triggers are carried out with. `engine` gives what runs commands, for a block."""

    store: Store
    engine: Callable[[], AbstractContextManager[Engine]]
    registry: RegistryOptions
    host: Platform
    quiet: bool


def carry_out(held: Held, means: Means, *, task: Task) -> None:
    """Do what the container's triggers ask for, and take them out of its config. Raises
    ContainerfileError, Unsupported, what copying and running raise, and Error for a command
    that failed."""
    from imgtools.build.planning.changes import without_triggers

    container = held.container
    if not container.run_config.get("OnBuild"):
        return
    proxy = proxies(os.environ) if container.proxies else {}
    document, steps = without_triggers(container.document, container.image, means.host, proxy)
    _check(steps)
    with ExitStack() as undo:
        run: Callable[[RunWork], int] | None = None
        for number, step in enumerate(steps, 1):
            if not means.quiet:
                sys.stderr.write(f"STEP {number}/{len(steps)}: {step.text}\n")
            if _is_run(step):
                if run is None:
                    run = _runner(undo.enter_context(means.engine()), held, task)
                code = run(step.work)  # type: ignore[arg-type]
                if code:
                    raise Error(f"ONBUILD {step.text}: the command ended with exit code {code}")
            else:
                _copy(step.work, held, means, task)  # type: ignore[arg-type]
    held.change(replace(container, document=document))


def _is_run(step: Step) -> bool:
    from imgtools.build.planning.model import RunWork

    return isinstance(step.work, RunWork)


def _check(steps: tuple[Step, ...]) -> None:
    """Raise Unsupported for what needs a build: nothing is begun then."""
    from imgtools.build.planning.model import ContextRef, CopyWork, PathsFrom, RunWork

    for step in steps:
        work = step.work
        if isinstance(work, RunWork) and work.mounts:
            what = "RUN --mount"
        elif isinstance(work, CopyWork) and work.keep_git_dir is not None:
            what = "ADD --keep-git-dir"
        elif isinstance(work, CopyWork) and any(
            isinstance(each, PathsFrom) and not _is_context(each, ContextRef)
            for each in work.sources
        ):
            what = "COPY --from"
        else:
            continue
        raise Unsupported(
            f"ONBUILD {step.text}: {what} cannot be carried out here",
            hint="imgtools build makes images of this one",
        )


def _is_context(source: object, kind: type) -> bool:
    ref = getattr(source, "source", None)
    return isinstance(ref, kind) and ref == kind()


def _runner(engine: Engine, held: Held, task: Task) -> Callable[[RunWork], int]:
    from engine.working.running import run_trigger
    from imgtools.build.protocols import RunSpec, StepMount

    def tell(stream: int, data: bytes) -> None:
        sys.stderr.buffer.write(data)
        sys.stderr.buffer.flush()

    def run(work: RunWork) -> int:
        script = work.script
        spec = RunSpec(
            args=work.args,
            env=tuple(f"{name}={value}" for name, value in (*work.env, *work.hidden)),
            workdir=work.workdir,
            user=work.user,
            mounts=()
            if script is None
            else (
                StepMount(kind="file", target=script.target, content=script.content, mode=0o755),
            ),
            network=work.network,
            settings=held.container.settings,
        )
        sys.stderr.flush()
        return run_trigger(engine, held, spec, output=tell, task=task)

    return run


def _copy(work: CopyWork, held: Held, means: Means, task: Task) -> None:
    from engine.working.copying import AddOptions, copy_into

    with ExitStack() as undo:
        copy_into(
            means.store,
            held.container,
            lambda: tuple(_opened(each, work, means, undo, task) for each in work.sources),
            AddOptions(
                destination=work.destination,
                add=work.add,
                chown=work.chown,
                chmod=work.chmod,
                parents=work.parents,
                link=work.link,
                exclude=work.exclude,
                unpack=work.unpack,
            ),
            task=task,
        )


def _opened(
    source: CopyFrom, work: CopyWork, means: Means, undo: ExitStack, task: Task
) -> CopySource:
    from imgtools.build.copying.model import InlineFile, TreeFiles
    from imgtools.build.planning.model import InlineFrom, PathsFrom
    from imgtools.cli.working_copy import host_tree

    if isinstance(source, InlineFrom):
        return InlineFile(name=source.document.name, content=source.document.content.encode())
    if isinstance(source, PathsFrom):
        return TreeFiles(tree=undo.enter_context(host_tree(".")), patterns=source.patterns)
    from imgtools.cli.working_fetch import fetched

    directory = undo.enter_context(means.store.layers.disk.workspace.directory())
    return fetched(
        source.url, directory, means.registry, checksum=work.checksum, undo=undo, task=task
    )
