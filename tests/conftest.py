"""Fixtures shared by all tests: real registries, test images, the command line in a clean home.

Registries live as long as the session (of each xdist worker); a test takes a repository name of its
own from `repository`, so that tests do not meet in them.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.rig import (
    LoggingProxy,
    RegistryServer,
    RunCli,
    TokenServer,
    make_certificates,
    make_images,
)

# The same examples in every run, so that what landed once passes again; HYPOTHESIS_PROFILE=random
# looks for new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("random", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys and certificates, see testdata/registry/make_certs.py."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def images_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI layout with one image of every kind; the same as `dir:` directories in dir/KIND."""
    return make_images(tmp_path_factory.mktemp("images") / "layout")


@pytest.fixture(scope="session")
def registry_plain(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path
) -> Iterator[RegistryServer]:
    """A registry on plain HTTP, open to everyone."""
    with RegistryServer("plain", tmp_path_factory.mktemp("plain"), certificates) as server:
        yield server


@pytest.fixture(scope="session")
def registry_tls(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path
) -> Iterator[RegistryServer]:
    """A registry on TLS, open to everyone."""
    with RegistryServer("tls", tmp_path_factory.mktemp("tls"), certificates) as server:
        yield server


@pytest.fixture(scope="session")
def registry_htpasswd(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path
) -> Iterator[RegistryServer]:
    """A registry on TLS that asks for Basic credentials."""
    with RegistryServer("htpasswd", tmp_path_factory.mktemp("htpasswd"), certificates) as server:
        yield server


@pytest.fixture(scope="session")
def registry_token(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path
) -> Iterator[RegistryServer]:
    """A registry on plain HTTP with a token server beside it, in `.tokens`."""
    with (
        TokenServer(certificates) as tokens,
        RegistryServer(
            "token", tmp_path_factory.mktemp("token"), certificates, tokens=tokens
        ) as server,
    ):
        yield server


@pytest.fixture
def make_proxy() -> Iterator[Callable[..., LoggingProxy]]:
    """Starts LoggingProxy(registry.host, ...) for the duration of the test."""
    with contextlib.ExitStack() as stack:

        def make(registry: RegistryServer, **options: Any) -> LoggingProxy:
            if registry.tls:
                options["certificates"] = registry.certificates
            return stack.enter_context(LoggingProxy(registry.host, **options))

        yield make


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """A repository name that no other test has."""
    words = "".join(c if c.isalnum() and c.isascii() else " " for c in request.node.nodeid.lower())
    return "/".join(("test", "-".join(words.split())[-100:].strip("-")))


@pytest.fixture
def preload(images_dir: Path) -> Callable[[RegistryServer, str, str], str]:
    """preload(registry, kind, "repository:tag") puts a test image in, byte for byte; its digest."""

    def push(registry: RegistryServer, kind: str, name: str) -> str:
        return registry.push(images_dir / "dir" / kind, name)

    return push


@pytest.fixture
def run_cli(tmp_path: Path) -> RunCli:
    """run_cli("inspect", ...) runs the command line in a home of its own."""
    return RunCli(tmp_path / "cli")


@pytest.fixture
def skopeo(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """skopeo("copy", ...) runs skopeo without policy and credentials of the tester's."""

    def run(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["skopeo", "--insecure-policy", "--tmpdir", tmp_path, *arguments],
            env={
                "HOME": str(tmp_path),
                "PATH": "/usr/bin:/bin",
                "REGISTRY_AUTH_FILE": str(tmp_path / "skopeo-auth.json"),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        if check:
            assert done.returncode == 0, f"status {done.returncode}: {done.stderr}"
        return done

    return run


def pytest_make_parametrize_id(val: object) -> str | None:
    """Bytes are named by their length: those of gzip hold the time, and every worker has to
    come to the same name."""
    return f"{len(val)}-bytes" if isinstance(val, bytes) else None
