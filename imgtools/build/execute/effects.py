"""What some build arguments do besides being variables (Dockerfile reference, "Predefined ARGs"
and "BuildKit built-in build args"): proxies and the hostname of steps, the frontend, and the
time of the image, which can be that of what the image is built from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from imgtools.build.contexts.classify import ContextKind, classify
from imgtools.build.execute.platforms import arguments_of
from imgtools.build.execute.sources import Contexts
from imgtools.build.language.directives import BUILT_IN, foreign_frontend
from imgtools.build.language.errors import brief
from imgtools.build.language.model import Add, Arg, Containerfile
from imgtools.build.options import BuildOptions
from imgtools.build.planning.arguments import (
    PROXIES,
    Arguments,
)
from imgtools.build.planning.stages import (
    SCRATCH,
    leading_args,
    refused,
    split_stages,
)
from imgtools.errors import InvalidInput
from imgtools.spec.platform import Platform
from imgtools.task import Task

EPOCH = "SOURCE_DATE_EPOCH"
HOSTNAME = "BUILDKIT_SANDBOX_HOSTNAME"
FRONTEND = "BUILDKIT_SYNTAX"
CONTEXT = "context"
"""As a time: that of the main context."""


def with_effects(options: BuildOptions) -> BuildOptions:
    """The options with what their arguments say of every RUN: proxies, which are given to steps
    whether or not they are declared, and the hostname, where no option says otherwise.

    A proxy gets both spellings of its name, as in BuildKit: some programs (curl for http) know
    the lower-case one only, others the upper-case one.
    """
    given = options.build_args
    proxy = {}
    for name in PROXIES:
        spelt = [value for k in (name, name.swapcase()) if (value := given.get(k)) is not None]
        if spelt:
            proxy[name] = spelt[0]
    hostname = options.host.hostname or given.get(HOSTNAME) or ""
    return replace(
        options,
        proxy={**options.proxy, **proxy},
        host=replace(options.host, hostname=hostname),
    )


def with_frontend(file: Containerfile, options: BuildOptions) -> Containerfile:
    """The file, with a note if BUILDKIT_SYNTAX names a frontend that is not ours; what the file
    itself asks for does not count then."""
    frontend = (options.build_args.get(FRONTEND) or "").partition(" ")[0]
    if not frontend:
        return file
    notes = tuple(note for note in file.notes if not note[1].startswith("syntax="))
    if frontend != BUILT_IN and foreign_frontend(frontend):
        line = file.instructions[0].location.first
        text = f"{FRONTEND}={brief(frontend)} is not fetched: the file is read as a Dockerfile"
        notes = ((line, text), *notes)
    return replace(file, notes=notes)


def with_epoch(
    options: BuildOptions, file: Containerfile, contexts: Contexts, host: Platform, *, task: Task
) -> tuple[BuildOptions, Containerfile]:
    """The options and the file with the time of SOURCE_DATE_EPOCH, if there is one: that of the
    options, else the argument's, else its default in front of the first FROM.

    It is seconds, or names what has a time: `context`, a named context, or a stage that is FROM
    scratch with one ADD of a URL or repository. What has none leaves it unset. Raises
    InvalidInput, ContainerfileError, and what opening contexts raises.
    """
    stamps = options.stamps
    if stamps.source_date_epoch is not None:
        known = {EPOCH: str(stamps.source_date_epoch), **options.build_args}
        return replace(options, build_args=known), file
    platform = options.platforms[0] if options.platforms else host
    arguments = arguments_of(options, host, platform, file)
    value = options.build_args.get(EPOCH, arguments.known.get(EPOCH))
    if not value:
        return options, file
    found = _seconds(value) if _is_number(value) else None
    if found is None:
        found = _time_of(value, options, file, arguments, contexts, task)
    rest = {name: given for name, given in options.build_args.items() if name != EPOCH}
    file = _without_default(file)
    if found is None:
        return replace(options, build_args=rest), file
    return (
        replace(
            options,
            build_args={**rest, EPOCH: str(found)},
            stamps=replace(stamps, source_date_epoch=found),
        ),
        file,
    )


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdigit()


def _seconds(value: str) -> int:
    if len(value) > 11:
        raise InvalidInput(f"{EPOCH}={value}: expected seconds since the epoch")
    return int(value)


def _time_of(
    name: str,
    options: BuildOptions,
    file: Containerfile,
    arguments: Arguments,
    contexts: Contexts,
    task: Task,
) -> int | None:
    if name == CONTEXT:
        return contexts.open("", task).epoch
    named = {context.name: context.value for context in options.contexts}
    if name in named:
        if classify(named[name]) in (ContextKind.IMAGE, ContextKind.LAYOUT):
            return None
        return contexts.open(name, task).epoch
    for stage in split_stages(file, arguments):
        if stage.name and stage.name == name.lower():
            try:
                url = _only_source(stage.base, stage.instructions, arguments)
            except InvalidInput as e:
                raise refused(file, stage.head, f"{EPOCH}={name}: {e.message}") from e
            return contexts.time_of(url, task)
    raise InvalidInput(
        f"{EPOCH}={brief(name)}: expected seconds since the epoch",
        hint="or `context`, or the name of a context or stage that has a time",
    )


def _only_source(base: str, body: Sequence[object], arguments: Arguments) -> str:
    """The URL or repository that a stage adds, which may do nothing else. Raises InvalidInput."""
    variables: Mapping[str, str] = arguments.known
    sources: list[str] = []
    for instruction in body:
        if isinstance(instruction, Arg):
            values = {
                key: arguments.given.get(key, arguments.expand(default or "", variables))
                for key, default in instruction.pairs
                if default is not None or key in arguments.given
            }
            variables = {**variables, **values}
        elif isinstance(instruction, Add) and not instruction.heredocs:
            sources += [arguments.expand(word, variables) for word in instruction.sources]
        else:
            sources = []
            break
    if base != SCRATCH or len(sources) != 1:
        raise InvalidInput("the stage is not FROM scratch with one ADD of a URL or repository")
    if classify(sources[0]) not in (ContextKind.HTTP, ContextKind.GIT):
        raise InvalidInput(f"{sources[0]} is neither a URL nor a repository")
    return sources[0]


def _without_default(file: Containerfile) -> Containerfile:
    """The file without defaults of the argument in front of the first FROM: what is found takes
    their place."""
    leading = {id(instruction) for instruction in leading_args(file)}
    instructions = tuple(
        replace(instruction, pairs=tuple(p for p in instruction.pairs if p[0] != EPOCH))
        if isinstance(instruction, Arg) and id(instruction) in leading
        else instruction
        for instruction in file.instructions
    )
    return replace(file, instructions=instructions)
