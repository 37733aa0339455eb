"""Hides secrets in what a build reports: their exact values, and the lines of longer ones.

It keeps a command that prints a secret by mistake from writing it into logs. A command that
transforms the secret first (base64, a character a line) is not stopped by it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from imgtools.build.events import BuildEvent, BuildNote, Report, StepFailed, StepOutput
from imgtools.build.options import SecretSource

SHORTEST = 8
MASK = b"***"
MAX_SECRET = 500 << 10
_USER = re.compile(r"(https?://)[^/?#\s\"']*@", re.IGNORECASE)


def needles(values: Iterable[bytes]) -> tuple[bytes, ...]:
    """What is looked for, longest first: each value without white space around it, and each of
    its lines. Anything under 8 bytes is left out, since it would match where nothing is secret.
    """
    found: set[bytes] = set()
    for value in values:
        # Output comes line by line, so a value of several lines is never seen in one piece.
        found.update(line.strip() for line in value.splitlines())
    return tuple(sorted((n for n in found if len(n) >= SHORTEST), key=lambda n: (-len(n), n)))


def secret_values(sources: Iterable[SecretSource]) -> list[bytes]:
    """The bytes of all secrets, those of files as they are now; a file that cannot be read is
    left for the step that needs it."""
    found = []
    for source in sources:
        if source.value is not None:
            found.append(source.value)
            continue
        try:
            with open(source.file, "rb") as file:
                found.append(file.read(MAX_SECRET))
        except OSError:
            continue
    return found


def without_credentials(text: str) -> str:
    """Text for people that may have URLs in it, without what is in front of their hosts."""
    return _USER.sub(r"\1***@", text)


class Mask:
    """Replaces secrets by ***."""

    def __init__(self, values: Iterable[bytes]) -> None:
        looked_for = needles(values)
        either = b"|".join(re.escape(needle) for needle in looked_for)
        self._pattern = re.compile(either) if looked_for else None
        self._longest = len(looked_for[0]) if looked_for else 0

    def safe_cut(self, data: bytes) -> int:
        """How much of the beginning of a line, of which more is to come, can be told by now: no
        secret that begins in there goes on behind it."""
        cut = max(0, len(data) - self._longest + 1)
        if self._pattern is not None:
            for found in self._pattern.finditer(data):
                if found.start() < cut < found.end():
                    return found.end()
        return cut

    def hide(self, data: bytes) -> bytes:
        """`data` without secrets."""
        return data if self._pattern is None else self._pattern.sub(MASK, data)

    def hide_text(self, text: str) -> str:
        """`text` without secrets."""
        return self.hide(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")

    def report(self, report: Report) -> Report:
        """A listener that hands events on to `report` without secrets."""
        return report if self._pattern is None else lambda event: report(self._event(event))

    def _event(self, event: BuildEvent) -> BuildEvent:
        match event:
            case StepOutput():
                return replace(event, data=self.hide(event.data))
            case StepFailed():
                tail = tuple(self.hide(line) for line in event.tail)
                return replace(event, message=self.hide_text(event.message), tail=tail)
            case BuildNote():
                return replace(event, text=self.hide_text(event.text))
        return event


class MaskedOutput:
    """What one step writes, handed on to `output` without secrets, also those that lie across
    the pieces of a line that was too long to come as one. `finish` when there is no more."""

    def __init__(self, mask: Mask, output: Callable[[int, bytes], object]) -> None:
        self._mask = mask
        self._output = output
        self._held: dict[int, bytes] = {}

    def write(self, stream: int, data: bytes) -> None:
        """A line, or a piece of one without its end."""
        data = self._held.pop(stream, b"") + data
        cut = len(data) if data.endswith(b"\n") else self._mask.safe_cut(data)
        if cut < len(data):
            self._held[stream] = data[cut:]
        if cut:
            self._output(stream, self._mask.hide(data[:cut]))

    def finish(self) -> None:
        """Hand on what was held back."""
        held, self._held = self._held, {}
        for stream, data in held.items():
            self._output(stream, self._mask.hide(data))
