"""The registry and the proxy before it in a process of their own, so that what is measured in
the other one is the client alone."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from typing import Any, Self

from imgtools.testing.registry import ScriptedRegistry
from tests.fuzz.content import fill
from tests.fuzz.proxy import MutatingProxy


def _serve(pipe: Connection, seed: int) -> None:
    """Do what the other end of `pipe` asks for until it says nothing more."""
    auth: Any = "bearer" if seed % 2 else "none"
    with ScriptedRegistry(auth=auth) as registry, MutatingProxy(registry, seed) as proxy:
        pipe.send(proxy.host)
        while (share := pipe.recv()) is not None:
            if share < 0:
                registry.store.content.clear()
                registry.store.uploads.clear()
                registry.forget_requests()
                fill(registry)
            proxy.share = max(share, 0.0)
            pipe.send(proxy.changed)


class Server:
    """A handle on the other process; use it in a `with` block."""

    def __init__(self, seed: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, seed), daemon=True)
        self.changed = 0
        self.host = ""

    def __enter__(self) -> Self:
        self._process.start()
        self.host = self._pipe.recv()
        self.refill()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send(None)
        self._process.join()

    def refill(self) -> None:
        """Put back what commands may have deleted."""
        self._ask(-1.0)

    def share(self, share: float) -> None:
        """Change that share of the answers from now on."""
        self._ask(share)

    def _ask(self, share: float) -> None:
        self._pipe.send(share)
        self.changed = self._pipe.recv()
