"""User, groups and umask: C2, C3, and what is not mapped."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from engine.runtime.errors import KernelRefused, Unsupported
from engine.runtime.kernel.processes import CLONE_NEWUSER, PR_SET_DUMPABLE, prctl, unshare
from engine.runtime.process import credentials
from engine.runtime.process.capabilities import plan_capabilities, survey_own
from engine.runtime.process.credentials import plan_credentials, setgroups_allowed
from engine.runtime.spec.model import User
from tests.engine.rootfs_driver import in_child


def test_c2_groups_are_exactly_those_asked_for() -> None:
    plan = plan_credentials(User(uid=3, gid=4, umask=0o27, additional_gids=(5, 6, 5)), True)
    assert (plan.uid, plan.gid, plan.groups, plan.umask) == (3, 4, (5, 6), 0o27)
    assert plan_credentials(User(), True).groups == ()


def test_c3_where_setgroups_is_denied_the_groups_stay() -> None:
    assert plan_credentials(User(gid=4), False).groups is None
    assert plan_credentials(User(additional_gids=(5,)), False, keep=(5, 9)).groups is None


def test_c3_other_groups_are_refused_there() -> None:
    with pytest.raises(Unsupported, match="additional groups 5, 6: setgroups is denied"):
        plan_credentials(User(additional_gids=(5, 6, 7)), False, keep=(7,))


def taken(user: User, allowed: bool = True) -> dict[str, Any]:
    plan = plan_credentials(user, allowed)
    credentials.apply(plan, plan_capabilities(None, survey_own()))
    return {
        "uids": os.getresuid(),
        "gids": os.getresgid(),
        "groups": sorted(os.getgroups()),
        "umask": os.umask(0),
    }


def test_c2_nothing_of_the_caller_s_groups_is_left() -> None:
    def work() -> dict[str, Any]:
        os.setgroups([0, 4, 27])
        return taken(User(uid=1000, gid=1000, umask=0o77, additional_gids=(1000, 44)))

    assert in_child(work) == {
        "uids": [1000] * 3,
        "gids": [1000] * 3,
        "groups": [44, 1000],
        "umask": 0o77,
    }


def single_id_namespace() -> None:
    """Enter a user namespace as an unprivileged user does, with one id mapped to 0."""
    os.setgroups([4242])
    os.setresgid(4241, 4241, 4241)
    os.setresuid(4241, 4241, 4241)
    prctl(PR_SET_DUMPABLE, 1)
    unshare(CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", "0 4241 1"), ("gid_map", "0 4241 1")):
        fd = os.open(f"/proc/self/{name}", os.O_WRONLY)
        os.write(fd, text.encode())
        os.close(fd)


def test_c3_in_a_namespace_of_one_id() -> None:
    def work() -> dict[str, Any]:
        before = setgroups_allowed()
        single_id_namespace()
        after = [setgroups_allowed(), setgroups_allowed(os.getpid())]
        return {"before": before, "after": after, **taken(User(), False)}

    found = in_child(work)
    assert (found["before"], found["after"]) == (True, [False, False])
    assert setgroups_allowed(os.getpid())
    assert found["uids"] == [0, 0, 0]
    assert 65534 in found["groups"], "the group that only the host knows stays"


@pytest.mark.parametrize(("user", "step"), [(User(gid=7), "gid 7"), (User(uid=7), "uid 7")])
def test_c4_an_id_that_is_not_mapped_is_named(user: User, step: str) -> None:
    def work() -> None:
        single_id_namespace()
        taken(user, False)

    with pytest.raises(KernelRefused, match=step) as caught:
        in_child(work)
    assert "not mapped" in caught.value.hint


def test_without_privileges_it_fails_and_says_where() -> None:
    def work() -> None:
        os.setresuid(4241, 4241, 4241)
        taken(User(uid=0))

    with pytest.raises(KernelRefused, match="set the additional groups: operation not permitted"):
        in_child(work)


def test_ids_that_python_cannot_pass_are_not_reached() -> None:
    assert sys.maxsize > 2**32
    plan = plan_credentials(User(uid=4294967294, gid=4294967294), True)
    assert plan.uid == 4294967294
    found = in_child(lambda: taken(User(uid=4294967294, gid=4294967294)))
    assert found["uids"] == [4294967294] * 3
