"""COPY and ADD with everything resolved: which words are paths, URLs, repositories or
here-documents, where their sources are, and where they go."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from imgtools.build.language.model import Add, Copy, Heredoc
from imgtools.build.planning import config_state as config
from imgtools.build.planning.model import (
    ContextRef,
    CopyFrom,
    CopyWork,
    GitFrom,
    InlineFrom,
    PathsFrom,
    SourceRef,
    StageState,
    UrlFrom,
)
from imgtools.build.planning.stages import source_of
from imgtools.errors import InvalidInput

if TYPE_CHECKING:
    from imgtools.build.planning.evaluate import Scope

_OCTAL = re.compile(r"[0-7]{1,5}")
_CLAUSES = re.compile(
    r"(?:[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+)(?:,[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+)*"
)


def copy_work(instruction: Copy, state: StageState, scope: Scope) -> CopyWork:
    """COPY; raises InvalidInput, NotFound (--from)."""
    source: SourceRef = ContextRef()
    if instruction.from_:
        word = scope.arguments.expand(
            instruction.from_, {**scope.arguments.known, **state.variables}
        )
        source = source_of(word, scope.stage, scope.stages, scope.contexts)
    work = _common(instruction, state, scope, source)
    return replace(work, parents=instruction.parents, from_stage=bool(instruction.from_))


def add_work(instruction: Add, state: StageState, scope: Scope) -> CopyWork:
    """ADD; raises InvalidInput."""
    work = _common(instruction, state, scope, ContextRef())
    checksum = scope.expand(instruction.checksum, state)
    if checksum:
        only = work.sources[0] if len(work.sources) == 1 else None
        if not isinstance(only, UrlFrom | GitFrom):
            raise InvalidInput(
                "--checksum needs one source that is a URL or a repository",
                hint="give every URL an ADD of its own",
            )
    return replace(
        work,
        add=True,
        checksum=checksum,
        keep_git_dir=instruction.keep_git_dir,
        unpack=instruction.unpack,
    )


def whole_context(ref: ContextRef) -> CopyWork:
    """All files of a context, for a stage that stands on one."""
    paths = PathsFrom(source=ref, patterns=("/",))
    return CopyWork(sources=(paths,), destination="/", add=False, from_stage=False)


def _common(
    instruction: Copy | Add, state: StageState, scope: Scope, source: SourceRef
) -> CopyWork:
    documents = {f"<<{document.name}": document for document in instruction.heredocs}
    sources: list[CopyFrom] = []
    for word in instruction.sources:
        if word in documents:
            sources.append(InlineFrom(document=_expanded(documents[word], state, scope)))
            continue
        path = scope.expand(word, state)
        found = _source(path, source, add=isinstance(instruction, Add))
        last = sources[-1] if sources else None
        if isinstance(found, PathsFrom) and isinstance(last, PathsFrom):
            sources[-1] = replace(last, patterns=(*last.patterns, *found.patterns))
        else:
            sources.append(found)
    chmod = scope.expand(instruction.chmod, state)
    if chmod and not _is_mode(chmod):
        raise InvalidInput(
            f"--chmod={chmod}: expected octal digits up to 7777 or clauses such as u=rwX,go=rX"
        )
    return CopyWork(
        sources=tuple(sources),
        destination=_destination(scope.expand(instruction.destination, state), state),
        add=False,
        from_stage=False,
        chown=scope.expand(instruction.chown, state),
        chmod=chmod,
        link=instruction.link,
        exclude=tuple(scope.expand(pattern, state) for pattern in instruction.exclude),
    )


def _is_mode(text: str) -> bool:
    if _OCTAL.fullmatch(text):
        return int(text, 8) <= 0o7777
    return bool(_CLAUSES.fullmatch(text))


def _expanded(document: Heredoc, state: StageState, scope: Scope) -> Heredoc:
    if not document.expand:
        return document
    from imgtools.build.language.expand import expand_word

    text = expand_word(document.content, state.variables, quotes=False).text
    return replace(document, content=text)


def _source(word: str, source: SourceRef, *, add: bool) -> CopyFrom:
    kind = source_kind(word)
    if kind == "path":
        return PathsFrom(source=source, patterns=(word,))
    if not add:
        raise InvalidInput(f"{word}: COPY takes files of the context", hint="ADD takes URLs")
    return UrlFrom(url=word) if kind == "url" else GitFrom(url=word)


def source_kind(word: str) -> str:
    """Whether a source of ADD is a "url", a "git" repository or a "path" (BuildKit's rules: a
    repository over HTTP is known by .git at the end of its path)."""
    lower = word.lower()
    if lower.startswith(("git://", "ssh://")) or re.match(r"[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:", word):
        return "git"
    if lower.startswith(("http://", "https://")):
        path = re.split(r"[?#]", word, maxsplit=1)[0]
        return "git" if path.rstrip("/").endswith(".git") else "url"
    return "path"


def _destination(word: str, state: StageState) -> str:
    # A variable that is not set is the working directory to BuildKit, which files rely on.
    word = word or "./"
    path = config.resolved_path(state.settings, word)
    last = word.rstrip("/").rpartition("/")[2]
    into = word.endswith("/") or last in (".", "..")
    return path if path == "/" or not into else f"{path}/"
