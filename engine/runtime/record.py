"""Frozen data classes that cost nothing to import.

`dataclasses` alone takes longer to import than a container takes to start. A `Record` is
declared like a dataclass, type checkers see one, and its values cannot be changed.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Self, dataclass_transform
else:

    def dataclass_transform(**_options: object) -> object:
        """Nothing at run time: the marker is for type checkers."""
        return lambda cls: cls


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Record:
    """Base of frozen keyword-only records: annotated names are fields, values their defaults.

    Fields of a base record come first. A default is shared by all instances, so it has to be
    immutable. Two records are equal if they are of one class and their fields are equal.
    """

    _fields: ClassVar[tuple[str, ...]] = ()
    _required: ClassVar[frozenset[str]] = frozenset()
    _names: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # Not inspect.get_annotations: importing inspect is what this module is there to avoid.
        names = cls.__dict__.get("__annotations__", ())  # noqa: RUF063
        own = tuple(name for name in names if name not in cls._fields)
        cls._fields = (*cls._fields, *own)
        cls._names = frozenset(cls._fields)
        cls._required = frozenset(n for n in cls._fields if not hasattr(cls, n))

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)
        if not self._required <= values.keys():
            missing = ", ".join(sorted(self._required - values.keys()))
            raise TypeError(f"{type(self).__name__} needs {missing}")
        if not self._names >= values.keys():
            unknown = ", ".join(sorted(values.keys() - self._names))
            raise TypeError(f"{type(self).__name__} has no {unknown}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be deleted")

    def with_values(self, **values: Any) -> Self:
        """A copy in which `values` replace fields."""
        return type(self)(**{**self.__dict__, **values})

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
        return f"{type(self).__name__}({shown})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self._fields)

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, name) for name in self._fields)))
