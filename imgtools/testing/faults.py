"""The fault script of the test registry: which request goes wrong, and how.

A `Fault` is data. Matching is by method, path and occurrence; the first fault that matches
a request is applied to it, alone.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import field
from email.utils import formatdate

from imgtools.frozen import dataclass
from imgtools.serve.message import BytesBody, Response, error_response, json_response


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One rule.

    Matching: `method` (None: any), `path` (a regular expression searched for in the path with
    its query) and `nth` (the 1-based occurrences among the requests that match so far; None:
    every one).

    Instead of the application: `status` answers with `headers` and `body` (HTML when it
    begins with "<", else JSON or text), `retry_after` in seconds, or the date so many seconds
    from now when it begins with "+", `redirect` a Location (status 307 unless said; "{target}"
    in it becomes the request's path and query). `processed` lets the application act first, so
    that only its answer is lost; `early` sends the answer after so many bytes of the request's
    body and hangs up without reading the rest. A header value of several lines is sent as
    several headers.

    The wire: `stall` seconds pass before anything is sent; `cut_request` closes after that
    many bytes of the request's body were read; `cut_headers` closes instead of sending
    anything; `cut_after` sends the true headers and that many bytes of body, then closes;
    `stall_after` sends that many and then nothing until the client leaves. `reset` makes a
    cut a TCP reset instead of an orderly end.

    The answer: `truncate` shortens body and Content-Length alike; `flip` inverts the byte at
    that offset; `body_override` replaces the body; `set_headers` and `drop_headers` change
    the headers (a wrong Content-Length is sent as it is); `ignore_range` answers 200 with
    everything; `shift_range` answers 206 with a range that begins that many bytes later.
    """

    method: str | None = None
    path: str = ""
    nth: int | Collection[int] | None = None

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | str = b""
    retry_after: int | str | None = None
    redirect: str | None = None
    processed: bool = False
    early: int | None = None

    stall: float = 0.0
    cut_request: int | None = None
    cut_headers: bool = False
    cut_after: int | None = None
    stall_after: int | None = None
    reset: bool = False

    truncate: int | None = None
    flip: int | None = None
    body_override: bytes | None = None
    set_headers: Mapping[str, str] = field(default_factory=dict)
    drop_headers: Collection[str] = ()
    ignore_range: bool = False
    shift_range: int = 0

    @property
    def answers(self) -> bool:
        """Whether the fault has an answer of its own."""
        return self.status is not None or self.redirect is not None

    def wants(self, method: str, target: str) -> bool:
        """Whether method and path match; the occurrence is the script's business."""
        return (self.method is None or self.method == method) and (
            re.search(self.path, target) is not None
        )


class FaultScript:
    """The faults of one registry, with a count of the requests that each has matched."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._matched: list[int] = []
        self._applied: list[int] = []

    def add(self, fault: Fault) -> int:
        """Append a fault; its number, for `applied`."""
        with self._lock:
            self._faults.append(fault)
            self._matched.append(0)
            self._applied.append(0)
            return len(self._faults) - 1

    def clear(self) -> None:
        """Remove every fault."""
        with self._lock:
            self._faults.clear()
            self._matched.clear()
            self._applied.clear()

    def applied(self, number: int) -> int:
        """How many requests a fault was applied to."""
        with self._lock:
            return self._applied[number]

    def choose(self, method: str, target: str) -> Fault | None:
        """The fault for this request. Every fault that matches it counts it."""
        with self._lock:
            chosen: int | None = None
            for number, fault in enumerate(self._faults):
                if not fault.wants(method, target):
                    continue
                self._matched[number] += 1
                if chosen is None and _is_turn(fault.nth, self._matched[number]):
                    chosen = number
            if chosen is None:
                return None
            self._applied[chosen] += 1
            return self._faults[chosen]


def _is_turn(nth: int | Collection[int] | None, count: int) -> bool:
    if nth is None:
        return True
    return count == nth if isinstance(nth, int) else count in nth


def retry_after(value: int | str) -> str:
    """Retry-After as sent: seconds, or for "+N" the date N seconds from now."""
    text = str(value)
    if text.startswith("+"):
        return formatdate(time.time() + int(text), usegmt=True)
    return text


def own_answer(fault: Fault, target: str) -> Response:
    """The answer that a fault gives instead of the application."""
    headers = dict(fault.headers)
    if fault.retry_after is not None:
        headers["Retry-After"] = retry_after(fault.retry_after)
    if fault.redirect is not None:
        headers["Location"] = fault.redirect.replace("{target}", target)
    status = fault.status if fault.status is not None else 307
    body = fault.body.encode() if isinstance(fault.body, str) else fault.body
    if body:
        kinds = {b"<": "text/html", b"{": "application/json"}
        headers.setdefault("Content-Type", kinds.get(body[:1], "text/plain"))
        response = Response(status=status, body=BytesBody(body))
    elif status >= 400:
        response = error_response(status, _code(status), "scripted fault")
    else:
        response = json_response({}, status=status)
    response.headers.update(headers)
    return response


def changed_answer(response: Response, fault: Fault) -> Response:
    """The application's answer with the changes that a fault asks for."""
    if fault.body_override is not None:
        response.close()
        response.body = BytesBody(fault.body_override)
        response.headers.pop("Content-Length", None)
    if fault.truncate is not None and response.body is not None:
        response.body = response.body.narrow(0, min(fault.truncate, response.body.length))
        response.headers.pop("Content-Length", None)
    if fault.flip is not None and response.body is not None:
        content = bytearray(b"".join(response.body))
        if fault.flip < len(content):
            content[fault.flip] ^= 0xFF
        response.close()
        response.body = BytesBody(bytes(content))
    response.headers.update(fault.set_headers)
    return response


def _code(status: int) -> str:
    codes = {401: "UNAUTHORIZED", 403: "DENIED", 404: "NAME_UNKNOWN", 429: "TOOMANYREQUESTS"}
    return codes.get(status, "UNSUPPORTED")
