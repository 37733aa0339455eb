"""The report: a table for people, JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from bench.measure import Row


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text."""
    head = ("case", "what", "peer", "ours", "theirs", "ratio", "bar", "", "notes")
    lines = [head]
    for row in rows:
        verdict = {True: "ok", False: "MISSED", None: ""}[row.holds]
        notes = " ".join(f"{key}={value}" for key, value in row.notes.items())
        bar = "" if row.bar is None else f"{row.bar:.2f}"
        lines.append(
            (row.case, row.what, row.peer_name, f"{row.ours:.3f} {row.unit}",
             f"{row.peer:.3f} {row.unit}", f"{row.ratio:.2f}", bar, verdict, notes)
        )  # fmt: skip
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def as_json(rows: Sequence[Row]) -> str:
    """The rows as a JSON list."""
    return json.dumps([{**asdict(row), "holds": row.holds} for row in rows], indent=2)
