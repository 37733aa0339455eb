"""The engine's side of the launcher: start it, ask for containers, hear how they end."""

from __future__ import annotations

import os
import select

from engine.runtime import jsontext
from engine.runtime.container.channel import Channel, pair
from engine.runtime.errors import refused
from engine.runtime.zygote.request import LaunchRequest, to_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Self

PACKAGES = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../.."))
PROGRAM = os.path.join(PACKAGES, "engine/cli/launcher.py")


class Running:
    """A container that was asked for; its monitor talks to us until it has ended.

    Closing this before the end kills the container.
    """

    def __init__(
        self,
        channel: Channel,
        warn: Callable[[str], object],
        link: Callable[[int], object] | None,
    ) -> None:
        self._channel = channel
        self._warn = warn
        self.code: int | None = None
        self.pid = 0
        self.listener_fd = -1
        self.info: dict[str, Any] = {}
        self._link = link

    def fileno(self) -> int:
        """A descriptor that polls readable when `step` has something to do."""
        return self._channel.fileno()

    def wait_started(self) -> int:
        """The pid of the container's init once its program is about to run; raises what made
        that fail."""
        while not self.pid and self.code is None:
            self.step()
        return self.pid

    def wait(self) -> int:
        """The exit code once the container has ended and nothing of it runs or is mounted; its
        id is free a moment later, and when the launcher is closed."""
        while self.code is None:
            self.step()
        return self.code

    def ended(self, timeout: float) -> bool:
        """Whether the container ends within `timeout` seconds."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        while self.code is None and poll.poll(timeout * 1000):
            self.step()
        return self.code is not None

    def step(self) -> None:
        """Take one message in; blocks if there is none."""
        document, fds = self._channel.expect(
            "warning", "namespaces", "started", "listener", "exited"
        )
        match document["type"]:
            case "namespaces":
                if self._link is not None:
                    self._link(int(document["pid"]))  # type: ignore[call-overload]
                self._channel.send({"type": "linked"})
            case "warning":
                self._warn(str(document.get("message")))
            case "started":
                self.pid = int(document["pid"])  # type: ignore[call-overload]
                self.info = document
            case "listener":
                self.listener_fd, fds = fds[0], fds[1:]
            case "exited":
                self.code = int(document["code"])  # type: ignore[call-overload]
        for fd in fds:
            os.close(fd)

    def signal(self, number: int) -> None:
        """Send a signal to the container's init; none if it has ended."""
        try:
            self._channel.send({"type": "signal", "signal": number})
        except OSError:
            return

    def close(self) -> None:
        """Let go; kills what still runs. Safe to call twice."""
        self._channel.close()
        if self.listener_fd >= 0:
            os.close(self.listener_fd)
            self.listener_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Zygote:
    """One launcher. Each request is one packet, so several threads may ask it."""

    def __init__(self, pid: int, control: Channel) -> None:
        self._pid = pid
        self._control = control

    @classmethod
    def start(cls, python: str) -> Zygote:
        """Start one with the interpreter `python`; raises KernelRefused.

        It is in the namespaces of the caller, so enter the user namespace first. It gets ready
        while the caller goes on; that it cannot is known when a container is asked for.
        """
        ours, theirs = pair()
        arguments = [python, "-I", "-S", "-X", "frozen_modules=on"]
        arguments += [PROGRAM, PACKAGES, "3"]
        try:
            pid = os.posix_spawn(
                python,
                arguments,
                {"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 3)],
                setsigdef=range(1, 32),
            )
        except OSError as e:
            ours.close()
            raise refused(f"start {python}", e) from e
        finally:
            theirs.close()
        return cls(pid, ours)

    def launch(
        self,
        request: LaunchRequest,
        config: dict[str, Any],
        stdio: tuple[int, int, int],
        *,
        console_fd: int = -1,
        preserve: Sequence[int] = (),
        mounts: Sequence[int] = (),
        warn: Callable[[str], object] = lambda text: None,
        link: Callable[[int], object] | None = None,
    ) -> Running:
        """Begin a container of `config`, a config.json's document.

        `stdio` are its standard descriptors; with process.terminal `console_fd` is a unix
        socket that gets the terminal's master. `preserve` become its descriptors from 3 on,
        `mounts` are the detached mounts that the request speaks of.
        `link` is called with the init's pid, to connect its network, if the request says so.
        """
        content = jsontext.encode(config).encode()
        config_fd = os.memfd_create("config.json", os.MFD_CLOEXEC)
        ours, theirs = pair()
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(config_fd, view) :]
            console = () if console_fd < 0 else (console_fd,)
            fds = (config_fd, theirs.fileno(), *stdio, *console, *preserve, *mounts)
            self._control.send({"type": "launch", **to_document(request)}, fds)
        except OSError as e:
            ours.close()
            raise refused("ask the launcher for a container", e) from e
        finally:
            theirs.close()
            os.close(config_fd)
        return Running(ours, warn, link)

    def close(self) -> None:
        """Ask for no more, wait until all containers have ended; safe to call twice."""
        if self._pid:
            self._control.close()
            pid, self._pid = self._pid, 0
            os.waitpid(pid, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
