"""What --dry-run prints: each step with its fate. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from imgtools.build.execute.environment import PlannedStep
from imgtools.cli.text import one_line


def plan_lines(steps: Sequence[PlannedStep]) -> list[str]:
    """A line for each step: its fate, its stage and number, the instruction; then the sums."""
    places = [_place(step) for step in steps]
    widest = max((len(place) for place in places), default=0)
    lines = [
        f"{step.fate:<7} {place:<{widest}}  {one_line(step.text)}"
        for step, place in zip(steps, places, strict=True)
    ]
    counts = {fate: sum(step.fate == fate for step in steps) for fate in ("cached", "run")}
    lines.append(f"{len(steps)} steps: {counts['cached']} cached, {counts['run']} to run")
    return lines


def plan_json(steps: Sequence[PlannedStep]) -> dict[str, Any]:
    """The same for programs; `key` is null where it is not known before other steps have run."""
    return {
        "event": "plan",
        "steps": [
            {
                "stage": step.stage,
                "number": step.number,
                "platform": step.platform or None,
                "text": step.text,
                "fate": step.fate,
                "key": step.key or None,
            }
            for step in steps
        ],
    }


def _place(step: PlannedStep) -> str:
    platform = f"[{step.platform}] " if step.platform else ""
    return f"{platform}{step.stage} {step.number}"
