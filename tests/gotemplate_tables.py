"""Templates and what Go's text/template (1.26) makes of them, for tests of gotemplate."""

from __future__ import annotations

import json
from pathlib import Path

_GOLDEN = Path(__file__).parent / "golden" / "gotemplate"


def _table(name: str) -> list[tuple[str, str]]:
    """Pairs of a template and its output, or of a template and its error."""
    rows = json.loads((_GOLDEN / f"{name}.json").read_text())
    return [(template, outcome) for template, outcome in rows]


MAP_ERRORS = _table("map_errors")
MAP_OUTPUTS = _table("map_outputs")
STRUCT_ERRORS = _table("struct_errors")
STRUCT_OUTPUTS = _table("struct_outputs")
