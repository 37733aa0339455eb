"""Moves this process into the user namespace in which its containers live.

It is called once, early, in a process without threads. A child that stays outside writes the
maps; afterwards this process is uid 0 inside, and everything it mounts, unpacks or starts is
done as that root. A process that is root already stays where it is.
"""

from __future__ import annotations

import os
import signal
from dataclasses import replace

from engine.ids.maps import MapsRefused, internal_error, run_helpers, write_maps
from engine.ids.model import (
    CAP_CHOWN,
    CAP_SYS_ADMIN,
    Identity,
    IdFacts,
    IdMaps,
    IdOptions,
    IdSession,
)
from engine.ids.plan import NamespaceRefused, plan_id_maps
from engine.ids.refusals import UsernsLimits, explain_refusal, survey_limits
from engine.ids.survey import identify, survey_ids
from engine.runtime.kernel.mounting import MS_REC, MS_SLAVE, mount
from engine.runtime.kernel.processes import (
    CLONE_NEWNS,
    CLONE_NEWUSER,
    PR_SET_DUMPABLE,
    PR_SET_PDEATHSIG,
    prctl,
    unshare,
)
from imgtools.errors import Error, StorageError, Unsupported

FULL_MAP = ((0, 0, (1 << 32) - 1),)


def enter_user_namespace(options: IdOptions) -> IdSession:
    """Get the ids that `options` ask for, by a user namespace where they need one.

    Raises Unsupported where there is no way to them, with the reason and what would change it;
    Error where threads run already.
    """
    facts = survey_ids(options)
    return enter(plan_id_maps(facts, options.mode), facts, options)


def obtain_ids(options: IdOptions) -> IdSession:
    """As `enter_user_namespace`, but where user namespaces are refused this process stays as
    it is, with the ids it has: enough to unpack and pack, though not to mount.

    Then `reason` tells why, and `can_mount` is false. Raises Error where threads run already,
    Unsupported where `options.mode` asks for what cannot be had.
    """
    facts = survey_ids(options)
    try:
        maps = plan_id_maps(facts, options.mode)
        if maps.writer != "none" and survey_limits().apparmor_restricts:
            # AppArmor refuses only after unshare, when there is no way back.
            _rehearse(maps, facts, options)
        return enter(maps, facts, options)
    except NamespaceRefused as e:
        if options.mode is not None:
            raise
        chowns = facts.effective_uid == 0 and facts.has(CAP_CHOWN)
        here = IdMaps(
            mode="root" if chowns else "single",
            writer="none",
            uids=facts.uid_extents,
            gids=facts.gid_extents,
            why=e.message,
        )
        found = _session(here, facts, options, entered=False)
        return replace(found, can_mount=False)


def loses_own_id(options: IdOptions) -> bool:
    """Whether `obtain_ids` would leave the caller's uid behind, and with it the right to write
    where only that may."""
    if os.geteuid() != 0:
        # Of everybody else's ids their own is mapped first.
        return False
    facts = survey_ids(options)
    try:
        maps = plan_id_maps(facts, options.mode)
    except NamespaceRefused:
        return False
    return maps.writer != "none" and maps.uid_outside(0) != facts.effective_uid


def _rehearse(maps: IdMaps, facts: IdFacts, options: IdOptions) -> None:
    """Enter in a child first; raises NamespaceRefused where that fails."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        message = "user namespaces have no capabilities here"
        try:
            enter(maps, facts, replace(options, give=()))
            message = ""
        except Error as e:
            message = e.message
        finally:
            os.write(writing, message.encode("utf-8", "replace")[:4096])
            os._exit(0)
    os.close(writing)
    try:
        message = os.read(reading, 4096).decode("utf-8", "replace")
    finally:
        os.close(reading)
        os.waitpid(pid, 0)
    if message:
        raise NamespaceRefused(message)


def enter(maps: IdMaps, facts: IdFacts, options: IdOptions) -> IdSession:
    """Do what `maps` plan; where newuidmap refuses before anything is written and no mode was
    asked for, go on with a single id. Errors as `enter_user_namespace`."""
    if maps.writer == "none":
        if options.mount_namespace:
            _own_mounts()
        return _session(maps, facts, options, entered=False)
    _check_single_threaded()
    fallback = None
    if options.mode is None and maps.mode == "ranges" and maps.writer == "helpers":
        fallback = plan_id_maps(facts, "single")
    limits = survey_limits()
    prctl(PR_SET_DUMPABLE, 1)
    own = CLONE_NEWNS if options.mount_namespace else 0
    if maps.mode == "single":
        _unshare(CLONE_NEWUSER | own, facts, limits)
        write_maps("self", maps, limits)
    else:
        refused = _mapped_by_child(maps, fallback, facts, limits, options)
        if refused and fallback is not None:
            maps = replace(fallback, rejected=(*maps.rejected, f"ranges: {refused}"))
    _become_root(maps)
    if own:
        mount(None, b"/", None, MS_REC | MS_SLAVE, None)
    return _session(maps, facts, options, entered=True)


def _check_single_threaded() -> None:
    """unshare(CLONE_NEWUSER) is EINVAL for a process with threads, and a child forked from one
    may hang on a lock that nobody holds any more."""
    count = len(os.listdir("/proc/self/task"))
    if count > 1:
        raise internal_error(
            f"a user namespace has to be entered before threads are started, {count} run"
        )


def _unshare(flags: int, facts: IdFacts, limits: UsernsLimits) -> None:
    try:
        unshare(flags)
    except OSError as e:
        found = explain_refusal(e.errno or 0, limits, privileged=facts.has(CAP_SYS_ADMIN))
        raise NamespaceRefused(found.why, hint=found.remedy or None) from e


def _own_mounts() -> None:
    """A private mount namespace into which the host's later unmounts still propagate."""
    try:
        unshare(CLONE_NEWNS)
        mount(None, b"/", None, MS_REC | MS_SLAVE, None)
    except OSError as e:
        text = (e.strerror or str(e)).lower()
        raise Unsupported(f"no mount namespace of our own: {text}") from e


def _mapped_by_child(
    maps: IdMaps,
    fallback: IdMaps | None,
    facts: IdFacts,
    limits: UsernsLimits,
    options: IdOptions,
) -> str:
    """Unshare while a child outside writes the maps; empty, or why it wrote `fallback`."""
    go_read, go_write = os.pipe()
    done_read, done_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go_write)
        os.close(done_read)
        _write_from_outside(maps, fallback, facts, limits, options, go_read, done_write)
    os.close(go_read)
    os.close(done_write)
    try:
        own = CLONE_NEWNS if options.mount_namespace else 0
        _unshare(CLONE_NEWUSER | own, facts, limits)
        os.write(go_write, b"1")
        answer = os.read(done_read, 8192).decode("utf-8", "replace")
    finally:
        os.close(go_write)
        os.close(done_read)
        os.waitpid(pid, 0)
    state, _, rest = answer.partition("\n")
    text, _, hint = rest.partition("\n")
    if state == "mapped":
        return ""
    if state == "fallback":
        return text
    raise Unsupported(text or "the process that writes the id maps was killed", hint=hint or None)


def _write_from_outside(
    maps: IdMaps,
    fallback: IdMaps | None,
    facts: IdFacts,
    limits: UsernsLimits,
    options: IdOptions,
    go_read: int,
    done_write: int,
) -> None:
    """The child: wait for the namespace, write its maps, tell how it went. Never returns."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = os.getppid()
    if os.read(go_read, 1) != b"1":
        os._exit(0)
    try:
        answer = "mapped\n"
        _give(options.give, maps, facts)
        try:
            if maps.writer == "helpers":
                run_helpers(parent, maps, facts.newuidmap.path, facts.newgidmap.path)
            else:
                write_maps(str(parent), maps, limits)
        except MapsRefused as e:
            if fallback is None or e.partly:
                raise
            write_maps(str(parent), fallback, limits)
            answer = f"fallback\n{e.message}\n"
    except Error as e:
        answer = f"refused\n{e.message}\n{e.hint or ''}"
    except OSError as e:
        answer = f"refused\nwriting id maps: {(e.strerror or str(e)).lower()}\n"
    os.write(done_write, answer.encode("utf-8", "replace")[:8192])
    os._exit(0)


def _become_root(maps: IdMaps) -> None:
    """uid 0 and gid 0 inside. Where setgroups is denied the outer groups stay, as they must:
    dropping them would get around modes such as 0707."""
    try:
        if not maps.deny_setgroups:
            os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    except OSError as e:
        text = (e.strerror or str(e)).lower()
        raise Unsupported(f"becoming root of the user namespace: {text}") from e
    # Another outer uid makes a process undumpable, and its files in /proc unreadable.
    prctl(PR_SET_DUMPABLE, 1)


def _give(directories: tuple[str, ...], maps: IdMaps, facts: IdFacts) -> None:
    """Hand directories of ours to the outer uid that root inside will be, if that is another:
    inside, files of an unmapped owner cannot be changed by anybody."""
    uid, gid = maps.uid_outside(0), maps.gid_outside(0)
    if uid is None or gid is None or uid == facts.effective_uid:
        return
    for directory in directories:
        try:
            os.makedirs(directory, 0o700, exist_ok=True)
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.fstat(fd).st_uid == facts.effective_uid:
                    os.fchown(fd, uid, gid)
            finally:
                os.close(fd)
        except OSError as e:
            text = (e.strerror or str(e)).lower()
            raise StorageError(f"{directory}: {text}", path=directory) from e


def _session(maps: IdMaps, facts: IdFacts, options: IdOptions, *, entered: bool) -> IdSession:
    extents = tuple((m.container_id, m.host_id, m.size) for m in facts.uid_extents)
    nested = entered or extents != FULL_MAP
    outer = facts.identity
    if not entered and nested and options.outer_uid is not None:
        gid = options.outer_uid if options.outer_gid is None else options.outer_gid
        found = identify(options.outer_uid, gid, options)
        outer = Identity(
            uid=found.uid,
            gid=found.gid,
            groups=outer.groups,
            name=found.name,
            home=found.home,
            in_passwd=found.in_passwd,
        )
    reason = "; ".join((maps.why, *maps.rejected))
    return IdSession(
        mode=maps.mode,
        entered=entered,
        in_user_namespace=nested,
        maps=maps,
        outer=outer,
        setgroups=not maps.deny_setgroups if entered else facts.setgroups_allowed,
        reason=reason,
    )
