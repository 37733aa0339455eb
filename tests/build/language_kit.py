"""What the tests of the language share: texts in, instructions or the refusal out."""

from __future__ import annotations

import pytest

from imgtools.build.language.errors import ContainerfileError
from imgtools.build.language.model import Containerfile, Instruction
from imgtools.build.language.parser import parse

NAME = "Containerfile"


def parsed(text: str | bytes) -> Containerfile:
    """A whole file."""
    return parse(text if isinstance(text, bytes) else text.encode(), NAME)


def only(text: str) -> Instruction:
    """The one instruction that `text` adds to a stage."""
    _, instruction = parsed(f"FROM scratch\n{text}\n").instructions
    return instruction


def all_of(text: str) -> list[str]:
    """The texts of all instructions of a file."""
    return [instruction.text for instruction in parsed(text).instructions]


def refusal(text: str | bytes) -> ContainerfileError:
    """The error that a whole file gets."""
    with pytest.raises(ContainerfileError) as caught:
        parsed(text)
    return caught.value


def refused(text: str) -> ContainerfileError:
    """The error that `text` gets in a stage, which begins one line above it."""
    return refusal(f"FROM scratch\n{text}")
