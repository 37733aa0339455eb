"""Which namespaces of a running container another program joins, and in which order."""

from __future__ import annotations

import fcntl
import os

from engine.runtime.container.namespaces import FLAGS, identities, namespace_paths
from engine.runtime.errors import WrongState, refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.container.state import State

_NS_GET_PARENT = 0xB702


def to_join(state: State) -> tuple[str, ...]:
    """The container's namespaces that are not ours. Raises WrongState, KernelRefused."""
    ours, theirs = identities("self"), dict(identities(state.pid))
    if not theirs:
        raise WrongState(f"container not running: {state.id}")
    if state.own_user:
        try:
            fd = _user_namespace(state)
        except OSError as e:
            raise refused(f"find the user namespace of container {state.id}", e) from e
        found = os.fstat(fd)
        os.close(fd)
        theirs["user"] = (found.st_dev, found.st_ino)
    return tuple(kind for kind in FLAGS if kind in theirs and ours.get(kind) != theirs[kind])


def open_all(state: State, kinds: tuple[str, ...], *, privileged: bool) -> list[tuple[str, int]]:
    """Descriptors of the namespaces in the order to join them: the user namespace first for who
    needs its rights for the others, last for who would lose those it has over others; the
    mount namespace after all that are found by path. Raises KernelRefused."""
    paths = namespace_paths(state.pid)
    ordered = [kind for kind in kinds if kind not in ("user", "mount")]
    ordered += [kind for kind in ("mount",) if kind in kinds]
    if "user" in kinds:
        ordered.insert(len(ordered) if privileged else 0, "user")
    opened = []
    for kind in ordered:
        try:
            if kind == "user":
                opened.append((kind, _user_namespace(state)))
            else:
                opened.append((kind, os.open(paths[kind], os.O_RDONLY | os.O_CLOEXEC)))
        except OSError as e:
            for _, fd in opened:
                os.close(fd)
            raise refused(f"open the {kind} namespace of container {state.id}", e) from e
    return opened


def _user_namespace(state: State) -> int:
    """The user namespace that the container's other ones belong to. Where its program has one
    of its own, it is the one around that. Raises OSError."""
    fd = os.open(namespace_paths(state.pid)["user"], os.O_RDONLY | os.O_CLOEXEC)
    if not state.own_user:
        return fd
    try:
        return fcntl.ioctl(fd, _NS_GET_PARENT)
    finally:
        os.close(fd)
