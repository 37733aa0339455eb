"""What passes between a caller's descriptors and a container's: pure pumping, and real runs with
pipes, files, closed descriptors, slow readers and readers that are gone."""

from __future__ import annotations

import os
import select
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.containers.streams import CHUNK, Pump, one_file
from tests.engine.run_rig import IMAGE, SECONDS, Runs

BIG = 64 << 20


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """The image in a store."""
    found = Runs(tmp_path_factory.mktemp("streams"))
    yield found
    found.stop()


def test_pumps_hold_no_more_than_a_chunk() -> None:
    """R7: who does not read holds the writer up."""
    source, feed = os.pipe()
    out, sink = os.pipe()
    pump = Pump(source, sink, own_source=True)
    os.set_blocking(feed, False)
    written = 0
    poll = select.poll()
    while True:
        try:
            written += os.write(feed, bytes(CHUNK))
        except BlockingIOError:
            fd, events = pump.wants()
            poll.register(fd, events)
            if not poll.poll(0):
                break
            poll.unregister(fd)
            pump.step()
    capacity = 64 << 10
    assert written <= 2 * capacity + CHUNK
    os.close(feed)
    received = 0
    reading = threading.Thread(target=lambda: counted.append(_drain(out)))
    counted: list[int] = []
    reading.start()
    while not pump.done:
        fd, events = pump.wants()
        one = select.poll()
        one.register(fd, events)
        one.poll()
        pump.step()
    os.close(sink)
    reading.join()
    received = counted[0]
    os.close(out)
    assert received == written


def _drain(fd: int) -> int:
    total = 0
    while chunk := os.read(fd, CHUNK):
        total += len(chunk)
    return total


def test_files_that_keep_the_order_of_writing(tmp_path: Path) -> None:
    """One pipe, or one file opened once or for appending; two positions do not."""
    reading, writing = os.pipe()
    same = os.dup(writing)
    path = tmp_path / "file"
    once = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(once, b"abc")
    again, shared = os.open(path, os.O_WRONLY), os.dup(once)
    appending = [os.open(path, os.O_WRONLY | os.O_APPEND) for _ in range(2)]
    try:
        assert one_file(writing, same)
        assert not one_file(reading, once)
        assert one_file(once, shared)
        assert not one_file(once, again)
        os.lseek(again, 3, os.SEEK_SET)
        assert not one_file(once, again)
        assert one_file(*appending)
        assert os.lseek(once, 0, os.SEEK_CUR) == 3
    finally:
        for fd in (reading, writing, same, once, again, shared, *appending):
            os.close(fd)


def test_bytes_pass_as_they_are(runs: Runs) -> None:
    """NUL bytes, half characters, no last line end; both ways, to the end of input."""
    content = bytes(range(256)) * 1000 + b"\xe2\x82"
    done = runs("-i", IMAGE, "cat", stdin=content)
    assert done.stdout == content
    assert runs(IMAGE, "cat", stdin=b"not for it").stdout == b""


def test_inputs_that_are_no_pipes(runs: Runs, tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"from a file\n")
    for opened in (f"< {path}", "<&-", "< /dev/null"):
        line = f'exec "$@" {opened}'
        done = subprocess.run(
            ["sh", "-c", line, "sh", *runs.arguments("-i", IMAGE, "cat")],
            env=runs.cli.env, capture_output=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout == (b"from a file\n" if "input" in opened else b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_outputs(runs: Runs, closed: str) -> None:
    """Nobody wanted to see it; the command runs and its exit code comes back."""
    script = "echo out; echo err >&2; exit 5"
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}; echo $?', "sh",
         *runs.arguments(IMAGE, "sh", "-c", script)],
        env=runs.cli.env, capture_output=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.stdout.split()[-1] == b"5", (done.stdout, done.stderr)


def test_order_of_both_outputs_in_one_file(runs: Runs, tmp_path: Path) -> None:
    script = "i=0; while [ $i -lt 200 ]; do echo $i; i=$((i+1)); echo $i >&2; i=$((i+1)); done"
    with open(tmp_path / "both", "wb") as file:
        done = subprocess.run(
            runs.arguments(IMAGE, "sh", "-c", script),
            env=runs.cli.env, stdout=file, stderr=subprocess.STDOUT, timeout=SECONDS, check=False,
        )  # fmt: skip
    assert done.returncode == 0
    assert (tmp_path / "both").read_text().split() == [str(n) for n in range(200)]


def test_r7_big_output_through_a_slow_reader_in_bounded_memory(runs: Runs) -> None:
    script = f"dd if=/dev/zero bs=65536 count={BIG // 65536} 2>/dev/null; exit 4"
    process = runs.start(IMAGE, "sh", "-c", script)
    assert process.stdout is not None
    total = highest = 0
    while chunk := os.read(process.stdout.fileno(), 1 << 20):
        total += len(chunk)
        if total % (8 << 20) < len(chunk):
            highest = max(highest, _anonymous(process.pid))
            time.sleep(0.01)
    process.communicate()
    assert process.returncode == 4
    assert total == BIG
    assert 0 < highest < BIG


def _anonymous(pid: int) -> int:
    """Bytes of memory of its own that a process has."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0
    return next((int(line.split()[1]) << 10 for line in text.splitlines() if "RssAnon" in line), 0)


def test_readers_that_are_gone(runs: Runs) -> None:
    """Programs get SIGPIPE, as in any pipeline (Y1); PID 1, whom no signal ends, an error."""
    done = subprocess.run(
        ["bash", "-c", '"$@" | head -c 3; status=${PIPESTATUS[0]}; echo; echo $status', "bash",
         *runs.arguments(IMAGE, "sh", "-c", "yes; echo $? >&2; exit 9")],
        env=runs.cli.env, capture_output=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert (done.stdout.split(), done.stderr) == ([b"y", b"y", b"9"], b"141\n")


def test_outputs_can_be_opened_again_by_any_user(runs: Runs) -> None:
    """D3: what is opened is a pipe of ours, never the caller's file."""
    script = "echo one > /dev/stdout; echo two > /proc/self/fd/2; stat -L -c %F /dev/stdout"
    for user in ("root", "joe", "4711"):
        done = runs("-u", user, IMAGE, "sh", "-c", script)
        assert (done.stdout, done.stderr) == (b"one\nfifo\n", b"two\n")


def test_daemons_that_keep_the_output_open_hold_nobody_up(runs: Runs) -> None:
    script = "sleep 600 & (while :; do echo more; sleep 0.01; done) & echo done"
    process = runs.start(IMAGE, "sh", "-c", script)
    out, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert b"done\n" in out


def test_a_signal_ends_the_wait_for_a_reader_that_sleeps(runs: Runs) -> None:
    """The container has ended, its last output is nobody's: Ctrl-C works still."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        runs.arguments(IMAGE, "sh", "-c", "head -c 120000 /dev/zero; exit 3"),
        env=runs.cli.env, stdout=writing, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(writing)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.5)
    process.terminate()
    _, err = process.communicate(timeout=SECONDS)
    os.close(reading)
    assert (process.returncode, err) == (3, b"")
    assert runs.left() == []
