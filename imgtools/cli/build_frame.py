"""The picture of a running build on a terminal: what it shows as lines of a given width. Pure.

Steps that are over scroll away above, one line each; below are those that run, with their last
lines of output, and a line on the whole.
"""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from dataclasses import field

from imgtools.build.events import (
    BuildEvent,
    BuildNote,
    BuildPlanned,
    StepFailed,
    StepFinished,
    StepId,
    StepOutput,
    StepStarted,
)
from imgtools.cli.build_lines import note_line, planned_notes, step_prefix
from imgtools.cli.text import escaped, one_line
from imgtools.frozen import dataclass
from imgtools.task import Advanced, Event, Finished, Started

MOST_OUTPUT = 6
MOST_STEPS = 8
_ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-Z\\-_])")
_COLOURS = {"cached": "36", "done": "32", "failed": "31", "warning": "33", "output": "2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A line of the picture; `kind` decides its colour: cached, done, failed, running, output,
    total, warning or info."""

    kind: str
    text: str


@dataclass(slots=True, kw_only=True)
class _Running:
    step: StepId
    text: str
    since: float
    output: deque[str] = field(default_factory=lambda: deque(maxlen=MOST_OUTPUT))


class Picture:
    """What is known of a running build; not safe to call from two threads at once. All times
    are seconds of one clock."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._stages: tuple[str, ...] = ()
        self._steps = self._over = self._cached = 0
        self._running: dict[StepId, _Running] = {}
        self._moving: dict[str, tuple[int, int]] = {}

    def take(self, event: BuildEvent, now: float) -> list[Shown]:
        """Take an event; the lines that scroll away above the picture because of it."""
        match event:
            case BuildPlanned():
                self._stages, self._steps = event.stages, event.steps
                notes = planned_notes(event)
                return [Shown(kind=note.level, text=note_line(note)) for note in notes]
            case StepStarted():
                running = _Running(step=event.step, text=event.text, since=now)
                self._running[event.step] = running
            case StepOutput():
                if event.step in self._running:
                    text = plain_text(event.data)
                    if text:
                        self._running[event.step].output.append(text)
            case StepFinished():
                return self._finish(event)
            case StepFailed():
                self._running.pop(event.step, None)
                return [Shown(kind="failed", text=self._line(event.step, event.text, "FAILED"))]
            case BuildNote():
                return [Shown(kind=event.level, text=note_line(event))]
        return []

    def move(self, event: Event) -> None:
        """Take an event of a transfer."""
        match event:
            case Started(item, _, total):
                self._moving[item] = (0, total or 0)
            case Advanced(item, amount) if item in self._moving:
                done, total = self._moving[item]
                self._moving[item] = (done + amount, total)
            case Finished(item, _):
                self._moving.pop(item, None)

    def frame(self, now: float, rows: int) -> list[Shown]:
        """The picture in at most `rows` lines, the last being that on the whole."""
        space = max(1, rows - 2)
        steps = list(self._running.values())[: min(MOST_STEPS, space)]
        share = (space - len(steps)) // len(steps) if steps else 0
        lines: list[Shown] = []
        for running in steps:
            took = seconds_text(now - running.since)
            text = self._line(running.step, running.text, took)
            lines.append(Shown(kind="running", text=text))
            output = list(running.output)[-share:] if share else []
            lines += [Shown(kind="output", text=f"  | {line}") for line in output]
        return [*lines, Shown(kind="total", text=self._total(now))]

    def _finish(self, event: StepFinished) -> list[Shown]:
        running = self._running.pop(event.step, None)
        self._over += 1
        self._cached += event.cached
        kind = "cached" if event.cached else "done"
        took = "cached" if event.cached else seconds_text(event.seconds)
        text = running.text if running else ""
        return [Shown(kind=kind, text=self._line(event.step, text, took))]

    def _line(self, step: StepId, text: str, end: str) -> str:
        where = f"{step_prefix(step, self._stages)}{step.number}/{step.total}"
        return one_line(f"=> {where} {text}") + f"  {end}"

    def _total(self, now: float) -> str:
        parts = [f"Building {seconds_text(now - self._started)}"]
        if self._steps:
            parts.append(f"{self._over}/{self._steps} steps")
        if self._cached:
            parts.append(f"{self._cached} cached")
        if self._moving:
            done = sum(max(0, moved) for moved, _ in self._moving.values())
            total = sum(total for _, total in self._moving.values())
            from imgtools.copy.render import size_text

            of = f" of {size_text(total)}" if total >= done > 0 else ""
            parts.append(f"transferring {size_text(done)}{of}")
        return "  ".join(parts)


def seconds_text(seconds: float) -> str:
    """A time for people: 0.3s, 12.0s, 2m05s, 1h02m."""
    if seconds < 60:
        return f"{max(0.0, seconds):.1f}s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


def plain_text(data: bytes) -> str:
    """A line of output without what would steer a terminal; of one that was written over itself
    (progress bars) what stands there last."""
    text = _ESCAPE.sub("", data.decode("utf-8", "replace")).rstrip("\r\n")
    return escaped(text.rpartition("\r")[2].expandtabs(8)).rstrip()


def width(text: str) -> int:
    """How many columns `text` takes."""
    return sum(_columns(c) for c in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fitted(shown: Shown, columns: int) -> str:
    """The line in less than `columns`: output loses its end, a step the end of its text but
    not its time."""
    limit = columns - 1
    if width(shown.text) <= limit:
        return shown.text
    text, gap, end = shown.text.rpartition("  ")
    if shown.kind in ("output", "total", "warning", "info") or not gap:
        return _cut(shown.text, limit)
    room = limit - width(end) - 5
    return _cut(shown.text, limit) if room < 10 else f"{_cut(text, room)}...  {end}"


def _cut(text: str, limit: int) -> str:
    used = 0
    for index, character in enumerate(text):
        used += _columns(character)
        if used > limit:
            return text[:index]
    return text


def coloured(kind: str, text: str) -> str:
    """`text` in the colour of its kind."""
    code = _COLOURS.get(kind)
    return f"\x1b[{code}m{text}\x1b[0m" if code else text
