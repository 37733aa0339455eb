"""A process that stays where its parent was before that entered a user namespace, and writes
what its user named there.

Root of a pod that may not map itself becomes somebody else inside, for whom its own directories
are a stranger's. The child opens temporary files, hands their descriptors over, and gives them
their names; trees it unpacks itself. It ends with its parent, and takes unfinished files along.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from imgtools.blob.files import write_all
from imgtools.blob.placing import Here
from imgtools.errors import Cancelled, Error, NotFound, StorageError

LIMIT = 1 << 16
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)


class Outside:
    """The client; see Placing. To be closed."""

    near = False

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self._socket, self._pid = connection, pid
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the process; safe to call twice."""
        with self._lock:
            if self._socket.fileno() < 0:
                return
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            os.waitpid(self._pid, 0)

    @contextmanager
    def replacing(self, path: str) -> Iterator[BinaryIO]:
        """See Placing."""
        answer, fd = self._ask({"do": "replace", "path": path})
        ended = "drop"
        try:
            with os.fdopen(fd, "wb", buffering=0) as file:
                yield file
            ended = "finish"
        finally:
            self._ask({"do": ended, "key": answer["key"]})

    def opened(self, path: str) -> BinaryIO:
        """See Placing."""
        return os.fdopen(self._ask({"do": "open", "path": path})[1], "wb")

    def unpack(self, archive: Iterable[bytes], directory: str) -> int:
        """See Placing; also raises what reading the archive does."""
        with self._lock:
            reading, writing = os.pipe2(os.O_CLOEXEC)
            try:
                self._send({"do": "unpack", "path": directory}, reading)
            except BaseException:
                os.close(writing)
                raise
            finally:
                os.close(reading)
            try:
                # Where the other side stops reading, its answer says why.
                with (
                    os.fdopen(writing, "wb", buffering=0) as pipe,
                    contextlib.suppress(BrokenPipeError),
                ):
                    for chunk in archive:
                        write_all(pipe, chunk)
            except BaseException:
                with contextlib.suppress(StorageError):
                    self._answer()
                raise
            return int(self._answer()[0]["left_out"])

    def _ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], int]:
        with self._lock:
            self._send(request)
            return self._answer()

    def _send(self, request: dict[str, Any], *fds: int) -> None:
        try:
            socket.send_fds(self._socket, [json.dumps(request).encode()], fds)
        except OSError as e:
            raise _gone() from e

    def _answer(self) -> tuple[dict[str, Any], int]:
        data, fds, _, _ = socket.recv_fds(self._socket, LIMIT, 1)
        if not data:
            raise _gone()
        answer: dict[str, Any] = json.loads(data)
        if "error" in answer:
            message, hint = answer["error"], answer["hint"]
            if answer["missing"]:
                raise NotFound(message, hint=hint)
            raise StorageError(message, path=answer["path"], hint=hint)
        return answer, fds[0] if fds else -1


def _gone() -> StorageError:
    return StorageError("the process that writes files outside the user namespace is gone", path="")


def start_outside() -> Outside:
    """Fork the process; before threads are started and before the namespace is entered."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            for number in _IGNORED:
                signal.signal(number, signal.SIG_IGN)
            ours.close()
            _Server(theirs).serve()
            code = 0
        finally:
            os._exit(code)
    theirs.close()
    return Outside(ours, pid)


class _Server:
    """The child. Files that have no name yet are kept by numbers."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._here = Here()
        self._open: dict[int, contextlib.AbstractContextManager[BinaryIO]] = {}
        self._next = 0

    def serve(self) -> None:
        """Until the parent is gone."""
        while True:
            data, fds, _, _ = socket.recv_fds(self._socket, LIMIT, 1)
            if not data:
                break
            request = json.loads(data)
            try:
                answer, file = self._do(request, fds)
            except Error as e:
                answer, file = _refusal(e, str(request.get("path", ""))), None
            given = () if file is None else (file.fileno(),)
            try:
                socket.send_fds(self._socket, [json.dumps(answer).encode()], given)
            except OSError:
                break
            if file is not None and "key" not in answer:
                file.close()
        for number in list(self._open):
            self._end(number, Cancelled("the build ended"))

    def _do(
        self, request: dict[str, Any], fds: list[int]
    ) -> tuple[dict[str, Any], BinaryIO | None]:
        match request["do"]:
            case "replace":
                self._next += 1
                opening = self._here.replacing(request["path"])
                file = opening.__enter__()
                self._open[self._next] = opening
                return {"key": self._next}, file
            case "open":
                return {}, self._here.opened(request["path"])
            case "unpack":
                with os.fdopen(fds[0], "rb", buffering=0) as pipe:
                    chunks = iter(lambda: pipe.read(LIMIT), b"")
                    return {"left_out": self._here.unpack(chunks, request["path"])}, None
            case "finish":
                self._end(request["key"], None)
            case _:
                self._end(request["key"], Cancelled("the build ended"))
        return {}, None

    def _end(self, number: int, error: Error | None) -> None:
        opening = self._open.pop(number)
        if error is None:
            opening.__exit__(None, None, None)
            return
        with contextlib.suppress(Cancelled):
            opening.__exit__(type(error), error, None)


def _refusal(error: Error, path: str) -> dict[str, Any]:
    return {
        "error": error.message[:4000],
        "hint": error.hint,
        "missing": isinstance(error, NotFound),
        "path": path,
    }
