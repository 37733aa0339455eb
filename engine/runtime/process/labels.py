"""The labels of Linux security modules that a program gets at the next execve(2):
`process.apparmorProfile` and `process.selinuxLabel`.

Asking for one where its module is not active is an error: the caller counts on confinement.
"""

from __future__ import annotations

import errno
import os

from engine.runtime.errors import InvalidConfig, Unsupported, refused
from engine.runtime.kernel.files import read_if_there
from engine.runtime.kernel.paths import O_PATH, filesystem_type
from engine.runtime.process.procfs import write_own
from engine.runtime.record import Record
from engine.runtime.spec.model import Process

_SELINUX_MAGIC = 0xF97CFF8C


class Modules(Record):
    """Which security modules are active here."""

    apparmor: bool
    selinux: bool


class LabelPlan(Record):
    """The AppArmor profile and the SELinux label to take, empty for none."""

    apparmor: bytes = b""
    selinux: bytes = b""


def survey_modules() -> Modules:
    """What the kernel says: AppArmor by its parameter, SELinux by its mounted file system."""
    return Modules(apparmor=_apparmor_enabled(), selinux=_selinux_mounted())


def _apparmor_enabled() -> bool:
    return read_if_there("/sys/module/apparmor/parameters/enabled", 8).startswith(b"Y")


def _selinux_mounted() -> bool:
    try:
        fd = os.open("/sys/fs/selinux", O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return filesystem_type(fd) & 0xFFFFFFFF == _SELINUX_MAGIC
    finally:
        os.close(fd)


def plan_labels(process: Process, modules: Modules) -> LabelPlan:
    """The labels of `process`; raises Unsupported if their module is not active and
    InvalidConfig for one that the kernel would read as something else."""
    profile, label = process.apparmor_profile, process.selinux_label
    if profile and not modules.apparmor and profile != "unconfined":
        raise Unsupported(
            f"process.apparmorProfile {profile!r}: AppArmor is not active here",
            hint="leave it out, or say unconfined",
        )
    if label and not modules.selinux:
        raise Unsupported(
            f"process.selinuxLabel {label!r}: SELinux is not active here", hint="leave it out"
        )
    for text in (profile, label):
        if "\0" in text or "\n" in text:
            raise InvalidConfig(f"a security label with a line break or NUL: {text!r}")
    if not modules.apparmor:
        profile = ""
    return LabelPlan(
        apparmor=profile.encode("utf-8", "surrogateescape"),
        selinux=label.encode("utf-8", "surrogateescape"),
    )


def set_labels(plan: LabelPlan, proc_fd: int) -> None:
    """Set the labels for the next execve(2) through `procfs.open_proc`.

    Called after all hooks of the host, which would get them (those of the container's own files
    shall), and before privileges are dropped. Raises
    KernelRefused, InvalidConfig for a profile that is not loaded.
    """
    if plan.apparmor:
        content = b"exec " + plan.apparmor
        try:
            try:
                write_own(proc_fd, b"thread-self/attr/apparmor/exec", content)
            except FileNotFoundError:
                write_own(proc_fd, b"thread-self/attr/exec", content)
        except OSError as e:
            if e.errno == errno.ENOENT:
                name = plan.apparmor.decode("utf-8", "backslashreplace")
                raise InvalidConfig(
                    f"process.apparmorProfile: profile {name} is not loaded", errno=errno.ENOENT
                ) from e
            raise refused("write /proc/thread-self/attr/exec (AppArmor)", e) from e
    if plan.selinux:
        try:
            write_own(proc_fd, b"thread-self/attr/exec", plan.selinux)
        except OSError as e:
            raise refused("write /proc/thread-self/attr/exec (SELinux)", e) from e
