"""Git repositories for tests, and servers for them on loopback: smart and dumb HTTP, git's own.

Nothing of the machine's or the user's configuration is used.
"""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler
from pathlib import Path

from tests.build.web_rig import serving

DATE = "2021-03-04T05:06:07+00:00"
EPOCH = 1614834367
_SETTINGS = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.com",
    "GIT_AUTHOR_DATE": DATE,
    "GIT_COMMITTER_DATE": DATE,
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "protocol.file.allow",
    "GIT_CONFIG_VALUE_0": "always",
    "GIT_CONFIG_KEY_1": "safe.directory",
    "GIT_CONFIG_VALUE_1": "*",
    "LC_ALL": "C",
}


def environment() -> dict[str, str]:
    """What git is run with here."""
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **_SETTINGS}


class Repository:
    """A repository with a work tree; `path` is its `.git`, which servers serve."""

    def __init__(self, path: Path) -> None:
        self.work = path.with_suffix(".work")
        self.path = path
        self.work.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main", f"--separate-git-dir={path}")

    def git(self, *arguments: str) -> str:
        """Run git in the work tree."""
        done = subprocess.run(
            ["git", *arguments], cwd=self.work, env=environment(), check=True,
            stdin=subprocess.DEVNULL, capture_output=True,
        )  # fmt: skip
        return done.stdout.decode().strip()

    def commit(self, files: Mapping[str, str | bytes], message: str = "m") -> str:
        """Write files (a name that ends in `*` is executable) and commit; the commit."""
        for name, content in files.items():
            path = self.work / name.removesuffix("*")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            if name.endswith("*"):
                path.chmod(0o755)
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        self.git("update-server-info")
        return self.git("rev-parse", "HEAD")


@contextmanager
def dumb_http(directory: Path) -> Iterator[str]:
    """Serve a directory as plain files; the base URL."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(directory))
    with serving(handler) as port:  # type: ignore[arg-type]
        yield f"http://127.0.0.1:{port}"


@contextmanager
def smart_http(directory: Path, seen: list[Mapping[str, str]] | None = None) -> Iterator[str]:
    """Serve repositories through git http-backend; the base URL. `seen` gets the headers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if seen is not None:
                seen.append(dict(self.headers.items()))
            path, _, query = self.path.partition("?")
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            done = subprocess.run(
                ["git", "http-backend"], input=body, capture_output=True, check=False,
                env=environment() | {
                    "GIT_PROJECT_ROOT": str(directory),
                    "GIT_HTTP_EXPORT_ALL": "1",
                    "PATH_INFO": path,
                    "QUERY_STRING": query,
                    "REQUEST_METHOD": self.command,
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                    "CONTENT_LENGTH": str(length),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                },
            )  # fmt: skip
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
            self.send_response(int(fields.pop("Status", "200").split()[0]))
            for name, value in fields.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with serving(Handler) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def git_daemon(directory: Path) -> Iterator[str]:
    """Serve repositories by git's own protocol; the base URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["git", "daemon", "--listen=127.0.0.1", f"--port={port}", "--export-all",
               "--reuseaddr", f"--base-path={directory}", str(directory)]  # fmt: skip
    with subprocess.Popen(
        command, env=environment(), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as daemon:
        try:
            _await_port(port)
            yield f"git://127.0.0.1:{port}"
        finally:
            daemon.terminate()


def _await_port(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
