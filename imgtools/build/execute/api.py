"""A build from its options to finished images, whose layers are in the engine's store; names,
files and registries come after (`imgtools.build.outputs`)."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from imgtools.build.cache.chain import begun_anew
from imgtools.build.execute.builder import Builder
from imgtools.build.execute.environment import BuildEnvironment, BuildResult
from imgtools.build.execute.inputs import open_inputs
from imgtools.build.execute.sources import Contexts
from imgtools.build.language.parser import parse
from imgtools.build.options import BuildOptions
from imgtools.errors import InvalidInput
from imgtools.task import Task

EPOCH = "SOURCE_DATE_EPOCH"


def build(
    options: BuildOptions, environment: BuildEnvironment, *, task: Task, dry: bool = False
) -> BuildResult:
    """Build an image for each platform of `options`; `dry` only says what would be done.

    Raises ContainerfileError, CommandFailed (a RUN ended badly), ImageNotFound, Rejected,
    InvalidInput, Unsupported, Cancelled, and what contexts, transports and the engine raise.
    """
    options = with_epoch(options)
    with ExitStack() as undo:
        scratch = undo.enter_context(environment.store.scratch())
        inputs = open_inputs(options, environment, scratch, undo, task=task)
        named = {context.name: context.value for context in options.contexts}
        contexts = Contexts(named, inputs.options, undo)
        contexts.put("", inputs.context)
        file = parse(inputs.containerfile, inputs.name)

        def attempt() -> BuildResult:
            with ExitStack() as opened:
                builder = Builder(options, environment, file, contexts, scratch, opened, task)
                return builder.preview() if dry else builder.build()

        return begun_anew(attempt, task=task)


def with_epoch(options: BuildOptions) -> BuildOptions:
    """The options with the time that --build-arg SOURCE_DATE_EPOCH gives, if none is given
    otherwise; and with the argument, if only the time is. Raises InvalidInput."""
    given, stamps = options.build_args.get(EPOCH), options.stamps
    if stamps.source_date_epoch is not None:
        arguments = {EPOCH: str(stamps.source_date_epoch), **options.build_args}
        return replace(options, build_args=arguments)
    if not given:
        return options
    if not given.isascii() or not given.isdigit() or len(given) > 11:
        raise InvalidInput(f"{EPOCH}={given}: expected seconds since the epoch")
    return replace(options, stamps=replace(stamps, source_date_epoch=int(given)))
