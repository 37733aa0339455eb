"""Which resource limits can be set, and setting them."""

from __future__ import annotations

import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.errors import InvalidConfig, KernelRefused
from engine.runtime.kernel.processes import capget, capset
from engine.runtime.process.capabilities import CAP_SYS_RESOURCE
from engine.runtime.process.rlimits import (
    INFINITY,
    NAMES,
    plan_rlimits,
    set_rlimits,
    survey_hard,
)
from engine.runtime.spec.model import Rlimit
from tests.engine.rootfs_driver import in_child

NOFILE = "RLIMIT_NOFILE"
HARD = ((NOFILE, 1000),)


def limit(soft: int, hard: int, kind: str = NOFILE) -> tuple[Rlimit, ...]:
    return (Rlimit(type=kind, soft=soft, hard=hard),)


def test_the_numbers_are_the_kernel_s() -> None:
    for name, number in vars(resource).items():
        if name in NAMES:
            assert NAMES.index(name) == number


def test_limits_within_reach_are_set_as_asked() -> None:
    plan = plan_rlimits(limit(10, 1000), HARD, may_raise=False)
    assert (plan.limits, plan.warnings) == (((7, 10, 1000),), ())


def test_g2_what_a_person_asked_for_is_set_or_refused() -> None:
    with pytest.raises(KernelRefused, match=r"set RLIMIT_NOFILE to 1001: .* is 1000"):
        plan_rlimits(limit(10, 1001), HARD, may_raise=False)


def test_g2_defaults_are_lowered_with_a_warning() -> None:
    plan = plan_rlimits(limit(1 << 20, 1 << 20), HARD, may_raise=False, clamp=True)
    assert plan.limits == ((7, 1000, 1000),)
    assert plan.warnings == ("RLIMIT_NOFILE lowered from 1048576 to 1000",)


def test_with_sys_resource_everything_is_in_reach() -> None:
    plan = plan_rlimits(limit(5000, INFINITY), HARD, may_raise=True)
    assert plan.limits == ((7, 5000, INFINITY),)


@pytest.mark.parametrize("value", [INFINITY, -1])
def test_g2_both_forms_of_infinity(value: int) -> None:
    assert plan_rlimits(limit(value, value), (), may_raise=False).limits == (
        (7, INFINITY, INFINITY),
    )
    text = "lowered from unlimited to 1000"
    assert text in plan_rlimits(limit(1, value), HARD, may_raise=False, clamp=True).warnings[0]


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (limit(1, 2) + limit(1, 2), "set twice"),
        (limit(3, 2), "soft limit is above"),
        (limit(-1, 2), "soft limit is above"),
        (limit(1, 2, "RLIMIT_NOSUCH"), "unknown type"),
        (limit(1, 1 << 64), "is not from 0"),
        (limit(-2, 2), "is not from 0"),
    ],
)
def test_g2_invalid_limits(limits: tuple[Rlimit, ...], text: str) -> None:
    with pytest.raises(InvalidConfig, match=text):
        plan_rlimits(limits, (), may_raise=True, clamp=True)


numbers = st.integers(-1, INFINITY) | st.integers(0, 2000)


@given(st.lists(st.tuples(st.sampled_from(NAMES), numbers, numbers), unique_by=lambda t: t[0]))
def test_a_clamped_plan_never_exceeds_what_there_is(found: list[tuple[str, int, int]]) -> None:
    limits = [Rlimit(type=name, soft=soft, hard=hard) for name, soft, hard in found]
    hard = tuple((name, 1000) for name in NAMES)
    try:
        plan = plan_rlimits(tuple(limits), hard, may_raise=False, clamp=True)
    except InvalidConfig:
        assert any(one.soft % (1 << 64) > one.hard % (1 << 64) for one in limits)
        return
    assert [NAMES[number] for number, _, _ in plan.limits] == [name for name, _, _ in found]
    assert all(0 <= soft <= highest <= 1000 for _, soft, highest in plan.limits)


def test_they_are_what_the_process_has_then() -> None:
    def work() -> list[tuple[int, int]]:
        asked = (*limit(30, 60), *limit(0, 0, "RLIMIT_CORE"), *limit(9, 9, "RLIMIT_CPU"))
        set_rlimits(plan_rlimits(asked, survey_hard(asked), may_raise=False))
        return [resource.getrlimit(n) for n in (7, 4, 0)]

    assert in_child(work) == [[30, 60], [0, 0], [9, 9]]


def test_g2_the_kernel_s_refusal_names_the_limit() -> None:
    def work() -> None:
        permitted = capget()[1] & ~(1 << CAP_SYS_RESOURCE)
        capset(permitted, permitted, 0)
        set_rlimits(plan_rlimits(limit(3, 4), (), may_raise=False))
        set_rlimits(plan_rlimits(limit(3, 5), (), may_raise=True))

    with pytest.raises(KernelRefused, match="set RLIMIT_NOFILE to 3:5: operation not permitted"):
        in_child(work)


def test_the_survey_reads_hard_limits() -> None:
    found = survey_hard((*limit(1, 1), *limit(1, 1, "RLIMIT_NOSUCH")))
    expected = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert found == ((NOFILE, expected % (1 << 64)),)
