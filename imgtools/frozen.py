"""`dataclass` as the standard library has it, for frozen data that is cheap to import.

Each frozen class of the standard library compiles six methods when its module is imported, a
quarter of a millisecond; a build imports some three hundred. Here the methods are closures, and
`__init__` is compiled when the first instance is made. To type checkers, and to
`dataclasses.fields` and `replace`, it is an ordinary dataclass.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(
        *, frozen: bool = False, slots: bool = False, kw_only: bool = False, **more: Any
    ) -> Callable[[type], type]:
        """Like `dataclasses.dataclass`; what is not frozen, or has other options than slots
        and kw_only, is made by that."""
        if not frozen or more:
            return dataclasses.dataclass(frozen=frozen, slots=slots, kw_only=kw_only, **more)

        def decorate(cls: type) -> type:
            own = frozenset(cls.__dict__)
            made = dataclasses.dataclass(
                init=False, repr=False, eq=False, slots=slots, kw_only=kw_only
            )(cls)
            _furnish(made, own, slots)
            return made

        return decorate


Fields = tuple[dataclasses.Field[Any], ...]


def _furnish(cls: type, own: frozenset[str], slots: bool) -> None:
    """Give a class of fields the methods of a frozen one, but for its `own`."""
    fields = dataclasses.fields(cls)
    names = frozenset(field.name for field in fields)
    compared = _getter([field.name for field in fields if field.compare])
    hashed = _getter([f.name for f in fields if (f.compare if f.hash is None else f.hash)])

    def init(self: Any, *args: Any, **values: Any) -> None:
        compiled = _compiled(cls)
        cls.__init__ = compiled  # type: ignore[misc]
        compiled(self, *args, **values)

    def shown(self: Any) -> str:
        values = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in fields if f.repr)
        return f"{type(self).__qualname__}({values})"

    def equals(self: Any, other: object) -> Any:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return compared(self) == compared(other)

    def hash_of(self: Any) -> int:
        return hash(hashed(self))

    def assign(self: Any, name: str, value: object) -> None:
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        object.__setattr__(self, name, value)

    def remove(self: Any, name: str) -> None:
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        object.__delattr__(self, name)

    methods: dict[str, Callable[..., Any]] = {
        "__init__": init,
        "__repr__": shown,
        "__setattr__": assign,
        "__delattr__": remove,
    }
    if "__eq__" not in own:
        # A class that says itself what is equal says what its hash is, too.
        methods |= {"__eq__": equals, "__hash__": hash_of}
    if slots:
        methods |= {"__getstate__": _state_getter(fields), "__setstate__": _state_setter(fields)}
    for name, method in methods.items():
        if name not in own:
            method.__name__, method.__qualname__ = name, f"{cls.__qualname__}.{name}"
            setattr(cls, name, method)


def _state_getter(fields: Fields) -> Callable[[Any], list[Any]]:
    return lambda self: [getattr(self, field.name) for field in fields]


def _state_setter(fields: Fields) -> Callable[[Any, list[Any]], None]:
    def restore(self: Any, state: list[Any]) -> None:
        for field, value in zip(fields, state, strict=True):
            object.__setattr__(self, field.name, value)

    return restore


def _getter(names: list[str]) -> Callable[[Any], Any]:
    """The values of fields, to be compared."""
    if not names:
        return lambda value: ()
    return attrgetter(*names)


def _compiled(cls: type) -> Callable[..., None]:
    """`__init__` for the fields of `cls`, with the defaults that they have."""
    scope: dict[str, Any] = {"_set": object.__setattr__, "_absent": dataclasses.MISSING}
    positional, keyword, lines = list[str](), list[str](), list[str]()
    for number, field in enumerate(dataclasses.fields(cls)):
        name, value = field.name, field.name
        parameter = name
        if field.default is not dataclasses.MISSING:
            scope[f"_default{number}"] = field.default
            parameter += f"=_default{number}"
        elif field.default_factory is not dataclasses.MISSING:
            scope[f"_factory{number}"] = field.default_factory
            parameter += "=_absent"
            value = f"_factory{number}() if {name} is _absent else {name}"
        (keyword if field.kw_only else positional).append(parameter)
        lines.append(f" _set(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        lines.append(" self.__post_init__()")
    star = ["*", *keyword] if keyword else []
    head = ", ".join(["self", *positional, *star])
    # The text is made of the names of fields alone, which are identifiers of the program.
    exec(f"def __init__({head}):\n" + "\n".join(lines or [" pass"]), scope)
    init: Callable[..., None] = scope["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init
