"""Shows each rule a source that breaks it, and one that comes close without breaking it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.rules import checks
from tests.rules.sources import Source

Check = Callable[[Source], Iterator[str]]

BROKEN: list[tuple[Check, str]] = [
    (checks.process_state, "import os\nos.environ['A']"),
    (checks.process_state, "import os\ndef f():\n    return os.getenv('A')"),
    (checks.process_state, "from os import environ"),
    (checks.process_state, "import sys\nargs = sys.argv[1:]"),
    (checks.process_state, "print('hello')"),
    (checks.process_state, "name = input()"),
    (checks.module_state, "cache = {}"),
    (checks.module_state, "known: list[str] = ['a']"),
    (checks.module_state, "import collections\nseen = collections.defaultdict(list)"),
    (checks.module_state, "if True:\n    seen = set()"),
    (checks.module_state, "CACHE = {}"),
    (checks.module_state, "TABLE = {'a': 1}\ndef f():\n    TABLE['b'] = 2"),
    (checks.module_state, "TABLE = ['a']\ndef f():\n    TABLE.append('b')"),
    (checks.module_state, "TABLE = {'a': 1}\ndef f():\n    del TABLE['a']"),
    (checks.module_state, "count = 0\ndef f():\n    global count\n    count += 1"),
    (checks.module_state, "import functools\n@functools.lru_cache(None)\ndef f(): ..."),
    (checks.module_state, "from functools import cache\n@cache\ndef f(): ..."),
    (checks.swallowed_errors, "try:\n    f()\nexcept:\n    raise"),
    (checks.swallowed_errors, "try:\n    f()\nexcept Exception:\n    pass"),
    (checks.swallowed_errors, "try:\n    f()\nexcept (OSError, BaseException):\n    ..."),
    (
        checks.swallowed_errors,
        "while f():\n    try:\n        f()\n    except Exception:\n        continue",
    ),
    (checks.docstring, "import os"),
    (checks.docstring, ""),
    (checks.foreign_imports, "import engine.storage"),
    (checks.foreign_imports, "def f():\n    from engine import storage"),
    (checks.foreign_imports, "from imgtools.testing import registry"),
    (checks.foreign_imports, "from ..testing.registry import Registry"),
    (checks.foreign_imports, "from .. import testing"),
    (checks.foreign_imports, "from imgtools import testing"),
    (checks.foreign_imports, "import tests.rig"),
]

SOUND: list[tuple[Check, str]] = [
    (checks.process_state, "import os\nos.path.join('a')\nself.print(environ)"),
    (checks.module_state, "__all__ = ['a']\nTABLE = {'a': 1}\nlog = getLogger()\nPAIRS = (1, 2)"),
    (checks.module_state, "class A:\n    def f(self):\n        table = {}\n        table['a'] = 1"),
    (checks.module_state, "TABLE = {'a': 1}\ndef f():\n    return TABLE['a'], TABLE.get('b')"),
    (checks.swallowed_errors, "try:\n    f()\nexcept OSError:\n    pass"),
    (checks.swallowed_errors, "try:\n    f()\nexcept Exception:\n    log.warning('f')"),
    (checks.docstring, '"""Says what it is about."""'),
    (
        checks.foreign_imports,
        "import enginery\nfrom imgtools import copy\nfrom . import engine",
    ),
]


@pytest.mark.parametrize(("check", "text"), BROKEN)
def test_rule_finds_what_breaks_it(check: Check, text: str) -> None:
    """One offence, with the place it is at."""
    offences = list(check(Source.of("imgtools/copy/example.py", text)))
    assert len(offences) == 1
    assert offences[0].startswith("imgtools/copy/example.py:")


@pytest.mark.parametrize(("check", "text"), SOUND)
def test_rule_lets_the_rest_pass(check: Check, text: str) -> None:
    """No offence."""
    assert list(check(Source.of("imgtools/copy/example.py", text))) == []


def test_command_line_may_import_the_engine_and_the_runtime_nothing_of_imgtools() -> None:
    """The same import is fine in one place and not in another."""
    joined = Source.of("imgtools/cli/build.py", "from engine import executor")
    assert list(checks.foreign_imports(joined)) == []
    tied = Source.of("engine/runtime/spec.py", "from imgtools.spec import digest")
    assert len(list(checks.foreign_imports(tied))) == 1


def test_lengths_are_measured_per_file_and_per_function() -> None:
    """Methods and nested functions have qualified names; the limit itself is not too long."""
    body = "        pass\n"
    text = f"class A:\n    def fits(self):\n{body * 59}    def big(self):\n{body * 60}"
    assert list(checks.lengths(Source.of("a.py", text))) == [("a.py:A.big", 61, 60)]
    assert list(checks.lengths(Source.of("a.py", "x = 1\n" * 400))) == []
    assert list(checks.lengths(Source.of("a.py", "x = 1\n" * 401))) == [("a.py", 401, 400)]
