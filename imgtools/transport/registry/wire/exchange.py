"""What one HTTP exchange is made of: a body that can be sent again, and a typed failure.

These are plain data, so that everything above http.py can be read and tested without it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Literal

from imgtools.errors import ConnectionFailed
from imgtools.frozen import dataclass

Stage = Literal["connect", "tls", "send", "receive"]
"""How far an exchange came before it failed."""


@dataclass(frozen=True, slots=True)
class Body:
    """A request body of `length` bytes; `open` yields it from its start, each time anew."""

    length: int
    open: Callable[[], Generator[bytes, None, None]]

    @classmethod
    def of(cls, content: bytes) -> Body:
        """A body that is in memory."""

        def chunks() -> Generator[bytes, None, None]:
            yield content

        return cls(len(content), chunks)


class ExchangeFailed(ConnectionFailed):
    """An exchange that ended without a usable answer.

    `stage` says how far it came; `stale` that the connection had been used before and
    nothing of an answer came, which is what an idle connection closed by the other side
    looks like; `final` that trying again cannot help (a certificate, an unknown host).
    """

    def __init__(
        self,
        message: str,
        *,
        host: str,
        stage: Stage,
        stale: bool = False,
        final: bool = False,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, host=host, hint=hint)
        self.stage = stage
        self.stale = stale
        self.final = final
