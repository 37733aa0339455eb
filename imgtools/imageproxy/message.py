"""Requests and replies of the image proxy protocol: one JSON object per packet.

Pure. skopeo-experimental-image-proxy(1) describes them; limits and the order of properties
are those of its implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from imgtools.errors import (
    ConnectionFailed,
    Error,
    InvalidInput,
    LimitExceeded,
    RegistryError,
    SeveralErrors,
)
from imgtools.frozen import dataclass
from imgtools.spec import strict_json

PROTOCOL_VERSION = "0.2.8"
PACKET_LIMIT = 32 * 1024
"""Bytes of a request or reply: what clients have room for."""
_ERROR_LIMIT = 2000
"""Characters of an error text, so that a reply with one always fits."""
_LARGEST = 2**53 - 1

ErrorCode = Literal["EPIPE", "retryable", "other"]


class ClientGone(Error):
    """Whoever was to read a pipe has closed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A method and its arguments, of which nothing is checked but that they are JSON."""

    method: str
    args: Sequence[Any] = ()

    @classmethod
    def parse(cls, packet: bytes) -> Request:
        """The request in `packet`; raises InvalidInput or LimitExceeded."""
        if len(packet) > PACKET_LIMIT:
            raise LimitExceeded("request", PACKET_LIMIT)
        value = strict_json.loads_object(packet, "request", limit=PACKET_LIMIT)
        method, args = value.get("method"), value.get("args")
        if not isinstance(method, str):
            raise InvalidInput("invalid request: method is not a string")
        if args is not None and not isinstance(args, list):
            raise InvalidInput("invalid request: args is not a list")
        return cls(method=method, args=args or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to a request.

    `fds` are the reading ends of pipes that go with it, and belong to whoever sends it:
    data, and for GetRawBlob errors. `pipeid` names the data's pipe to FinishPipe.
    """

    value: Any = None
    fds: tuple[int, ...] = ()
    pipeid: int = 0

    def to_packet(self) -> bytes:
        """The packet; raises LimitExceeded when no client could read it."""
        return _packet(self.value, self.pipeid, success=True)


def failure_packet(error: Error) -> bytes:
    """The reply to a request that failed."""
    return _packet(None, 0, success=False, code=error_code(error), error=error_text(error))


def pipe_error(error: Error) -> bytes:
    """What GetRawBlob's second pipe says of a failure; short enough for one write."""
    return strict_json.dumps({"code": error_code(error), "message": error_text(error)[:900]})


def error_code(error: Error) -> ErrorCode:
    """What a client may do about `error`: retryable means that it may pass."""
    if isinstance(error, ClientGone):
        return "EPIPE"
    if isinstance(error, RegistryError):
        return "retryable" if error.status == 429 or error.status >= 500 else "other"
    if isinstance(error, SeveralErrors):
        codes = {error_code(each) for each in error.errors}
        return codes.pop() if len(codes) == 1 else "other"
    return "retryable" if isinstance(error, ConnectionFailed) else "other"


def error_text(error: Error) -> str:
    """The message with its hint."""
    text = error.message + (f" ({error.hint})" if error.hint else "")
    return text if len(text) <= _ERROR_LIMIT else text[:_ERROR_LIMIT] + "..."


def take(args: Sequence[Any], *names: str) -> Sequence[Any]:
    """`args`, of which there must be as many as `names`; raises InvalidInput."""
    if len(args) != len(names):
        expected = f"({', '.join(names)})" if names else "no arguments"
        raise InvalidInput(f"invalid request: found {len(args)} args, expecting {expected}")
    return args


def number(value: Any, name: str) -> int:
    """A whole number that JavaScript can hold, not negative; raises InvalidInput.

    1.0 is one too, because JSON does not tell them apart.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInput(f"expecting a whole number as {name}, not {type(value).__name__}")
    if not 0 <= value <= _LARGEST:
        raise InvalidInput(f"{name} is out of range")
    return value


def text(value: Any, name: str) -> str:
    """A string; raises InvalidInput."""
    if not isinstance(value, str):
        raise InvalidInput(f"expecting a string as {name}, not {type(value).__name__}")
    return value


def _packet(value: Any, pipeid: int, *, success: bool, code: str = "", error: str = "") -> bytes:
    packet = strict_json.dumps(
        {
            "success": success,
            "value": value,
            "pipeid": pipeid,
            "error_code": code,
            "error": error,
        }
    )
    if len(packet) > PACKET_LIMIT:
        raise LimitExceeded("reply", PACKET_LIMIT)
    return packet
