"""COPY and ADD: sources, among which here-documents may be, and a destination."""

from __future__ import annotations

from typing import Any

from imgtools.build.language.errors import brief
from imgtools.build.language.flags import Flags, Kind
from imgtools.build.language.heredocs import parse_mark, without_tabs
from imgtools.build.language.model import Add, Copy, Heredoc
from imgtools.build.language.statements import Statement
from imgtools.errors import InvalidInput

_SHARED = {
    "chown": Kind.VALUE,
    "chmod": Kind.VALUE,
    "link": Kind.SWITCH,
    "exclude": Kind.VALUES,
}
COPY_FLAGS = {**_SHARED, "from": Kind.VALUE, "parents": Kind.SWITCH}
ADD_FLAGS = {
    **_SHARED,
    "checksum": Kind.VALUE,
    "keep-git-dir": Kind.SWITCH,
    "unpack": Kind.SWITCH,
}


def copy(statement: Statement, flags: Flags, common: dict[str, Any]) -> Copy:
    """COPY."""
    return Copy(
        from_=flags.value("from"),
        parents=flags.switch("parents") or False,
        **_shared(statement, flags),
        **common,
    )


def add(statement: Statement, flags: Flags, common: dict[str, Any]) -> Add:
    """ADD."""
    return Add(
        checksum=flags.value("checksum"),
        keep_git_dir=flags.switch("keep-git-dir"),
        unpack=flags.switch("unpack"),
        **_shared(statement, flags),
        **common,
    )


def _shared(statement: Statement, flags: Flags) -> dict[str, Any]:
    """What COPY and ADD have in common."""
    if len(statement.arguments) < 2:
        raise statement.error(
            f"{statement.keyword} needs at least two arguments, sources and a destination"
        )
    *words, destination = statement.arguments
    if not statement.json and _mark(destination):
        raise statement.error_at(
            destination, f"the destination of {statement.keyword} cannot be a here-document"
        )
    sources, documents = _sources(statement, words)
    return {
        "sources": sources,
        "destination": destination,
        "heredocs": documents,
        "chown": flags.value("chown"),
        "chmod": flags.value("chmod"),
        "link": flags.switch("link") or False,
        "exclude": flags.several("exclude"),
        "json": statement.json,
    }


def _sources(statement: Statement, words: list[str]) -> tuple[tuple[str, ...], tuple[Heredoc, ...]]:
    """The words with each mark as `<<NAME`, and the documents. Each mark has to be a word of
    its own: BuildKit takes the pieces of another one (`<< EOF`) for paths."""
    if not statement.heredocs:
        return tuple(words), ()
    waiting = list(statement.heredocs[::-1])
    sources, documents = list[str](), list[Heredoc]()
    for word in words:
        mark = _mark(word)
        if mark is None or not waiting or waiting[-1].name != mark.name:
            sources.append(word)
            continue
        document = without_tabs(waiting.pop())
        if "/" in document.name or document.name in (".", ".."):
            raise statement.error_at(
                word,
                f"the here-document {brief(document.name)} cannot be a file",
                hint="its name becomes that of the file, so it has no slash",
            )
        sources.append(f"<<{document.name}")
        documents.append(document)
    if waiting:
        name = brief(waiting[-1].name)
        raise statement.error_at(
            "<<",
            f"the here-document {name} is not a source of its own",
            hint=f"write <<{name} without blanks, in front of the destination",
        )
    return tuple(sources), tuple(documents)


def _mark(word: str) -> Heredoc | None:
    try:
        return parse_mark(word)
    except InvalidInput:
        return None
