"""The names of git repositories in contexts and ADD, with what of them is wanted.

The forms are BuildKit's (docs.docker.com/build/concepts/context, "Git repositories"): a URL with
`#ref:subdir` or with a query, and `user@host:path` as ssh takes it. Pure.
"""

from __future__ import annotations

import base64
import posixpath
import re
from dataclasses import field
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

from imgtools.errors import InvalidInput
from imgtools.frozen import dataclass

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SCP = re.compile(r"([A-Za-z0-9_-]+)@([A-Za-z0-9.-]+):([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL)
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_CHECKSUM = re.compile(r"[0-9a-f]{7,64}")
_UNSAFE_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|^[-/]|//")
"""What git-check-ref-format(1) refuses, and what would be read as an option."""
_ALWAYS_GIT = frozenset({"git", "ssh", "git+ssh"})
_HTTP = frozenset({"http", "https"})
_FLAGS = frozenset({"submodules", "keep-git-dir", "fetch-by-commit"})
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


@dataclass(frozen=True, slots=True, kw_only=True)
class GitSource:
    """A repository at `remote` (without user information for http) and what is wanted of it.

    `ref` is a branch, tag or commit, "" for the remote's HEAD; `subdir` a path without slashes
    at its ends. `checksum` is what the commit has to begin with. `commit_time` gives files the
    time of the commit. `by_commit` says that `checksum` is the commit that is wanted, wherever
    `ref` is by now. `authorization` is the value of an HTTP header that the URL's user
    information makes. None: what the caller does by default.
    """

    remote: str
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git_dir: bool | None = None
    submodules: bool | None = None
    commit_time: bool = False
    by_commit: bool = False
    authorization: str = field(default="", repr=False)

    @property
    def scheme(self) -> str:
        """The protocol that git is to speak."""
        found = _SCHEME.match(self.remote)
        return found[1].lower() if found else "ssh"

    @property
    def commit(self) -> str:
        """The commit, where it is named in full; else ""."""
        named = self.checksum if self.by_commit else self.ref or self.checksum
        return named if _COMMIT.fullmatch(named) else ""

    @property
    def name(self) -> str:
        """For messages."""
        return self.remote + (f"#{self.ref}" if self.ref else "")


def is_git(value: str) -> bool:
    """Whether `value` names a repository: by its scheme, by `.git` at the end of an HTTP URL's
    path, as `user@host:path`, or as `github.com/...`."""
    found = _SCHEME.match(value)
    if found is None:
        return value.startswith("github.com/") or _SCP.fullmatch(value) is not None
    scheme = found[1].lower()
    if scheme in _ALWAYS_GIT:
        return True
    path = re.split(r"[?#]", value, maxsplit=1)[0].rstrip("/")
    return scheme in (*_HTTP, "file") and path.endswith(".git")


def parse_git(value: str) -> GitSource:
    """The repository that `value` names; raises InvalidInput."""
    if value.startswith("github.com/"):
        value = f"https://{value}"
    scp = _SCP.fullmatch(value) if _SCHEME.match(value) is None else None
    if scp is not None:
        user, host, path, query, fragment = scp.groups(default="")
        if path.startswith("-") or host.startswith("-") or not path:
            raise InvalidInput(f"{value!r} is no repository that ssh could reach")
        return _wanted(value, GitSource(remote=f"{user}@{host}:{path}"), query, fragment)
    try:
        parts = urlsplit(value)
        host, user = parts.hostname or "", parts.username or ""
    except ValueError as e:
        raise InvalidInput("malformed URL of a git repository") from e
    if not parts.path or host.startswith("-") or user.startswith("-"):
        raise InvalidInput("malformed URL of a git repository: it needs a host and a path")
    authorization, netloc = "", parts.netloc
    if parts.scheme.lower() in _HTTP and "@" in netloc:
        pair = f"{unquote(user)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
        netloc = netloc.rpartition("@")[2]
    remote = urlunsplit((parts.scheme.lower(), netloc, parts.path, "", ""))
    source = GitSource(remote=remote, authorization=authorization)
    return _wanted(remote, source, parts.query, unquote(parts.fragment))


def _wanted(name: str, source: GitSource, query: str, fragment: str) -> GitSource:
    """`source` with what query and fragment ask for."""
    ref, _, subdir = fragment.partition(":")
    asked = _query(name, query)
    ref = _agreed(name, "ref", ref, asked.pop("ref", ""))
    for key, prefix in (("tag", "refs/tags/"), ("branch", "refs/heads/")):
        value = asked.pop(key, "")
        if value:
            ref = _agreed(name, "ref", ref, prefix + value.removeprefix(prefix))
    subdir = _agreed(name, "subdir", subdir.strip("/"), asked.pop("subdir", "").strip("/"))
    checksum = _agreed(name, "checksum", asked.pop("checksum", ""), asked.pop("commit", ""))
    mtime = asked.pop("mtime", "checkout")
    if mtime not in ("checkout", "commit"):
        raise InvalidInput(f"{name}: mtime={mtime}: expected checkout or commit")
    if ref and (_UNSAFE_REF.search(ref) or ref.endswith((".lock", "/", "."))):
        raise InvalidInput(f"{name}: {ref!r} is no name of a branch, tag or commit")
    by_commit = _flag(name, "fetch-by-commit", asked.pop("fetch-by-commit", None))
    if by_commit and not (_COMMIT.fullmatch(checksum.lower()) or _COMMIT.fullmatch(ref)):
        raise InvalidInput(f"{name}: fetch-by-commit needs a checksum that is a whole commit")
    keep = _flag(name, "keep-git-dir", asked.pop("keep-git-dir", None))
    submodules = _flag(name, "submodules", asked.pop("submodules", None))
    if asked:
        known = "ref, tag, branch, subdir, checksum, submodules, keep-git-dir, mtime"
        raise InvalidInput(f"{name}: unexpected query {min(asked)!r}; there is {known}")
    return GitSource(
        remote=source.remote,
        ref=ref,
        subdir=posixpath.normpath("/" + subdir).strip("/"),
        checksum=check_checksum(checksum, name),
        keep_git_dir=keep,
        submodules=submodules,
        commit_time=mtime == "commit",
        by_commit=bool(by_commit and checksum),
        authorization=source.authorization,
    )


def check_checksum(checksum: str, name: str) -> str:
    """`checksum` in lower case, if it can be (the beginning of) a commit's id, or "".

    Raises InvalidInput, with `name` of the repository.
    """
    checksum = checksum.lower()
    if checksum and not _CHECKSUM.fullmatch(checksum):
        raise InvalidInput(
            f"{name}: checksum {checksum!r} is no commit", hint="give its 40 hexadecimal digits"
        )
    return checksum


def _query(name: str, query: str) -> dict[str, str]:
    asked: dict[str, str] = {}
    try:
        found = parse_qs(query, keep_blank_values=True, max_num_fields=32)
    except ValueError as e:
        raise InvalidInput(f"{name}: malformed query") from e
    for key, values in found.items():
        if len(values) != 1:
            raise InvalidInput(f"{name}: query {key!r} has several values")
        if not values[0] and key not in _FLAGS:
            raise InvalidInput(f"{name}: query {key!r} has no value")
        asked[key] = values[0]
    return asked


def _agreed(name: str, what: str, one: str, other: str) -> str:
    if one and other and one != other:
        raise InvalidInput(f"{name}: two values for {what}: {one!r} and {other!r}")
    return one or other


def _flag(name: str, key: str, value: str | None) -> bool | None:
    if value is None:
        return None
    if value in _TRUE or not value:
        return True
    if value in _FALSE:
        return False
    raise InvalidInput(f"{name}: {key}={value}: expected true or false")
