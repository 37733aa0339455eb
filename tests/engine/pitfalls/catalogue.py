"""What has broken other engines, by number, and which tests of this engine hold each case."""

from __future__ import annotations

from pathlib import Path

from tests.numbered import REPOSITORY, numbered_tests

CASES = {
    # Paths inside a root that an attacker owns
    "F1": "/dev, /proc or /sys of the root is a symbolic link (CVE-2026-41579, CVE-2026-47766)",
    "F2": "a component of a mount's target is exchanged meanwhile (CVE-2021-30465)",
    "F3": "the source of a build step's bind mount is a link to / (CVE-2024-1753)",
    "F4": "the id of a cache mount is a path (CVE-2024-9675)",
    "F5": "a value adds an option to a mount (CVE-2024-9407)",
    "F6": "cleaning up made mount points deletes what is not ours (CVE-2024-23651, -23652)",
    "F7": "a build writes back to its context through a mount (CVE-2025-4953)",
    "F8": "links lead out of a build's context (CVE-2026-44517, CVE-2026-33748)",
    "F9": "/etc/passwd is a link, FIFO, device, huge or malformed (CVE-2024-9676)",
    "F10": "mounts made unasked follow crafted links (CVE-2024-9341)",
    "F11": "copies follow links that the container made (CVE-2018-15664, CVE-2023-0778)",
    "F12": "archives with absolute names, .., links, devices, odd whiteouts (CVE-2020-10696)",
    "F13": "destinations: /, empty, relative, .., slashes, files, dangling links",
    "F14": "destinations below /proc and /sys (CVE-2019-19921, CVE-2023-27561)",
    "F15": "the working directory is made through links",
    "F16": "paths of any bytes, any length, and more layers than fit",
    # Descriptors
    "D1": "the working directory is below /proc/self/fd (CVE-2024-21626)",
    "D2": "descriptors of the caller are inherited",
    "D3": "standard streams are files of the host that can be opened again",
    "D4": "/proc/self/exe is the host's interpreter (CVE-2019-5736)",
    "D5": "a process that joins a container can be traced (CVE-2016-9962, CVE-2022-1227)",
    "D6": "a descriptor of the old root stays open",
    # procfs and masks
    "P1": "masks are made with the container's own /dev/null (CVE-2025-31133)",
    "P2": "/dev/console is bound by the name of a pty (CVE-2025-52565)",
    "P3": "writes to procfs end elsewhere (CVE-2025-52881, CVE-2019-16884)",
    "P4": "read-only paths keep the flags they had; missing and repeated ones are fine",
    "P5": "what procfs and sysfs tell about the host is covered",
    "P6": "cgroups that the container could write to (CVE-2023-25809, CVE-2022-0492)",
    # Credentials
    "C1": "the inheritable set is not empty (CVE-2022-24769 and four more), for exec as well",
    "C2": "groups of the caller are kept (CVE-2022-2989, -2990, -36109)",
    "C3": "setgroups is denied; groups that take rights away",
    "C4": "set-id programs where ids are not mapped",
    "C5": "a set-uid program of a container in a directory of the host",
    "C6": "overlay brings set-uid files up in a user namespace (CVE-2023-0386, CVE-2021-3493)",
    "C7": "ids that are no decimal numbers (CVE-2026-30892)",
    "C8": "capabilities that the caller lacks; the order in which they are dropped",
    "C9": "id maps: whose ranges, which writer, how many lines, which extents",
    # Namespaces
    "N1": "procfs and sysfs cannot be mounted where the caller's is covered",
    "N2": "mounts propagate to the host or pin its own",
    "N3": "flags that mounts inherit are locked",
    "N4": "namespaces are joined in an order, and may be dead",
    "N5": "user namespaces that cannot be made, each refusal with its own words",
    "N6": "network namespaces: sysfs, loopback, ports",
    "N7": "threads keep namespaces from being entered",
    # Life
    "R1": "PID 1 ignores signals without handler",
    "R2": "zombies",
    "R3": "the parent-death signal is cleared, or comes too late",
    "R4": "process ids are used again",
    "R5": "stopped and frozen containers are killed",
    "R6": "fork bombs",
    "R7": "floods of output, readers that are gone, escapes for terminals",
    "R8": "interrupts and kills at any moment",
    "R9": "exit codes",
    # Python
    "Y1": "Python ignores SIGPIPE and SIGXFSZ, and children inherit that",
    "Y2": "modules, codecs and NSS are loaded from the image",
    "Y3": "forks of processes with threads",
    "Y4": "ctypes cuts numbers off and loses errno",
    "Y5": "errors of procfs come late or never",
    "Y6": "the environment and the current directory change the interpreter",
    "Y7": "the interpreter cannot be read under the container's ids",
    # cgroups and limits
    "G1": "cgroups of every version, without delegation, with paths that lead out",
    "G2": "resource limits: raising, repeating, infinity",
    "G3": "quotas of keys and locked memory",
    "G4": "no space, no descriptors, read-only, at any step",
    # Secrets and supply
    "S1": "secrets stay in layers, history, errors and core dumps",
    "S2": "a proxy of an SSH agent does more than sign",
    "S3": "the caller's environment leaks into containers (CVE-2021-3602, CVE-2020-14370)",
    "S4": "hooks, devices and profiles come from who may not give them",
    "S5": "annotations and labels of images switch the runtime (CVE-2024-23653)",
    "S6": "sockets and state that others reach",
    # The kernel's surface
    "K1": "calls that only break out are refused by default",
    "K2": "AF_ALG sockets, by every entry (CVE-2026-31431)",
    "K3": "input is pushed into the caller's terminal",
    "K4": "calls that the profile does not know fail with ENOSYS",
    "K5": "kernels without what is needed for safety",
}

_STORAGE = "tests/engine/test_storage_"
_ALSO = {
    "C6": (f"{_STORAGE}drivers.py::test_probe_says_what_does_not_work",),
    "F6": ("tests/engine/test_rootfs_paths.py::test_a_replaced_stub_stays",),
    "F11": (
        f"{_STORAGE}drivers.py::test_removal_follows_nothing",
        "tests/engine/test_rootfs_mounts.py::test_tmpcopyup_brings_everything_along",
    ),
    "F12": (f"{_STORAGE}layers.py::test_hostile_layer_leaves_nothing",),
    "N2": ("tests/engine/test_rootfs_mounts.py::test_propagation_of_a_mount",),
    "N7": ("tests/engine/test_ids_session.py::test_y3_threads_are_refused_clearly",),
    "R1": ("tests/engine/test_cli_containers.py::test_run_passes_signals_on",),
    "R5": ("tests/engine/test_cli_containers.py::test_pause_update_resume",),
    "S4": ("tests/engine/test_seccomp_profiles.py::test_a_profile_file_that_is_wrong",),
}
"""Tests whose name begins otherwise."""

PATTERN = r"test_([fdpcnrygsk]\d+)_"


def cases_with_tests() -> dict[str, list[str]]:
    """The ids of the engine's tests by case."""
    engine = REPOSITORY / "tests/engine"
    named = numbered_tests(
        (*engine.glob("test_*.py"), *(engine / "pitfalls").glob("test_*.py")), PATTERN
    )
    found: dict[str, list[str]] = {number: [] for number in CASES}
    for number, tests in named.items():
        found.setdefault(number.upper(), []).extend(tests)
    for number, others in _ALSO.items():
        found[number].extend(others)
    return found


def others_that_are_gone() -> list[str]:
    """Tests that are listed under another name and do not exist."""
    others = {name for names in _ALSO.values() for name in names}
    files = {REPOSITORY / name.partition("::")[0] for name in others}
    there: set[str] = set()
    for path in files:
        if Path(path).exists():
            for tests in numbered_tests((path,), r"(test_)").values():
                there.update(tests)
    return sorted(others - there)
