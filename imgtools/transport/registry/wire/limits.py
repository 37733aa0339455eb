"""How much is asked of the network: a bucket that gives out time slots in the order of asking.

A bucket never sleeps; it says how long to wait, so that waits can be cancelled and tested.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from imgtools.blob.reader import CHUNK

_SMALLEST_PIECE = 4096
_PIECES_PER_SECOND = 4


class Bucket:
    """`rate` units per second, shared by any number of threads, first come first served."""

    def __init__(
        self, rate: float, burst: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`burst` is how many units of an idle time may be made up for at once."""
        self._rate = rate
        self._slack = burst / rate
        self._clock = clock
        self._lock = threading.Lock()
        self._free = clock() - self._slack

    def reserve(self, units: float = 1.0) -> float:
        """Take the next `units`, and say how many seconds to wait before using them.

        What is more than the rate allows is paid for by those that come later.
        """
        with self._lock:
            now = self._clock()
            start = max(self._free, now - self._slack)
            self._free = start + units / self._rate
            return max(0.0, start - now)

    @property
    def piece(self) -> int:
        """The units to move at a time for an even flow: a quarter of a second's worth, at
        most one chunk."""
        return max(_SMALLEST_PIECE, min(CHUNK, int(self._rate / _PIECES_PER_SECOND)))
