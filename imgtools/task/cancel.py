"""Cancellation: a token that workers check between chunks, and callbacks that end a wait.

A token may have a parent; cancelling the parent cancels the child and never the other way,
so a pool can stop its own work without stopping its caller's.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from imgtools.errors import Cancelled


class CancelToken:
    """Set once, by anyone; `check` raises Cancelled from then on."""

    def __init__(self, parent: CancelToken | None = None) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], object]] = []
        self._parent = parent
        self._reason = "cancelled"

    @property
    def cancelled(self) -> bool:
        """Whether this token or its parent was cancelled."""
        return self._event.is_set() or (self._parent is not None and self._parent.cancelled)

    def cancel(self, reason: str = "cancelled") -> None:
        """Cancel; the callbacks that are registered now run in this thread, once."""
        with self._lock:
            if self._event.is_set():
                return
            self._reason = reason
            self._event.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def cancel_from_handler(self, reason: str = "cancelled") -> None:
        """Cancel, in a signal handler: in a thread of its own and without waiting for it,
        because what the handler interrupted may hold a lock that a callback needs."""
        try:
            _thread.start_new_thread(self.cancel, (reason,))
        except RuntimeError:
            # There can be no more threads; most likely no lock is held.
            self.cancel(reason)

    def check(self) -> None:
        """Raise Cancelled when the token is cancelled."""
        if self._event.is_set():
            raise Cancelled(self._reason)
        if self._parent is not None:
            self._parent.check()

    def wait(self, seconds: float) -> None:
        """Sleep, and raise Cancelled at once when cancelled meanwhile."""
        wake = threading.Event()
        with self.calls(wake.set):
            wake.wait(seconds)
        self.check()

    @contextmanager
    def calls(self, callback: Callable[[], object]) -> Iterator[None]:
        """While the block runs, cancelling also calls `callback` (to end a blocked read).

        The callback must be safe to call twice and from another thread, and must not raise.
        """
        chain: list[CancelToken] = []
        token: CancelToken | None = self
        while token is not None:
            chain.append(token)
            token = token._parent
        for token in chain:
            with token._lock:
                token._callbacks.append(callback)
        try:
            if self.cancelled:
                callback()
            yield
        finally:
            for token in chain:
                with token._lock:
                    if callback in token._callbacks:
                        token._callbacks.remove(callback)
