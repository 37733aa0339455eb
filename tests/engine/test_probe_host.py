"""Hosts probed for real: by root, by users, and in the locked-down environments of jail.py."""

from __future__ import annotations

import json
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.probe import cache
from engine.probe.attempt import Refused, attempt, attempt_inside, step
from engine.probe.model import Probe, ProbeOptions
from engine.probe.namespaces import masked_proc
from engine.probe.survey import existing_directory, probe_host
from imgtools.errors import Unsupported
from tests.engine.id_child import run


@pytest.fixture
def storage() -> Iterator[str]:
    """A directory in which everybody may write."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield name


@pytest.mark.parametrize(
    ("rung", "kind", "expected_rung"),
    [
        ("A", "root", "A"),
        ("B", "ranges", "B"),
        ("C", "single", "C"),
        ("D", "chroot", "D"),
        ("D-crio", "ranges", "D-crio"),
        ("E", "none", "none"),
        ("E-crio", "single", "C"),
    ],
)
def test_choice_on_each_rung(rung: str, kind: str, expected_rung: str, storage: str) -> None:
    """What is chosen works; what was tried left nothing: no process, file or descriptor."""
    found = run(rung, "probe", storage=storage)
    choice = found["choice"]
    assert (choice["kind"], choice["rung"]) == (kind, expected_rung)
    assert all(r["why"] for r in choice["rejected"])
    assert found["children"] == ""
    assert found["leaked_files"] == 0
    assert found["left"] == []
    assert not found["cached"]
    namespaces = kind in ("root", "ranges", "single")
    works = {name: probe["works"] for name, probe in found["probes"].items()}
    assert works["pid-namespace"] == works["network-namespace"] == namespaces
    assert works["proc-bind"] == works["overlay-tmpfs"] == namespaces
    assert works["openat2"]
    assert works["seccomp-notify"]
    assert works["ptrace"]
    assert works["device-nodes"] == (rung == "A")
    # podman's and CRI-O's profile admits no setns, so that nothing can be joined.
    assert works["join-namespaces"] == (namespaces and not rung.endswith("-crio"))
    overlay = found["probes"]["overlay-tmpfs"]["detail"]
    assert overlay == {"A": "native"}.get(rung, "userxattr" if namespaces else "")


@pytest.mark.parametrize(
    ("rung", "name", "why"),
    [
        ("E", "isolation-single", "unshare(CLONE_NEWUSER): EPERM: a seccomp filter denies it"),
        ("E", "isolation-chroot", "chroot: EPERM"),
        ("E", "isolation-ranges", "no_new_privs is set"),
        ("C", "isolation-ranges", "/etc/subuid grants jailed nothing"),
        ("D", "isolation-root", "without CAP_SYS_ADMIN"),
        ("D-crio", "isolation-single", "CAP_SETFCAP"),
    ],
)
def test_reason_and_remedy(rung: str, name: str, why: str, storage: str) -> None:
    """Each stronger kind says what stands in its way."""
    probe = run(rung, "probe", storage=storage)["probes"][name]
    assert why in probe["why"]
    assert probe["remedy"]


def test_n1_masked_proc_is_told_from_other_refusals(storage: str) -> None:
    """The kernel says only EPERM; a mount below /proc is what makes it."""
    found = run("C", "probe", storage=storage, masked=True)
    proc = found["probes"]["proc"]
    assert (proc["works"], proc["errno"]) == (False, "EPERM")
    assert "hide parts of /proc, such as /proc/bus" in proc["why"]
    assert "unmask=ALL" in proc["remedy"]
    assert found["choice"]["proc"] == "bind"
    assert found["probes"]["proc-bind"]["works"]


def test_n5_no_user_namespaces_left(storage: str) -> None:
    """user.max_user_namespaces = 0 is named, with the command that changes it."""
    found = run("C", "limited", storage=storage)
    probe = found["probes"]["isolation-single"]
    assert found["facts"]["limits"]["maxUserNamespaces"] == "0"
    # The namespace that was entered before is one with a single id, and stays of use.
    assert (found["choice"]["kind"], probe["detail"]) == ("single", "none pivot_root")
    mapping = found["probes"]["idmapped-mounts-tmpfs"]
    assert not mapping["works"]


def test_n5_last_user_namespace_was_ours(storage: str) -> None:
    """A user whose administrator allows none."""
    found = run("C", "forbidden", storage=storage)
    assert found["error"] == "Unsupported"
    assert "user.max_user_namespaces is 0" in found["message"]
    assert "sysctl -w" in found["hint"]


def test_n5_chroot_forbids_user_namespaces(storage: str) -> None:
    """EPERM for whoever's root is not that of the mount namespace."""
    with tempfile.TemporaryDirectory() as root:
        os.chmod(root, 0o755)
        found = run("C", "probe", storage="/tmp", root=root)
        probe = found["probes"]["isolation-single"]
        assert "runs in a chroot" in probe["why"]
        assert "pivot_root" in probe["remedy"]
        assert found["facts"]["limits"]["chroot"] == "yes"
    assert os.path.isdir("/tmp")


def test_storage_that_cannot_be_written() -> None:
    """Overlay cannot be tried there, and that is said."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        found = run("B", "probe", storage=name)
    probe = found["probes"]["overlay-storage"]
    assert not probe["works"]
    assert name in probe["why"]


def test_results_are_kept_for_the_user_alone(storage: str) -> None:
    """Others can neither read nor change them."""
    kept = Path(storage, "cache")
    run("C", "probe", storage=storage, cache_dir=str(kept))
    (path,) = kept.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700


def _probed(directory: str, kept: Path, **options: Any) -> Any:
    return probe_host(ProbeOptions(storage=directory, cache_dir=str(kept), **options))


def test_cache_in_one_process(storage: str, tmp_path: Path) -> None:
    """The same answers, until something changes."""
    first = _probed(storage, tmp_path)
    again = _probed(storage, tmp_path)
    assert (first.cached, again.cached) == (False, True)
    assert again.probes == first.probes
    assert again.choice == first.choice
    assert not _probed(storage, tmp_path, fresh=True).cached
    assert not _probed(storage, tmp_path, version="next").cached
    # Files of earlier situations go.
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"{"),
        lambda path: path.write_bytes(b"[" * 100000),
        lambda path: path.write_bytes(b"null"),
        lambda path: path.write_text(json.dumps({"fingerprint": path.name, "probes": []})),
        lambda path: path.write_text(path.read_text().replace('"works": true', '"works": "yes"')),
        lambda path: path.write_text(path.read_text().replace('"name"', '"nom"')),
        lambda path: path.chmod(0o644),
        lambda path: os.chown(path, 12345, 12345),
        lambda path: path.rename(f"{path}.real").with_name(path.name).symlink_to(f"{path}.real"),
        lambda path: os.mkfifo(path.rename(f"{path}.real").with_name(path.name)),
        lambda path: path.rename(f"{path}.real").with_name(path.name).mkdir(),
    ],
)
def test_s6_files_that_are_not_ours_are_as_good_as_none(spoil: Any, tmp_path: Path) -> None:
    """Damaged ones are done again; those others could have written are not believed."""
    probes = (Probe(name="one", works=True), Probe(name="two", works=False, why="no"))
    name = "f" * 64
    assert cache.save(str(tmp_path), name, probes)
    assert cache.load(str(tmp_path), name) == probes
    (path,) = tmp_path.iterdir()
    spoil(path)
    assert cache.load(str(tmp_path), name) is None


@pytest.mark.parametrize("spoil", ["owner", "mode", "link"])
def test_s6_directories_of_others_are_not_written_to(spoil: str, tmp_path: Path) -> None:
    """Such as another user's XDG_RUNTIME_DIR under sudo."""
    directory = tmp_path / "kept"
    directory.mkdir(0o700)
    if spoil == "owner":
        os.chown(directory, 12345, 12345)
    elif spoil == "mode":
        directory.chmod(0o777)
    else:
        directory = tmp_path / "link"
        directory.symlink_to("kept")
    assert not cache.save(str(directory), "f" * 64, (Probe(name="one", works=True),))
    assert list(directory.iterdir()) == []


def test_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    """Then everything is tried each time."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert not cache.save(str(blocked / "below"), "f" * 64, (Probe(name="one", works=True),))
    assert cache.load(str(blocked / "below"), "f" * 64) is None


def test_an_attempt_has_bounded_time() -> None:
    """It is killed, and says so."""

    def hang() -> str:
        time.sleep(60)
        return ""

    probe = attempt("hanging", hang, seconds=0.2)
    assert not probe.works
    assert "took longer than 0.2 s" in probe.why


def test_an_attempt_cannot_hurt_us() -> None:
    """Whatever it does to its process."""

    def dies() -> str:
        os.kill(os.getpid(), 9)
        return ""

    def breaks() -> str:
        raise KeyError("unforeseen")

    def refused() -> str:
        with step("open it", remedy="close it"):
            os.open("/nonexistent", os.O_RDONLY)
        return ""

    assert "killed" in attempt("dying", dies, seconds=2).why
    assert "status 3" in attempt("breaking", breaks, seconds=2).why
    probe = attempt("refused", refused, seconds=2)
    assert (probe.step, probe.errno, probe.remedy) == ("open it", "ENOENT", "close it")
    assert attempt("fine", lambda: "detail", seconds=2).detail == "detail"


def test_attempts_in_a_place_that_cannot_be_entered() -> None:
    """All fail for the reason of the place."""

    def enter() -> None:
        raise Unsupported("no way in", hint="a door")

    found = attempt_inside(enter, [("one", str), ("two", str)], seconds=2)
    assert [(p.name, p.works, p.why, p.remedy) for p in found] == [
        ("one", False, "no way in", "a door"),
        ("two", False, "no way in", "a door"),
    ]
    fine = attempt_inside(lambda: None, [("one", lambda: "in")], seconds=2)
    assert [(p.name, p.works, p.detail) for p in fine] == [("one", True, "in")]


def test_errno_of_a_refusal_is_named() -> None:
    """As in errno(3)."""

    def fail() -> str:
        raise Refused("call", 1)

    assert attempt("named", fail, seconds=2).why == "call: EPERM"


def test_masks_of_proc() -> None:
    """Only mounts below /proc itself."""
    assert masked_proc(["/", "/proc", "/proc/kcore", "/processes", "/proc/acpi"]) == [
        "/proc/acpi",
        "/proc/kcore",
    ]


def test_storage_that_does_not_exist_yet(tmp_path: Path) -> None:
    """The nearest directory above it has the same file system."""
    assert existing_directory(str(tmp_path / "a/b/c")) == str(tmp_path)
    (tmp_path / "file").write_text("")
    assert existing_directory(str(tmp_path / "file/x")) == str(tmp_path)
