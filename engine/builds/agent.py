"""An SSH agent for a step: a socket of its own, behind which only keys are listed and things
are signed (draft-miller-ssh-agent, protocol messages). To add, remove or lock keys is refused.

It lives in one thread, which copies whole messages between the container and the real agent.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading

MAX_MESSAGE = 256 << 10
"""Bytes of a message, as OpenSSH's agent has it."""
LENGTH = struct.Struct(">I")
REQUEST_IDENTITIES, SIGN_REQUEST = 11, 13
ADMITTED = (REQUEST_IDENTITIES, SIGN_REQUEST)
FAILURE = LENGTH.pack(1) + b"\x05"
MAX_CONNECTIONS = 64
SECONDS = 60.0
"""How long the real agent may think: it may ask a person."""


class AgentProxy:
    """Serves `listening`, which it closes, from the agent at the path `agent`."""

    def __init__(self, listening: socket.socket, agent: str) -> None:
        self._listening = listening
        self._agent = agent
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._clients: dict[int, _Client] = {}
        self._thread = threading.Thread(target=self._serve, name="ssh-agent", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End all connections; once."""
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        os.close(self._stop)

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._stop, select.POLLIN)
        poll.register(self._listening, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if self._stop in ready:
                break
            for fd in ready:
                client = self._clients.get(fd)
                if client is None:
                    self._accept(poll)
                elif not client.step(self._agent):
                    poll.unregister(fd)
                    self._clients.pop(fd).close()
        for client in self._clients.values():
            client.close()
        self._listening.close()

    def _accept(self, poll: select.poll) -> None:
        try:
            connection, _ = self._listening.accept()
        except OSError:
            return
        if len(self._clients) >= MAX_CONNECTIONS:
            connection.close()
            return
        connection.setblocking(False)
        self._clients[connection.fileno()] = _Client(connection)
        poll.register(connection, select.POLLIN)


class _Client:
    """One connection of the container, with one of its own to the agent."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = bytearray()
        self._agent: socket.socket | None = None

    def step(self, agent: str) -> bool:
        """Take in what there is and answer whole messages; False when it is over."""
        try:
            data = self._connection.recv(1 << 16)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        self._received += data
        try:
            return self._answer(agent)
        except OSError:
            return False

    def _answer(self, agent: str) -> bool:
        received = self._received
        while len(received) >= LENGTH.size:
            (size,) = LENGTH.unpack_from(received)
            if not 0 < size <= MAX_MESSAGE:
                return False
            if len(received) < LENGTH.size + size:
                return True
            message = bytes(received[: LENGTH.size + size])
            del received[: LENGTH.size + size]
            admitted = message[LENGTH.size] in ADMITTED
            answer = self._asked(agent, message) if admitted else FAILURE
            self._connection.settimeout(SECONDS)
            self._connection.sendall(answer)
            self._connection.setblocking(False)
        return True

    def _asked(self, agent: str, message: bytes) -> bytes:
        """The agent's answer, whole."""
        if self._agent is None:
            self._agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._agent.settimeout(SECONDS)
            self._agent.connect(agent)
        self._agent.sendall(message)
        head = _exactly(self._agent, LENGTH.size)
        (size,) = LENGTH.unpack(head)
        if not 0 < size <= MAX_MESSAGE:
            raise OSError("the answer of the agent is too long")
        return head + _exactly(self._agent, size)

    def close(self) -> None:
        """Close both ends."""
        self._connection.close()
        if self._agent is not None:
            self._agent.close()


def _exactly(source: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        data = source.recv(size - len(found))
        if not data:
            raise OSError("the agent has closed the connection")
        found += data
    return bytes(found)
