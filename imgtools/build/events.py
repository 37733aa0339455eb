"""What a build reports while it goes on, as frozen values; a command line renders them.

They go through `Task.progress`'s sibling `BuildOptions.report`, in order for one step and
interleaved between steps, from several threads.
"""

from __future__ import annotations

from collections.abc import Callable

from imgtools.frozen import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StepId:
    """A step of a build: `number` of `total` in its stage (from 1), `stage` its name or
    number, `platform` where several are built."""

    stage: str
    number: int
    total: int
    platform: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlanned:
    """The plan is made: how many steps will be looked at, for which platforms, how RUN is
    isolated and why."""

    steps: int
    stages: tuple[str, ...]
    isolation: str
    reason: str
    platforms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted:
    """A step begins; `text` is the instruction."""

    step: StepId
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutput:
    """A line that a step's command wrote; `stream` is 1 or 2, `data` with its end."""

    step: StepId
    stream: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFinished:
    """A step is done: `cached` if it was not executed; `seconds` it took; `layer` is the
    diff_id of its layer, "" for none, with `size` in bytes."""

    step: StepId
    cached: bool
    seconds: float
    layer: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailed:
    """A step failed; `code` is the exit code of its command, -1 where there is none. `tail`
    are the last lines that it wrote."""

    step: StepId
    text: str
    message: str
    code: int = -1
    tail: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildNote:
    """Something people should know; `level` is info or warning; `place` is file:line or ""."""

    level: str
    text: str
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReady:
    """An image, or an index, is complete: its digest, id, and a name under which it now is
    ("" for none)."""

    digest: str
    image_id: str = ""
    name: str = ""


BuildEvent = (
    BuildPlanned | StepStarted | StepOutput | StepFinished | StepFailed | BuildNote | ImageReady
)
Report = Callable[[BuildEvent], None]


def ignore(event: BuildEvent) -> None:
    """The listener that does nothing."""
