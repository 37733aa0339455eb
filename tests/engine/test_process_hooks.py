"""Hooks: what they get, and what becomes of them."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from engine.runtime.errors import HookFailed
from engine.runtime.process.hooks import run_hooks, try_hooks
from engine.runtime.spec.model import Hook
from tests.engine.rootfs_driver import in_child

STATE = json.dumps({"ociVersion": "1.0.2", "id": "x", "status": "creating"}).encode()


def shell(script: str, *, timeout: int | None = None, env: tuple[str, ...] = ()) -> Hook:
    return Hook(path="/bin/sh", args=("hook", "-c", script), timeout=timeout, env=env)


def failed(*hooks: Hook, state: bytes = STATE) -> str:
    with pytest.raises(HookFailed) as caught:
        run_hooks(hooks, state, "createRuntime")
    return caught.value.message


def test_the_state_is_on_standard_input(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_hooks((shell(f"cat > {out}"),), STATE, "createRuntime")
    assert out.read_bytes() == STATE


def test_a_state_larger_than_a_pipe_that_nobody_reads(tmp_path: Path) -> None:
    out = tmp_path / "out"
    state = b"x" * (1 << 20)
    run_hooks((shell("exit 0"), shell(f"cat > {out}")), state, "createRuntime")
    assert out.stat().st_size == 1 << 20


def test_hooks_run_in_order_and_where_they_are_told(tmp_path: Path) -> None:
    hooks = tuple(shell(f"echo {n} >> order; pwd >> order") for n in range(3))
    run_hooks(hooks, STATE, "prestart", os.fsencode(tmp_path))
    assert (tmp_path / "order").read_text().split() == [
        word for n in range(3) for word in (str(n), str(tmp_path))
    ]


def test_the_environment_is_exactly_what_was_asked(tmp_path: Path) -> None:
    out = tmp_path / "out"
    env = ("A=1", "B=caf\udce9", "C=")
    run_hooks((Hook(path="/usr/bin/env", args=("env", "sh", "-c", f"cat /proc/$$/environ > {out}"),
                    env=(*env, "PATH=/bin:/usr/bin")),), STATE, "poststart")  # fmt: skip
    assert set(out.read_bytes().split(b"\0")) >= {b"A=1", b"B=caf\xe9", b"C="}
    assert b"HOME" not in out.read_bytes()
    run_hooks((shell(f"cat /proc/$$/environ > {out}"),), STATE, "poststart")
    assert out.read_bytes() == b"", "absent means empty"


def test_arguments_default_to_the_path(tmp_path: Path) -> None:
    script = tmp_path / "hook"
    script.write_text(f"#!/bin/sh\ntr '\\0' ' ' < /proc/$$/cmdline > {tmp_path}/out\n")
    script.chmod(0o755)
    run_hooks((Hook(path=str(script)),), STATE, "poststart")
    assert (tmp_path / "out").read_text() == f"/bin/sh {script} "


def test_d2_a_hook_gets_no_descriptor_of_ours(tmp_path: Path) -> None:
    def work() -> list[str]:
        for _ in range(5):
            os.set_inheritable(os.dup(2), True)
        out = tmp_path / "out"
        hook = Hook(path="/bin/ls", args=("ls", "/proc/self/fd"))
        run_hooks((shell(f"exec /bin/ls /proc/self/fd > {out}"), hook), STATE, "poststart")
        return out.read_text().split()

    # The fourth is the directory that ls itself reads.
    assert in_child(work) == ["0", "1", "2", "3"]


def test_y1_a_hook_has_default_signals(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_hooks((shell(f"grep SigIgn /proc/$$/status > {out}"),), STATE, "poststart")
    assert int(out.read_text().split()[1], 16) == 0


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("exit 3", "exit status 3"),
        ("echo some; echo trouble >&2; exit 1", "exit status 1: some; trouble"),
        ("kill -9 $$", "killed by SIGKILL"),
        (r"printf '\033[2J\377'; exit 1", r"exit status 1: \x1b[2J\xff"),
    ],
)
def test_a_hook_that_fails_is_named_with_its_last_words(script: str, text: str) -> None:
    expected = f'error running createRuntime hook #1 ("/bin/sh"): {text}'
    assert failed(shell("exit 0"), shell(script)) == expected


def test_no_hook_runs_after_one_that_failed(tmp_path: Path) -> None:
    failed(shell("exit 1"), shell(f"touch {tmp_path}/after"))
    assert list(tmp_path.iterdir()) == []


def test_r7_of_much_output_the_end_is_kept() -> None:
    message = failed(shell("head -c 3000000 /dev/zero | tr '\\0' x; echo end; exit 1"))
    assert message.endswith("xend")
    assert len(message) < 5000


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/no/such/hook", "no such file or directory"),
        ("/etc", "permission denied"),
        ("/etc/passwd", "permission denied"),
    ],
)
def test_a_hook_that_cannot_be_executed(path: str, text: str) -> None:
    expected = f'error running createRuntime hook #0 ("{path}"): {text}'
    assert failed(Hook(path=path)) == expected


def test_a_hook_out_of_time_is_killed_with_what_it_started(tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! > {tmp_path}/child; echo waiting; wait"
    message = failed(shell(script, timeout=1))
    assert message.endswith("timed out after 1 s: waiting")
    child = int((tmp_path / "child").read_text())
    for _ in range(500):
        try:
            with open(f"/proc/{child}/stat", encoding="ascii") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    break
        except FileNotFoundError:
            break
        time.sleep(0.01)
    else:
        os.kill(child, signal.SIGKILL)
        pytest.fail("the hook's child outlived it")


def test_what_a_hook_leaves_running_holds_nobody_up(tmp_path: Path) -> None:
    run_hooks((shell(f"sleep 600 & echo $! > {tmp_path}/child"),), STATE, "poststart")
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def test_poststop_hooks_all_run_and_only_warn(tmp_path: Path) -> None:
    hooks = (shell("exit 1"), Hook(path="/no/such"), shell(f"touch {tmp_path}/ran"))
    warnings = try_hooks(hooks, STATE, "poststop")
    assert [w.partition(": ")[2] for w in warnings] == [
        "exit status 1",
        "no such file or directory",
    ]
    assert (tmp_path / "ran").exists()


def test_hooks_work_where_the_standard_streams_are_closed(tmp_path: Path) -> None:
    def work() -> str:
        for fd in range(3):
            os.close(fd)
        run_hooks((shell(f"cat > {tmp_path}/out"),), STATE, "poststart")
        return (tmp_path / "out").read_text()

    assert in_child(work) == STATE.decode()


def test_no_descriptor_and_no_process_is_left() -> None:
    def work() -> list[object]:
        before = os.listdir("/proc/self/fd")
        for _ in range(3):
            try_hooks((shell("exit 0"), shell("exit 1"), Hook(path="/no")), STATE, "poststop")
        try:
            left: object = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            left = "none"
        return [left, os.listdir("/proc/self/fd") == before]

    assert in_child(work) == ["none", True]
