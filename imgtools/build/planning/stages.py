"""The stages of a file, what names in them mean, and which of them a target needs."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence

from imgtools.build.language.errors import ContainerfileError
from imgtools.build.language.model import Arg, Containerfile, Copy, From, Instruction, Run
from imgtools.build.language.mounts import mount_from
from imgtools.build.language.numbers import stage_number
from imgtools.build.planning.arguments import Arguments
from imgtools.build.planning.model import (
    ContextRef,
    ImageRef,
    ScratchRef,
    SourceRef,
    Stage,
    StageRef,
)
from imgtools.errors import InvalidInput, NotFound

SCRATCH = "scratch"
_RESERVED = (SCRATCH, "context")
"""Names that a named context cannot take: BuildKit never looks for one there."""
_NO_IMAGE = "docker-image://scratch"
"""What a named context is that stands for nothing at all, as FROM scratch does."""


def leading_args(file: Containerfile) -> tuple[Arg, ...]:
    """The ARG instructions in front of the first FROM."""
    found: list[Arg] = []
    for instruction in file.instructions:
        if not isinstance(instruction, Arg):
            break
        found.append(instruction)
    return tuple(found)


def split_stages(
    file: Containerfile, arguments: Arguments, *, first: str = ""
) -> tuple[Stage, ...]:
    """The stages of a file, their FROM expanded; `first` is what the first FROM names instead.
    Raises ContainerfileError."""
    stages: list[Stage] = []
    body: list[Instruction] = []
    head: From | None = None
    for instruction in (*file.instructions, None):
        if instruction is not None and not isinstance(instruction, From):
            if head is not None:
                body.append(instruction)
            continue
        if head is not None:
            stages.append(_stage(file, head, len(stages), body, arguments, first))
        head, body = instruction, []
    return tuple(stages)


def _stage(
    file: Containerfile,
    head: From,
    index: int,
    body: Sequence[Instruction],
    arguments: Arguments,
    first: str,
) -> Stage:
    try:
        base = arguments.expand(head.image, arguments.known)
        platform = arguments.expand(head.platform, arguments.known)
    except InvalidInput as e:
        raise refused(file, head, e.message, hint=e.hint) from e
    if not base and not (first and not index):
        raise refused(
            file, head, f"the name of the base image, {head.image}, is empty",
            hint="give the argument a default in front of the first FROM, or with --build-arg",
        )  # fmt: skip
    if head.platform and not platform:
        raise refused(file, head, f"the platform, {head.platform}, is empty")
    return Stage(
        index=index,
        name=head.name,
        head=head,
        base=first if first and not index else base,
        platform=platform,
        instructions=tuple(body),
    )


def refused(
    file: Containerfile, at: Instruction, reason: str, *, hint: str | None = None
) -> ContainerfileError:
    """An error at an instruction."""
    line = at.location.first
    excerpt = (
        file.lines[line - 1] if at.location.file == file.name and line <= len(file.lines) else ""
    )
    return ContainerfileError(reason, at.location, excerpt=excerpt, hint=hint)


def target_name(file: Containerfile, target: str) -> str:
    """What TARGETSTAGE says: --target as given, else the name of the last stage, "" for none."""
    heads = [instruction for instruction in file.instructions if isinstance(instruction, From)]
    return target or heads[-1].name


def find_target(stages: Sequence[Stage], target: str) -> int:
    """The stage that --target means, by name in any case or by number; "" is the last. Raises
    NotFound with names that are close."""
    if not target:
        return len(stages) - 1
    for stage in reversed(stages):
        if stage.name and stage.name == target.lower():
            return stage.index
    number = stage_number(target)
    if number is not None and number < len(stages):
        return number
    names = [stage.name for stage in stages if stage.name]
    close = difflib.get_close_matches(target.lower(), names, 1)
    hint = (
        f"did you mean {close[0]!r}?" if close else f"stages are: {', '.join(names) or 'unnamed'}"
    )
    raise NotFound(f"there is no stage {target!r}", hint=hint)


def base_of(stage: Stage, stages: Sequence[Stage], contexts: Collection[str]) -> SourceRef:
    """What a stage's FROM means: a named context, else an earlier stage, else an image.

    A context that has the stage's own name takes the place of the whole stage.
    """
    if stage.name in contexts and stage.name not in _RESERVED:
        return ContextRef(name=stage.name)
    named = _context(stage.base, contexts)
    if named is not None:
        return named
    for earlier in reversed(stages[: stage.index]):
        if earlier.name and earlier.name == stage.base.lower():
            return StageRef(index=earlier.index)
    return ScratchRef() if stage.base == SCRATCH else ImageRef(name=stage.base)


def source_of(
    word: str, stage: Stage, stages: Sequence[Stage], contexts: Collection[str]
) -> SourceRef:
    """What --from of COPY or a mount means in `stage`: a named context, a stage by name or
    number, else an image. Raises NotFound for the stage itself and for later ones."""
    named = _context(word, contexts)
    if named is not None:
        return named
    own = stage.index
    order = [*reversed(stages[:own]), *stages[own:]]
    for other in order:
        if other.name and other.name == word.lower():
            return _earlier(word, other.index, own)
    number = stage_number(word)
    if number is not None:
        if number < len(stages):
            return _earlier(word, number, own)
        raise NotFound(f"there is no stage {word}; they are counted from 0")
    return ScratchRef() if word == SCRATCH else ImageRef(name=word)


def _earlier(word: str, index: int, own: int) -> StageRef:
    if index == own:
        raise NotFound(f"stage {word!r} cannot be copied from within itself")
    if index > own:
        raise NotFound(
            f"stage {word!r} is defined later in the file", hint="move it in front of this stage"
        )
    return StageRef(index=index)


def _context(word: str, contexts: Collection[str]) -> ContextRef | ScratchRef | None:
    """The context that a name means; names of images match with their tag or without. What the
    contexts are is known where they are a mapping."""
    if word.lower() in _RESERVED:
        return None
    for name in (word, word.lower(), *_image_names(word)):
        if name in contexts:
            value = contexts[name] if isinstance(contexts, Mapping) else ""
            return ScratchRef() if value == _NO_IMAGE else ContextRef(name=name)
    return None


def _image_names(word: str) -> tuple[str, ...]:
    from imgtools.errors import InvalidReference
    from imgtools.spec.reference import Reference

    try:
        reference = Reference.parse(word)
    except InvalidReference:
        return ()
    familiar = reference.familiar
    return (familiar, str(reference), familiar.removesuffix(":latest"))


def sources_in(
    instructions: Iterable[Instruction],
    stage: Stage,
    stages: Sequence[Stage],
    contexts: Collection[str],
    arguments: Arguments,
    file: Containerfile,
) -> tuple[SourceRef, ...]:
    """All that COPY --from and mounts of these instructions read from, each once, in order.

    Variables in --from may be those that FROM may use and what ARG defines in the stage.
    """
    found: dict[SourceRef, None] = {}
    variables: dict[str, str] = {}
    for instruction in instructions:
        if isinstance(instruction, Arg):
            _define(instruction, variables, arguments)
        for word in _from_words(instruction):
            try:
                name = arguments.expand(word, {**arguments.known, **variables})
                found[source_of(name, stage, stages, contexts)] = None
            except (InvalidInput, NotFound) as e:
                raise refused(file, instruction, e.message, hint=e.hint) from e
    return tuple(found)


def _define(instruction: Arg, variables: dict[str, str], arguments: Arguments) -> None:
    for name, default in instruction.pairs:
        value = arguments.given.get(name)
        if value is None and default is not None:
            try:
                value = arguments.expand(default, {**arguments.known, **variables})
            except InvalidInput:
                # Evaluation, which knows all variables, will say what is wrong, if it is.
                continue
        if value is not None:
            variables[name] = value


def _from_words(instruction: Instruction) -> list[str]:
    if isinstance(instruction, Copy):
        return [instruction.from_] if instruction.from_ else []
    if isinstance(instruction, Run):
        return [word for text in instruction.mounts if (word := mount_from(text))]
    return []
