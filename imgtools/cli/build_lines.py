"""Events of a build as lines of text, one stage's at a time. Pure.

The wording is buildah's: `STEP 2/5: ...` with the stage before it where there are several,
`--> Using cache ID`, `--> ID`. Stages are told in the order of the file, whatever runs at the
same time: what is later waits for its turn, so lines of two commands never mix and equal builds
read the same. As stages need earlier ones only, what is told is never held up by what waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import field

from imgtools.build.events import (
    BuildEvent,
    BuildNote,
    BuildPlanned,
    StepFinished,
    StepId,
    StepOutput,
    StepStarted,
)
from imgtools.cli.text import one_line
from imgtools.frozen import dataclass

MOST_WAITING = 1 << 20
SHORT = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Something to write: `stream` is 1 or 2, `data` whole lines with their ends; `platform` is
    that of the step where several are built. `notice` is what people should see even where
    nothing else is wanted."""

    stream: int
    data: bytes
    platform: str = ""
    notice: bool = False


def short_id(digest: str) -> str:
    """The first 12 digits of a digest, as people know ids."""
    return digest.rpartition(":")[2][:SHORT]


def step_prefix(step: StepId, stages: tuple[str, ...]) -> str:
    """What stands before STEP: the platform and the stage, each where there are several."""
    platform = f"[{step.platform}] " if step.platform else ""
    if len(stages) < 2 or step.stage not in stages:
        return platform
    return f"{platform}[{stages.index(step.stage) + 1}/{len(stages)}] "


def note_line(note: BuildNote) -> str:
    """A note for people: level, place and text."""
    place = f"{note.place}: " if note.place else ""
    return one_line(f"imgtools: {note.level}: {place}{note.text}")


def planned_notes(event: BuildPlanned) -> list[BuildNote]:
    """How RUN is isolated and why, where there is a RUN."""
    if not event.isolation:
        return []
    return [BuildNote(level="info", text=f"isolation {event.isolation}: {event.reason}")]


def _note(note: BuildNote) -> Line:
    data = note_line(note).encode() + b"\n"
    return Line(stream=2, data=data, notice=note.level != "info")


Key = tuple[str, str]
"""A platform and a stage."""


@dataclass(slots=True)
class _Telling:
    """What is known of a stage: lines that wait, their size, its step, whether it is over."""

    lines: list[Line] = field(default_factory=list)
    size: int = 0
    title: Line | None = None
    over: bool = False


class Lines:
    """Turns events into lines, in order; not safe to call from two threads at once."""

    def __init__(self, platforms: Sequence[str] = ()) -> None:
        """`platforms` are those that are built, in order, where they are several."""
        self._platforms = tuple(platforms) if len(platforms) > 1 else ("",)
        self._stages: tuple[str, ...] = ()
        self._order: deque[Key] = deque()
        self._telling: dict[Key, _Telling] = {}

    def take(self, event: BuildEvent) -> list[Line]:
        """What is to be written now because of `event`."""
        match event:
            case BuildPlanned():
                self._stages = event.stages
                if len(event.platforms) > 1:
                    self._platforms = event.platforms
                self._order.extend((p, s) for p in self._platforms for s in event.stages)
                return [_note(note) for note in planned_notes(event)]
            case BuildNote():
                return [_note(event)]
            case StepStarted():
                title = self._title(event.step, event.text)
                self._known(event.step).title = title
                return self._add(event.step, [title])
            case StepOutput():
                line = Line(
                    stream=event.stream,
                    data=event.data if event.data.endswith(b"\n") else event.data + b"\n",
                    platform=event.step.platform,
                )
                return self._add(event.step, [line])
            case StepFinished():
                if event.step.number == event.step.total:
                    self._known(event.step).over = True
                return self._add(event.step, _outcome(event)) + self._next()
        return []

    def rest(self) -> list[Line]:
        """What still waits when a build ends early."""
        lines = [line for telling in self._telling.values() for line in telling.lines]
        self._order.clear()
        self._telling.clear()
        return lines

    def _title(self, step: StepId, text: str) -> Line:
        prefix = step_prefix(step, self._stages)
        title = one_line(f"{prefix}STEP {step.number}/{step.total}: {text}")
        return Line(stream=1, data=title.encode() + b"\n", platform=step.platform)

    def _known(self, step: StepId) -> _Telling:
        return self._telling.setdefault((step.platform, step.stage), _Telling())

    def _add(self, step: StepId, lines: list[Line]) -> list[Line]:
        key = (step.platform, step.stage)
        if not self._order or self._order[0] == key or key not in self._order:
            return lines
        telling = self._known(step)
        telling.lines += lines
        telling.size += sum(len(line.data) for line in lines)
        if telling.size <= MOST_WAITING:
            return []
        # Too much to hold: it is told in between, and both say again which step they are at.
        found = telling.lines
        telling.lines, telling.size = [telling.title] if telling.title else [], 0
        shown = self._telling.get(self._order[0])
        return [*found, *([shown.title] if shown is not None and shown.title else [])]

    def _next(self) -> list[Line]:
        """Go on with the stages that follow those that are over."""
        lines: list[Line] = []
        while self._order and (told := self._telling.get(self._order[0])) and told.over:
            self._order.popleft()
            following = self._telling.get(self._order[0]) if self._order else None
            if following is not None:
                lines += following.lines
                following.lines, following.size = [], 0
        return lines


def _outcome(event: StepFinished) -> list[Line]:
    platform = event.step.platform
    found = []
    if event.cached:
        whole = event.layer.rpartition(":")[2]
        found.append(f"--> Using cache {whole}".rstrip())
    if event.layer:
        found.append(f"--> {short_id(event.layer)}")
    return [Line(stream=1, data=text.encode() + b"\n", platform=platform) for text in found]
