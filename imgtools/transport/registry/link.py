"""Reads the Link header that registries page with (RFC 8288).

Relations other than `next` are passed over, whatever their order. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_HEADER_LIMIT = 16 * 1024
_LINK = re.compile(r'<([^<>]*)>((?:[^<"]|"(?:[^"\\]|\\.)*"?)*)')
_RELATION = re.compile(r';\s*rel\s*=\s*(?:"([^"]*)"|([^",;\s]+))', re.IGNORECASE)


def next_link(headers: Iterable[str]) -> str | None:
    """The target of the first link whose relations include `next`, None when there is none."""
    for header in headers:
        for target, parameters in _LINK.findall(header[:_HEADER_LIMIT]):
            relation = _RELATION.search(parameters)
            if relation and "next" in (relation[1] or relation[2] or "").lower().split():
                return str(target).strip() or None
    return None
