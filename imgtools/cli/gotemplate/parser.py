"""Tokens of a template -> nodes, with the grammar and the messages of Go's text/template.

Undefined functions and variables are found here, before anything is executed.
"""

from __future__ import annotations

from collections.abc import Container

from imgtools.cli.gotemplate import ast
from imgtools.cli.gotemplate.lexer import Token, error_at, tokens
from imgtools.cli.gotemplate.literals import number, number_fault, quote, unquote
from imgtools.cli.gotemplate.values import TemplateError

MAX_DEPTH = 100


def parse(name: str, source: str, functions: Container[str]) -> ast.Template:
    """The template in `source`; `functions` are the names it may call.

    Raises TemplateError with Go's message, also for nesting deeper than MAX_DEPTH.
    """
    parser = _Parser(name, source, functions)
    template = ast.Template(name, source, [], parser.defined)
    template.body, ending = parser.body("")
    if ending != "eof":
        raise parser.error(f"unexpected {{{{{ending}}}}}")
    return template


class _Parser:
    def __init__(self, name: str, source: str, functions: Container[str]) -> None:
        self._name = name
        self._source = source
        self._functions = functions
        self._tokens: list[Token] = []
        self._lexical: TemplateError | None = None
        try:
            self._tokens.extend(tokens(name, source))
        except TemplateError as e:
            # Go reads lazily: what the parser objects to before this comes first.
            self._lexical = e
            self._tokens.append(Token("error", "", len(source)))
        self._at = 0
        self._variables = ["$"]
        self._loops = 0
        self._depth = 0
        self.defined: dict[str, list[ast.Node]] = {}

    def error(self, message: str) -> TemplateError:
        pos = self._tokens[max(self._at - 1, 0)].pos
        return error_at(self._name, self._source, pos, message)

    def _peek(self, offset: int = 0) -> Token:
        return self._tokens[min(self._at + offset, len(self._tokens) - 1)]

    def _next(self) -> Token:
        token = self._peek()
        if token.kind == "error" and self._lexical is not None:
            raise self._lexical
        self._at += 1
        return token

    def _skip_space(self) -> None:
        while self._peek().kind == "space":
            self._at += 1

    def _next_solid(self) -> Token:
        self._skip_space()
        return self._next()

    def _unexpected(self, token: Token, context: str) -> TemplateError:
        if token.kind == "eof":
            return self.error("unexpected EOF")
        bare = token.kind in ("keyword", "dot") or token.text == "nil"
        shown = f"<{token.text}>" if bare else quote(token.text.strip())
        return self.error(f"unexpected {shown} in {context}")

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self.error(f"nested deeper than {MAX_DEPTH} levels")

    # Blocks.

    def body(self, inside: str) -> tuple[list[ast.Node], str]:
        """Nodes up to the end, else or end of input that closes them, and which it was."""
        self._deeper()
        nodes: list[ast.Node] = []
        while (token := self._next()).kind != "eof":
            if token.kind == "text":
                nodes.append(ast.Text(token.pos, token.text))
                continue
            first = self._next_solid()
            if first.kind == "keyword" and first.text in ("end", "else"):
                if first.text == "end":
                    self._close("end")
                self._depth -= 1
                return nodes, first.text
            node = self._keyword(first) if first.kind == "keyword" else self._action(first)
            if node is not None:
                nodes.append(node)
        if inside:
            raise self.error("unexpected EOF")
        self._depth -= 1
        return nodes, "eof"

    def _action(self, first: Token) -> ast.Node:
        self._at -= 1
        return ast.Action(first.pos, self._pipeline("command", "right"))

    def _keyword(self, word: Token) -> ast.Node | None:
        match word.text:
            case "if" | "with" | "range":
                return self._branch(word)
            case "break" | "continue":
                if not self._loops:
                    raise self.error(f"{{{{{word.text}}}}} outside {{{{range}}}}")
                self._close(word.text)
                return ast.Jump(word.pos, word.text)
            case "template":
                return self._call(word)
            case "block":
                name = self._string("block clause")
                pipe = self._pipeline("block clause", "right")
                self._define(name)
                return ast.Call(word.pos, name, pipe)
            case "define":
                if self._depth > 1:
                    raise self._unexpected(word, "command")
                name = self._string("define clause")
                self._close("define clause")
                self._define(name)
                return None
            case _:
                raise self._unexpected(word, "command")

    def _branch(self, word: Token) -> ast.Branch:
        known = len(self._variables)
        pipe = self._pipeline(word.text, "right")
        self._loops += word.text == "range"
        body, ending = self.body(word.text)
        self._loops -= word.text == "range"
        branch = ast.Branch(word.pos, word.text, pipe, body)
        if ending == "else":
            self._skip_space()
            chained = self._peek()
            if chained.text == word.text and word.text in ("if", "with"):
                # {{else if}} is {{else}}{{if}} whose {{end}} closes both.
                self._next()
                self._deeper()
                branch.otherwise = [self._branch(chained)]
                self._depth -= 1
            else:
                self._close("else")
                branch.otherwise, ending = self.body(word.text)
                if ending != "end":
                    raise self.error(f"expected end; found {{{{{ending}}}}}")
        del self._variables[known:]
        return branch

    def _call(self, word: Token) -> ast.Call:
        self._skip_space()
        pos = self._peek().pos
        name = self._string("template clause")
        self._skip_space()
        if self._peek().kind == "right":
            self._next()
            return ast.Call(pos, name, None)
        return ast.Call(pos, name, self._pipeline("template clause", "right"))

    def _define(self, name: str) -> None:
        outer, self._variables = self._variables, ["$"]
        loops, self._loops = self._loops, 0
        body, ending = self.body("define")
        if ending != "end":
            raise self.error(f"unexpected {{{{{ending}}}}} in define clause")
        self._variables, self._loops = outer, loops
        self.defined[name] = body

    def _string(self, context: str) -> str:
        token = self._next_solid()
        if token.kind not in ("string", "raw"):
            raise self._unexpected(token, context)
        return str(self._literal(token).value)

    def _close(self, context: str) -> None:
        token = self._next_solid()
        if token.kind != "right":
            raise self._unexpected(token, context)

    # Pipelines.

    def _pipeline(self, context: str, end: str) -> ast.Pipe:
        self._skip_space()
        pipe = ast.Pipe(self._peek().pos, [], True, [])
        self._declarations(pipe, context)
        while True:
            token = self._next_solid()
            if token.kind == end:
                break
            if token.kind not in _OPERANDS:
                raise self._unexpected(token, context)
            self._at -= 1
            pipe.commands.append(self._command())
        if not pipe.commands:
            raise self.error(f"missing value for {context}")
        for stage, command in enumerate(pipe.commands[1:], 2):
            if isinstance(command.args[0], (ast.Constant, ast.Dot, ast.Nil)):
                raise self.error(f"non executable command in pipeline stage {stage}")
        return pipe

    def _declarations(self, pipe: ast.Pipe, context: str) -> None:
        """$x := or $x = and, in range only, $i, $x :="""
        start, found = self._at, list[Token]()
        while self._peek().kind == "variable":
            found.append(self._next())
            self._skip_space()
            token = self._next()
            if token.kind in ("declare", "assign"):
                pipe.declares = token.kind == "declare"
                break
            if token.kind != "comma" or context != "range" or len(found) > 1:
                if token.kind == "comma":
                    raise self.error(f"too many declarations in {context}")
                self._at = start
                return
            self._skip_space()
        else:
            if found and context == "range":
                raise self.error("range can only initialize variables")
            self._at = start
            return
        for token in found:
            if pipe.declares:
                self._variables.append(token.text)
            elif token.text not in self._variables:
                raise self.error(f'undefined variable "{token.text}"')
            pipe.variables.append(ast.Variable(token.pos, token.text, []))

    def _command(self) -> ast.Command:
        command = ast.Command(self._peek().pos, [])
        while True:
            self._skip_space()
            operand = self._operand()
            if operand is not None:
                command.args.append(operand)
            token = self._next()
            if token.kind == "space":
                continue
            if token.kind in ("right", "rparen"):
                self._at -= 1
            elif token.kind != "pipe":
                raise self._unexpected(token, "operand")
            break
        if not command.args:
            raise self.error("empty command")
        return command

    def _operand(self) -> ast.Node | None:
        node = self._term()
        if node is None or self._peek().kind != "field":
            return node
        names: list[str] = []
        pos = self._peek().pos
        while self._peek().kind == "field":
            names.append(self._next().text[1:])
        if isinstance(node, (ast.Field, ast.Variable)):
            node.names.extend(names)
            node.pos = pos
            return node
        if isinstance(node, (ast.Constant, ast.Dot, ast.Nil)):
            raise self.error(f"unexpected . after term {quote(str(node))}")
        return ast.Chain(node.pos, node, names)

    def _term(self) -> ast.Node | None:
        token = self._next()
        match token.kind:
            case "word" if token.text in ("true", "false"):
                return ast.Constant(token.pos, token.text == "true", token.text)
            case "word" if token.text == "nil":
                return ast.Nil(token.pos)
            case "word":
                if token.text not in self._functions:
                    raise self.error(f'function "{token.text}" not defined')
                return ast.Name(token.pos, token.text)
            case "dot":
                return ast.Dot(token.pos)
            case "field":
                return ast.Field(token.pos, [token.text[1:]])
            case "variable":
                if token.text not in self._variables:
                    raise self.error(f'undefined variable "{token.text}"')
                return ast.Variable(token.pos, token.text, [])
            case "lparen":
                self._deeper()
                pipe = self._pipeline("parenthesized pipeline", "rparen")
                self._depth -= 1
                return pipe
            case "string" | "raw" | "char" | "number":
                return self._literal(token)
        self._at -= 1
        return None

    def _literal(self, token: Token) -> ast.Constant:
        value: str | int | float | None
        if token.kind == "raw":
            value = token.text[1:-1].replace("\r", "")
        elif token.kind == "number":
            value = number(token.text)
            if value is None:
                raise self.error(number_fault(token.text))
        else:
            value = unquote(token.text[1:-1])
            if value is None or (token.kind == "char" and not value):
                raise self.error("invalid syntax")
            if token.kind == "char" and len(value) > 1:
                raise self.error(f"malformed character constant: {token.text}")
            if token.kind == "char":
                value = ord(value)
        return ast.Constant(token.pos, value, token.text)


_OPERANDS = frozenset(
    ("word", "dot", "field", "variable", "lparen", "string", "raw", "char", "number")
)
