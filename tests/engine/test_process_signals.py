"""Signals by name, the dispositions a program gets, and exit codes."""

from __future__ import annotations

import os
import signal

import pytest

from engine.runtime.errors import InvalidConfig
from engine.runtime.process.signals import (
    exit_code,
    reset_signals,
    signal_name,
    signal_number,
)
from tests.engine.process_children import executed


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGTERM", 15),
        ("term", 15),
        ("sigKill", 9),
        ("15", 15),
        ("64", 64),
        ("1", 1),
        ("RTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("SIGRTMAX-1", 63),
        ("rtmax", 64),
        ("RTMIN+30", 64),
        ("IOT", 6),
        ("SIGPOLL", 29),
    ],
)
def test_signal_numbers(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "65", "-1", "+15", " 15", "1e1", "SIG15", "SIG", "\u0663", "9999999999999"),
        *("RTMIN+31", "RTMIN-1", "RTMAX+1", "RTMAX-31", "RTMIN+", "RTMIN+-1", "RTMIN++1"),
        *("NOSUCH", "TERM "),
    ],
)
def test_r9_other_texts_are_no_signals(text: str) -> None:
    with pytest.raises(InvalidConfig):
        signal_number(text)


def test_names_are_those_of_the_system() -> None:
    for number in range(1, 32):
        assert signal_name(number) == signal.Signals(number).name
        assert signal_number(signal_name(number)) == number
    for number in range(34, 65):
        assert signal_number(signal_name(number)) == number
    assert signal_name(32) == "signal 32"


@pytest.mark.parametrize(
    ("status", "code"),
    [(0, 0), (1 << 8, 1), (255 << 8, 255), (9, 137), (15, 143), (11 | 0x80, 139), (64, 192)],
)
def test_r9_exit_codes(status: int, code: int) -> None:
    assert exit_code(status) == code


@pytest.mark.parametrize("status", [0x137F, 0xFFFF])
def test_r9_stopped_and_continued_are_no_ends(status: int) -> None:
    with pytest.raises(ValueError, match="not that of a process that ended"):
        exit_code(status)


def test_y1_a_program_starts_with_default_signals_and_an_empty_mask() -> None:
    def work() -> None:
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGRTMAX):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        reset_signals()
        os.execv("/bin/cat", ["cat", "/proc/self/status"])

    fields = dict(line.split(b":", 1) for line in executed(work).out.splitlines() if b":" in line)
    assert int(fields[b"SigIgn"], 16) == 0
    assert int(fields[b"SigBlk"], 16) == 0


def test_y1_a_pipe_whose_reader_is_gone_ends_a_program_silently() -> None:
    def work() -> None:
        reset_signals()
        os.execv("/bin/sh", ["sh", "-c", "yes | head -n 1; :"])

    ended = executed(work)
    assert (ended.code, ended.out, ended.err) == (0, b"y\n", b"")
