"""The system call numbers of each architecture, up to Linux 6.18 and a few beyond.

One module for each table, a single string in it: importing costs nothing that is not asked for.
What several tables share is in common.py.
The numbers are those of the kernel's own tables (arch/*/entry/syscalls, asm-generic/unistd.h).
"""

from __future__ import annotations

TABLES = (
    "x86_64",
    "i386",
    "x32",
    "aarch64",
    "arm",
    "riscv64",
    "ppc64le",
    "s390x",
    "s390",
    "loongarch64",
)


def numbers(table: str) -> dict[str, int]:
    """Name to number for one of TABLES."""
    if table not in TABLES:
        raise ValueError(f"no system call table {table}")
    module = __import__(f"{__name__}.{table}", fromlist=("NUMBERS",))
    found: dict[str, int] = {}
    number = 0
    for word in module.NUMBERS.split():
        if word.isdigit():
            number = int(word)
        else:
            found[word] = number
            number += 1
    return found
