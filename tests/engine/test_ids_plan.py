"""Ranges of subuid, and the maps that are planned from them: tables and properties."""

from __future__ import annotations

import errno
import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.ids.maps import map_text
from engine.ids.model import (
    CAP_SETFCAP,
    CAP_SETGID,
    CAP_SETUID,
    CAP_SYS_ADMIN,
    MAX_MAP_LINES,
    Identity,
    IdFacts,
    IdMapping,
    IdMode,
    IdRange,
    MapHelper,
    Refusal,
)
from engine.ids.plan import plan_id_maps
from engine.ids.refusals import UsernsLimits, explain_map_refusal, explain_refusal
from engine.ids.subordinate import ID_LIMIT, parse, subtract
from engine.ids.survey import parse_map
from imgtools.errors import Unsupported

HOST = (IdMapping(container_id=0, host_id=0, size=ID_LIMIT),)
# What rootless podman gives a user: their own id as root, then a range.
PODMAN = (
    IdMapping(container_id=0, host_id=1000, size=1),
    IdMapping(container_id=1, host_id=100000, size=65536),
)
SINGLE = (IdMapping(container_id=0, host_id=1000, size=1),)
HELPERS = {
    "newuidmap": MapHelper(path="/usr/bin/newuidmap"),
    "newgidmap": MapHelper(path="/usr/bin/newgidmap"),
}
GRANTED = (IdRange(first=100000, count=65536),)
DOCKER = 1 << CAP_SETUID | 1 << CAP_SETGID | 1 << CAP_SETFCAP


def facts(**values: Any) -> IdFacts:
    """A user with one range, unless `values` say otherwise."""
    uid = values.pop("uid", 1000)
    base: dict[str, Any] = {
        "identity": Identity(uid=uid, gid=uid, name="somebody"),
        "effective_uid": uid,
        "capabilities": 0,
        "no_new_privileges": False,
        "seccomp": False,
        "setgroups_allowed": True,
        "uid_extents": HOST,
        "gid_extents": HOST,
        "subuids": GRANTED,
        "subgids": GRANTED,
        **HELPERS,
    }
    return IdFacts(**{**base, **values})


def lines(maps: tuple[IdMapping, ...]) -> list[str]:
    """A map as it is written."""
    return map_text(maps).decode().splitlines()


@pytest.mark.parametrize(
    ("text", "expected", "problems"),
    [
        ("somebody:100000:65536\n", [(100000, 65536)], 0),
        ("1000:100000:65536", [(100000, 65536)], 0),
        ("somebody:1:2\n1000:7:1\nsomebody:100:10\n", [(1, 2), (7, 1), (100, 10)], 0),
        ("other:100000:65536\n10000:5:5\n", [], 0),
        ("# somebody:1:1\n\n   \nsomebody:5:5\n", [(5, 5)], 0),
        ("somebody:1\nsomebody:a:b\nsomebody:-1:5\nsomebody::\n:1:1\nsomebody:1:1:1\n", [], 6),
        ("somebody:1:0\n", [], 1),
        ("somebody:4294967295:1\nsomebody:4294967290:6\nsomebody:99999999999:1\n", [], 3),
        ("somebody:4294967290:5\n", [(4294967290, 5)], 0),
        ("somebody: 1:1\nsomebody:+1:1\nsomebody:\u0661:1\nsomebody:1_0:1\n", [], 4),
        ("", [], 0),
    ],
)
def test_subuid_lines(text: str, expected: list[tuple[int, int]], problems: int) -> None:
    """Names and numbers, several lines, and what newuidmap would not take either."""
    ranges, found = parse(text, name="somebody", uid=1000, file="/etc/subuid")
    assert [(r.first, r.count) for r in ranges] == expected
    assert len(found) == problems
    assert all(problem.startswith("/etc/subuid:") for problem in found)


def test_a_user_without_a_name_matches_by_number_only() -> None:
    """In pods a uid has often no passwd entry."""
    ranges, _ = parse(":5:5\n1000:7:7\n", name="", uid=1000, file="f")
    assert [(r.first, r.count) for r in ranges] == [(7, 7)]


@given(st.text(), st.text(max_size=5))
def test_subuid_takes_any_text(text: str, name: str) -> None:
    """Never an error, and only ranges of ids that exist."""
    ranges, _ = parse(text, name=name, uid=1000, file="f")
    assert all(0 <= r.first < r.end <= ID_LIMIT for r in ranges)


RANGES = st.lists(
    st.builds(IdRange, first=st.integers(0, 300), count=st.integers(1, 60)), max_size=6
).map(tuple)


@given(RANGES, RANGES)
def test_subtract_keeps_each_id_once(ranges: Any, taken: Any) -> None:
    """In order, without what is taken, without what came before."""
    wanted = [i for r in ranges for i in range(r.first, r.end)]
    gone = {i for r in taken for i in range(r.first, r.end)}
    left = [i for r in subtract(ranges, taken) for i in range(r.first, r.end)]
    assert left == list(dict.fromkeys(i for i in wanted if i not in gone))


@pytest.mark.parametrize(
    ("given_facts", "mode", "writer", "uids", "gids"),
    [
        (facts(uid=0, capabilities=1 << CAP_SYS_ADMIN), "root", "none", ["0 0 4294967295"], None),
        (
            facts(uid=0, capabilities=1 << CAP_SYS_ADMIN, uid_extents=SINGLE, gid_extents=SINGLE),
            "single",
            "none",
            ["0 1000 1"],
            None,
        ),
        (facts(), "ranges", "helpers", ["0 1000 1", "1 100000 65536"], None),
        (
            facts(subuids=(IdRange(first=5, count=5), IdRange(first=50, count=50))),
            "ranges",
            "helpers",
            ["0 1000 1", "1 5 5", "6 50 50"],
            ["0 1000 1", "1 100000 65536"],
        ),
        # Overlapping lines, and one that grants the user what is theirs anyway.
        (
            facts(subuids=(IdRange(first=990, count=20), IdRange(first=1005, count=10))),
            "ranges",
            "helpers",
            ["0 1000 1", "1 990 10", "11 1001 9", "20 1010 5"],
            ["0 1000 1", "1 100000 65536"],
        ),
        # A line of a map may not cross an extent of the parent's.
        (
            facts(
                uid=1,
                uid_extents=PODMAN,
                gid_extents=PODMAN,
                subuids=(IdRange(first=0, count=70000),),
                subgids=(IdRange(first=0, count=70000),),
            ),
            "ranges",
            "helpers",
            ["0 1 1", "1 0 1", "2 2 65535"],
            None,
        ),
        # Container root with Docker's capabilities, where namespaces are admitted.
        (facts(uid=0, capabilities=DOCKER), "ranges", "direct", ["0 0 4294967295"], None),
        (
            facts(uid=0, capabilities=DOCKER, uid_extents=PODMAN, gid_extents=PODMAN),
            "ranges",
            "direct",
            ["0 0 1", "1 1 65536"],
            None,
        ),
        # CRI-O: without CAP_SETFCAP uid 0 cannot be mapped.
        (
            facts(uid=0, capabilities=1 << CAP_SETUID | 1 << CAP_SETGID),
            "ranges",
            "direct",
            ["0 1 4294967294"],
            None,
        ),
        (
            facts(
                uid=0,
                capabilities=1 << CAP_SETUID | 1 << CAP_SETGID,
                uid_extents=(IdMapping(container_id=0, host_id=5, size=65536),),
                gid_extents=(IdMapping(container_id=0, host_id=5, size=65536),),
            ),
            "ranges",
            "direct",
            ["0 1 65535"],
            None,
        ),
        (facts(subuids=()), "single", "direct", ["0 1000 1"], None),
        (facts(subgids=()), "single", "direct", ["0 1000 1"], None),
        (facts(no_new_privileges=True), "single", "direct", ["0 1000 1"], None),
        (facts(setgroups_allowed=False), "single", "direct", ["0 1000 1"], None),
        (
            facts(newgidmap=MapHelper(problem=Refusal(why="gone"))),
            "single",
            "direct",
            ["0 1000 1"],
            None,
        ),
        (
            facts(identity=Identity(uid=1000, gid=1000, in_passwd=False)),
            "single",
            "direct",
            ["0 1000 1"],
            None,
        ),
        # Subordinate ids that do not exist in the namespace we are in.
        (facts(uid_extents=SINGLE, gid_extents=SINGLE), "single", "direct", ["0 1000 1"], None),
    ],
)
def test_strongest_maps(
    given_facts: IdFacts, mode: str, writer: str, uids: list[str], gids: list[str] | None
) -> None:
    """What is chosen where no mode is asked for."""
    maps = plan_id_maps(given_facts)
    assert (maps.mode, maps.writer) == (mode, writer)
    assert lines(maps.uids) == uids
    assert lines(maps.gids) == (uids if gids is None else gids)
    assert maps.why
    assert maps.deny_setgroups == (mode == "single" and writer == "direct")


@pytest.mark.parametrize(
    ("given_facts", "mode", "message"),
    [
        (facts(), "root", "this is uid 1000, not root"),
        (facts(uid=0), "root", "root here has no CAP_SYS_ADMIN"),
        (facts(subuids=()), "ranges", "/etc/subuid grants somebody nothing"),
        (facts(subgids=()), "ranges", "/etc/subgid grants somebody nothing"),
        (facts(no_new_privileges=True), "ranges", "no_new_privs is set"),
        (facts(uid=0, capabilities=1 << CAP_SETUID), "single", "needs CAP_SETFCAP"),
    ],
)
def test_mode_that_was_asked_for_is_refused_with_a_remedy(
    given_facts: IdFacts, mode: IdMode, message: str
) -> None:
    """Never another mode in its place."""
    with pytest.raises(Unsupported, match=message) as caught:
        plan_id_maps(given_facts, mode)
    assert caught.value.hint


def test_nothing_works_says_why_each() -> None:
    """Root without any capability."""
    with pytest.raises(Unsupported) as caught:
        plan_id_maps(facts(uid=0, subuids=()))
    assert [m in caught.value.message for m in ("root: ", "ranges: ", "single: ")] == [True] * 3


def test_c9_a_map_has_at_most_340_lines() -> None:
    """The kernel refuses more with EINVAL."""
    many = tuple(IdRange(first=100000 + 10 * n, count=5) for n in range(500))
    maps = plan_id_maps(facts(subuids=many))
    assert len(maps.uids) == MAX_MAP_LINES
    extents = tuple(IdMapping(container_id=2 * n, host_id=2 * n, size=1) for n in range(500))
    privileged = facts(uid=0, capabilities=DOCKER, uid_extents=extents)
    assert len(plan_id_maps(privileged).uids) == MAX_MAP_LINES


EXTENTS = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 20)), min_size=1, max_size=8)


def _extents(parts: list[tuple[int, int]]) -> tuple[IdMapping, ...]:
    found, at = [], 0
    for size, gap in parts:
        found.append(IdMapping(container_id=at + gap, host_id=at + gap + 1000, size=size))
        at += gap + size
    return tuple(found)


@given(EXTENTS, RANGES, st.booleans(), st.booleans())
def test_c9_every_planned_map_keeps_the_kernels_rules(
    parts: list[tuple[int, int]], granted: Any, privileged: bool, setfcap: bool
) -> None:
    """Inside ids begin at 0 and do not overlap; outside ids do not overlap, and each line lies
    in one extent of the parent's map."""
    extents = _extents(parts)
    caps = (1 << CAP_SETUID | 1 << CAP_SETGID) if privileged else 0
    caps |= 1 << CAP_SETFCAP if setfcap else 0
    given_facts = facts(
        uid=extents[0].container_id,
        capabilities=caps,
        uid_extents=extents,
        gid_extents=extents,
        subuids=granted,
        subgids=granted,
    )
    try:
        maps = plan_id_maps(given_facts, "ranges")
    except Unsupported:
        return
    inside = [(m.container_id, m.container_id + m.size) for m in maps.uids]
    outside = sorted((m.host_id, m.host_id + m.size) for m in maps.uids)
    assert inside[0][0] == 0
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(inside))
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(outside))
    for first, end in outside:
        assert any(e.container_id <= first and end <= e.container_id + e.size for e in extents)
    if privileged and not setfcap:
        assert outside[0][0] > 0


def test_parse_map_reads_what_the_kernel_prints() -> None:
    """Columns are padded."""
    text = "         0       1000          1\n         1     100000      65536\n"
    assert parse_map(text) == PODMAN
    assert parse_map("") == ()


def test_outside_ids() -> None:
    """As seen from the parent."""
    maps = plan_id_maps(facts())
    assert [maps.uid_outside(n) for n in (0, 1, 65536, 65537)] == [1000, 100000, 165535, None]


LIMITS = UsernsLimits()


@pytest.mark.parametrize(
    ("number", "limits", "why", "remedy"),
    [
        (errno.ENOSPC, replace(LIMITS, max_user_namespaces=0), "max_user_namespaces is 0", True),
        (errno.ENOSPC, replace(LIMITS, max_user_namespaces=9), "the limit of user names", True),
        (errno.EUSERS, LIMITS, "32 nested ones", True),
        (errno.EPERM, replace(LIMITS, unprivileged_clone=0), "unprivileged_userns_clone", True),
        (errno.EPERM, replace(LIMITS, chrooted=True, seccomp=True), "chroot", True),
        (errno.EPERM, replace(LIMITS, seccomp=True), "a seccomp filter denies it", True),
        (errno.ENOSYS, replace(LIMITS, seccomp=True), "a seccomp filter denies it", True),
        (errno.EACCES, replace(LIMITS, apparmor_restricts=True), "apparmor_restrict", True),
        (errno.EINVAL, replace(LIMITS, supported=False), "without user namespaces", False),
        (errno.EINVAL, LIMITS, "threads", False),
        (errno.EIO, LIMITS, "input/output error", False),
    ],
)
def test_n5_each_refusal_has_its_own_message(
    number: int, limits: UsernsLimits, why: str, remedy: bool
) -> None:
    """One clear reason, and what to do where something can be done."""
    found = explain_refusal(number, limits, privileged=False)
    assert why in found.why
    assert errno.errorcode[number] in found.why
    assert bool(found.remedy) == remedy


def test_n5_apparmor_that_voids_capabilities() -> None:
    """Ubuntu lets unshare succeed and then refuses the map."""
    limits = replace(LIMITS, apparmor_restricts=True)
    found = explain_map_refusal(errno.EPERM, "uid_map", limits)
    assert "AppArmor" in found.why
    assert "userns," in found.remedy
