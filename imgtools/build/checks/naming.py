"""Checks of names and of the way things are written: casing, stage names, descriptions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from imgtools.build.checks.model import CheckOptions, Found
from imgtools.build.checks.stages import Stage, named_stage, sources_of, words_of_from
from imgtools.build.language.model import Arg, Containerfile, From, Instruction
from imgtools.build.language.numbers import stage_number

_RESERVED = ("context", "scratch")


def check_casing(stages: Sequence[Stage]) -> Iterator[Found]:
    """ConsistentInstructionCasing: keywords of stages are all upper or all lower case, whichever
    there is more of; upper if there are as many."""
    keywords = [at for stage in stages for at in (stage.head, *stage.body)]
    lower = sum(at.written == at.written.lower() for at in keywords)
    upper = sum(at.written == at.written.upper() for at in keywords)
    for at in keywords:
        wanted = at.written.lower() if lower > upper else at.written.upper()
        if at.written != wanted:
            yield Found(
                "ConsistentInstructionCasing",
                f"instruction '{at.written}' should be '{wanted}' as most of the file's are",
                at,
            )


def check_from(file: Containerfile) -> Iterator[Found]:
    """StageNameCasing and FromAsCasing."""
    for at in file.instructions:
        words = words_of_from(at) if isinstance(at, From) else []
        if len(words) < 3:
            continue
        keyword, name = words[1:3]
        if name != name.lower():
            yield Found("StageNameCasing", f"stage name '{name}' should be lower case", at)
        if at.written == at.written.lower():
            same = keyword == keyword.lower()
        else:
            same = at.written != at.written.upper() or keyword == keyword.upper()
        if not same:
            yield Found(
                "FromAsCasing",
                f"'{keyword}' and '{at.written}' should be written in the same case",
                at,
            )


def check_stage_names(stages: Sequence[Stage]) -> Iterator[Found]:
    """ReservedStageName and DuplicateStageName."""
    for stage in stages:
        name = stage.head.name
        if name in _RESERVED:
            yield Found("ReservedStageName", f"stage name '{name}' is reserved", stage.head)
        if name and named_stage(name, stages[: stage.index]) is not None:
            yield Found("DuplicateStageName", f"there is another stage '{name}'", stage.head)


def check_descriptions(file: Containerfile) -> Iterator[Found]:
    """InvalidDefinitionDescription: a comment right above a named stage or an ARG begins with
    the name of what it describes. An empty line between them ends that, as the rule's
    description says; BuildKit's code looks across it."""
    for at in file.instructions:
        names = _defined(at)
        above = file.lines[at.location.first - 2].strip() if at.location.first > 1 else ""
        comment = at.comments[-1].strip() if at.comments and above else ""
        if names and comment and comment.partition(" ")[0] not in names:
            name = names[0] if len(names) == 1 else "<argument>"
            yield Found(
                "InvalidDefinitionDescription",
                f"a comment on {at.keyword} should read '# {name} <description>'",
                at,
            )


def _defined(at: Instruction) -> list[str]:
    if isinstance(at, From):
        return [at.name] if at.name else []
    return [name for name, _ in at.pairs] if isinstance(at, Arg) else []


def check_unused(stages: Sequence[Stage], options: CheckOptions) -> Iterator[Found]:
    """UnusedStage: the stage that is built does not need this one, directly or not."""
    if not stages:
        return
    target = named_stage(options.target, stages) if options.target else len(stages) - 1
    if target is None:
        target = stage_number(options.target)
    if target is None or target >= len(stages):
        return
    used: set[int] = set()
    pending = [target]
    while pending:
        index = pending.pop()
        if index not in used:
            used.add(index)
            pending += sources_of(stages[index], stages, options.contexts)
    for stage in stages:
        if stage.index not in used:
            name = f"'{stage.head.name}'" if stage.head.name else str(stage.index)
            yield Found("UnusedStage", f"nothing that is built uses stage {name}", stage.head)
