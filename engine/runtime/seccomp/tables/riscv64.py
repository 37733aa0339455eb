"""System call numbers of riscv64.

A number is that of the name after it; the names that follow count up from there.
"""

from engine.runtime.seccomp.tables.common import GENERIC

NUMBERS = f"""{GENERIC}
163 getrlimit setrlimit 258 riscv_hwprobe riscv_flush_icache 447 memfd_secret
"""
