"""A plan shown to people, and as JSON to programs.

The text is also what the golden files of the tests hold, so it depends on nothing but the
plan. What is not known beforehand is said, never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from imgtools.copy.actions import (
    AnyBlobAction,
    AnyManifestAction,
    CopyPlan,
    Decompress,
    Mount,
    PutIndex,
    PutManifest,
    Recompress,
    Reuse,
    ReuseManifest,
    Skip,
    Tag,
    Transfer,
)
from imgtools.copy.execute import CopyResult
from imgtools.spec.descriptor import Descriptor

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size_text(size: int) -> str:
    """A size in bytes for people, with one decimal from KiB on; -1 is an unknown size."""
    if size < 0:
        return "? B"
    value, unit = float(size), 0
    while value >= 1023.95 and unit < len(_UNITS) - 1:
        value /= 1024
        unit += 1
    return f"{size} B" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def render(plan: CopyPlan) -> str:
    """The plan as lines: where from and to, a summary, each action; ends with a newline."""
    lines = [f"copy {plan.source.name} -> {plan.destination.name}"]
    if plan.up_to_date:
        lines.append(f"  up to date: {plan.root.digest}")
    lines.append(f"  {_summary(plan)}")
    rows = [_blob_row(action) for action in plan.blobs]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(4)]
    for verb, digest, size, role, rest in rows:
        cells = (
            verb.ljust(widths[0]),
            digest.ljust(widths[1]),
            size.rjust(widths[2]),
            role.ljust(widths[3]),
            rest,
        )
        lines.append("  " + "  ".join(cells).rstrip())
    lines.extend(f"  {_manifest_line(action)}" for action in plan.manifests)
    lines.extend(f"  warning: {warning}" for warning in plan.warnings)
    return "\n".join(lines) + "\n"


def _summary(plan: CopyPlan) -> str:
    verbs: dict[str, list[AnyBlobAction]] = {}
    for action in plan.blobs:
        verbs.setdefault(_verb(action), []).append(action)
    parts = []
    for verb in ("reuse", "mount", "transfer", "recompress", "decompress", "skip"):
        if verb in verbs:
            parts.append(f"{len(verbs[verb])} {verb}{_total(verb, verbs[verb])}")
    tail = f": {', '.join(parts)}" if parts else ""
    return f"{_number(len(plan.manifests), 'manifest')}, {_number(len(plan.blobs), 'blob')}{tail}"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _total(verb: str, actions: Sequence[AnyBlobAction]) -> str:
    if verb not in ("transfer", "recompress", "decompress"):
        return ""
    sizes = [action.blob.size for action in actions]
    total = size_text(sum(size for size in sizes if size >= 0))
    if any(size < 0 for size in sizes):
        return f" at least {total}"
    unsure = any(isinstance(a, Transfer) and not a.certain for a in actions)
    return f" {'up to ' if unsure else ''}{total}"


def _verb(action: AnyBlobAction | AnyManifestAction) -> str:
    match action:
        case Reuse() | ReuseManifest():
            return "reuse"
        case Mount():
            return "mount"
        case Transfer():
            return "transfer"
        case Recompress():
            return "recompress"
        case Decompress():
            return "decompress"
        case Skip():
            return "skip"
        case PutManifest():
            return "put-manifest"
        case PutIndex():
            return "put-index"
        case Tag():
            return "tag"


def _blob_row(action: AnyBlobAction) -> tuple[str, str, str, str, str]:
    users = ", ".join(action.users[:3]) + (" ..." if len(action.users) > 3 else "")
    note = ""
    match action:
        case Recompress(was=was, target=target):
            note = f"{was} -> {target} (digest known after)"
        case Decompress(was=was, diff_id=diff_id):
            after = f"{diff_id.algorithm}:{diff_id.short}" if diff_id else "digest known after"
            note = f"{was} -> none ({after})"
        case Transfer(measure="diff_id"):
            note = "read for its diff_id"
        case Mount(source=source):
            note = f"from {source.repository}"
        case Skip(reason=reason):
            note = reason
    rest = "  ".join(part for part in (users, note) if part)
    digest = action.blob.digest
    return (
        _verb(action),
        f"{digest.algorithm}:{digest.short}",
        size_text(action.blob.size),
        (action.role),
        rest,
    )


def _manifest_line(action: AnyManifestAction) -> str:
    verb, old = _verb(action), str(action.old.digest)
    label = f"  {action.platform}" if action.platform else ""
    top = "  (top)" if action.top else ""
    match action:
        case ReuseManifest():
            return f"reuse-manifest {old}{label}"
        case PutManifest(changes=changes) | PutIndex(changes=changes) if changes:
            new = str(action.raw.digest) if action.raw is not None else "(digest known after)"
            return f"{verb} {old} -> {new}{label}  {'; '.join(changes)}{top}"
    return f"{verb} {old}{label}{top}"


def to_json(plan: CopyPlan) -> dict[str, Any]:
    """The plan as an object of plain values; sizes are in bytes, null where unknown."""
    return {
        "source": plan.source.name,
        "destination": plan.destination.name,
        "upToDate": plan.up_to_date,
        "digest": str(plan.root.digest),
        "blobs": [_blob_json(action) for action in plan.blobs],
        "manifests": [_manifest_json(action) for action in plan.manifests],
        "warnings": list(plan.warnings),
    }


def _blob_json(action: AnyBlobAction) -> dict[str, Any]:
    value: dict[str, Any] = {
        "action": _verb(action),
        **_descriptor_json(action.blob),
        "role": action.role,
        "users": list(action.users),
    }
    match action:
        case Recompress(was=was, target=target, level=level):
            value.update({"from": was, "to": target, "level": level})
        case Decompress(was=was):
            value.update({"from": was, "to": "none"})
        case Mount(source=source):
            value["mountFrom"] = source.repository
        case Skip(reason=reason):
            value["reason"] = reason
        case Transfer(certain=certain):
            value["certain"] = certain
    return value


def _manifest_json(action: AnyManifestAction) -> dict[str, Any]:
    value: dict[str, Any] = {
        "action": "reuse-manifest" if isinstance(action, ReuseManifest) else _verb(action),
        **_descriptor_json(action.old),
        "platform": action.platform,
        "top": action.top,
    }
    if isinstance(action, PutManifest | PutIndex):
        value["changes"] = list(action.changes)
        value["newDigest"] = str(action.raw.digest) if action.raw is not None else None
    return value


def _descriptor_json(descriptor: Descriptor) -> dict[str, Any]:
    return {
        "digest": str(descriptor.digest),
        "mediaType": descriptor.media_type,
        "size": descriptor.size if descriptor.size >= 0 else None,
    }


def result_text(result: CopyResult) -> str:
    """What a copy did, in one line."""
    where = f"{result.source} -> {result.destination}: {result.top.digest}"
    if result.up_to_date:
        return f"up to date: {where}"
    total = sum(result.blobs.values())
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(result.blobs.items()))
    blobs = f"{_number(total, 'blob')}: {outcomes}" if total else "no blobs"
    return f"copied {where} ({blobs}; {size_text(result.bytes_moved)} moved)"


def result_json(result: CopyResult) -> dict[str, Any]:
    """What a copy did, as an object of plain values; sizes are in bytes."""
    return {
        "source": result.source,
        "destination": result.destination,
        "upToDate": result.up_to_date,
        **_descriptor_json(result.top),
        "manifests": [
            {
                "oldDigest": str(done.old),
                **_descriptor_json(done.new),
                "platform": done.platform,
                "outcome": done.outcome,
                "changes": list(done.changes),
                "referrer": done.referrer,
            }
            for done in result.manifests
        ],
        "blobs": dict(result.blobs),
        "bytesMoved": result.bytes_moved,
        "warnings": list(result.warnings),
    }
