"""The nodes of a parsed template; `str()` of one is its source as Go's messages show it.

`pos` is the offset of a node in the template's text, in characters.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from imgtools.cli.gotemplate.literals import quote


@dataclass(slots=True)
class Node:
    pos: int


@dataclass(slots=True)
class Dot(Node):
    def __str__(self) -> str:
        return "."


@dataclass(slots=True)
class Nil(Node):
    def __str__(self) -> str:
        return "nil"


@dataclass(slots=True)
class Constant(Node):
    """A string, number, rune or boolean; `source` is how it was written."""

    value: str | int | float | bool
    source: str

    def __str__(self) -> str:
        return self.source


@dataclass(slots=True)
class Name(Node):
    """A function."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(slots=True)
class Field(Node):
    """.a.b.c"""

    names: list[str]

    def __str__(self) -> str:
        return "".join(f".{name}" for name in self.names)


@dataclass(slots=True)
class Variable(Node):
    """$x.a.b"""

    name: str
    names: list[str]

    def __str__(self) -> str:
        return ".".join([self.name, *self.names])


@dataclass(slots=True)
class Chain(Node):
    """(pipeline).a.b"""

    inner: Node
    names: list[str]

    def __str__(self) -> str:
        inner = f"({self.inner})" if isinstance(self.inner, Pipe) else str(self.inner)
        return "".join([inner, *(f".{name}" for name in self.names)])


@dataclass(slots=True)
class Command(Node):
    args: list[Node]

    def __str__(self) -> str:
        return " ".join(f"({a})" if isinstance(a, Pipe) else str(a) for a in self.args)


@dataclass(slots=True)
class Pipe(Node):
    """Commands joined by |, assigned to `variables` with := or, if not `declares`, ="""

    variables: list[Variable]
    declares: bool
    commands: list[Command]

    def __str__(self) -> str:
        text = " | ".join(str(command) for command in self.commands)
        if self.variables:
            names = ", ".join(str(variable) for variable in self.variables)
            text = f"{names} {':=' if self.declares else '='} {text}"
        return text


@dataclass(slots=True)
class Text(Node):
    text: str


@dataclass(slots=True)
class Action(Node):
    pipe: Pipe


@dataclass(slots=True)
class Branch(Node):
    """if, with or range."""

    kind: str
    pipe: Pipe
    body: list[Node]
    otherwise: list[Node] | None = None


@dataclass(slots=True)
class Jump(Node):
    """break or continue."""

    kind: str


@dataclass(slots=True)
class Call(Node):
    """{{template "name" pipeline}}"""

    name: str
    pipe: Pipe | None

    def __str__(self) -> str:
        return f"{{{{template {quote(self.name)}{f' {self.pipe}' if self.pipe else ''}}}}}"


@dataclass(slots=True)
class Template:
    """A parsed template: its text, its nodes and the templates it defines."""

    name: str
    source: str
    body: list[Node]
    defined: dict[str, list[Node]] = field(default_factory=dict)
