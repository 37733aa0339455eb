"""A Containerfile's bytes to its instructions: the entry point of the language.

The grammar is the Dockerfile reference of BuildKit. Nothing is expanded, opened or looked up.
"""

from __future__ import annotations

from collections.abc import Iterator

from imgtools.build.language.directives import foreign_frontend, read_directives
from imgtools.build.language.errors import ContainerfileError, brief
from imgtools.build.language.instructions import NO_TRIGGERS, instruction_of
from imgtools.build.language.model import Arg, Containerfile, Directives, From, Instruction
from imgtools.build.language.source import Source, read_source, source_of_text
from imgtools.build.language.statements import Statement, statements
from imgtools.errors import LimitExceeded

MAX_INSTRUCTIONS = 500_000
"""One takes about a kilobyte, and six bytes are enough to write it."""


def parse(content: bytes, name: str) -> Containerfile:
    """A file's instructions, directives and notes; `name` is what messages call it.

    Raises ContainerfileError for whatever is wrong with it, and LimitExceeded for more bytes
    or instructions than anybody writes.
    """
    source = read_source(content, name)
    directives, start = read_directives(source)
    instructions = list[Instruction]()
    notes = [*_notes_on(directives)]
    staged = False
    for statement in statements(source, directives.escape, start):
        instruction = instruction_of(statement)
        staged = staged or isinstance(instruction, From)
        if not staged and not isinstance(instruction, Arg):
            raise statement.error(
                f"{instruction.keyword} in front of the first FROM",
                hint="only ARG can stand there",
            )
        instructions.append(instruction)
        if len(instructions) > MAX_INSTRUCTIONS:
            raise LimitExceeded(name, MAX_INSTRUCTIONS, unit="instructions")
        notes += _notes_of(statement)
    if not staged:
        raise _without_stage(source, instructions)
    return Containerfile(
        name=name,
        instructions=tuple(instructions),
        directives=directives,
        lines=source.lines,
        notes=tuple(notes),
    )


def parse_changes(text: str, name: str) -> Containerfile:
    """Instructions without a stage around them, called `name` in messages. Raises as `parse`."""
    source = source_of_text(text, name)
    instructions = list[Instruction]()
    for statement in statements(source, "\\"):
        instructions.append(instruction_of(statement))
        if len(instructions) > MAX_INSTRUCTIONS:
            raise LimitExceeded(name, MAX_INSTRUCTIONS, unit="instructions")
    return Containerfile(name=name, instructions=tuple(instructions), lines=source.lines)


def parse_trigger(text: str, image: str) -> Instruction:
    """The instruction that a trigger in the config of `image` is (OnBuild). Raises
    ContainerfileError, which names the image."""
    source = source_of_text(text, f"ONBUILD of {image}")
    found = list(statements(source, "\\"))
    if len(found) != 1:
        raise source.error(f"a trigger is one instruction, not {len(found)}", 1)
    if found[0].keyword in NO_TRIGGERS:
        raise found[0].error(f"{found[0].keyword} cannot be a trigger of ONBUILD")
    return instruction_of(found[0])


def _without_stage(source: Source, instructions: list[Instruction]) -> ContainerfileError:
    last = max(1, len(source.lines))
    if not instructions:
        return source.error("the file has no instructions", last, hint="begin with FROM image")
    return source.error("the file has no FROM", last, hint="a stage begins with FROM image")


def _notes_on(directives: Directives) -> Iterator[tuple[int, str]]:
    if foreign_frontend(directives.syntax):
        yield (
            1,
            f"syntax={brief(directives.syntax)} is not fetched: the file is read as a Dockerfile",
        )


def _notes_of(statement: Statement) -> Iterator[tuple[int, str]]:
    line = statement.line
    if line.gap:
        yield line.gap, f"empty line inside {brief(line.text)}"
    if line.damaged:
        yield line.damaged, "not UTF-8: what cannot be read is U+FFFD"
