"""What procfs tells of processes and of the machine: when a process began, which boot this is,
whether ids mean what they mean outside of user namespaces, which release the kernel is.
"""

from __future__ import annotations

from engine.runtime.kernel.files import read_if_there
from engine.runtime.record import Record

MAX_STAT = 4096
_WHOLE_RANGE = [b"0", b"0", b"4294967295"]


class ProcessStat(Record):
    """A process: its state (one letter), its parent, and when it began in clock ticks since
    boot."""

    state: bytes
    parent: int
    started: int

    @property
    def ended(self) -> bool:
        """Whether only its exit status is left."""
        return self.state in (b"Z", b"X", b"x")


def process_stat(pid: int, proc: str = "/proc") -> ProcessStat | None:
    """The process `pid` from PID/stat (proc_pid_stat(5)); None if there is none."""
    content = read_if_there(f"{proc}/{pid}/stat", MAX_STAT)
    # The name before the last parenthesis may hold anything.
    fields = content.rpartition(b")")[2].split()
    if len(fields) < 20:
        return None
    return ProcessStat(state=fields[0], parent=int(fields[1]), started=int(fields[19]))


def boot_id(proc: str = "/proc") -> str:
    """A name that no other boot has (random(4)); empty where it cannot be read."""
    return read_if_there(f"{proc}/sys/kernel/random/boot_id", 64).decode("ascii", "replace").strip()


def in_initial_user_namespace() -> bool:
    """Whether ids are mapped one to one, as they only are there (user_namespaces(7)); so they
    are taken to be without a /proc."""
    return read_if_there("/proc/self/uid_map", 4096).split() in (_WHOLE_RANGE, [])


def kernel_version(release: str) -> tuple[int, int]:
    """(6, 18) of uname's release "6.18.44-generic" or "6.18+"; what is no number is 0."""
    major, _, rest = release.partition(".")
    minor = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return int(major) if major.isdecimal() else 0, int(minor or 0)
