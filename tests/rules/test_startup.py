"""Keeps the start of the command line quick: what is slow to import is imported when it is used.

Times are not asserted; what a fresh interpreter has loaded afterwards is.
"""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "asyncio",
    "cheroot",
    "cryptography",
    "email",
    "http.client",
    "isal",
    "ssl",
    "unittest",
    "zstandard",
)


def loaded_after(statement: str) -> set[str]:
    """The heavy modules in a new interpreter after `statement`."""
    program = f"import sys\n{statement}\nprint(*sys.modules, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, encoding="utf-8"
    )
    return set(HEAVY) & set(done.stdout.split())


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    """Each of these costs more than the whole start may take."""
    assert loaded_after("import imgtools.cli.main") == set()


def test_check_sees_heavy_modules() -> None:
    """So that an empty result means something."""
    assert loaded_after("import ssl, zstandard") >= {"ssl", "zstandard"}
