"""Hides secrets in what a build reports: their exact values, and the lines of longer ones.

It keeps a command that prints a secret by mistake from writing it into logs. A command that
transforms the secret first (base64, a character a line) is not stopped by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from imgtools.build.events import BuildEvent, BuildNote, Report, StepFailed, StepOutput
from imgtools.build.options import SecretSource

SHORTEST = 8
MASK = b"***"
MAX_SECRET = 500 << 10


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


class Mask:
    """Replaces secrets by ***."""

    def __init__(self, values: Iterable[bytes]) -> None:
        looked_for = needles(values)
        either = b"|".join(re.escape(needle) for needle in looked_for)
        self._pattern = re.compile(either) if looked_for else None

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
