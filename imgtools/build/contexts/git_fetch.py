"""Fetching a repository: which commit is meant, and its files in a directory.

As little as possible is fetched: one commit, where the server knows how. One that only serves
files (dumb HTTP) gives everything it has.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable

from imgtools.blob.files import storage_errors
from imgtools.build.contexts.git_run import Git, GitFailed, missing
from imgtools.build.contexts.git_source import GitSource
from imgtools.build.contexts.options import GitOptions
from imgtools.errors import DigestMismatch, InvalidInput
from imgtools.frozen import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """A commit, the ref that led to it ("" where the commit itself was named), and the object
    of an annotated tag, if that is what the ref is."""

    commit: str
    ref: str = ""
    tag: str = ""


def pin(git: Git, source: GitSource) -> Pinned:
    """The commit that is meant, asked of the remote unless it is named in full.

    Raises NotFound, DigestMismatch (another checksum was asked for), GitFailed.
    """
    if source.commit:
        found = Pinned(commit=source.commit)
    else:
        wanted = source.ref or "HEAD"
        listed = git.run("ls-remote", "--", source.remote, wanted, wanted + "^{}")
        lines = listed.decode("utf-8", "replace").splitlines()
        chosen = choose(lines, wanted)
        if chosen is None:
            raise missing(
                source,
                f"there is no branch or tag {source.ref!r}"
                if source.ref
                else "the repository is empty",
                "a commit is named by all its hexadecimal digits" if source.ref else None,
            )
        found = chosen
    expected = source.checksum
    if expected and not any(each.startswith(expected) for each in (found.commit, found.tag)):
        raise DigestMismatch(source.name, expected=expected, actual=found.commit)
    return found


def choose(lines: Iterable[str], wanted: str) -> Pinned | None:
    """What `wanted` means among the lines of `git ls-remote`: the ref of that very name, else a
    branch, else a tag, whose commit counts and not its own object."""
    refs = {}
    for line in lines:
        commit, _, ref = line.partition("\t")
        refs[ref] = commit
    names = (
        wanted,
        "refs/" + wanted.removeprefix("refs/"),
        "refs/heads/" + wanted.removeprefix("refs/heads/"),
        "refs/tags/" + wanted.removeprefix("refs/tags/"),
    )
    for name in names:
        if name in refs:
            peeled = refs.get(name + "^{}")
            if peeled is not None:
                return Pinned(commit=peeled, ref=name, tag=refs[name])
            return Pinned(commit=refs[name], ref=name)
    return None


def check_out(
    git: Git, source: GitSource, pinned: Pinned, directory: str, options: GitOptions
) -> int:
    """Put the files of a commit into the empty `directory`, of mode 0644 or 0755, submodules
    included if they are wanted; the time of the commit, in seconds since the epoch.

    Raises NotFound, GitFailed, StorageError, Cancelled.
    """
    keep = options.keep_git_dir if source.keep_git_dir is None else source.keep_git_dir
    submodules = options.submodules if source.submodules is None else source.submodules
    git.run("init", "--quiet", "--template=", directory)
    git.run("remote", "add", "--", "origin", source.remote, directory=directory)
    _fetch(git, source, pinned, directory)
    git.run("checkout", "--quiet", "--detach", pinned.commit, "--", directory=directory)
    if submodules and os.path.lexists(os.path.join(directory, ".gitmodules")):
        _submodules(git, directory)
    shown = git.run("show", "--no-patch", "--format=%ct", pinned.commit, directory=directory)
    try:
        time = int(shown)
    except ValueError as e:
        raise InvalidInput(f"{source.name}: commit {pinned.commit} has no time") from e
    _finish(directory, keep=keep, time=time if source.commit_time else None)
    return time


def _fetch(git: Git, source: GitSource, pinned: Pinned, directory: str) -> None:
    """Get the commit: alone by its ref, by its name, or among all that there is."""
    shallow = ("fetch", "--quiet", "--no-tags", "--depth=1", "origin")
    attempts: list[tuple[str, ...]] = []
    if pinned.ref:
        kept = pinned.ref if pinned.ref.startswith("refs/tags/") else "refs/imgtools/wanted"
        attempts.append((*shallow, f"+{pinned.ref}:{kept}"))
    attempts.append((*shallow, pinned.commit))
    everything = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
    attempts.append(("fetch", "--quiet", "--no-tags", "origin", *everything))
    failure: GitFailed | None = None
    for arguments in attempts:
        try:
            git.run(*arguments, directory=directory)
            git.run("cat-file", "-e", pinned.commit + "^{commit}", directory=directory)
        except GitFailed as e:
            # The last failure of a fetch says most: those before may be only of how.
            failure = e if arguments is attempts[-1] or failure is None else failure
            continue
        return
    assert failure is not None
    if "Not a valid object name" in failure.said or "not our ref" in failure.said:
        raise missing(source, f"there is no commit {pinned.commit}") from failure
    raise failure


def _submodules(git: Git, directory: str) -> None:
    update = ("submodule", "--quiet", "update", "--init", "--recursive")
    try:
        git.run(*update, "--depth=1", directory=directory)
    except GitFailed as e:
        if "not allowed" in e.said:
            raise
        # Servers that know nothing of shallow clones, or not of this commit's name.
        git.run(*update, directory=directory)


def _finish(directory: str, *, keep: bool, time: int | None) -> None:
    """Take git's own files out, and set times; nobody else can write in `directory`."""
    with storage_errors(directory):
        if not keep:
            shutil.rmtree(os.path.join(directory, ".git"))
        for path, directories, files in os.walk(directory, topdown=False):
            if not keep and ".git" in files:
                os.unlink(os.path.join(path, ".git"))
                files.remove(".git")
            if time is not None:
                for name in (*files, *directories):
                    os.utime(os.path.join(path, name), (time, time), follow_symlinks=False)
        if time is not None:
            os.utime(directory, (time, time))
