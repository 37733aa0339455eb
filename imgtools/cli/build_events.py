"""Events of a build as JSON objects for programs, one a line: what `--progress json` prints.

The names and types of fields are part of the command line: they are described in docs/build.md
and only ever added to.
"""

from __future__ import annotations

from typing import Any

from imgtools.build.events import (
    BuildEvent,
    BuildNote,
    BuildPlanned,
    ImageReady,
    StepFailed,
    StepFinished,
    StepId,
    StepOutput,
    StepStarted,
)


def event_json(event: BuildEvent) -> dict[str, Any]:
    """One event; `event` says which, output is text in which bytes that are not UTF-8 are
    replaced."""
    match event:
        case BuildPlanned():
            return {
                "event": "planned",
                "steps": event.steps,
                "stages": list(event.stages),
                "platforms": list(event.platforms),
                "isolation": event.isolation,
                "reason": event.reason,
            }
        case StepStarted():
            return {"event": "step-started", **_step(event.step), "text": event.text}
        case StepOutput():
            return {
                "event": "step-output",
                **_step(event.step),
                "stream": "stdout" if event.stream == 1 else "stderr",
                "text": _text(event.data),
            }
        case StepFinished():
            return {
                "event": "step-finished",
                **_step(event.step),
                "cached": event.cached,
                "seconds": round(event.seconds, 6),
                "layer": event.layer or None,
                "size": event.size,
            }
        case StepFailed():
            return {
                "event": "step-failed",
                **_step(event.step),
                "text": event.text,
                "message": event.message,
                "code": event.code if event.code >= 0 else None,
                "tail": [_text(line) for line in event.tail],
            }
        case BuildNote():
            return {
                "event": "note",
                "level": event.level,
                "text": event.text,
                "place": event.place or None,
            }
        case ImageReady():
            return {
                "event": "image",
                "digest": event.digest,
                "id": event.image_id or None,
                "name": event.name or None,
            }


def _step(step: StepId) -> dict[str, Any]:
    return {
        "stage": step.stage,
        "number": step.number,
        "total": step.total,
        "platform": step.platform or None,
    }


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
