"""A proxy before a test registry that changes some of its answers on the way."""

from __future__ import annotations

import re
import socket
import threading
from random import Random
from typing import Self

from imgtools.testing.registry import ScriptedRegistry
from tests.fuzz.mutate import Answer, mutate
from tests.rig.sockets import Connections

_LENGTH = re.compile(rb"(?im)^content-length: *(\d+)")


class MutatingProxy:
    """Forwards to a registry; while `share` > 0 that share of the answers is changed."""

    def __init__(self, registry: ScriptedRegistry, seed: int) -> None:
        self._registry = registry
        self._random = Random(seed)
        self._lock = threading.Lock()
        self.share = 0.0
        self.changed = 0

    def __enter__(self) -> Self:
        self._connections = Connections()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._connections.close()
        self._accepting.join()

    def _accept(self) -> None:
        threads: list[threading.Thread] = []
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                break
            self._connections.add(sock)
            threads = [thread for thread in threads if thread.is_alive()]
            threads.append(threading.Thread(target=self._serve, args=(sock,)))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def _serve(self, sock: socket.socket) -> None:
        try:
            with sock, sock.makefile("rb") as reader:
                sock.settimeout(30)
                # A TLS greeting is none of ours.
                while sock.recv(1, socket.MSG_PEEK) not in (b"", b"\x16") and self._one(
                    sock, reader
                ):
                    continue
        except OSError:
            return
        finally:
            self._connections.discard(sock)

    def _one(self, sock: socket.socket, reader: object) -> bool:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = reader.readline()  # type: ignore[attr-defined]
            if not line:
                return False
            head += line
        found = _LENGTH.search(head)
        body = reader.read(int(found[1])) if found else b""  # type: ignore[attr-defined]
        answer = self._forward(head, body)
        with self._lock:
            change = self._random.random() < self.share
            self.changed += change
            sent = mutate(answer, self._random) if change else answer.encode()
        if head.startswith(b"HEAD "):
            sent = sent[: sent.find(b"\r\n\r\n") + 4] if b"\r\n\r\n" in sent else sent
        sock.sendall(sent)
        # After a change nobody knows where the answer ends: the end of the connection says so.
        return not change

    def _forward(self, head: bytes, body: bytes) -> Answer:
        ours, theirs = self.host.encode(), self._registry.host.encode()
        first, *fields = head.split(b"\r\n")
        kept = [line for line in fields if not line.lower().startswith(b"connection:")]
        head = b"\r\n".join((first, b"Connection: close", *kept))
        with socket.create_connection(("127.0.0.1", self._registry.port), 30) as upstream:
            upstream.sendall(head + body)
            received = b""
            while data := upstream.recv(1 << 20):
                received += data
        top, _, content = received.partition(b"\r\n\r\n")
        lines = top.replace(theirs, ours).split(b"\r\n")
        told = tuple(line for line in lines[1:] if not line.lower().startswith(b"connection:"))
        return Answer(lines[0], told, content)
