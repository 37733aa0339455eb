"""A build from its options to finished images, whose layers are in the engine's store; names,
files and registries come after (`imgtools.build.outputs`)."""

from __future__ import annotations

from contextlib import ExitStack

from imgtools.build.cache.chain import begun_anew
from imgtools.build.events import BuildNote
from imgtools.build.execute.admitting import admitted_options
from imgtools.build.execute.builder import Builder
from imgtools.build.execute.effects import with_effects, with_epoch, with_frontend
from imgtools.build.execute.environment import BuildEnvironment, BuildResult
from imgtools.build.execute.inputs import open_inputs
from imgtools.build.execute.sources import Contexts
from imgtools.build.language.parser import parse
from imgtools.build.options import BuildOptions
from imgtools.task import Task


def build(
    options: BuildOptions, environment: BuildEnvironment, *, task: Task, dry: bool = False
) -> BuildResult:
    """Build an image for each platform of `options`; `dry` only says what would be done.

    Raises ContainerfileError, CommandFailed (a RUN ended badly), ImageNotFound, Rejected,
    InvalidInput, Unsupported, Cancelled, and what contexts, transports and the engine raise.
    """
    options = admitted_options(with_effects(options))
    with ExitStack() as undo:
        scratch = undo.enter_context(environment.store.scratch())
        inputs = open_inputs(options, environment, scratch, undo, task=task)
        named = {context.name: context.value for context in options.contexts}
        contexts = Contexts(named, inputs.options, undo)
        contexts.put("", inputs.context)
        file = with_frontend(parse(inputs.containerfile, inputs.name), options)
        options, file = with_epoch(options, file, contexts, environment.host, task=task)
        if options.stamps.rewrite and options.stamps.source_date_epoch is None:
            text = "--rewrite-timestamp does nothing without --source-date-epoch"
            environment.report(BuildNote(level="warning", text=text))

        def attempt() -> BuildResult:
            with ExitStack() as opened:
                builder = Builder(options, environment, file, contexts, scratch, opened, task)
                return builder.preview() if dry else builder.build()

        return begun_anew(attempt, task=task)
