"""The rules that neither ruff nor mypy has, each a pure function from a source to its offences.

An offence is one line of text that begins with PATH:LINE. test_checks.py proves each rule on
sources that break it; test_sources.py applies them to the project.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.rules.sources import Source

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

Function = ast.FunctionDef | ast.AsyncFunctionDef

# What only a command line may touch: dotted name -> what to do instead.
PROCESS_STATE = {
    "os.environ": "take an option",
    "os.environb": "take an option",
    "os.getenv": "take an option",
    "os.getenvb": "take an option",
    "sys.argv": "take an option",
    "print": "emit an event or log",
    "input": "take an option",
}

MUTABLE_TYPES = frozenset(
    (
        "bytearray",
        "dict",
        "list",
        "set",
        "ChainMap",
        "Counter",
        "OrderedDict",
        "WeakKeyDictionary",
        "WeakSet",
        "WeakValueDictionary",
        "defaultdict",
        "deque",
    )
)
MUTABLE_LITERALS = (ast.Dict, ast.DictComp, ast.List, ast.ListComp, ast.Set, ast.SetComp)
MUTATORS = frozenset(
    (
        "add",
        "append",
        "appendleft",
        "clear",
        "discard",
        "extend",
        "insert",
        "pop",
        "popitem",
        "remove",
        "reverse",
        "setdefault",
        "sort",
        "update",
    )
)
PROCESS_CACHES = frozenset(("cache", "lru_cache"))


def offence(source: Source, node: ast.AST, text: str) -> str:
    """One line about `node`."""
    return f"{source.path}:{getattr(node, 'lineno', 1)}: {text}"


def dotted(node: ast.AST) -> str:
    """`a.b.c` as written, empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := dotted(node.value)):
        return f"{base}.{node.attr}"
    return ""


def process_state(source: Source) -> Iterator[str]:
    """The environment, the arguments and the terminal belong to the command line."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (name := f"{node.module}.{alias.name}") in PROCESS_STATE:
                    yield offence(source, node, f"{name}: {PROCESS_STATE[name]}")
        elif isinstance(node, ast.Attribute) and dotted(node) in PROCESS_STATE:
            name = dotted(node)
            yield offence(source, node, f"{name}: {PROCESS_STATE[name]}")
        elif isinstance(node, ast.Call) and dotted(node.func) in ("print", "input"):
            name = dotted(node.func)
            yield offence(source, node, f"{name}(): {PROCESS_STATE[name]}")


def module_state(source: Source) -> Iterator[str]:
    """A module holds constants; what changes lives in an object that somebody made."""
    constants = set()
    for statement in executed_at_import(source.tree.body):
        for target, value in assignments(statement):
            if not is_mutable(value) or target == "__all__":
                continue
            constants.add(target)
            if target != target.upper():
                yield offence(source, statement, f"{target}: mutable module state")
            elif is_empty(value):
                yield offence(source, statement, f"{target}: empty, so it is there to be filled")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Global):
            yield offence(source, node, f"global {', '.join(node.names)}: module state")
        elif isinstance(node, Function):
            for decorator in node.decorator_list:
                called = decorator.func if isinstance(decorator, ast.Call) else decorator
                if dotted(called).rpartition(".")[2] in PROCESS_CACHES:
                    yield offence(source, node, f"{node.name}: cached for the whole process")
        elif (name := changed_name(node)) in constants:
            yield offence(source, node, f"{name}: a module's constant is changed")


def executed_at_import(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, those under `if`, `try` and `with` included."""
    for statement in statements:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With | ast.For | ast.While):
            for field in ("body", "orelse", "finalbody"):
                yield from executed_at_import(getattr(statement, field, []))
            for handler in getattr(statement, "handlers", []):
                yield from executed_at_import(handler.body)


def assignments(statement: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """The names a statement gives a value, with the value."""
    if isinstance(statement, ast.Assign):
        for target in statement.targets:
            if isinstance(target, ast.Name):
                yield target.id, statement.value
    elif (
        isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and statement.value is not None
    ):
        yield statement.target.id, statement.value


def is_mutable(value: ast.expr) -> bool:
    """Whether an expression makes a container that can change."""
    if isinstance(value, ast.Call):
        return dotted(value.func).rpartition(".")[2] in MUTABLE_TYPES
    return isinstance(value, MUTABLE_LITERALS)


def is_empty(value: ast.expr) -> bool:
    """Whether that container begins empty."""
    if isinstance(value, ast.Call):
        return not value.args and not value.keywords
    if isinstance(value, ast.Dict):
        return not value.keys
    return isinstance(value, ast.List | ast.Set) and not value.elts


def changed_name(node: ast.AST) -> str:
    """The name whose content a node changes: NAME[i] = x, del NAME[i], NAME.append(x)."""
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        return dotted(node.value)
    if isinstance(node, ast.AugAssign):
        return dotted(node.target)
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in MUTATORS
    ):
        return dotted(node.func.value)
    return ""


def swallowed_errors(source: Source) -> Iterator[str]:
    """No bare except, and no catch-all that does nothing."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        if node.type is None:
            yield offence(source, node, "bare except")
            continue
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        broad = any(dotted(name) in ("Exception", "BaseException") for name in caught)
        idle = all(
            isinstance(statement, ast.Pass | ast.Continue)
            or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
            for statement in node.body
        )
        if broad and idle:
            yield offence(source, node, "catches everything and says nothing")


def docstring(source: Source) -> Iterator[str]:
    """A file opens with its subject."""
    if not ast.get_docstring(source.tree):
        yield offence(source, source.tree, "no module docstring")


def imports(source: Source) -> Iterator[tuple[ast.stmt, list[str]]]:
    """Each import with what it may load: `from a import b` loads a, and a.b if that is a module."""
    package = source.module.split(".")
    if not source.path.endswith("/__init__.py"):
        package = package[:-1]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield node, [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield node, [base, *(f"{base}.{alias.name}" for alias in node.names)]


def foreign_imports(source: Source) -> Iterator[str]:
    """Who may not know whom; the order of the layers is import-linter's to check."""
    for node, names in imports(source):
        reasons = [reason for name in names if (reason := why_foreign(source.module, name))]
        if reasons:
            yield offence(source, node, reasons[0])


def why_foreign(module: str, imported: str) -> str:
    """Why `module` may not import that, empty if it may."""
    top = imported.split(".")[0]
    within = f"{module}.".startswith
    if top == "engine" and within("imgtools.") and not within("imgtools.cli."):
        return "only imgtools.cli imports engine"
    if top == "imgtools" and within("engine.runtime."):
        return "engine.runtime stands alone"
    if top in ("tests", "testdata", "bench", "interop"):
        return f"{top} is not part of the product"
    if f"{imported}.".startswith("imgtools.testing.") and not within("imgtools.testing."):
        return "imgtools.testing is for tests"
    return ""


def lengths(source: Source) -> Iterator[tuple[str, int, int]]:
    """What is too long: its name (PATH or PATH:FUNCTION), its lines, the limit."""
    lines = len(source.text.splitlines())
    if lines > MAX_FILE_LINES:
        yield source.path, lines, MAX_FILE_LINES
    yield from function_lengths(source.tree, source.path + ":")


def function_lengths(parent: ast.AST, prefix: str) -> Iterator[tuple[str, int, int]]:
    """The too long functions below a node; names are qualified by class and function."""
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, Function | ast.ClassDef):
            name = prefix + node.name
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if isinstance(node, Function) and lines > MAX_FUNCTION_LINES:
                yield name, lines, MAX_FUNCTION_LINES
            yield from function_lengths(node, name + ".")
        else:
            yield from function_lengths(node, prefix)
