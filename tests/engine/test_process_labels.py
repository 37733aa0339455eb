"""Labels of security modules: asked for where there are none, and written only to a procfs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.runtime.errors import Failure, InvalidConfig, KernelRefused, Unsupported
from engine.runtime.kernel.mounting import MS_BIND, MS_PRIVATE, MS_REC, mount
from engine.runtime.kernel.processes import CLONE_NEWNS, unshare
from engine.runtime.process.labels import (
    LabelPlan,
    Modules,
    plan_labels,
    set_labels,
    survey_modules,
)
from engine.runtime.process.procfs import open_proc, write_own
from engine.runtime.spec.model import Process
from tests.engine.rootfs_driver import in_child

NONE, ALL = Modules(apparmor=False, selinux=False), Modules(apparmor=True, selinux=True)
LABEL = "system_u:system_r:container_t:s0:c1,c2"


def test_labels_of_active_modules_are_planned() -> None:
    process = Process(apparmor_profile="confined \udcff", selinux_label=LABEL)
    plan = plan_labels(process, ALL)
    assert plan == LabelPlan(apparmor=b"confined \xff", selinux=LABEL.encode())
    assert plan_labels(Process(), NONE) == LabelPlan()


@pytest.mark.parametrize(
    "process", [Process(apparmor_profile="confined"), Process(selinux_label=LABEL)]
)
def test_confinement_that_is_not_there_is_an_error(process: Process) -> None:
    with pytest.raises(Unsupported, match="is not active here"):
        plan_labels(process, NONE)


def test_unconfined_needs_no_module() -> None:
    assert plan_labels(Process(apparmor_profile="unconfined"), NONE) == LabelPlan()
    assert plan_labels(Process(apparmor_profile="unconfined"), ALL).apparmor == b"unconfined"


@pytest.mark.parametrize("text", ["a\nb", "a\0b"])
def test_p3_a_label_cannot_carry_a_second_one(text: str) -> None:
    for process in (Process(apparmor_profile=text), Process(selinux_label=text)):
        with pytest.raises(InvalidConfig, match="line break or NUL"):
            plan_labels(process, ALL)


def test_the_survey_agrees_with_the_kernel_s_list() -> None:
    found = survey_modules()
    try:
        names = Path("/sys/kernel/security/lsm").read_text().split(",")
    except OSError:
        assert not found.selinux or Path("/sys/fs/selinux/enforce").exists()
    else:
        assert found.apparmor == ("apparmor" in names)


def test_a_label_the_kernel_refuses_is_an_error() -> None:
    """No profile has this name; a kernel without modules knows no label at all."""

    def work() -> None:
        set_labels(LabelPlan(apparmor=b"imgtools-no-such-profile"), open_proc())

    with pytest.raises((KernelRefused, InvalidConfig)) as caught:
        in_child(work)
    assert "attr/exec" in caught.value.message or "is not loaded" in caught.value.message


def test_a_verified_write_reaches_the_process() -> None:
    def work() -> str:
        write_own(open_proc(), b"self/comm", b"renamed")
        return Path("/proc/self/comm").read_text()

    assert in_child(work) == "renamed\n"


@pytest.mark.parametrize("over", ["tmpfs", "another file of procfs"])
def test_p3_a_mount_over_the_file_is_refused(tmp_path: Path, over: str) -> None:
    """CVE-2025-52881: the write would go to what lies on top."""

    def work() -> None:
        proc = open_proc()
        unshare(CLONE_NEWNS)
        mount(None, b"/", None, MS_REC | MS_PRIVATE, None)
        source = "/proc/self/environ"
        if over == "tmpfs":
            source = str(tmp_path / "file")
            Path(source).touch()
        target = f"/proc/{os.getpid()}/comm"
        mount(source.encode(), target.encode(), None, MS_BIND, None)
        proc = open_proc()
        write_own(proc, b"self/comm", b"renamed")

    with pytest.raises(AssertionError, match="Invalid cross-device link"):
        in_child(work)


def test_p3_a_mount_over_proc_is_refused() -> None:
    def work() -> None:
        unshare(CLONE_NEWNS)
        mount(None, b"/", None, MS_REC | MS_PRIVATE, None)
        mount(b"tmpfs", b"/proc", b"tmpfs", 0, None)
        open_proc()

    with pytest.raises(Failure, match="/proc is not a procfs"):
        in_child(work)


def test_p3_a_directory_of_procfs_is_not_its_root() -> None:
    def work() -> None:
        unshare(CLONE_NEWNS)
        mount(None, b"/", None, MS_REC | MS_PRIVATE, None)
        mount(b"/proc/self", b"/proc", None, MS_BIND, None)
        open_proc()

    with pytest.raises(Failure, match="/proc is not a procfs"):
        in_child(work)
