"""What may be asked of the operations on containers, beside config.json."""

from __future__ import annotations

from engine.runtime.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Warn = Callable[[str], object]
    Attend = Callable[[int], None]


class RuntimeOptions(Record):
    """What all operations share.

    `root` holds a directory per container. `cgroup_manager` is cgroupfs or disabled.
    `rootless` says whether limits that cannot be set here are left out; None decides by the
    caller's id and namespace. `environment` (NAME=VALUE) is that of hooks which have none of
    their own. `verbose`: notes are told like warnings.
    """

    root: str
    cgroup_manager: str = "cgroupfs"
    rootless: bool | None = None
    environment: tuple[str, ...] = ()
    verbose: bool = False


class CreateOptions(Record):
    """`create` and `run`.

    `console_socket` is the path of a unix socket that gets the terminal's master, `console_fd`
    an open one instead. `pid_file` gets the pid. `preserve_fds` descriptors from 3 on stay
    open in the container. `detach` lets `run` return once the program runs, `keep` leaves the
    container's state behind when it ends.
    """

    id: str
    bundle: str
    console_socket: str = ""
    console_fd: int = -1
    pid_file: str = ""
    preserve_fds: int = 0
    no_pivot: bool = False
    no_new_keyring: bool = False
    no_subreaper: bool = False
    detach: bool = False
    keep: bool = False


class ExecOptions(Record):
    """`exec`; `cgroup` is a path below the container's cgroup."""

    console_socket: str = ""
    console_fd: int = -1
    pid_file: str = ""
    preserve_fds: int = 0
    detach: bool = False
    cgroup: str = ""
    ignore_paused: bool = False
    no_new_keyring: bool = False
