"""The marks of here-documents in a line: `<<NAME`, `<<-NAME`, `3<<"NAME"`.

A mark is a word of its own, quoted or not, wherever it is in the line; `<<<` is none. The
escape character is the backslash whatever the file says, as in BuildKit.
"""

from __future__ import annotations

import re
from dataclasses import replace

from imgtools.build.language.expand import expand_words
from imgtools.build.language.model import Heredoc
from imgtools.errors import InvalidInput

_MARK = re.compile(r"([0-9]*)<<(-?)[\t\n\f\r ]*([^<]*)")
_PLAIN = re.compile(r"[A-Za-z0-9_.]+")
_TABS = re.compile(r"^\t+", re.MULTILINE)
_MAX_DESCRIPTOR = 2**64 - 1


def marks_in(line: str) -> tuple[Heredoc, ...]:
    """The marks in a line, contents still empty. Raises InvalidInput for a malformed name.

    A line that a shell would not split (a quote is open, say) has none.
    """
    if "<<" not in line:
        return ()
    try:
        words = expand_words(line, {}, raw_quotes=True, raw_escapes=True, keep_unset=True)
    except InvalidInput:
        return ()
    marks = (parse_mark(word) for word in words)
    return tuple(mark for mark in marks if mark is not None)


def parse_mark(word: str) -> Heredoc | None:
    """What `word` announces, None if it is no mark. Raises InvalidInput for open quotes.

    Any quote in the name keeps variables in the document from being expanded.
    """
    found = _MARK.fullmatch(word)
    if not found or not found[3]:
        return None
    name, expand = found[3], True
    if not _PLAIN.fullmatch(name):
        names = expand_words(found[3], {}, keep_unset=True)
        if len(names) != 1:
            return None
        name = names[0]
        raw = " ".join(expand_words(found[3], {}, raw_quotes=True, keep_unset=True))
        expand = all(raw.count(quote) == name.count(quote) for quote in "'\"")
    digits = found[1].lstrip("0")
    return Heredoc(
        name=name,
        content="",
        expand=expand,
        strip_tabs=found[2] == "-",
        descriptor=min(int(digits[:20] or "0"), _MAX_DESCRIPTOR),
    )


def without_tabs(document: Heredoc) -> Heredoc:
    """A document as it is used: that of `<<-` without the tabs its lines begin with."""
    if not document.strip_tabs:
        return document
    return replace(document, content=_TABS.sub("", document.content))
