"""What is kept about a container: a directory of its own below the runtime's root.

`state.jsonl` says all that another process needs to find and end it. What is about to be made
is written down before: a line of JSON is appended, which is complete or does not count, so
that whatever is killed at whatever moment, `delete` still finds what there is. (Replacing a
file would make ext4 write it to the disk.) A pid counts only with the start time that goes
with it.
"""

from __future__ import annotations

import errno
import fcntl
import os

from engine.runtime.errors import (
    ContainerExists,
    Damaged,
    InvalidConfig,
    NoSuchContainer,
    refused,
)
from engine.runtime.jsontext import encode, parse
from engine.runtime.kernel.files import write_all
from engine.runtime.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STATE, CONFIG, SOCKET = "state.jsonl", "config.json", "start.sock"
MAX_STATE = 16 << 20
ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
MAX_ID = 1024


class State(Record):
    """What the lines of state.jsonl hold together: a later one replaces values of earlier ones.

    `pid` and `started` are the init's, 0 before it exists; `creator` and `creator_started`
    those of the process that makes the container. `created` is seconds since the epoch.
    `cgroup` is the cgroups package's own document. `ready` is set once `create` is done.
    `own_user`: the program has a user namespace inside that of the container (nesting.py).
    """

    id: str
    bundle: str
    oci_version: str
    created: float
    annotations: tuple[tuple[str, str], ...] = ()
    pid: int = 0
    started: int = 0
    creator: int = 0
    creator_started: int = 0
    ready: bool = False
    owner: int = 0
    own_user: bool = False
    rootfs: str = ""
    cgroup: dict[str, Any] | None = None


_NUMBERS = ("pid", "started", "creator", "creator_started", "owner")
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(_NUMBERS, (int,)),
    "created": (int, float),
    "annotations": (dict,),
    "ready": (bool,),
    "own_user": (bool,),
    "cgroup": (dict, type(None)),
}


def check_id(container_id: str) -> str:
    """`container_id` if it can name a container; raises InvalidConfig.

    The grammar is runc's and crun's: letters, digits, `_+-.`, not beginning with a dot.
    """
    expected = "expected letters, digits and _ + - ."
    if not container_id or len(container_id) > MAX_ID or container_id.startswith("."):
        raise InvalidConfig(f"invalid container ID {container_id[:64]!r}: {expected}")
    for character in container_id:
        if character not in ID_CHARACTERS:
            raise InvalidConfig(
                f"invalid character {character!r} in the container ID {container_id!r}",
                hint=expected,
            )
    return container_id


class StateDir:
    """The directory of one container, held open."""

    def __init__(self, root: str, container_id: str, fd: int) -> None:
        self.id = container_id
        self.path = os.path.join(root, container_id)
        self.fd = fd
        self._locked = False

    @classmethod
    def make(cls, root: str, container_id: str) -> StateDir:
        """A new one; raises ContainerExists, InvalidConfig, KernelRefused."""
        check_id(container_id)
        path = os.path.join(root, container_id)
        try:
            os.makedirs(root, mode=0o700, exist_ok=True)
            os.mkdir(path, 0o700)
        except FileExistsError as e:
            raise ContainerExists(f"container with id {container_id} already exists") from e
        except OSError as e:
            raise refused(f"make {path}", e) from e
        try:
            return cls.find(root, container_id)
        except BaseException:
            os.rmdir(path)
            raise

    @classmethod
    def find(cls, root: str, container_id: str) -> StateDir:
        """That of an existing container; raises NoSuchContainer, InvalidConfig, Damaged if it
        is somebody else's."""
        path = os.path.join(root, check_id(container_id))
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(path, flags)
            owner = os.fstat(fd).st_uid
            if owner != os.geteuid():
                # What it says would be done with our rights: whom to kill, what to remove.
                os.close(fd)
                raise Damaged(f"{path} belongs to user {owner}, not {os.geteuid()}")
            return cls(root, container_id, fd)
        except OSError as e:
            if e.errno in (errno.ENOENT, errno.ENOTDIR):
                raise NoSuchContainer(f"container {container_id} does not exist") from e
            raise refused(f"open {path}", e) from e

    def __enter__(self) -> StateDir:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the directory; safe to call twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def lock(self) -> None:
        """Wait until no other operation changes this container; released by `close` and by the
        end of the process. Raises NoSuchContainer if it was deleted meanwhile."""
        fcntl.flock(self.fd, fcntl.LOCK_EX)
        self._locked = True
        if os.fstat(self.fd).st_nlink == 0:
            raise NoSuchContainer(f"container {self.id} does not exist")

    def unlock(self) -> None:
        """Let other operations go on, and keep the directory open."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        self._locked = False

    def is_changing(self) -> bool:
        """Whether another operation holds the lock."""
        if self._locked:
            return False
        try:
            fcntl.flock(self.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        return False

    def write(self, name: str, content: bytes) -> None:
        """Replace a file as a whole; raises KernelRefused."""
        temporary = f".{name}.{os.getpid()}"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(temporary, flags, 0o600, dir_fd=self.fd)
            try:
                write_all(fd, content)
            finally:
                os.close(fd)
            os.rename(temporary, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except OSError as e:
            raise refused(f"write {self.path}/{name}", e) from e

    def read(self, name: str) -> bytes:
        """A file's content; raises Damaged if it is missing or unreasonably large."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.fd)
        except OSError as e:
            text = f"container {self.id}: no {name}: {os.strerror(e.errno or 0)}"
            raise Damaged(text, errno=e.errno or 0) from e
        try:
            size = os.fstat(fd).st_size
            if size > MAX_STATE:
                raise Damaged(f"container {self.id}: {name} has {size} bytes")
            return os.read(fd, MAX_STATE)
        finally:
            os.close(fd)

    def save(self, state: State) -> None:
        """Write a new container's state."""
        document: dict[str, object] = {name: getattr(state, name) for name in State._fields}
        self.note({**document, "annotations": dict(state.annotations)})

    def note(self, values: dict[str, object]) -> None:
        """Add what is true from now on to the state; raises KernelRefused."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(STATE, flags, 0o600, dir_fd=self.fd)
            try:
                # Not synced: the state is of processes, which a crash of the machine ends.
                write_all(fd, encode(values).encode() + b"\n")
            finally:
                os.close(fd)
        except OSError as e:
            raise refused(f"write {self.path}/{STATE}", e) from e

    def load(self) -> State:
        """The state; one without a creator if none was written before the creation was killed.
        Raises Damaged."""
        try:
            content = self.read(STATE)
        except Damaged as e:
            if e.errno != errno.ENOENT:
                raise
            content = b""
        # What follows the last newline was being written when its writer was killed.
        lines = content.split(b"\n")[:-1]
        if not lines:
            return State(id=self.id, bundle="", oci_version="", created=0.0)
        document: dict[str, Any] = {}
        for line in lines:
            values = parse(line, f"{self.path}/{STATE}")
            if not isinstance(values, dict):
                raise Damaged(f"container {self.id}: {STATE} is not a state")
            document.update(values)
        if not State._required <= document.keys():
            raise Damaged(f"container {self.id}: {STATE} is not a state")
        known = {name: document[name] for name in State._fields if name in document}
        for name, value in known.items():
            if not isinstance(value, _TYPES.get(name, str)):
                raise Damaged(f"container {self.id}: {STATE}: {name} is {value!r}")
        annotations = known.get("annotations", {})
        known["annotations"] = tuple((k, str(v)) for k, v in annotations.items())
        return State(**known)

    def names(self) -> list[str]:
        """The files that are there."""
        return os.listdir(self.fd)

    def _listed(self) -> list[str]:
        try:
            return os.listdir(self.fd)
        except OSError as e:
            if e.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            # Listing takes a descriptor of its own.
            return [STATE, CONFIG, SOCKET]

    def remove(self) -> None:
        """Delete the directory with all files in it; what is gone already is no error."""
        try:
            for name in self._listed():
                try:
                    os.unlink(name, dir_fd=self.fd)
                except FileNotFoundError:
                    continue
            os.rmdir(self.path)
        except FileNotFoundError:
            return
        except OSError as e:
            raise refused(f"remove {self.path}", e) from e


def identifiers(root: str) -> list[str]:
    """The ids of all containers below `root`, sorted."""
    try:
        names = os.listdir(root)
    except OSError:
        return []
    return sorted(n for n in names if n[:1] != "." and os.path.isdir(os.path.join(root, n)))


def start_time(pid: int) -> int:
    """When a process began, in clock ticks since boot; 0 if there is none, or only a zombie."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        content = os.read(fd, 4096)
    except OSError:
        return 0
    finally:
        os.close(fd)
    # The command's name may hold anything, so fields are counted from its closing bracket.
    fields = content[content.rfind(b")") + 2 :].split()
    if len(fields) < 20 or fields[0] in (b"Z", b"X", b"x"):
        return 0
    return int(fields[19])


def is_alive(pid: int, started: int) -> bool:
    """Whether the very process that had `pid` when it began at `started` still runs."""
    return pid > 0 and start_time(pid) == started != 0
