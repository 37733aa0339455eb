"""Run as a program: puts a filter on itself and reports what system calls answer.

The profile is the Python expression argv[1]; argv[2] are calls as Python, of which each result
is an errno or 0. Prints them as JSON. It is its own process because a filter stays for good.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import platform
import sys

from engine.runtime.seccomp.compiler import compile_profile
from engine.runtime.seccomp.default_profile import default_profile
from engine.runtime.seccomp.load import Loader
from engine.runtime.seccomp.tables import numbers
from engine.runtime.spec.model import Seccomp, SeccompArg, SeccompSyscall

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
# push rbx; eax, ebx = edi, esi; ecx, edx = edx, ecx; int 0x80; pop rbx; ret
INT_80 = bytes.fromhex("53 89f8 89f3 4189c8 89d1 4489c2 cd80 5b c3")
MAP_32BIT = 0x40


def call(name: str, *args: int, table: str = "", offset: int = 0) -> int:
    """The errno of a native system call, 0 where it succeeds."""
    native = {"x86_64": "x86_64", "aarch64": "aarch64"}[platform.machine()]
    number = numbers(table or native)[name] + offset
    result = LIBC.syscall(*(ctypes.c_long(one) for one in (number, *args, *(0,) * (6 - len(args)))))
    return ctypes.get_errno() if result < 0 else 0


class Int80:
    """System calls as a 32-bit program makes them."""

    def __init__(self) -> None:
        self._code = mmap.mmap(
            -1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        )
        self._code.write(INT_80)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._code))
        words = ctypes.c_uint32
        self._call = ctypes.CFUNCTYPE(ctypes.c_int32, words, words, words, words)(address)
        # Below 4 GiB, where the pointers of a 32-bit program reach.
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_32BIT
        self._low = mmap.mmap(-1, mmap.PAGESIZE, flags=flags)

    def __call__(self, name: str, *args: int) -> int:
        """The errno of a call by int 0x80, 0 where it succeeds."""
        result = self._call(numbers("i386")[name], *args, *(0,) * (3 - len(args)))
        return -result if result < 0 else 0

    def socketcall(self, code: int, *args: int) -> int:
        """socketcall(2), its arguments in memory."""
        memory = (ctypes.c_uint32 * 6).from_buffer(self._low)
        memory[: len(args)] = list(args)
        return self("socketcall", code, ctypes.addressof(memory))


def also(profile: Seccomp) -> int:
    """Load one more filter; 0."""
    Loader(compile_profile(profile, platform.machine())).load()
    return 0


def main() -> None:
    """Load and report."""
    names = {
        "ALLOW": "SCMP_ACT_ALLOW",
        "ERRNO": "SCMP_ACT_ERRNO",
        "Arg": SeccompArg,
        "Rule": SeccompSyscall,
        "Seccomp": Seccomp,
        "also": also,
        "call": call,
        "default_profile": default_profile,
        "errno": errno,
        "machine": platform.machine(),
        "os": os,
    }
    if platform.machine() == "x86_64":
        names["int80"] = Int80()
    profile = eval(sys.argv[1], names)
    loader = Loader(compile_profile(profile, platform.machine()))
    if len(sys.argv) < 4:
        LIBC.prctl(38, 1, 0, 0, 0)
    try:
        listener = loader.load()
    except Exception as e:  # noqa: BLE001 - whatever it is, the test wants to see it
        results: list[object] = [type(e).__name__, str(e)]
    else:
        results = [listener is not None, *eval(f"[{sys.argv[2]}]", names)]
    os.write(1, json.dumps(results).encode())


if __name__ == "__main__":
    main()
