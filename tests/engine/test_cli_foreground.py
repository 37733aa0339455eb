"""Programs in the foreground get signals and a terminal, and the caller's is restored."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.engine.screen import LIMIT, Screen
from tests.rig import REPOSITORY

PROGRAM = [sys.executable, "-m", "tests.engine.foreground_program"]


def start(kind: str, *command: str, **options: Any) -> subprocess.Popen[bytes]:
    """The program, whose terminal is whatever `options` make it."""
    return subprocess.Popen([*PROGRAM, kind, *command], cwd=REPOSITORY, **options)


def run(kind: str, *command: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """The same, waited for, in a session without a terminal."""
    options = {"stdin": subprocess.DEVNULL, "start_new_session": True, **options}
    return subprocess.run(
        [*PROGRAM, kind, *command],
        cwd=REPOSITORY,
        capture_output=True,
        timeout=LIMIT,
        check=False,
        **options,
    )


def start_in(screen: Screen, *command: str) -> subprocess.Popen[bytes]:
    """The program with its terminal joined to `screen`."""
    return screen.start([*PROGRAM, "terminal", *command], cwd=REPOSITORY)


@pytest.fixture
def screen() -> Iterator[Screen]:
    """One that is closed afterwards."""
    made = Screen()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -9 $$", 137)]
)
def test_r9_exit_codes(script: str, code: int) -> None:
    """The program's own, or 128 and the signal."""
    assert run("plain", "sh", "-c", script).returncode == code


def test_standard_streams_are_inherited() -> None:
    """Binary safe."""
    done = run("plain", "sh", "-c", "cat; echo e >&2", stdin=None, input=b"\0\xff")
    assert (done.stdout, done.stderr) == (b"\0\xff", b"e\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_go_on_to_the_program(number: signal.Signals) -> None:
    """Which lives in a session of its own and would not hear of them; two in a row too."""
    name = number.name.removeprefix("SIG")
    script = (
        f"trap 'n=$((n+1)); echo $n' {name}; echo ready; while [ x$n != x2 ]; do sleep .02; done"
    )
    with start("plain", "sh", "-c", script, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == b"1\n"
        process.send_signal(number)
        assert process.stdout.read() == b"2\n"
        assert process.wait(LIMIT) == 0


def test_signal_that_kills_the_program() -> None:
    """Ends the command with the program's code, not by the signal."""
    with start("plain", "sh", "-c", "echo x; exec sleep 60", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        assert process.wait(LIMIT) == 128 + signal.SIGTERM


def test_y1_the_program_blocks_and_ignores_no_signal() -> None:
    """Although this process holds nearly all of them back meanwhile."""
    done = run("plain", "sh", "-c", "grep -E 'Sig(Blk|Ign)' /proc/self/status")
    assert {line.split()[1] for line in done.stdout.splitlines()} == {b"0" * 16}


def test_r2_orphans_are_reaped(tmp_path: Any) -> None:
    """Those the container leaves to a subreaper do not stay zombies while it runs."""
    script = (
        "import ctypes, os, sys; from tests.engine.foreground_program import main;"
        "ctypes.CDLL(None).prctl(36, 1, 0, 0, 0);"
        "code = main('plain', 'sh', '-c', sys.argv[1]);"
        "print(open('/proc/self/task/%d/children' % os.getpid()).read().split()); sys.exit(code)"
    )
    inner = (
        "(sh -c 'echo $$ > p; exec sleep .05' &) ; "
        "while [ ! -s p ]; do sleep .01; done; while [ -e /proc/$(cat p) ]; do sleep .02; done"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", script, inner]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, timeout=LIMIT, check=True
    )
    assert done.stdout == b"[]\n"


def test_no_terminal_to_join_is_an_error() -> None:
    """In the words that users of runc know."""
    done = run("terminal", "true")
    assert done.returncode == 1
    assert b"open /dev/tty: no such device or address" in done.stderr


def test_terminals_are_joined(screen: Screen) -> None:
    """Keys arrive one by one, line ends are made once, sizes are the same."""
    before = screen.mode()
    script = (
        "tty -s && stty size; stty -icanon -echo; echo go; dd bs=1 count=1 2>/dev/null; echo end"
    )
    with start_in(screen, "sh", "-c", script) as process:
        shown = screen.expect(b"go\r\n")
        assert shown == b"24 80\r\ngo\r\n"
        assert screen.mode() != before
        screen.type(b"k")
        assert screen.expect(b"end\r\n").endswith(b"kend\r\n")
        assert process.wait(LIMIT) == 0
    assert screen.mode() == before


def test_control_c_reaches_the_program_by_its_own_terminal(screen: Screen) -> None:
    """The raw one outside makes no signal of it."""
    script = "trap 'echo caught; exit 7' INT; echo go; while :; do sleep .02; done"
    with start_in(screen, "sh", "-c", script) as process:
        screen.expect(b"go")
        screen.type(b"\x03")
        screen.expect(b"caught")
        assert process.wait(LIMIT) == 7


def test_resizing(screen: Screen) -> None:
    """SIGWINCH of the caller becomes one of the program."""
    script = "trap 'stty size; exit' WINCH; echo go; while :; do sleep .02; done"
    with start_in(screen, "sh", "-c", script) as process:
        screen.expect(b"go")
        screen.set_size(30, 100)
        screen.expect(b"30 100\r\n")
        assert process.wait(LIMIT) == 0


def test_everything_that_was_written_is_shown(screen: Screen) -> None:
    """A program that ends at once leaves its output in the terminal's buffer."""
    with start_in(screen, "sh", "-c", "seq 1 3000; exit 4") as process:
        shown = screen.expect(b"3000\r\n")
        assert process.wait(LIMIT) == 4
    assert shown.split() == [b"%d" % number for number in range(1, 3001)]


def test_much_in_both_directions(screen: Screen) -> None:
    """Nothing is lost and nothing blocks for ever when both sides are full."""
    script = "stty raw -echo; echo go; head -c 100000 | tr a b; echo end"
    with start_in(screen, "sh", "-c", script) as process:
        screen.expect(b"go")
        todo = b"a" * 100000
        while todo or b"end" not in screen.seen:
            readable, writable, _ = select.select(
                [screen.master], [screen.master] if todo else [], [], LIMIT
            )
            assert readable or writable
            if readable:
                screen.seen += os.read(screen.master, 65536)
            if writable:
                todo = todo[os.write(screen.master, todo[:512]) :]
        assert process.wait(LIMIT) == 0
    assert screen.seen.count(b"b") == 100000


def test_background_process_does_not_hold_the_command(screen: Screen) -> None:
    """It keeps the terminal open, but the program has ended."""
    with start_in(screen, "sh", "-c", "trap '' HUP; sleep 30 & echo $!; exit 5") as process:
        assert process.wait(LIMIT) == 5
        os.kill(int(screen.expect(b"\n").split()[0]), signal.SIGKILL)


def test_output_without_a_reader(screen: Screen) -> None:
    """Standard output is a pipe that nobody reads any more: the program goes on."""
    end, write = os.pipe()
    os.close(end)
    command = [*PROGRAM, "terminal", "sh", "-c", "seq 1 100; exit 6"]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        stdin=screen.slave,
        stdout=write,
        stderr=screen.slave,
        timeout=LIMIT,
        check=False,
    )
    os.close(write)
    assert done.returncode == 6


def test_output_to_a_pipe_is_what_the_terminal_makes_of_it(screen: Screen) -> None:
    """With carriage returns, as from other engines: nothing on the way changes it."""
    command = [*PROGRAM, "terminal", "echo", "x"]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        stdin=screen.slave,
        stderr=screen.slave,
        stdout=subprocess.PIPE,
        timeout=LIMIT,
        check=True,
    )
    assert done.stdout == b"x\r\n"
