"""The servers that the cases need: registries behind proxies that make every request late.

Both programs meet the same servers with an empty home of their own, so that neither knows
a blob or a token from an earlier case.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.rig import LoggingProxy, RegistryServer, TokenServer, make_certificates

USER = "testuser"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A source and a destination registry, as both programs reach them, and their proxies."""

    source: str
    destination: str
    source_flags: tuple[str, ...]
    destination_flags: tuple[str, ...]
    proxies: tuple[LoggingProxy, ...]
    registries: tuple[RegistryServer, RegistryServer]


class Rig:
    """A temporary directory with certificates and the homes of both programs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.certificates = make_certificates(root / "certificates")
        self._count = 0

    def directory(self, name: str) -> Path:
        """A new empty directory."""
        self._count += 1
        path = self.root / f"{self._count:03d}-{name}"
        path.mkdir()
        return path

    def environment(self, program: str, *, fresh: bool = False) -> dict[str, str]:
        """The environment of `program`, whose home is emptied with `fresh`.

        skopeo keeps what it knows of blobs under the home only when it believes to be a user.
        """
        home = self.root / f"home-{program}"
        if fresh and home.exists():
            shutil.rmtree(home)
        home.mkdir(exist_ok=True)
        env = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "LC_ALL")}
        return {
            **env,
            "HOME": str(home),
            "XDG_DATA_HOME": str(home / "data"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_RUNTIME_DIR": str(home),
            "TMPDIR": str(self.root),
            "_CONTAINERS_ROOTLESS_UID": "1000",
        }

    @contextlib.contextmanager
    def pair(self, *, latency: float = 0.0, bearer: bool = False) -> Iterator[Pair]:
        """Two registries: direct without latency, else behind proxies that wait `latency`
        seconds before each request; with `bearer` both demand tokens."""
        with contextlib.ExitStack() as stack:
            tokens = None
            if bearer:
                tokens = stack.enter_context(TokenServer(self.certificates, latency=latency))
            servers = [
                stack.enter_context(
                    RegistryServer(
                        "token" if bearer else "plain",
                        self.directory(f"registry-{name}"),
                        self.certificates,
                        tokens=tokens,
                    )
                )
                for name in ("source", "destination")
            ]
            hosts = [server.host for server in servers]
            proxies: list[LoggingProxy] = []
            if latency or bearer:
                proxies = [
                    stack.enter_context(LoggingProxy(host, latency=latency)) for host in hosts
                ]
                hosts = [proxy.host for proxy in proxies]
            creds = f"{servers[0].username}:{servers[0].password}"
            flags = [
                (f"--{side}-tls-verify=false", *((f"--{side}-creds={creds}",) if bearer else ()))
                for side in ("src", "dest")
            ]
            yield Pair(
                source=hosts[0],
                destination=hosts[1],
                source_flags=flags[0],
                destination_flags=flags[1],
                proxies=tuple(proxies),
                registries=(servers[0], servers[1]),
            )

    def push(self, layout: Path, tag: str, host: str, name: str, flags: tuple[str, ...]) -> None:
        """Put an image into a registry, by skopeo, outside any measurement."""
        subprocess.run(
            ["skopeo", "copy", "--insecure-policy", "-q", *flags,
             f"oci:{layout}:{tag}", f"docker://{host}/{name}"],
            env=self.environment("preparation"), check=True,
        )  # fmt: skip


@contextlib.contextmanager
def rig() -> Iterator[Rig]:
    """A rig that is gone afterwards."""
    root = Path(tempfile.mkdtemp(prefix="imgtools-bench-", dir="/var/tmp"))
    try:
        yield Rig(root)
    finally:
        shutil.rmtree(root)
