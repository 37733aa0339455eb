"""The container's terminal: opened, verified, taken, sent."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.runtime.errors import Failure, InvalidConfig, KernelRefused
from engine.runtime.kernel.mounting import MS_PRIVATE, MS_REC, mount
from engine.runtime.kernel.processes import CLONE_NEWNS, unshare
from engine.runtime.process.terminal import (
    bind_console,
    connect_console,
    open_terminal,
    send_master,
    take_terminal,
)
from tests.engine.rootfs_driver import in_child


def in_root(root: Path, work: Callable[[int], Any], *, devpts: bool = True) -> Any:
    """What `work` returns, given a root directory with a devpts of its own."""

    def inside() -> Any:
        unshare(CLONE_NEWNS)
        mount(None, b"/", None, MS_REC | MS_PRIVATE, None)
        if devpts:
            (root / "dev/pts").mkdir(parents=True)
            options = b"newinstance,ptmxmode=0666,mode=0620"
            mount(b"devpts", os.fsencode(root / "dev/pts"), b"devpts", 0, options)
        return work(os.open(root, os.O_PATH | os.O_DIRECTORY))

    return in_child(inside)


def size(fd: int) -> tuple[int, ...]:
    return struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))[:2]


def test_a_terminal_of_a_size(tmp_path: Path) -> None:
    def work(root: int) -> Any:
        terminal = open_terminal(root, (25, 80))
        os.write(terminal.slave, b"out")
        return [
            size(terminal.master),
            os.isatty(terminal.slave),
            os.read(terminal.master, 10).decode(),
            [os.get_inheritable(fd) for fd in (terminal.master, terminal.slave)],
            os.readlink(f"/proc/self/fd/{terminal.slave}").endswith("/dev/pts/0"),
        ]

    assert in_root(tmp_path, work) == [[25, 80], True, "out", [False, False], True]


def test_without_devpts(tmp_path: Path) -> None:
    with pytest.raises(KernelRefused, match="open /dev/pts/ptmx of the container"):
        in_root(tmp_path, lambda root: open_terminal(root, None), devpts=False)


def test_p2_a_ptmx_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dev/pts").mkdir(parents=True)
    (tmp_path / "dev/pts/ptmx").symlink_to("/dev/ptmx")
    with pytest.raises(KernelRefused, match="too many levels"):
        in_root(tmp_path, lambda root: open_terminal(root, None), devpts=False)


@pytest.mark.parametrize("device", [os.makedev(1, 3), os.makedev(5, 2)])
def test_p2_a_ptmx_that_the_image_brought_is_refused(tmp_path: Path, device: int) -> None:
    """Even the right device: the slave would be in the host's devpts."""
    (tmp_path / "dev/pts").mkdir(parents=True)
    os.mknod(tmp_path / "dev/pts/ptmx", 0o020666, device)
    with pytest.raises((Failure, KernelRefused)):
        in_root(tmp_path, lambda root: open_terminal(root, None), devpts=False)


def test_the_slave_becomes_the_controlling_terminal(tmp_path: Path) -> None:
    def work(root: int) -> Any:
        terminal = open_terminal(root, None)
        take_terminal(terminal.slave)
        closed = not os.path.lexists(f"/proc/self/fd/{terminal.slave}")
        own = os.open("/dev/tty", os.O_RDWR)
        os.write(own, b"x")
        return [
            os.getsid(0) == os.getpid(),
            [os.ttyname(fd) == os.ttyname(0) and os.get_inheritable(fd) for fd in range(3)],
            os.tcgetpgrp(0) == os.getpgrp(),
            os.read(terminal.master, 4).decode(),
            closed,
        ]

    def with_names(root: int) -> Any:
        mount(os.fsencode(tmp_path / "dev/pts"), b"/dev/pts", None, 4096, None)
        return work(root)

    assert in_root(tmp_path, with_names) == [True, [True] * 3, True, "x", True]


@pytest.mark.parametrize("made", [True, False])
def test_the_console_is_the_terminal(tmp_path: Path, made: bool) -> None:
    def work(root: int) -> Any:
        terminal = open_terminal(root, None)
        bind_console(root, terminal.slave)
        console = os.open(tmp_path / "dev/console", os.O_WRONLY | os.O_NOCTTY)
        os.write(console, b"hello")
        return os.read(terminal.master, 10).decode()

    (tmp_path / "dev").mkdir()
    if made:
        (tmp_path / "dev/console").touch()
    assert in_root(tmp_path, work) == "hello"


def test_p2_a_console_that_is_a_link_is_refused(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.touch()
    root = tmp_path / "root"
    (root / "dev").mkdir(parents=True)
    (root / "dev/console").symlink_to("/etc/passwd")

    def work(fd: int) -> None:
        bind_console(fd, open_terminal(fd, None).slave)

    with pytest.raises(KernelRefused, match="mount the terminal on /dev/console"):
        in_root(root, work)


@pytest.mark.parametrize("length", [10, 107, 150])
def test_the_master_is_sent_as_runc_does(tmp_path: Path, length: int) -> None:
    directory = tmp_path / ("d" * max(1, length - 40))
    directory.mkdir()
    path = os.fsencode(directory / ("s" * 30))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(60)
        handle = os.open(directory, os.O_PATH)
        listener.bind(f"/proc/self/fd/{handle}/{'s' * 30}")
        os.close(handle)
        listener.listen()
        console = connect_console(path)
        assert not os.get_inheritable(console)
        peer, _ = listener.accept()
        with peer:
            master, slave = os.openpty()
            send_master(console, master)
            message, fds, _, _ = socket.recv_fds(peer, 4096, 4)
            assert peer.recv(1) == b"", "one message, and the connection ends"
    assert (message, len(fds)) == (b"/dev/pts/ptmx", 1)
    os.write(slave, b"through")
    assert os.read(fds[0], 10) == b"through"
    for fd in (slave, *fds):
        os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(master)


def test_nobody_at_the_console_socket(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path / ("x" * 150), tmp_path / ("y" * 300)):
        with pytest.raises(InvalidConfig, match="connect to console socket"):
            connect_console(os.fsencode(path))


def test_a_console_socket_whose_reader_is_gone() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    master, slave = os.openpty()
    with pytest.raises(KernelRefused, match="send the terminal to the console socket: broken pipe"):
        send_master(ours.detach(), master)
    os.close(slave)
