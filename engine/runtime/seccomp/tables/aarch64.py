"""System call numbers of aarch64.

A number is that of the name after it; the names that follow count up from there.
"""

from engine.runtime.seccomp.tables.common import GENERIC

NUMBERS = f"""{GENERIC}
38 renameat 163 getrlimit setrlimit 447 memfd_secret
"""
