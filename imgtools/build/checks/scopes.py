"""Checks that need the values of variables: a light walk through the environment of each stage.

It knows what ARG and ENV define, in their order, and what a stage has from the one it builds on.
What fails to expand is left for the build itself to report.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from imgtools.build.checks.bases import suggestion
from imgtools.build.checks.model import CheckOptions, Found
from imgtools.build.checks.stages import Stage, expand_or_none
from imgtools.build.language.expand import expand_heredoc, expand_words
from imgtools.build.language.model import (
    Add,
    Arg,
    Copy,
    Env,
    Expose,
    Instruction,
    Label,
    Run,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from imgtools.errors import InvalidInput

# What a build gives a Linux image that sets no PATH.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SILENT = frozenset(("BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"))
_EVERYTHING = ("*", "**", "**/*")


@dataclass(slots=True)
class _Scope:
    """What a stage knows at one place. `known` is false if its base image's variables are not."""

    variables: dict[str, str]
    declared: set[str] = field(default_factory=set)
    known: bool = True
    absolute: bool = False

    def copy(self) -> _Scope:
        """The scope of a stage that builds on this one."""
        return _Scope(dict(self.variables), set(self.declared), self.known, self.absolute)


def check_scopes(
    stages: Sequence[Stage], variables: Mapping[str, str], options: CheckOptions, escape: str
) -> Iterator[Found]:
    """UndefinedVar, WorkdirRelativePath, CopyIgnoredFile, ExposeProtoCasing and
    ExposeInvalidFormat. `variables` are those of the file's first lines, for bare ARGs."""
    scopes: list[_Scope] = []
    for stage in stages:
        scope = scopes[stage.parent].copy() if stage.parent is not None else _base(stage, options)
        walk = _Walk(scope, variables, options, escape)
        for at in stage.body:
            yield from walk.visit(at)
        scopes.append(scope)


def _base(stage: Stage, options: CheckOptions) -> _Scope:
    if stage.base in options.contexts:
        return _Scope({"PATH": _PATH}, known=False)
    if stage.base == "scratch" or options.environments is None:
        return _Scope({"PATH": _PATH})
    found = options.environments.get(stage.base)
    return _Scope({"PATH": _PATH, **(found or {})}, known=found is not None)


class _Walk:
    """Goes through one stage and changes its scope on the way."""

    def __init__(
        self, scope: _Scope, inherited: Mapping[str, str], options: CheckOptions, escape: str
    ) -> None:
        self._scope = scope
        self._inherited = inherited
        self._options = options
        self._escape = escape
        self._missing: set[str] = set()

    def visit(self, at: Instruction) -> Iterator[Found]:
        """What is wrong with one instruction."""
        self._missing = set()
        if isinstance(at, Workdir):
            yield from self._workdir(at)
        elif isinstance(at, Copy | Add):
            yield from self._copy(at)
        elif isinstance(at, Expose):
            yield from self._expose(at)
        elif isinstance(at, Arg):
            self._arg(at)
        elif isinstance(at, Env):
            pairs = [(self._expand(name), self._expand(value)) for name, value in at.pairs]
            self._scope.variables |= {k: v for k, v in pairs if k is not None and v is not None}
        else:
            for word in _words(at):
                self._expand(word)
        if not self._scope.known:
            return
        known = {*self._scope.variables, *self._scope.declared}
        for name in sorted(self._missing - self._scope.declared - _SILENT):
            text = f"variable '{name}' is not defined{suggestion(name, known)}"
            yield Found("UndefinedVar", text, at)

    def _expand(self, word: str) -> str | None:
        expanded = expand_or_none(word, self._scope.variables, self._escape)
        if expanded is None:
            return None
        self._missing |= expanded.unmatched
        return expanded.text

    def _arg(self, at: Arg) -> None:
        given = self._options.build_args
        for name, default in at.pairs:
            value: str | None
            if name in given:
                value = given[name]
            elif default is not None:
                value = self._expand(default)
            else:
                value = self._inherited.get(name)
            self._scope.declared.add(name)
            if value is not None and name not in _SILENT:
                self._scope.variables[name] = value

    def _workdir(self, at: Workdir) -> Iterator[Found]:
        path = self._expand(at.path)
        if path is not None and not self._scope.absolute and not path.startswith("/"):
            yield Found(
                "WorkdirRelativePath",
                f"WORKDIR {path} depends on the base image: begin with an absolute path",
                at,
            )
        self._scope.absolute = True

    def _copy(self, at: Copy | Add) -> Iterator[Found]:
        sources = [self._expand(word) for word in at.sources if not word.startswith("<<")]
        words = [at.destination, at.chown, at.chmod]
        for word in [*words, at.checksum] if isinstance(at, Add) else words:
            self._expand(word)
        for document in at.heredocs:
            if document.expand:
                try:
                    body = expand_heredoc(document.content, self._scope.variables)
                except InvalidInput:
                    continue
                self._missing |= body.unmatched
        if isinstance(at, Copy) and at.from_:
            return
        for source in sources:
            if source is not None and self._is_ignored(at, source):
                yield Found("CopyIgnoredFile", f"{at.keyword} of {source!r}, which is ignored", at)

    def _is_ignored(self, at: Copy | Add, source: str) -> bool:
        """Exceptions (`!`) can bring back parts of a directory, so they end this check."""
        ignore = self._options.ignore
        if ignore is None or ignore.has_exceptions:
            return False
        if isinstance(at, Add) and ("://" in source or source.startswith("git@")):
            return False
        path = posixpath.normpath("/" + source).strip("/")
        if not path:
            return any(pattern.text in _EVERYTHING for pattern in ignore.patterns)
        return ignore.ignored(path)

    def _expose(self, at: Expose) -> Iterator[Found]:
        for word in at.ports:
            try:
                ports = expand_words(word, self._scope.variables, escape=self._escape)
            except InvalidInput:
                continue
            for port in ports:
                host, _, container = port.rpartition(":")
                protocol = container.partition("/")[2]
                if protocol != protocol.lower():
                    yield Found(
                        "ExposeProtoCasing", f"protocol of port '{port}' should be lower case", at
                    )
                if host.strip(":"):
                    yield Found(
                        "ExposeInvalidFormat",
                        f"EXPOSE takes a port of the container, not '{port}': addresses and host "
                        "ports belong to run",
                        at,
                    )


def _words(at: Instruction) -> Iterator[str]:
    """The words that are expanded when an instruction is evaluated."""
    if isinstance(at, Label):
        for pair in at.pairs:
            yield from pair
    elif isinstance(at, User):
        yield at.user
    elif isinstance(at, Volume):
        yield from at.paths
    elif isinstance(at, StopSignal):
        yield at.signal
    elif isinstance(at, Run):
        yield from at.mounts
