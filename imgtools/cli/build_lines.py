"""Events of a build as lines of text, one step's at a time. Pure.

The wording is buildah's: `STEP 2/5: ...` with the stage before it where there are several,
`--> Using cache ID`, `--> ID`. What runs beside the step that is shown waits for its turn, so
that lines of two commands never mix.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

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
from imgtools.cli.text import one_line

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


@dataclass(slots=True)
class _Waiting:
    lines: list[Line] = field(default_factory=list)
    size: int = 0
    over: bool = False


class Lines:
    """Turns events into lines, in order; not safe to call from two threads at once."""

    def __init__(self) -> None:
        self._stages: tuple[str, ...] = ()
        self._shown: StepId | None = None
        self._waiting: dict[StepId, _Waiting] = {}
        self._order: deque[StepId] = deque()
        self._texts: dict[StepId, str] = {}

    def take(self, event: BuildEvent) -> list[Line]:
        """What is to be written now because of `event`."""
        match event:
            case BuildPlanned():
                self._stages = event.stages
                notes = planned_notes(event)
                return [_note(note) for note in notes]
            case BuildNote():
                return [_note(event)]
            case StepStarted():
                self._texts[event.step] = event.text
                return self._add(event.step, [self._title(event.step, event.text)])
            case StepOutput():
                line = Line(
                    stream=event.stream,
                    data=event.data if event.data.endswith(b"\n") else event.data + b"\n",
                    platform=event.step.platform,
                )
                return self._add(event.step, [line])
            case StepFinished():
                return self._add(event.step, _outcome(event)) + self._over(event.step)
            case StepFailed():
                return self._add(event.step, []) + self._over(event.step)
        return []

    def rest(self) -> list[Line]:
        """What still waits when a build ends early."""
        lines = [line for step in self._order for line in self._waiting[step].lines]
        self._order.clear()
        self._waiting.clear()
        self._shown = None
        return lines

    def _title(self, step: StepId, text: str) -> Line:
        prefix = step_prefix(step, self._stages)
        title = one_line(f"{prefix}STEP {step.number}/{step.total}: {text}")
        return Line(stream=1, data=title.encode() + b"\n", platform=step.platform)

    def _add(self, step: StepId, lines: list[Line]) -> list[Line]:
        if self._shown is None or self._shown == step:
            self._shown = step
            return lines
        if step not in self._waiting:
            self._waiting[step] = _Waiting()
            self._order.append(step)
        waiting = self._waiting[step]
        waiting.lines += lines
        waiting.size += sum(len(line.data) for line in lines)
        if waiting.size <= MOST_WAITING:
            return []
        # Too much to hold: it is shown in between, and the step says again which it is.
        found, waiting.lines, waiting.size = waiting.lines, [], 0
        waiting.lines.append(self._title(step, self._texts.get(step, "")))
        assert self._shown is not None
        return [*found, self._title(self._shown, self._texts.get(self._shown, ""))]

    def _over(self, step: StepId) -> list[Line]:
        """Let others be shown after the end of a step, all that are over and the next."""
        self._texts.pop(step, None)
        if step != self._shown:
            self._waiting[step].over = True
            return []
        self._shown = None
        lines: list[Line] = []
        while self._order and self._shown is None:
            following = self._order.popleft()
            waiting = self._waiting.pop(following)
            lines += waiting.lines
            self._shown = None if waiting.over else following
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
