"""Processes of containers: how they are stopped, killed, left behind, and told apart."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.runtime.container.state import start_time
from tests.engine.pitfalls.kit import (
    LIMIT,
    Box,
    Images,
    await_none,
    cgroups_with,
    processes_with,
    prologue,
)
from tests.rig import REPOSITORY

SWEEP = "import tests.engine.pitfalls.sweep"
MOMENTS = 40


def left_over(text: str) -> list[object]:
    """Processes and cgroups of a container."""
    return [*processes_with(text), *cgroups_with(text)]


def run_popen(images: Images, *words: str) -> subprocess.Popen[str]:
    """`imgtools run` in the background, with pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "imgtools", *images.words(*words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        text=True,
        start_new_session=True,
    )


def test_r1_a_program_that_ignores_signals_is_killed_by_the_second(images: Images) -> None:
    with run_popen(images, "IMAGE", "sh", "-c", "trap '' TERM; echo ready; sleep 60") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        time.sleep(0.2)
        assert process.poll() is None
        process.terminate()
        assert process.wait(LIMIT) == 137
    images.check_clean()


def test_r2_orphans_end_with_the_container(images: Images) -> None:
    """Without a reaper as PID 1, and with children of children that outlive it."""
    name = f"orphan-{os.urandom(6).hex()}"
    script = f"(sleep 60 {name}; true) & (sh -c 'sleep 50 & exit' {name}) & exec true"
    images.run("IMAGE", "sh", "-c", script)
    await_none(processes_with, name)
    images.check_clean()


@contextmanager
def passing_by() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the host that has nothing to do with anything."""
    process = subprocess.Popen(["sleep", "60"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def change_state(box: Box, **values: object) -> None:
    """Write other things into the state of the container."""
    with (box.root / box.id / "state.jsonl").open("a") as file:
        file.write(json.dumps(values) + "\n")


def test_r4_a_pid_with_another_start_time_is_somebody_else(box: Box) -> None:
    """It is not signalled, entered or ended."""
    box.configure("sleep", "60")
    box.spawned("create", box.id)
    init = box.state(box.id)["pid"]
    with passing_by() as bystander:
        change_state(box, pid=bystander.pid)
        assert box.state(box.id)["status"] == "stopped"
        assert box("kill", box.id, "KILL").returncode == 1
        assert box.exec("true").returncode == 255
        assert bystander.poll() is None
        # What is in the container's cgroup is the container's, whoever is said to be its init.
        box("delete", "--force", box.id)
        assert bystander.poll() is None
        assert start_time(init) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"pid": "1"},
        {"pid": -1},
        {"pid": 1 << 70},
        {"started": "x"},
        {"annotations": [1]},
        {"cgroup": {"directories": [{"path": "../../x"}]}},
        {"cgroup": "x"},
        {"bundle": 7},
        {"created": "now"},
        {"unknown": [[[]]]},
    ],
    ids=str,
)
def test_r4_a_state_that_is_damaged_is_told_in_words(box: Box, change: dict[str, object]) -> None:
    """Whatever is in it; and the directory can still be removed by hand."""
    box.configure("sleep", "60")
    box.spawned("create", box.id)
    before = (box.root / box.id / "state.jsonl").read_text()
    change_state(box, **change)
    for words in (("state",), ("kill",), ("ps",), ("exec", "true"), ("pause",), ("delete",)):
        done = box(words[0], box.id, *words[1:])
        assert "Traceback" not in done.stderr, (words, done.stderr)
        assert done.returncode == 0 or done.stderr.startswith("imgtools-runtime: ")
        if not (box.root / box.id / "state.jsonl").exists():
            break
    else:
        (box.root / box.id / "state.jsonl").write_text(before)


def test_r4_state_of_another_user_is_not_believed(box: Box) -> None:
    """Else whoever owns it says whom root kills."""
    box.configure("true")
    fake = box.root / box.id
    fake.mkdir(parents=True, mode=0o700)
    with passing_by() as bystander:
        fields = Path(f"/proc/{bystander.pid}/stat").read_text().rpartition(")")[2].split()
        state = {
            "id": box.id, "bundle": "/", "oci_version": "1.0.2", "created": 0.0, "ready": True,
            "pid": bystander.pid, "started": int(fields[19]),
        }  # fmt: skip
        (fake / "state.jsonl").write_text(json.dumps(state) + "\n")
        os.chown(fake, 12345, 12345)
        for words in (("kill", box.id, "KILL"), ("delete", "--force", box.id), ("state", box.id)):
            done = box(*words)
            assert done.returncode == 1
            assert "belongs to user 12345" in done.stderr
        assert bystander.poll() is None
    os.chown(fake, 0, 0)
    (fake / "state.jsonl").unlink()


@pytest.mark.parametrize("way", ["frozen", "stopped"])
def test_r5_what_stands_still_can_be_killed(box: Box, way: str) -> None:
    pid = box.start("sleep", "60")
    if way == "frozen":
        box.ok("pause", box.id)
        assert box.exec("true").returncode == 255
    else:
        os.kill(pid, signal.SIGSTOP)
    box.ok("kill", box.id, "KILL")
    box.await_status(box.id, "stopped")
    box.ok("delete", box.id)
    assert left_over(box.id) == []


BOMB = "f() { f & f & while :; do :; done; }; f"


@pytest.mark.parametrize("own_pids", [True, False])
def test_r6_a_fork_bomb_ends_with_its_container(box: Box, own_pids: bool) -> None:
    """Within its limit, with and without a PID namespace."""
    config = box.config
    config["linux"]["resources"] = {"pids": {"limit": 40}}
    if not own_pids:
        kept = [n for n in config["linux"]["namespaces"] if n["type"] != "pid"]
        config["linux"]["namespaces"] = kept
        config["mounts"] = [m for m in config["mounts"] if m["type"] != "proc"]
        config["linux"]["maskedPaths"] = config["linux"]["readonlyPaths"] = []
    box.config = config
    box.start("sh", "-c", BOMB)
    time.sleep(0.2)
    pids = json.loads(box.ok("ps", "-f", "json", box.id))
    assert 1 < len(pids) <= 40
    box.ok("delete", "--force", box.id)
    assert left_over(box.id) == []
    for pid in pids:
        assert start_time(pid) == 0


def test_r7_a_flood_reaches_who_reads_and_ends_with_who_does_not(images: Images) -> None:
    said = images.run("IMAGE", "sh", "-c", "yes | head -c 30000000")
    assert len(said.stdout) == 30000000
    with run_popen(images, "IMAGE", "yes") as process:
        assert process.stdout is not None
        assert process.stdout.read(100) == "y\n" * 50
        process.stdout.close()
        assert process.wait(LIMIT) in (141, 1, 0)
    images.check_clean()


def test_r7_any_bytes_pass(images: Images) -> None:
    """Half characters, NUL, one very long line; nothing is added or lost."""
    script = "printf 'a\\000\\303'; head -c 5000000 /dev/zero; printf '\\251\\033[31m'"
    (images.tree / "bin/printf").symlink_to("busybox")
    try:
        words = [sys.executable, "-m", "imgtools", *images.words("IMAGE", "sh", "-c", script)]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        said = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, env=environment, check=True
        )
    finally:
        (images.tree / "bin/printf").unlink()
    assert said.stdout == b"a\0\303" + bytes(5000000) + b"\251\033[31m"


def sweep(box: Box, role: str, number: int | None) -> subprocess.CompletedProcess[str]:
    """`run`, whose `role` is killed at its step `number`; counted without one."""
    environment = {"IMGTOOLS_SWEEP": f"{role}:{number or ''}"}
    if number is None:
        environment["IMGTOOLS_SWEEP_COUNT"] = str(box.bundle / "steps")
    modules = "import engine.cli.commands.create, engine.runtime.process.terminal"
    plain, box.command = box.command, tuple(prologue(f"{modules}\n{SWEEP}"))
    box.configure("sh", "-c", f"exit 0 # {box.id}")
    with open(box.bundle / "errors", "w+") as errors:
        done = subprocess.run(
            box.words("run", box.id),
            cwd=box.bundle,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            timeout=LIMIT,
            check=False,
            text=True,
        )
        errors.seek(0)
        done.stderr = errors.read()
    box.command = plain
    return done


@pytest.mark.parametrize("role", ["runtime", "init"])
def test_r8_a_kill_at_any_step_leaves_nothing(box: Box, role: str) -> None:
    """Of the runtime or of the container's init; `delete --force` takes what is left on disk,
    and the same id can be used again."""
    done = sweep(box, role, None)
    assert done.returncode == 0, done.stderr
    total = (box.bundle / "steps").stat().st_size
    assert total > 50
    for moment in range(MOMENTS):
        number = 1 + moment * (total - 1) // (MOMENTS - 1)
        done = sweep(box, role, number)
        assert "Traceback" not in done.stderr
        if role == "runtime":
            # Later steps than the first run's last may not come.
            assert done.returncode in (-signal.SIGKILL, 0), (number, done.stderr)
        else:
            assert done.returncode in (0, 1, 137), (number, done.stderr)
        await_none(processes_with, box.id)
        box.delete()
        assert left_over(box.id) == [], number
        assert list(box.root.iterdir()) == [], number
    assert str(box.bundle) not in Path("/proc/self/mountinfo").read_text()
    assert box.says("echo", "again") == "again\n"


def family(pid: int) -> dict[str, int]:
    """The processes of `imgtools run`: engine, launcher, monitor, as far as they exist."""
    found = {"engine": pid}
    for name, parent in (("launcher", "engine"), ("monitor", "launcher")):
        if parent in found:
            try:
                text = Path(f"/proc/{found[parent]}/task/{found[parent]}/children").read_text()
            except OSError:
                break
            for child in text.split():
                try:
                    line = Path(f"/proc/{child}/cmdline").read_bytes()
                except OSError:
                    continue
                if b"launcher.py" in line:
                    found[name] = int(child)
    return found


@pytest.mark.parametrize("role", ["engine", "launcher", "monitor", "all"])
def test_r8_a_kill_of_run_at_any_moment_leaves_no_process(images: Images, role: str) -> None:
    """No mount and no cgroup either, and the next run sweeps the disk."""
    marker = f"mark-{os.urandom(6).hex()}"
    for delay in (0.08, 0.12, 0.16, 0.4):
        with run_popen(images, "IMAGE", "sh", "-c", f"sleep 60 # {marker}") as process:
            time.sleep(delay)
            roles = family(process.pid)
            containers = images.path / "run/imgtools/runtime"
            ids = os.listdir(containers) if containers.exists() else []
            for name, pid in roles.items():
                if role in (name, "all"):
                    os.kill(pid, signal.SIGKILL)
            if role != "monitor" or role not in roles:
                # A container outlives the launcher, as long as the command does.
                process.kill()
            process.wait(LIMIT)
        await_none(processes_with, marker)
        await_none(processes_with, images.flags[1])
        if role != "all":
            for container in ids:
                await_none(cgroups_with, container)
        assert str(images.path) not in Path("/proc/self/mountinfo").read_text()
    assert images.says("IMAGE", "echo", "again") == "again\n"
    done = images.cli("prune", *images.flags)
    assert done.returncode == 0, done.stderr
    images.check_clean()
    for container in ids:
        await_none(cgroups_with, container)


def test_r8_interrupts_while_a_container_is_made(images: Images) -> None:
    for delay in (0.05, 0.1, 0.14, 0.18, 0.25):
        with run_popen(images, "IMAGE", "sleep", "60") as process:
            time.sleep(delay)
            process.send_signal(signal.SIGINT)
            time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            process.wait(LIMIT)
            assert process.stderr is not None
            # While Python itself starts, nobody is there yet to catch anything.
            assert "/engine/" not in process.stderr.read()
        images.check_clean()


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 255", 255), ("exit 256", 0), ("kill -SEGV $$", 139), ("kill -34 $$", 162)],
)
def test_r9_codes_of_run(images: Images, script: str, code: int) -> None:
    (images.tree / "bin/kill").symlink_to("busybox")
    try:
        inner = f"sh -c '{script}'; exit $?"
        assert images.run("IMAGE", "sh", "-c", inner).returncode == code
    finally:
        (images.tree / "bin/kill").unlink()


def test_r3_the_container_ends_with_a_monitor_that_changed_ids(images: Images) -> None:
    """The signal at its parent's death is set after the change of the user."""
    marker = f"mark-{os.urandom(6).hex()}"
    with run_popen(images, "-u", "1000", "IMAGE", "sh", "-c", f"echo up; sleep 60 # {marker}") as p:
        assert p.stdout is not None
        assert p.stdout.readline() == "up\n"
        os.kill(family(p.pid)["monitor"], signal.SIGKILL)
        await_none(processes_with, f"up; sleep 60 # {marker}\0", 5)
        assert p.wait(LIMIT) != 0
        assert p.stderr is not None
        assert not re.search("Traceback", p.stderr.read())
    images.check_clean()


def test_r8_exec_and_delete_at_once(box: Box) -> None:
    """Whoever comes too late hears it in words, and nothing is left of who came in time."""
    box.start("sleep", "60")
    words = box.words("exec", box.id, "sh", "-c", f"sleep 60 # {box.id}")
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    entering = []
    for _ in range(6):
        entering.append(subprocess.Popen(words, **streams, stderr=subprocess.PIPE, text=True))
        time.sleep(0.02)
    box.delete()
    for process in entering:
        _, said = process.communicate(timeout=LIMIT)
        assert process.returncode != 0
        assert "Traceback" not in said
    await_none(left_over, box.id)


def test_r8_one_of_many_gets_the_name(box: Box) -> None:
    """Containers of one id that are made at once are one container."""
    box.configure("sh", "-c", "echo made; sleep 0.3")
    words = box.words("run", box.id)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    made = [subprocess.Popen(words, cwd=box.bundle, **pipes) for _ in range(5)]
    said = [process.communicate(timeout=LIMIT) for process in made]
    assert sum(out == "made\n" for out, _ in said) >= 1
    for process, (out, error) in zip(made, said, strict=True):
        assert "Traceback" not in error
        assert (process.returncode == 0) == (out == "made\n"), error
        assert process.returncode == 0 or "already exists" in error
    assert left_over(box.id) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_r8_a_container_that_attacks_who_enters_it(box: Box, number: int) -> None:
    """Its root may signal what enters; the caller hears of it, and is not held up for ever."""
    (box.rootfs / "bin/kill").unlink()
    (box.rootfs / "bin/kill").symlink_to("busybox")
    script = f"""
    while :; do for p in /proc/[0-9]*; do p=${{p#/proc/}}
    [ $p -gt 1 ] && [ $p != $$ ] && kill -{int(number)} $p 2>/dev/null
    done; done"""
    box.start("sh", "-c", script, capabilities={"effective": ["CAP_KILL"],
              "permitted": ["CAP_KILL"], "bounding": ["CAP_KILL"]})  # fmt: skip
    words = box.words("exec", box.id, "sleep", "5")
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    with subprocess.Popen(words, **streams, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(0.3)
        box.delete()
        _, said = process.communicate(timeout=LIMIT)
        assert process.returncode in (137, 255)
        assert "Traceback" not in said
    await_none(left_over, box.id)
