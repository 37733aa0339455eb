"""Walks a parsed template over data, as Go's text/template does, and collects the output.

Work is bounded: output, loop turns and nesting of templates have limits, so a template
cannot run away even where its data is large.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

from imgtools.cli.gotemplate import ast
from imgtools.cli.gotemplate.format import show
from imgtools.cli.gotemplate.functions import FUNCTIONS, SHORT_CIRCUIT, accepts
from imgtools.cli.gotemplate.literals import quote
from imgtools.cli.gotemplate.times import FORMAT, METHODS, go_format, moment_of
from imgtools.cli.gotemplate.values import (
    MISSING,
    NIL_POINTER,
    Struct,
    TemplateError,
    Time,
    element_type,
    is_nil,
    truth,
    type_name,
)
from imgtools.errors import LimitExceeded

MAX_OUTPUT = 64 * 1024 * 1024
MAX_TURNS = 1_000_000
MAX_TEMPLATES = 100


class _Absent:
    """That a pipeline's first command has no final argument."""


_NONE = _Absent()


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


def execute(template: ast.Template, data: object) -> str:
    """The output of `template` for `data`.

    Raises TemplateError with Go's message, and LimitExceeded for too much output or work.
    """
    run = _Run(template)
    run.scope = [("$", data)]
    run.walk(template.body, data)
    return "".join(run.out)


class _Run:
    def __init__(self, template: ast.Template) -> None:
        self._template = template
        self.scope: list[tuple[str, object]] = []
        self.out: list[str] = []
        self._size = 0
        self._turns = 0
        self._templates = 0

    def fail(self, node: ast.Node, message: str) -> NoReturn:
        source, name = self._template.source, self._template.name
        line = source.count("\n", 0, node.pos) + 1
        column = len(source[source.rfind("\n", 0, node.pos) + 1 : node.pos].encode())
        raise TemplateError(
            f'template: {name}:{line}:{column}: executing "{name}" at <{node}>: {message}'
        )

    def _emit(self, text: str) -> None:
        self._size += len(text)
        if self._size > MAX_OUTPUT:
            raise LimitExceeded("output of the template", MAX_OUTPUT, unit="characters")
        self.out.append(text)

    # Statements.

    def walk(self, nodes: list[ast.Node], dot: object) -> None:
        for node in nodes:
            match node:
                case ast.Text():
                    self._emit(node.text)
                case ast.Action():
                    value = self._pipeline(dot, node.pipe)
                    if not node.pipe.variables:
                        self._emit("<no value>" if _unwrap(value) is MISSING else show(value))
                case ast.Branch():
                    depth = len(self.scope)
                    try:
                        self._branch(node, dot)
                    finally:
                        del self.scope[depth:]
                case ast.Jump():
                    raise _Break if node.kind == "break" else _Continue
                case ast.Call():
                    self._call_template(node, dot)

    def _branch(self, node: ast.Branch, dot: object) -> None:
        if node.kind == "range":
            self._range(node, dot)
            return
        value = self._pipeline(dot, node.pipe)
        if truth(value):
            self.walk(node.body, value if node.kind == "with" else dot)
        elif node.otherwise is not None:
            self.walk(node.otherwise, dot)

    def _range(self, node: ast.Branch, dot: object) -> None:
        names = [variable.name for variable in node.pipe.variables]
        value = self._evaluate(dot, node.pipe)
        empty = True
        for key, item in self._items(node, value, len(names)):
            empty = False
            self._turns += 1
            if self._turns > MAX_TURNS:
                raise LimitExceeded("work of the template", MAX_TURNS, unit="loop turns")
            depth = len(self.scope)
            given = (key, item) if len(names) == 2 else ((item if key is not None else None),)
            for name, part in zip(names, given, strict=False):
                self._assign(name, part, node.pipe.declares)
            try:
                self.walk(node.body, item)
            except _Break:
                break
            except _Continue:
                continue
            finally:
                if node.pipe.declares:
                    del self.scope[depth:]
        if empty and node.otherwise is not None:
            self.walk(node.otherwise, dot)

    def _items(
        self, node: ast.Branch, value: object, names: int
    ) -> Iterator[tuple[object, object]]:
        if isinstance(value, (list, tuple)):
            yield from enumerate(value)
        elif isinstance(value, dict) and not isinstance(value, Struct):
            yield from sorted(value.items())
        elif isinstance(value, int) and not isinstance(value, bool):
            if names > 1:
                self.fail(node.pipe, f"can't use {value} to iterate over more than one variable")
            yield from ((i, i) for i in range(value))
        elif not is_nil(value) or value is NIL_POINTER:
            self.fail(node.pipe, f"range can't iterate over {show(value)}")

    def _call_template(self, node: ast.Call, dot: object) -> None:
        body = self._template.defined.get(node.name)
        if body is None:
            self.fail(node, f"template {quote(node.name)} not defined")
        data = MISSING if node.pipe is None else self._pipeline(dot, node.pipe)
        self._templates += 1
        if self._templates > MAX_TEMPLATES:
            raise LimitExceeded("nesting of templates", MAX_TEMPLATES, unit="levels")
        outer, self.scope = self.scope, [("$", data)]
        self.walk(body, data)
        self.scope = outer
        self._templates -= 1

    # Variables.

    def _assign(self, name: str, value: object, declares: bool) -> None:
        if declares:
            self.scope.append((name, value))
            return
        for i in range(len(self.scope) - 1, -1, -1):
            if self.scope[i][0] == name:
                self.scope[i] = (name, value)
                return

    def _variable(self, node: ast.Variable) -> object:
        for name, value in reversed(self.scope):
            if name == node.name:
                return value
        return self.fail(node, f"undefined variable: {node.name}")

    # Pipelines.

    def _pipeline(self, dot: object, pipe: ast.Pipe) -> object:
        value = self._evaluate(dot, pipe)
        for variable in pipe.variables:
            self._assign(variable.name, value, pipe.declares)
        return value

    def _evaluate(self, dot: object, pipe: ast.Pipe) -> object:
        value: object = _NONE
        for command in pipe.commands:
            value = _unwrap(self._command(dot, command, value))
        return value

    def _command(self, dot: object, command: ast.Command, final: object) -> object:
        first = command.args[0]
        match first:
            case ast.Name():
                return self._function(dot, first, command, final)
            case ast.Field():
                return self._fields(first, dot, first.names, command, final, dot)
            case ast.Chain():
                inner = self._argument(dot, first.inner)
                return self._fields(first, inner, first.names, command, final, dot)
            case ast.Variable() if first.names:
                own = self._variable(first)
                return self._fields(first, own, first.names, command, final, dot)
        if len(command.args) > 1 or final is not _NONE:
            self.fail(first, f"can't give argument to non-function {first}")
        if isinstance(first, ast.Nil):
            self.fail(first, "nil is not a command")
        return self._argument(dot, first)

    def _argument(self, dot: object, node: ast.Node) -> object:
        match node:
            case ast.Dot():
                return dot
            case ast.Nil():
                return None
            case ast.Constant():
                return node.value
            case ast.Variable():
                return self._fields(node, self._variable(node), node.names)
            case ast.Field():
                return self._fields(node, dot, node.names)
            case ast.Chain():
                return self._fields(node, self._argument(dot, node.inner), node.names)
            case ast.Pipe():
                return self._pipeline(dot, node)
            case ast.Name():
                return self._function(dot, node, ast.Command(node.pos, [node]), _NONE)
        return self.fail(node, f"can't handle {node}")

    def _fields(
        self,
        node: ast.Node,
        value: object,
        names: list[str],
        command: ast.Command | None = None,
        final: object = _NONE,
        dot: object = None,
    ) -> object:
        last = len(names) - 1
        boxed = False
        if isinstance(node, ast.Chain):
            node = _last_operand(node)
        for i, name in enumerate(names):
            arguments = i == last and (
                final is not _NONE or (command is not None and len(command.args) > 1)
            )
            if isinstance(value, Time):
                rest = command.args[1:] if arguments and command is not None else []
                inner = self._method(dot, node, value, name, rest, final if arguments else _NONE)
            else:
                inner = self._field(node, value, name, arguments, boxed)
            boxed = False
            if isinstance(value, dict) and not isinstance(value, Struct):
                boxed = element_type(value) != "string"
            value = inner
        return value

    def _field(
        self, node: ast.Node, value: object, name: str, arguments: bool, boxed: bool
    ) -> object:
        if value is MISSING:
            return MISSING
        if value is None or value is NIL_POINTER:
            self.fail(node, f"nil pointer evaluating {type_name(value)}.{name}")
        if isinstance(value, Struct):
            if name in value:
                if arguments:
                    self.fail(node, f"{name} has arguments but cannot be invoked as function")
                return NIL_POINTER if value[name] is None else value[name]
        elif isinstance(value, dict):
            if arguments:
                self.fail(node, f"{name} is not a method but has arguments")
            return value.get(name, MISSING)
        kind = "interface {}" if boxed else type_name(value)
        return self.fail(node, f"can't evaluate field {name} in type {kind}")

    def _method(
        self,
        dot: object,
        node: ast.Node,
        value: Time,
        name: str,
        nodes: list[ast.Node],
        final: object,
    ) -> object:
        """What a method of a time returns."""
        want = 1 if name == FORMAT else 0
        if name != FORMAT and name not in METHODS:
            self.fail(node, f"can't evaluate field {name} in type {type_name(value)}")
        count = len(nodes) + (final is not _NONE)
        if count != want:
            self.fail(node, f"wrong number of args for {name}: want {want} got {count}")
        given = [self._typed(dot, argument, "string") for argument in nodes]
        if final is not _NONE:
            given.append(self._checked(node, final, "string"))
        try:
            moment = moment_of(value)
            return go_format(moment, str(given[0])) if name == FORMAT else METHODS[name](moment)
        except (ValueError, OverflowError) as e:
            self.fail(node, f"error calling {name}: {e}")

    def _function(self, dot: object, node: ast.Name, command: ast.Command, final: object) -> object:
        name, nodes = node.name, command.args[1:]
        count = len(nodes) + (final is not _NONE)
        if name in SHORT_CIRCUIT:
            if not count:
                self.fail(node, f"wrong number of args for {name}: want at least 1 got 0")
            value: object = MISSING
            for argument in nodes:
                value = self._argument(dot, argument)
                if truth(value) == (name == "or"):
                    return value
            return value if final is _NONE else final
        if name == "call" and nodes:
            kind = type_name(self._argument(dot, nodes[0]))
            self.fail(command, f"error calling call: non-function {nodes[0]} of type {kind}")
        function = FUNCTIONS[name]
        want = len(function.types)
        if function.rest is None and count != want:
            self.fail(node, f"wrong number of args for {name}: want {want} got {count}")
        if count < want:
            self.fail(node, f"wrong number of args for {name}: want at least {want} got {count}")
        types = function.types + (function.rest or "",) * (count - want)
        values = [self._typed(dot, arg, kind) for arg, kind in zip(nodes, types, strict=False)]
        if final is not _NONE:
            values.append(self._checked(node, final, types[-1]))
        try:
            return function.call(*values)
        except ValueError as e:
            self.fail(command, f"error calling {name}: {e}")

    def _typed(self, dot: object, node: ast.Node, kind: str) -> object:
        if kind == "int" and isinstance(node, ast.Constant) and _is_whole(node.value):
            return int(node.value)
        if kind != "any" and isinstance(node, ast.Constant) and not accepts(kind, node.value):
            if kind == "[]string":
                self.fail(node, f"can't handle {node} for arg of type {kind}")
            self.fail(node, f"expected {_EXPECTED.get(kind, kind)}; found {node}")
        return self._checked(node, self._argument(dot, node), kind)

    def _checked(self, node: ast.Node, value: object, kind: str) -> object:
        if kind == "any":
            return None if value is MISSING else value
        if value is MISSING and kind == "[]string":
            return []
        if value is MISSING or isinstance(node, ast.Nil):
            nil = isinstance(node, ast.Nil)
            self.fail(node, f"cannot assign nil to {kind}" if nil else _invalid(kind))
        if not accepts(kind, value):
            self.fail(node, f"wrong type for value; expected {kind}; got {type_name(value)}")
        return value


_EXPECTED = {"int": "integer"}


def _is_whole(value: object) -> bool:
    """Whether a constant such as 1e3, which has no type yet, may be an int."""
    return isinstance(value, float) and value.is_integer()


def _invalid(kind: str) -> str:
    return f"invalid value; expected {kind}"


def _last_operand(node: ast.Chain) -> ast.Node:
    """What Go blames for a field that the value of parentheses does not have."""
    inner: ast.Node = node.inner
    while isinstance(inner, ast.Pipe):
        inner = inner.commands[-1].args[-1]
    return inner


def _unwrap(value: object) -> object:
    """A pipeline's interface holding nil is no value (unlike a pointer that is nil)."""
    return MISSING if value is None else value
