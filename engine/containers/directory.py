"""The directory with a running container's own files, and the removal of those whose owner was
killed.

Whoever runs a container holds the lock of its directory. A directory whose lock can be had is
one that nobody will remove any more, with the container's state, snapshot and cgroup, if there
are any: they have the same name.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from engine.storage.store import Store
from imgtools.blob.files import storage_errors
from imgtools.errors import NotFound

OURS, CONTAINERS, RUNTIME, NETWORK = "imgtools", "containers", "runtime", "network"
FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def state_root(runroot: str) -> str:
    """Where the runtime keeps the state of containers."""
    return os.path.join(runroot, OURS, RUNTIME)


@contextmanager
def container_directory(
    runroot: str, container_id: str, later: Callable[[Callable[[], object]], bool] | None = None
) -> Iterator[str]:
    """A new directory for a container's own files, locked, gone afterwards: if `later` takes
    the job, soon. Raises StorageError."""
    path = os.path.join(runroot, OURS, CONTAINERS, container_id)
    with storage_errors(path):
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        fd = _made(path)
    try:
        yield path
    finally:
        if later is None or not later(lambda: _end(path, fd)):
            _end(path, fd)


def _end(path: str, fd: int) -> None:
    try:
        with storage_errors(path):
            _remove(path, fd)
    finally:
        os.close(fd)


def network_files(container: str) -> str:
    """A new directory in that of a container, for the files of its network; gone with it.
    Raises StorageError."""
    path = os.path.join(container, NETWORK)
    with storage_errors(path):
        os.mkdir(path, 0o700)
    return path


@contextmanager
def network_directory(runroot: str, name: str) -> Iterator[str]:
    """A directory for the files of a network that several containers share; as theirs."""
    with container_directory(runroot, name) as path:
        yield network_files(path)


def _made(path: str) -> int:
    """The new directory, locked. Before it is, somebody may take it for a dead one's."""
    while True:
        try:
            os.mkdir(path, 0o700)
            fd = os.open(path, FLAGS)
        except FileNotFoundError:
            continue
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return fd
        os.close(fd)


def _remove(path: str, fd: int) -> None:
    """Remove the directory with all that is in it: files, and a directory of files."""
    for name in os.listdir(fd):
        try:
            os.unlink(name, dir_fd=fd)
        except IsADirectoryError:
            inner = os.open(name, FLAGS, dir_fd=fd)
            try:
                for each in os.listdir(inner):
                    os.unlink(each, dir_fd=inner)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=fd)
    os.rmdir(path)


def sweep(store: Store, runroot: str) -> list[str]:
    """Remove what containers have left whose owner was killed; their ids.

    Nothing is waited for: what another process is about is passed over. Raises StorageError.
    """
    top = os.path.join(runroot, OURS, CONTAINERS)
    # In this order: a container has its directory before it has a state, and longer.
    ids = _names(state_root(runroot))
    ids += [name for name in _names(top) if name not in ids]
    return [name for name in ids if _swept(store, runroot, os.path.join(top, name), name)]


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def _swept(store: Store, runroot: str, path: str, container_id: str) -> bool:
    fd = -1
    with storage_errors(path):
        try:
            fd = os.open(path, FLAGS)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except FileNotFoundError:
            pass
    try:
        if not _ended(runroot, container_id):
            return False
        held = store.parts.uses.claim_dead(container_id)
        if held is not None:
            store.snapshots.remove(container_id)
            store.parts.uses.forget(container_id)
            held.retire()
        if fd >= 0:
            with storage_errors(path):
                _remove(path, fd)
        return True
    except NotFound:
        return False  # Somebody else was quicker.
    finally:
        if fd >= 0:
            os.close(fd)


def _ended(runroot: str, container_id: str) -> bool:
    """Kill what is left of a container and remove its state and cgroup; whether that worked."""
    from engine.runtime.container import removal
    from engine.runtime.container.options import RuntimeOptions
    from engine.runtime.errors import Failure

    runtime = RuntimeOptions(root=state_root(runroot))
    try:
        removal.delete(runtime, container_id, force=True, warn=_ignore)
    except Failure:
        # Processes that do not end yet; another time.
        return False
    return True


def _ignore(warning: str) -> None:
    """The container that it is about is nobody's any more."""
