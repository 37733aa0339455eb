"""The socket of the image proxy: packets in, packets with file descriptors out.

The socket is watched while requests are served, so that a client that dies ends whatever is
being done for it, at once.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from imgtools.errors import Cancelled, ConnectionFailed, Error, InvalidInput
from imgtools.imageproxy.handler import PATIENCE, Handler
from imgtools.imageproxy.images import Services
from imgtools.imageproxy.message import PACKET_LIMIT, Reply, Request, failure_packet
from imgtools.imageproxy.pipes import Alarm
from imgtools.task import CancelToken, Task

log = logging.getLogger(__name__)

_HOST = "the client of the proxy"


def adopt_socket(fd: int) -> socket.socket:
    """The socket that a parent process left open as `fd`; raises InvalidInput."""
    try:
        sock = socket.socket(fileno=fd)
    except (OSError, ValueError, OverflowError) as e:
        reason = (getattr(e, "strerror", None) or str(e)).lower()
        raise InvalidInput(
            f"file descriptor {fd} is not a socket: {reason}",
            hint="the program that starts the proxy passes one end of a socketpair(2)",
        ) from e
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_SEQPACKET:
        sock.detach()
        raise InvalidInput(f"file descriptor {fd} is not a Unix socket of type SOCK_SEQPACKET")
    sock.set_inheritable(False)
    sock.setblocking(True)
    return sock


def serve(
    sock: socket.socket, services: Services, *, task: Task, patience: float = PATIENCE
) -> None:
    """Serve the client at the other end of `sock` until it says Shutdown or goes away.

    `task` is the client's own: it is cancelled at the end. When somebody else cancels it,
    this ends with Cancelled. `patience` is how many seconds FinishPipe waits for
    a client that reads nothing. Raises ConnectionFailed when the socket fails.
    """
    left = threading.Event()
    with (
        _watching(sock, task.cancel, left),
        Handler(services, task=task, patience=patience) as handler,
    ):
        try:
            while packet := _receive(sock, task.cancel):
                if not _answer(sock, handler, packet):
                    return
            if not left.is_set():
                task.cancel.check()
        except Cancelled:
            if not left.is_set():
                raise
            log.debug("the client went away")


def _answer(sock: socket.socket, handler: Handler, packet: bytes) -> bool:
    """Serve one request; False when it was the last."""
    reply = Reply()
    try:
        request = Request.parse(packet)
        log.debug("method %.100s", request.method)
        if request.method == "Shutdown":
            return False
        reply = handler.handle(request)
        answer = reply.to_packet()
    except Cancelled:
        raise
    except Error as e:
        log.debug("failed: %s", e.message)
        _close(reply)
        reply, answer = Reply(), failure_packet(e)
    try:
        _send(sock, answer, reply.fds)
    finally:
        _close(reply)
    return True


def _close(reply: Reply) -> None:
    for fd in reply.fds:
        os.close(fd)


def _receive(sock: socket.socket, cancel: CancelToken) -> bytes:
    """The next packet, b"" at the end; one byte more than allowed stands for too much."""
    try:
        return sock.recv(PACKET_LIMIT + 1)
    except ConnectionResetError:
        return b""
    except OSError as e:
        cancel.check()
        raise ConnectionFailed(f"reading from {_HOST}: {e}", host=_HOST) from e


def _send(sock: socket.socket, packet: bytes, fds: tuple[int, ...]) -> None:
    try:
        if fds:
            socket.send_fds(sock, [packet], fds)
        else:
            sock.send(packet)
    except (BrokenPipeError, ConnectionResetError) as e:
        # The client is about to be missed, or whoever cancelled us has closed the socket.
        log.debug("nobody to answer to: %s", e)
    except OSError as e:
        raise ConnectionFailed(f"writing to {_HOST}: {e}", host=_HOST) from e


@contextmanager
def _watching(sock: socket.socket, cancel: CancelToken, left: threading.Event) -> Iterator[None]:
    """While the block runs, set `left` and cancel `cancel` when the other end of `sock` is
    closed, and let nobody wait for the socket once `cancel` is cancelled."""
    over = CancelToken()

    def watch() -> None:
        poll = select.poll()
        # Nothing is asked for; that the other end is closed is told in any case.
        poll.register(sock.fileno(), 0)
        poll.register(alarm.fd, select.POLLIN)
        for fd, _ in poll.poll():
            if fd != alarm.fd:
                left.set()
                cancel.cancel("the client went away")

    def hang_up() -> None:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError as e:
            log.debug("the socket was closed already: %s", e)

    with Alarm(over) as alarm:
        thread = threading.Thread(target=watch, name="image proxy watch", daemon=True)
        thread.start()
        try:
            with cancel.calls(hang_up):
                yield
        finally:
            over.cancel()
            thread.join()
