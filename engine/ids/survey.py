"""Reads what decides about ids: this process's credentials and maps, subuid and subgid, passwd,
and whether newuidmap and newgidmap can do their work."""

from __future__ import annotations

import errno
import os
import pwd
import stat

from engine.ids.model import Identity, IdFacts, IdMapping, IdOptions, IdRange, MapHelper, Refusal
from engine.ids.subordinate import MAX_SIZE, parse
from engine.runtime.kernel.files import find_program, read_file
from imgtools.errors import StorageError

PACKAGE = "the package uidmap (shadow-utils in Fedora)"


def survey_ids(options: IdOptions) -> IdFacts:
    """The facts of this process; raises StorageError where procfs cannot be read."""
    status = parse_status(_proc("status"))
    identity = identify(os.getuid(), os.getgid(), options)
    name = identity.name if identity.in_passwd else ""
    subuids, uid_problems = _granted(options.subuid, name, identity.uid)
    subgids, gid_problems = _granted(options.subgid, name, identity.uid)
    return IdFacts(
        identity=identity,
        effective_uid=os.geteuid(),
        capabilities=int(status.get("CapEff", "0"), 16),
        no_new_privileges=status.get("NoNewPrivs", "0") == "1",
        seccomp=status.get("Seccomp", "0") != "0",
        setgroups_allowed=_proc("setgroups").strip() != "deny",
        uid_extents=parse_map(_proc("uid_map")),
        gid_extents=parse_map(_proc("gid_map")),
        subuids=subuids,
        subgids=subgids,
        subid_problems=(*uid_problems, *gid_problems),
        newuidmap=find_helper("newuidmap", options.path),
        newgidmap=find_helper("newgidmap", options.path),
    )


def identify(uid: int, gid: int, options: IdOptions) -> Identity:
    """Who `uid` is. In pods a uid often has no passwd entry, and USER and HOME say nothing:
    then the number is the name and / the home."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Identity(
            uid=uid,
            gid=gid,
            groups=tuple(os.getgroups()),
            name=options.user_name or str(uid),
            home=options.home or "/",
            in_passwd=False,
        )
    return Identity(
        uid=uid,
        gid=gid,
        groups=tuple(os.getgroups()),
        name=entry.pw_name,
        home=options.home or entry.pw_dir or "/",
    )


def parse_status(text: str) -> dict[str, str]:
    """proc_pid_status(5) as names and values."""
    return {
        name: value.strip() for name, _, value in (line.partition(":") for line in text.split("\n"))
    }


def parse_map(text: str) -> tuple[IdMapping, ...]:
    """A uid_map or gid_map as read from procfs: one line per extent."""
    lines = [line.split() for line in text.splitlines()]
    return tuple(
        IdMapping(container_id=int(words[0]), host_id=int(words[1]), size=int(words[2]))
        for words in lines
        if len(words) == 3
    )


def find_helper(name: str, path: tuple[str, ...]) -> MapHelper:
    """The first program `name` in `path`, and whether it has the privileges it needs."""
    found = find_program(name, path)
    if found:
        return MapHelper(path=found, problem=_unprivileged(found, name))
    missing = Refusal(why=f"{name} is not installed", remedy=f"install {PACKAGE}")
    return MapHelper(problem=missing)


def _unprivileged(path: str, name: str) -> Refusal | None:
    """Why the program at `path` would run without privileges, None if it would not. Copying an
    image without its extended attributes loses file capabilities."""
    found = os.stat(path)
    if os.geteuid() == 0:
        return None
    if os.statvfs(path).f_flag & os.ST_NOSUID:
        return Refusal(
            why=f"{path} is on a file system that is mounted nosuid", remedy="mount it with suid"
        )
    if found.st_mode & stat.S_ISUID and found.st_uid == 0:
        return None
    try:
        os.getxattr(path, "security.capability")
    except OSError as e:
        if e.errno not in (errno.ENODATA, errno.ENOTSUP):
            return None
        return Refusal(
            why=f"{path} is neither set-uid root nor has file capabilities",
            remedy=f"restore them: setcap cap_set{name[3]}id=ep {path}, or chmod u+s {path}",
        )
    return None


def _granted(path: str, name: str, uid: int) -> tuple[tuple[IdRange, ...], list[str]]:
    try:
        content = read_file(path, MAX_SIZE + 1)
    except FileNotFoundError:
        return (), []
    except OSError as e:
        return (), [f"{path}: {(e.strerror or str(e)).lower()}"]
    if len(content) > MAX_SIZE:
        return (), [f"{path} is larger than {MAX_SIZE} bytes"]
    return parse(content.decode("utf-8", "replace"), name=name, uid=uid, file=path)


def _proc(name: str) -> str:
    path = f"/proc/self/{name}"
    try:
        return read_file(path, 1 << 16).decode("ascii", "replace")
    except OSError as e:
        raise StorageError(
            f"{path}: {(e.strerror or str(e)).lower()}",
            path=path,
            hint="a procfs has to be mounted on /proc",
        ) from e
