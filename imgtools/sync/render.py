"""Plans and results for people, in skopeo's words where it has some, and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgtools.errors import Error
from imgtools.spec.reference import ImageName
from imgtools.sync.plan import ImageAction, SyncPlan, shown
from imgtools.sync.result import Outcome, SyncResult

FAILED = "Sync failed due to previous reported error(s) for one or more images"

Signed = Mapping[ImageName, "bool | Error"]
"""Whether destinations would get signatures, or why nobody can tell."""

_SENTENCES = {
    "new": "Would have copied image ref",
    "changed": "Would have copied image ref",
    "unsure": "Would have compared image ref",
    "same": "Unchanged image ref",
    "failed": "Cannot copy image ref",
}


def render(plan: SyncPlan, signed: Signed | None = None) -> str:
    """The plan as lines: one for each image, what is attached and signed, a summary."""
    lines = [_line(action) for action in plan.images]
    for fact in plan.referrers:
        if not fact.present:
            lines.append(
                f"Would have copied referrer {fact.descriptor.digest} of {fact.subject} "
                f'to="docker://{fact.pair.destination}"'
            )
    for name, found in (signed or {}).items():
        if isinstance(found, Error):
            lines.append(f'Cannot sign "{shown(name)}": {found.message}')
        elif found:
            lines.append(f'Would have signed "{shown(name)}"')
    lines.extend(f"Cannot list {name}: {error.message}" for name, error in plan.failures)
    pending = plan.count("new", "changed", "unsure")
    counts = ", ".join(
        f"{plan.count(word)} {word}"
        for word in ("new", "changed", "unsure", "same", "failed")
        if plan.count(word)
    )
    tail = f": {counts}" if counts else ""
    lines.append(f"Would have synced {pending} images from {plan.sources} sources{tail}")
    return "\n".join(lines) + "\n"


def _line(action: ImageAction) -> str:
    image = action.image
    text = (
        f"{_SENTENCES[action.decision]} {image.number}/{image.of} "
        f'from="{shown(image.source)}" to="{shown(image.destination)}" {action.decision}'
    )
    if action.error is not None:
        return f"{text}: {action.error.message}"
    digests = [str(each.digest) for each in (action.current, action.root) if each is not None]
    return f"{text} {' -> '.join(dict.fromkeys(digests))}".rstrip()


def plan_json(plan: SyncPlan, signed: Signed | None = None) -> dict[str, Any]:
    """The plan as an object of plain values; where somebody signs, `sign` says of which images."""
    return {
        "sources": plan.sources,
        "images": [
            {
                "source": shown(action.image.source),
                "destination": shown(action.image.destination),
                "decision": action.decision,
                "digest": str(action.root.digest) if action.root else None,
                "currentDigest": str(action.current.digest) if action.current else None,
                **_sign_json((signed or {}).get(action.image.destination)),
                **_error_json(action.error),
            }
            for action in plan.images
        ],
        "referrers": [
            {
                "source": f"docker://{fact.pair.source}",
                "destination": f"docker://{fact.pair.destination}",
                "subject": str(fact.subject),
                "digest": str(fact.descriptor.digest),
                "artifactType": fact.descriptor.artifact_type,
                "decision": "same" if fact.present else "new",
            }
            for fact in plan.referrers
        ],
        "failures": _failures_json(plan.failures),
        "warnings": list(plan.warnings),
    }


def result_text(result: SyncResult) -> str:
    """What a sync did, in one line."""
    done = result.count("new", "changed", "same")
    counts = [
        f"{result.count(word)} {word}"
        for word in ("new", "changed", "same", "failed", "skipped")
        if result.count(word)
    ]
    attached = sum(o.attached and o.outcome == "new" for o in result.outcomes)
    if attached:
        counts.append(f"{attached} referrers")
    if result.moved:
        from imgtools.copy.render import size_text

        counts.append(f"{size_text(result.moved)} moved")
    tail = f": {', '.join(counts)}" if counts else ""
    return f"Synced {done} images from {result.sources} sources{tail}"


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """One outcome as an object of plain values."""
    return {
        "source": outcome.source,
        "destination": outcome.destination,
        "outcome": outcome.outcome,
        "digest": str(outcome.digest) if outcome.digest else None,
        "bytesMoved": outcome.moved,
        "referrer": outcome.attached,
        **_error_json(outcome.error),
    }


def result_json(result: SyncResult) -> dict[str, Any]:
    """A result as an object of plain values; sizes are in bytes."""
    return {
        "sources": result.sources,
        "images": [outcome_json(outcome) for outcome in result.outcomes],
        "failures": _failures_json(result.failures),
        "bytesMoved": result.moved,
    }


def _failures_json(failures: tuple[tuple[str, Error], ...]) -> list[dict[str, Any]]:
    return [{"source": name, **_error_json(error)} for name, error in failures]


def _error_json(error: Error | None) -> dict[str, Any]:
    return {} if error is None else {"error": error.message}


def _sign_json(found: bool | Error | None) -> dict[str, Any]:
    if found is None:
        return {}
    return _error_json(found) if isinstance(found, Error) else {"sign": found}
