"""Which capabilities a process can be given, and setting them for real."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.errors import KernelRefused
from engine.runtime.kernel.processes import capget, capset
from engine.runtime.process import credentials
from engine.runtime.process.capabilities import (
    CAP_SETPCAP,
    DEFAULT,
    NAMES,
    Own,
    default_capabilities,
    drop_bounding,
    full,
    last_cap,
    plan_capabilities,
    survey_own,
)
from engine.runtime.process.credentials import plan_credentials
from engine.runtime.spec.model import Capabilities, User
from tests.engine.process_children import executed
from tests.engine.rootfs_driver import in_child

FULL = full(40)
KINDS = ("bounding", "effective", "inheritable", "permitted", "ambient")


def bits(*names: str) -> int:
    return sum(1 << NAMES.index(f"CAP_{name}") for name in names)


def test_there_are_41_names_in_the_kernel_s_order() -> None:
    assert len(NAMES) == len(set(NAMES)) == 41
    assert [NAMES.index(f"CAP_{n}") for n in ("CHOWN", "SETPCAP", "SYS_ADMIN", "BPF")] == [
        0,
        8,
        21,
        39,
    ]


def test_no_capabilities_asked_are_none_given() -> None:
    plan = plan_capabilities(None, FULL)
    assert plan.drop == tuple(range(41))
    assert (plan.effective, plan.permitted, plan.inheritable, plan.ambient) == (0, 0, 0, ())
    assert plan.warnings == ()


def test_the_default_of_root_is_eleven_and_nothing_to_inherit() -> None:
    plan = plan_capabilities(default_capabilities(DEFAULT, 0), FULL)
    assert len(DEFAULT) == 11
    assert plan.effective == plan.permitted == sum(1 << NAMES.index(n) for n in DEFAULT)
    assert len(plan.drop) == 30
    assert plan.inheritable == 0, "C1"


def test_c1_the_default_of_another_user_is_only_the_bounding_set() -> None:
    plan = plan_capabilities(default_capabilities(DEFAULT, 1000), FULL)
    assert (plan.effective, plan.permitted, plan.inheritable, plan.ambient) == (0, 0, 0, ())
    assert len(plan.drop) == 30


def test_c8_unknown_and_ungrantable_capabilities_are_warnings() -> None:
    names = ("CAP_KILL", "CAP_NO_SUCH", "CAP_SYS_RESOURCE", "chown")
    asked = Capabilities(bounding=names, permitted=names, effective=names)
    own = Own(permitted=bits("KILL"), bounding=bits("KILL", "SETPCAP"), last_cap=40)
    plan = plan_capabilities(asked, own)
    assert plan.effective == plan.permitted == bits("KILL")
    assert plan.warnings == (
        "ignored capabilities that are not known here: CAP_NO_SUCH, chown",
        "ignored capabilities that this process does not have: CAP_SYS_RESOURCE",
    )


def test_a_capability_newer_than_the_kernel_is_a_warning() -> None:
    names = ("CAP_BPF", "CAP_KILL")
    plan = plan_capabilities(Capabilities(bounding=names, permitted=names), full(37))
    assert plan.permitted == bits("KILL")
    assert plan.warnings == ("ignored capabilities that are not known here: CAP_BPF",)


def test_ambient_needs_permitted_and_inheritable() -> None:
    asked = Capabilities(
        bounding=("CAP_KILL", "CAP_CHOWN"),
        permitted=("CAP_KILL", "CAP_CHOWN"),
        inheritable=("CAP_KILL",),
        ambient=("CAP_KILL", "CAP_CHOWN"),
    )
    plan = plan_capabilities(asked, FULL)
    assert plan.ambient == (NAMES.index("CAP_KILL"),)
    assert plan.warnings == ()
    assert plan.notes == (
        "ignored ambient capabilities that are not permitted and inheritable: CAP_CHOWN",
    )


names = st.lists(st.sampled_from((*NAMES, "CAP_NO_SUCH")), max_size=6).map(tuple)
asked_sets = st.builds(Capabilities, **dict.fromkeys(KINDS, names))
owned = st.builds(
    Own,
    permitted=st.integers(0, (1 << 41) - 1),
    bounding=st.integers(0, (1 << 41) - 1),
    last_cap=st.integers(30, 45),
)


@given(asked_sets, owned)
def test_a_plan_is_always_one_the_kernel_accepts(asked: Capabilities, own: Own) -> None:
    plan = plan_capabilities(asked, own)
    left = own.bounding & ~sum(1 << n for n in plan.drop)
    ambient = sum(1 << n for n in plan.ambient)
    assert plan.permitted & ~own.permitted == 0
    assert plan.effective & ~plan.permitted == 0
    assert plan.inheritable & ~left == 0
    assert ambient & ~(plan.permitted & plan.inheritable) == 0
    for kind, given_bits in (("bounding", left), ("permitted", plan.permitted)):
        wanted = sum(1 << NAMES.index(n) for n in set(getattr(asked, kind)) if n in NAMES)
        assert given_bits & ~wanted == 0


def test_the_survey_is_what_proc_says() -> None:
    own = survey_own()
    with open("/proc/self/status", encoding="utf-8") as status:
        fields = dict(line.split(":\t") for line in status if ":\t" in line)
    assert own.permitted == int(fields["CapPrm"], 16)
    assert own.bounding == int(fields["CapBnd"], 16)
    with open("/proc/sys/kernel/cap_last_cap", encoding="utf-8") as file:
        assert last_cap() == int(file.read())


def status_with(user: User, asked: Capabilities | None) -> dict[str, str]:
    """The Cap and Groups lines of a program that was executed with these credentials."""

    def work() -> None:
        plan = plan_capabilities(asked, survey_own())
        drop_bounding(plan)
        credentials.apply(plan_credentials(user, True), plan)
        os.execv("/bin/cat", ["cat", "/proc/self/status"])

    ended = executed(work)
    assert ended.code == 0, ended.err
    return dict(line.split(":\t") for line in ended.out.decode().splitlines() if ":\t" in line)


def value(fields: dict[str, Any], *kinds: str) -> tuple[int, ...]:
    return tuple(int(fields[f"Cap{kind}"], 16) for kind in kinds)


def test_root_gets_what_was_asked_across_execve() -> None:
    fields = status_with(User(), default_capabilities(DEFAULT, 0))
    wanted = sum(1 << NAMES.index(n) for n in DEFAULT)
    assert value(fields, "Prm", "Eff", "Bnd", "Inh", "Amb") == (wanted, wanted, wanted, 0, 0)


def test_another_user_keeps_only_ambient_capabilities_across_execve() -> None:
    kept = ("CAP_NET_BIND_SERVICE",)
    asked = Capabilities(
        bounding=DEFAULT, permitted=DEFAULT, effective=kept, inheritable=kept, ambient=kept
    )
    user = User(uid=1000, gid=1001, additional_gids=(7, 5))
    fields = status_with(user, asked)
    wanted = bits("NET_BIND_SERVICE")
    assert value(fields, "Prm", "Eff", "Inh", "Amb") == (wanted,) * 4
    assert value(fields, "Bnd") == (sum(1 << NAMES.index(n) for n in DEFAULT),)
    assert fields["Uid"].split() == ["1000"] * 4
    assert fields["Gid"].split() == ["1001"] * 4
    assert fields["Groups"].split() == ["5", "7"]


def test_none_leaves_nothing() -> None:
    fields = status_with(User(uid=65534, gid=65534), None)
    assert value(fields, "Prm", "Eff", "Inh", "Amb", "Bnd") == (0, 0, 0, 0, 0)
    assert fields["Groups"].split() == []


def test_c8_without_setpcap_too_much_would_be_left_which_is_an_error() -> None:
    def work() -> None:
        without = capget()[1] & ~(1 << CAP_SETPCAP)
        plan = plan_capabilities(None, survey_own())
        capset(without, without, 0)
        drop_bounding(plan)

    with pytest.raises(KernelRefused, match="drop CAP_CHOWN from the bounding set"):
        in_child(work)
