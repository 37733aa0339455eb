"""`policy check` warns of scopes under which no image falls: a policy protects nothing there, and
nobody else says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bad_input import Outcome, cli

ACCEPT = [{"type": "insecureAcceptAnything"}]
REJECT = [{"type": "reject"}]
SHA = f"sha256:{'a' * 64}"

MET = [
    "", "docker.io", "docker.io/team", "docker.io/library/busybox", "docker.io/library/busybox:1",
    "quay.io", "quay.io/team/app", f"quay.io/app@{SHA}", "localhost", "localhost:5000",
    "localhost/app", "registry:5000", "registry:5000/team/app:v1", "[::1]:5000/team",
    "*.example.com", "*.com",
]  # fmt: skip
IDLE = [
    ("busybox", "docker.io/library/busybox"),
    ("busybox:latest", "docker.io/library/busybox:latest"),
    ("docker.io/busybox:latest", "docker.io/library/busybox:latest"),
    ("team/app", "docker.io/team/app"),
    ("index.docker.io", "docker.io"),
    ("index.docker.io/team", "docker.io/team"),
    ("quay.io/team/", "quay.io/team"),
    ("quay.io/team/*", "quay.io/team"),
    ("docker://quay.io/team", "quay.io/team"),
    ("https://quay.io", "quay.io"),
    ("*", ""),
    ("*.example.com/team", None),
    ("quay.io/Team", None),
    (f"quay.io/app:v1@{SHA}", None),
    ("quay.io:99999/app", None),
]


def check(path: Path, transports: dict[str, Any]) -> Outcome:
    file = path / "policy.json"
    file.write_text(json.dumps({"default": ACCEPT, "transports": transports}))
    done = cli(path, "policy", "check", file)
    assert done.code == 0, done.err
    assert done.out == f"{file}: good\n".encode()
    return done


@pytest.mark.parametrize("scope", MET)
def test_scopes_of_images(tmp_path: Path, scope: str) -> None:
    assert check(tmp_path, {"docker": {scope: REJECT}}).err == ""


@pytest.mark.parametrize(("scope", "meant"), IDLE)
def test_scopes_of_none(tmp_path: Path, scope: str, meant: str | None) -> None:
    err = check(tmp_path, {"docker": {scope: REJECT}}).err
    assert err.startswith("imgtools: warning: ")
    advice = "" if meant is None else f" (did you mean {meant!r}?)"
    assert err.endswith(f"docker: no image falls under the scope {scope!r}{advice}\n")
    # What is advised is a scope that images fall under.
    assert meant is None or check(tmp_path, {"docker": {meant: REJECT}}).err == ""


@pytest.mark.parametrize("transport", ["atomic", "docker-daemon", "ostree", "sif", "tarball"])
def test_transports_of_others_are_known(tmp_path: Path, transport: str) -> None:
    assert check(tmp_path, {transport: {"": REJECT}}).err == ""


def test_transports_of_nobody(tmp_path: Path) -> None:
    err = check(tmp_path, {"dokcer": {"": REJECT}, "nothing": {"": REJECT}}).err
    first, second = err.splitlines()
    assert first.endswith("there is no transport 'dokcer' (did you mean 'docker'?)")
    assert second.endswith("there is no transport 'nothing'")
