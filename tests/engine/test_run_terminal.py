"""`imgtools run -t` in a terminal: size and its changes, keys, raw mode, and the caller's terminal
as it was, however the run ends."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.run_rig import IMAGE, SECONDS, Runs


class Terminal:
    """A pseudo-terminal with a command in it."""

    def __init__(self, runs: Runs, *words: str, rows: int = 30, columns: int = 100) -> None:
        self.master, slave = pty.openpty()
        self.slave = slave
        self.resize(rows, columns)
        self.before = termios.tcgetattr(slave)
        self.seen = b""

        def lead() -> None:
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            runs.arguments(*words),
            env=runs.cli.env, cwd=runs.cli.work, stdin=slave, stdout=slave, stderr=slave,
            preexec_fn=lead,
        )  # fmt: skip

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def expect(self, pattern: bytes) -> bytes:
        """Read until the pattern comes; what is before its end is done with."""
        end = time.monotonic() + SECONDS
        while not (found := re.search(pattern, self.seen)):
            assert time.monotonic() < end, self.seen
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 4096)
        self.seen = self.seen[found.end() :]
        return found[0]

    def end(self) -> int:
        """The exit code; the terminal has to be as it was before."""
        code = self.process.wait(SECONDS)
        assert self.settings() == self.before
        return code

    def settings(self) -> list[Any]:
        return termios.tcgetattr(self.slave)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """The image in a store."""
    found = Runs(tmp_path_factory.mktemp("terminal"))
    yield found
    found.stop()


@pytest.fixture
def terminals(runs: Runs) -> Iterator[list[Terminal]]:
    """Closed afterwards; nothing may be left of their containers."""
    found: list[Terminal] = []
    yield found
    for each in found:
        each.close()
    assert runs.left() == []


def test_a_shell_in_a_terminal(runs: Runs, terminals: list[Terminal]) -> None:
    terminal = Terminal(runs, "-it", IMAGE, "sh")
    terminals.append(terminal)
    terminal.expect(rb"# ")
    assert terminal.settings()[3] & termios.ISIG == 0
    terminal.type(b"tty; stty size; stat -c %u:%t /dev/console\r")
    terminal.expect(rb"/dev/pts/0\r*\n30 100\r*\n0:88\r*\n")
    # Its size follows ours.
    terminal.resize(41, 123)
    terminal.process.send_signal(signal.SIGWINCH)
    terminal.type(b"sleep 0.2; stty size\r")
    terminal.expect(rb"41 123")
    # Ctrl-C goes to what runs there, not to us.
    terminal.type(b"sleep 60; echo status $?\r")
    time.sleep(0.3)
    terminal.type(b"\x03")
    terminal.expect(rb"# ")
    terminal.type(b"exit 6\r")
    assert terminal.end() == 6


def test_users_own_their_terminal(runs: Runs, terminals: list[Terminal]) -> None:
    terminal = Terminal(
        runs, "-it", "-u", "joe", IMAGE, "sh", "-c", "stat -c %u $(tty); echo x>$(tty)"
    )
    terminals.append(terminal)
    terminal.expect(rb"1000\r*\nx")
    assert terminal.end() == 0


def test_output_without_keys(runs: Runs, terminals: list[Terminal]) -> None:
    """-t alone: our terminal stays as it is, Ctrl-C is a signal for the container."""
    script = 'trap "echo got; exit 4" INT; echo up; while :; do sleep 0.02; done'
    terminal = Terminal(runs, "-t", IMAGE, "sh", "-c", script)
    terminals.append(terminal)
    terminal.expect(b"up")
    assert terminal.settings() == terminal.before
    terminal.type(b"\x03")
    terminal.expect(b"got")
    assert terminal.end() == 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_comes_back_after_signals(
    runs: Runs, terminals: list[Terminal], number: int
) -> None:
    terminal = Terminal(runs, "-it", IMAGE, "sh", "-c", "echo up; exec sleep 60")
    terminals.append(terminal)
    terminal.expect(b"up")
    terminal.process.send_signal(number)
    time.sleep(0.1)
    terminal.process.send_signal(number)
    assert terminal.end() == 137


def test_the_terminal_comes_back_after_errors(runs: Runs, terminals: list[Terminal]) -> None:
    for words, code in (((IMAGE, "nope"), 127), (("-u", "who", IMAGE, "true"), 125)):
        terminal = Terminal(runs, "-it", *words)
        terminals.append(terminal)
        assert terminal.end() == code


def test_hung_up_terminals(runs: Runs) -> None:
    """The window is closed: the container ends, and everything with it."""
    terminal = Terminal(runs, "-it", IMAGE, "sh", "-c", "echo up; exec sleep 60")
    terminal.expect(b"up")
    os.close(terminal.slave)
    os.close(terminal.master)
    process = terminal.process
    # The hangup is passed on; sleep as PID 1 does not hear it.
    time.sleep(0.2)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 137
    assert runs.left() == []


def test_without_a_terminal_of_ours(runs: Runs) -> None:
    """As in a CI job: the container gets one, and we get its output."""
    done = subprocess.run(
        ["setsid", "-w", *runs.arguments("-t", IMAGE, "tty")],
        env=runs.cli.env, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, b"/dev/pts/0"), done.stderr
    typed = subprocess.run(
        ["setsid", "-w", *runs.arguments("-it", IMAGE, "sh", "-c", "read x; echo read $x")],
        env=runs.cli.env, input=b"keys\n", capture_output=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert b"read keys" in typed.stdout
    assert b"standard input is not a terminal" in typed.stderr


def test_output_of_a_terminal_into_a_file(runs: Runs, tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as file:
        subprocess.run(
            ["setsid", "-w", *runs.arguments("-t", IMAGE, "sh", "-c", "echo a; echo b >&2")],
            env=runs.cli.env, stdin=subprocess.DEVNULL, stdout=file, timeout=SECONDS, check=True,
        )  # fmt: skip
    assert (tmp_path / "out").read_bytes().split() == [b"a", b"b"]
