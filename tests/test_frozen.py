"""Frozen data classes that are cheap to import behave as the standard library's do."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import FrozenInstanceError, field, fields, replace
from typing import Any, ClassVar

import pytest

from imgtools.frozen import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A class as most of ours are."""

    KIND: ClassVar[str] = "part"
    name: str
    size: int = 0
    tags: list[str] = field(default_factory=list, compare=False)
    secret: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("size")

    @property
    def double(self) -> int:
        """Twice the size."""
        return 2 * self.size


@dataclass(frozen=True, slots=True)
class Pair:
    """A class whose fields are given by place too."""

    left: int
    right: int = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Special(Part):
    """A class below another one."""

    extra: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Loud:
    """A class that says some things itself."""

    text: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loud) and self.text.upper() == other.text.upper()

    def __hash__(self) -> int:
        return hash(self.text.upper())

    def __str__(self) -> str:
        return self.text.upper()


@dataclass(frozen=True)
class Empty:
    """A class without fields."""


def test_values_defaults_and_factories() -> None:
    first, second = Part(name="a"), Part(name="a", size=3)
    assert (first.name, first.size, first.tags, first.double) == ("a", 0, [], 0)
    assert second.double == 6
    assert first.tags is not second.tags
    assert Part.KIND == "part"
    assert Pair(1) == Pair(1, 7) == Pair(left=1, right=7)
    assert (Pair(1).left, Pair(1).right) == (1, 7)


@pytest.mark.parametrize(
    ("arguments", "values"),
    [((), {}), (("a",), {}), ((), {"name": "a", "other": 1}), ((), {"size": 1})],
)
def test_arguments_that_do_not_fit(arguments: tuple[Any, ...], values: dict[str, Any]) -> None:
    """The first instance and the later ones."""
    for _ in range(2):
        with pytest.raises(TypeError):
            Part(*arguments, **values)


def test_post_init_is_called() -> None:
    with pytest.raises(ValueError, match="size"):
        Part(name="a", size=-1)
    with pytest.raises(ValueError, match="size"):
        replace(Part(name="a"), size=-1)


def test_nothing_changes() -> None:
    part = Part(name="a")
    for change in (lambda: setattr(part, "size", 1), lambda: setattr(part, "odd", 1),
                   lambda: delattr(part, "size")):  # fmt: skip
        with pytest.raises(FrozenInstanceError):
            change()
    assert part.size == 0


def test_equality_and_hash() -> None:
    assert Part(name="a", tags=["x"]) == Part(name="a")
    assert hash(Part(name="a", size=1)) == hash(Part(name="a", size=1, tags=["y"]))
    assert Part(name="a") != Part(name="b")
    assert Part(name="a") != Special(name="a")
    assert Part(name="a") != "a"
    assert len({Pair(1), Pair(1, 7), Pair(2)}) == 2
    assert Empty() == Empty()
    assert hash(Empty()) == hash(Empty())
    assert Loud("a") == Loud("A")
    assert len({Loud("a"), Loud("A")}) == 1


def test_text() -> None:
    assert repr(Part(name="a", secret="s")) == "Part(name='a', size=0, tags=[])"
    assert repr(Pair(1)) == "Pair(left=1, right=7)"
    assert str(Loud("a")) == "A"
    assert repr(Loud("a")) == "Loud(text='a')"


def test_the_standard_library_sees_a_dataclass() -> None:
    assert dataclasses.is_dataclass(Part)
    assert [f.name for f in fields(Special)] == ["name", "size", "tags", "secret", "extra"]
    assert replace(Special(name="a"), extra=(1,), size=2) == Special(name="a", size=2, extra=(1,))
    assert dataclasses.asdict(Pair(1)) == {"left": 1, "right": 7}
    match Pair(1, 2):
        case Pair(left, right):
            assert (left, right) == (1, 2)


def test_copies() -> None:
    part = Special(name="a", size=3, tags=["x"], extra=(1,))
    for other in (copy.copy(part), copy.deepcopy(part), pickle.loads(pickle.dumps(part))):
        assert other == part
        assert other.tags == ["x"]


def test_slots() -> None:
    assert not hasattr(Part(name="a"), "__dict__")
    assert hasattr(Empty(), "__dict__")


def test_other_kinds_are_the_standard_librarys_own() -> None:
    @dataclass(slots=True)
    class Open:
        value: int = 1

    @dataclass(frozen=True, order=True)
    class Ordered:
        value: int

    opened = Open()
    opened.value = 2
    assert opened == Open(2)
    assert Ordered(1) < Ordered(2)
