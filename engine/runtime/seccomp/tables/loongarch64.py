"""System call numbers of loongarch64.

A number is that of the name after it; the names that follow count up from there.
"""

from engine.runtime.seccomp.tables.common import GENERIC

NUMBERS = GENERIC
