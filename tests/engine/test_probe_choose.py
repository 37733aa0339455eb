"""Which isolation follows from which probes: a row for each environment that was measured."""

from __future__ import annotations

import pytest

from engine.probe.choose import ASKED, choose_isolation
from engine.probe.model import KINDS, Probe
from imgtools.errors import InvalidInput, Unsupported

# What fails in each environment, with the errno that the kernel gave; the rest works.
# Columns: isolation-root, -ranges, -single, -chroot, proc, seccomp-notify.
USERNS_EPERM = "unshare(CLONE_NEWUSER): EPERM"
NO_ROOT = "uid 1000"
NO_RANGES = "no newuidmap"
NO_CHROOT = "chroot: EPERM"
MASKED = "mount proc: EPERM"
WORKS = ""
ROWS = {
    # name: (root, ranges, single, chroot, proc, ranges' detail) -> kind, rung, change, proc
    "A": (WORKS, WORKS, WORKS, WORKS, WORKS, "direct pivot_root"),
    "B": (NO_ROOT, WORKS, WORKS, NO_CHROOT, WORKS, "helpers pivot_root"),
    "C": (NO_ROOT, NO_RANGES, WORKS, NO_CHROOT, WORKS, ""),
    "D": (NO_ROOT, USERNS_EPERM, USERNS_EPERM, WORKS, MASKED, ""),
    "D.crio": (NO_ROOT, WORKS, "no CAP_SETFCAP", NO_CHROOT, MASKED, "direct pivot_root"),
    "D.unconf": (NO_ROOT, WORKS, WORKS, WORKS, MASKED, "direct pivot_root"),
    "E": (NO_ROOT, USERNS_EPERM, USERNS_EPERM, NO_CHROOT, MASKED, ""),
    "E.crio": (NO_ROOT, NO_RANGES, WORKS, NO_CHROOT, MASKED, ""),
    "E.unconf": (NO_ROOT, NO_RANGES, WORKS, NO_CHROOT, MASKED, ""),
    "F": (NO_ROOT, USERNS_EPERM, USERNS_EPERM, WORKS, MASKED, ""),
    "FE": (NO_ROOT, USERNS_EPERM, USERNS_EPERM, NO_CHROOT, MASKED, ""),
    "FA": (WORKS, WORKS, WORKS, WORKS, MASKED, "direct move"),
    "FA.unmask": (WORKS, WORKS, WORKS, WORKS, WORKS, "direct move"),
}
EXPECTED = {
    "A": ("root", "A", "mount", ""),
    "B": ("ranges", "B", "mount", ""),
    "C": ("single", "C", "mount", "notify"),
    "D": ("chroot", "D", "none", ""),
    "D.crio": ("ranges", "D-crio", "bind", ""),
    "D.unconf": ("ranges", "D-crio", "bind", ""),
    "E": ("none", "none", "none", ""),
    "E.crio": ("single", "C", "bind", "notify"),
    "E.unconf": ("single", "C", "bind", "notify"),
    "F": ("chroot", "D", "none", ""),
    "FE": ("none", "none", "none", ""),
    "FA": ("root", "A", "bind", ""),
    "FA.unmask": ("root", "A", "mount", ""),
}


def probes(row: str, *, without: tuple[str, ...] = ()) -> tuple[Probe, ...]:
    """The probes of an environment; those named `without` were refused."""
    root, ranges, single, chroot, proc, detail = ROWS[row]
    move = "move" if "move" in detail else "pivot_root"
    whys = {
        "isolation-root": (root, move),
        "isolation-ranges": (ranges, detail),
        "isolation-single": (single, f"direct {move}"),
        "isolation-chroot": (chroot, ""),
        "proc": (proc, ""),
        "seccomp-notify": ("seccomp: ENOSYS" if "seccomp-notify" in without else WORKS, ""),
        "seccomp-filter": ("seccomp: ENOSYS" if "seccomp-filter" in without else WORKS, ""),
    }
    return tuple(
        Probe(name=name, works=not why, why=why, remedy=f"fix {name}" if why else "", detail=found)
        for name, (why, found) in whys.items()
    )


@pytest.mark.parametrize("row", ROWS)
def test_choice_of_each_environment(row: str) -> None:
    """The strongest that works, and why none of the stronger ones."""
    choice = choose_isolation(probes(row))
    assert (choice.kind, choice.rung, choice.proc, choice.emulation) == EXPECTED[row]
    stronger = KINDS if choice.kind == "none" else KINDS[: KINDS.index(choice.kind)]
    assert tuple(r.kind for r in choice.rejected) == stronger
    assert all(r.why and r.remedy for r in choice.rejected)
    assert choice.why
    assert choice.pid_namespace == (choice.proc == "mount")


def test_how_a_root_is_entered() -> None:
    """pivot_root is refused by Docker's profile even to those who may mount."""
    assert choose_isolation(probes("FA")).root_change == "move"
    assert choose_isolation(probes("B")).root_change == "pivot_root"
    assert choose_isolation(probes("D")).root_change == "chroot"
    assert choose_isolation(probes("E")).root_change == "none"


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        ((), "notify"),
        (("seccomp-notify",), "errno"),
        (("seccomp-notify", "seccomp-filter"), ""),
    ],
)
def test_emulation_of_ids(without: tuple[str, ...], expected: str) -> None:
    """A recording supervisor is better than a filter that pretends."""
    assert choose_isolation(probes("C", without=without)).emulation == expected


def test_what_would_have_to_change() -> None:
    """To be root is no advice; the rest is, strongest first and once."""
    choice = choose_isolation(probes("E"))
    assert choice.improve == (
        "fix isolation-ranges",
        "fix isolation-single",
        "fix isolation-chroot",
    )
    assert choose_isolation(probes("A")).improve == ()


@pytest.mark.parametrize(
    ("row", "asked", "kind"),
    [
        ("A", "userns", "ranges"),
        ("A", "single", "single"),
        ("A", "chroot", "chroot"),
        ("A", "none", "none"),
        ("C", "userns", "single"),
        ("D", "chroot", "chroot"),
    ],
)
def test_isolation_that_was_asked_for(row: str, asked: str, kind: str) -> None:
    """A weaker one than could be had."""
    assert choose_isolation(probes(row), asked).kind == kind


@pytest.mark.parametrize(("row", "kind"), [("B", "ranges"), ("C", "single")])
def test_chroot_of_who_may_not_chroot(row: str, kind: str) -> None:
    """What a user namespace gives, with the network that a chroot has, and the reason."""
    choice = choose_isolation(probes(row), "chroot")
    assert (choice.kind, choice.shares_network) == (kind, True)
    assert choice.in_place_of is not None
    assert (choice.in_place_of.kind, choice.in_place_of.why) == ("chroot", NO_CHROOT)


@pytest.mark.parametrize("row", ROWS)
def test_nothing_is_in_place_of_what_was_not_asked_for(row: str) -> None:
    """The reasons against stronger kinds are not taken for one."""
    choice = choose_isolation(probes(row))
    assert choice.in_place_of is None
    assert choice.shares_network == (choice.kind == "chroot")


@pytest.mark.parametrize(
    ("row", "asked", "message"),
    [
        ("D", "userns", USERNS_EPERM),
        ("D", "ranges", USERNS_EPERM),
        ("C", "ranges", NO_RANGES),
        ("C", "root", NO_ROOT),
        ("E", "chroot", NO_CHROOT),
    ],
)
def test_isolation_that_was_asked_for_in_vain(row: str, asked: str, message: str) -> None:
    """Never another in its place; the system call, the errno and the remedy are said."""
    with pytest.raises(Unsupported, match="isolation ") as caught:
        choose_isolation(probes(row), asked)
    assert message in caught.value.message
    assert caught.value.hint


def test_unknown_isolation() -> None:
    """With what there is."""
    with pytest.raises(InvalidInput, match="unknown isolation 'oci'") as caught:
        choose_isolation((), "oci")
    assert all(name in caught.value.message for name in ASKED)


def test_nothing_was_tried() -> None:
    """No probe is no permission."""
    choice = choose_isolation(())
    assert choice.kind == "none"
    assert {r.why for r in choice.rejected} == {"not tried"}
