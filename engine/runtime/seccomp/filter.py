"""What a compiled filter is: the only thing of this package that the container's init needs."""

from __future__ import annotations

from engine.runtime.record import Record

FLAG_TSYNC, FLAG_LOG, FLAG_SPEC_ALLOW = 0x01, 0x02, 0x04
FLAG_NEW_LISTENER, FLAG_TSYNC_ESRCH, FLAG_WAIT_KILLABLE_RECV = 0x08, 0x10, 0x20
MAX_INSTRUCTIONS = 4096
INSTRUCTION_SIZE = 8


class Filter(Record):
    """A program of struct sock_filter in the byte order of the machine it is for.

    `flags` are those of seccomp(2); with FLAG_NEW_LISTENER loading yields a descriptor.
    `optional_flags` are set where the kernel knows them. `unknown_names` are the system calls
    of the profile that no table has: they were ignored.
    """

    program: bytes
    flags: int = 0
    optional_flags: int = 0
    unknown_names: tuple[str, ...] = ()
