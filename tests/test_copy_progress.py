"""What a terminal shows of a copy: a small screen is emulated, time is a number."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from imgtools.cli import progress
from imgtools.cli.progress import Bars, JsonLines, Quiet, printable
from imgtools.task import Advanced, Event, Finished, Note, Started
from tests.rig import RunCli

ONE = "sha256:" + "1" * 64
TWO = "sha256:" + "2" * 64
MIB = 1 << 20


class Clock:
    """Time that is told to pass."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def screen(output: str) -> list[str]:
    """What a terminal shows after `output`: lines, cursor up, erase below."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[\d*[A-Z]|\r|\n|[^\x1b\r\n]+", output):
        if part == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif part == "\r":
            continue
        elif part == "\x1b[J":
            del lines[row:]
            lines.append("")
        elif part.startswith("\x1b["):
            assert part[-1] == "A"
            row -= int(part[2:-1])
            assert row >= 0
        else:
            lines[row] += part
    return [line for line in lines if line]


@pytest.fixture
def shown() -> tuple[Bars, io.StringIO, Clock]:
    """Bars on a stream that is no terminal, so 80 columns wide."""
    stream, clock = io.StringIO(), Clock()
    return Bars(stream, clock=clock), stream, clock


Shown = tuple[Bars, io.StringIO, Clock]


def play(shown: Shown, *events: Event | float) -> list[str]:
    """Feed events; a number lets seconds pass; the screen afterwards."""
    bars, stream, clock = shown
    for event in events:
        if isinstance(event, float):
            clock.now += event
        else:
            bars(event)
    return screen(stream.getvalue())


def test_bars(shown: Shown) -> None:
    """One line for each blob under way, and one for all."""
    shown[0].expect(3, 4 * MIB)
    lines = play(
        shown,
        Started(ONE, "layer", 2 * MIB),
        Started(TWO, "config", MIB),
        1.0,
        Advanced(ONE, MIB),
    )
    assert lines == [
        "sha256:111111111111  [############------------]  50%  2.0 MiB  layer",
        "sha256:222222222222  [------------------------]   0%  1.0 MiB  config",
        "0/3  1.0 MiB of 4.0 MiB  1.0 MiB/s  3s left",
    ]
    lines = play(shown, Finished(ONE, "stored"), 1.0, Finished(TWO, "present"))
    assert lines == ["2/3  1.0 MiB of 3.0 MiB  512.0 KiB/s  4s left"]


def test_what_was_kept_says_nothing_of_the_rate(shown: Shown) -> None:
    shown[0].expect(1, 4 * MIB)
    lines = play(
        shown,
        Started(ONE, "layer", 4 * MIB),
        1.0,
        Advanced(ONE, 2 * MIB, kept=True),
        1.0,
        Advanced(ONE, MIB),
    )
    assert lines[-1] == "0/1  3.0 MiB of 4.0 MiB  512.0 KiB/s  2s left"


def test_at_most_ten_drawings_a_second(shown: Shown) -> None:
    """However many events there are."""
    bars, stream, clock = shown
    bars(Started(ONE, "layer", 1000 * MIB))
    for _ in range(1000):
        clock.now += 0.001
        bars(Advanced(ONE, 1))
    assert 9 <= stream.getvalue().count("\x1b[J") <= 12


def test_nothing_is_left(shown: Shown) -> None:
    """Neither at the end nor after an error, and nothing is drawn afterwards."""
    bars, stream, _ = shown
    with pytest.raises(KeyboardInterrupt), bars:
        play(shown, Started(ONE, "layer", MIB), 1.0, Advanced(ONE, 5))
        raise KeyboardInterrupt
    assert screen(stream.getvalue()) == []
    play(shown, 1.0, Advanced(ONE, 5))
    assert screen(stream.getvalue()) == []


def test_notes_scroll_past(shown: Shown) -> None:
    """They stay, the bars are drawn anew below."""
    lines = play(
        shown,
        Started(ONE, "layer", MIB),
        1.0,
        Advanced(ONE, MIB),
        Note("warning", "look\nhere"),
        1.0,
        Advanced(ONE, 0),
    )
    assert lines[0] == "imgtools: warning: look here"
    assert len(lines) == 3


def test_many_blobs_and_long_names(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line wraps and the screen is never full: else we would erase too little."""
    monkeypatch.setattr(shown[0], "_terminal", lambda: (30, 5))
    events = [Started(f"sha256:{i:064}", "layer", MIB) for i in range(20)]
    lines = play(shown, *events, 1.0, Advanced(ONE, 1))
    assert len(lines) == 4
    assert all(len(line) < 30 for line in lines)


def test_what_is_sent_again_is_taken_back(shown: Shown) -> None:
    """A repeated upload reports a negative advance."""
    lines = play(
        shown, Started(ONE, "layer", MIB), 1.0, Advanced(ONE, MIB), Advanced(ONE, -MIB), 1.0,
        Advanced(ONE, 0),
    )  # fmt: skip
    assert lines[0].split("]")[1].split()[0] == "0%"


def test_unknown_size(shown: Shown) -> None:
    """Then there is no bar to draw."""
    lines = play(shown, Started(ONE, "read layer", None), 1.0, Advanced(ONE, 2048))
    assert lines[0] == "sha256:111111111111  read layer  2.0 KiB"


@pytest.mark.parametrize("make", [Bars, JsonLines])
def test_many_threads(make: Callable[[io.StringIO], Quiet]) -> None:
    """Events come from all workers at once."""
    stream = io.StringIO()
    listener = make(stream)

    def work(item: str) -> None:
        listener(Started(item, "layer", 1000))
        for _ in range(1000):
            listener(Advanced(item, 1))
        listener(Finished(item, "stored"))

    threads = [threading.Thread(target=work, args=(f"sha256:{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    listener.close()
    if make is JsonLines:
        found = [json.loads(line) for line in stream.getvalue().splitlines()]
        assert sum(x["amount"] for x in found if x["event"] == "advanced") == 8000
    else:
        assert screen(stream.getvalue()) == []


def test_json_lines() -> None:
    """Advances of an item are joined, and complete when it is finished."""
    stream, clock = io.StringIO(), Clock()
    listener = JsonLines(stream, clock=clock)
    listener(Started(ONE, "layer", 30))
    for _ in range(3):
        clock.now += 0.06
        listener(Advanced(ONE, 10))
    listener(Finished(ONE, "stored"))
    listener(Note("info", "done"))
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [
        {"event": "started", "item": ONE, "what": "layer", "total": 30},
        {"event": "advanced", "item": ONE, "amount": 20},
        {"event": "advanced", "item": ONE, "amount": 10},
        {"event": "finished", "item": ONE, "outcome": "stored"},
        {"event": "note", "level": "info", "text": "done"},
    ]


@pytest.mark.parametrize(("quiet", "expected"), [(False, 2), (True, 1)])
def test_without_a_terminal(quiet: bool, expected: int) -> None:
    """Notes only, and of those only warnings when quiet."""
    stream = io.StringIO()
    listener = Quiet(stream, quiet=quiet)
    for event in (
        Started(ONE, "layer", 1),
        Advanced(ONE, 1),
        Finished(ONE, "stored"),
        Note("warning", "a"),
        Note("info", "b"),
    ):
        listener(event)
    assert len(stream.getvalue().splitlines()) == expected


def test_names_cannot_steer_the_terminal() -> None:
    """Escape sequences are shown, not obeyed."""
    assert printable("a\x1b[2Jb\nc") == "a\\x1b[2Jb c"


def test_sizes_of_terminals() -> None:
    """A real one is asked, anything else is 80 columns wide."""
    assert Bars(io.StringIO())._terminal() == (80, 24)
    leader, follower = pty.openpty()
    try:
        with os.fdopen(follower, "w") as stream:
            columns, rows = Bars(stream)._terminal()
            assert columns >= 20
            assert rows >= 4
    finally:
        os.close(leader)


def test_durations() -> None:
    """Two units at most."""
    assert [progress._time_text(x) for x in (0.4, 59.6, 3599, 7322)] == [
        "0s",
        "1m00s",
        "59m59s",
        "2h02m",
    ]


def test_on_a_real_terminal(run_cli: RunCli, images_dir: Path, tmp_path: Path) -> None:
    """Bars are drawn on standard error and erased; the summary stays."""
    import subprocess

    leader, follower = pty.openpty()
    arguments = run_cli.command("copy", f"dir:{images_dir}/dir/oci", f"dir:{tmp_path}/d")
    with subprocess.Popen(
        arguments, env=run_cli.env, cwd=run_cli.work, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=follower,
    ) as process:  # fmt: skip
        os.close(follower)
        output = b""
        while True:
            try:
                data = os.read(leader, 65536)
            except OSError:
                break
            if not data:
                break
            output += data
        os.close(leader)
        assert process.stdout is not None
        assert process.stdout.read() == b""
    assert process.returncode == 0
    assert b"\x1b[J" in output
    (summary,) = screen(output.decode())
    assert summary.startswith("copied dir:")
