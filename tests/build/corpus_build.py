"""Builds real Containerfiles on stand-ins for their base images, by the command, each in a
process of its own with a limit of time.

A stand-in has not what its original has, so a command that ends badly says nothing about us by
itself; it is counted by what it lacked. What is about us are the other kinds: `refused`, `error`
and `does not end`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.build.corpus_plan import STAND_IN, PlannedFile

_NETWORK = re.compile(
    r"resolve host|cannot be resolved|cannot connect|name resolution|bad address|unreachable|"
    r"Name or service not known|"
    r"Connection (refused|timed out|reset)|Could not connect|Failed to (connect|fetch)|"
    r"Failed to establish|unable to access|Unable to locate package|has no installation candidate|"
    r"SSL_ERROR|certificate|ProxyError|ENOTFOUND|EAI_AGAIN|unable to resolve|cannot be reached|"
    r"does not have a Release file|No matching distribution|HTTP Error|error: 4\d\d|dial tcp",
    re.IGNORECASE,
)
_PROGRAM = re.compile(
    r"not found|No such file or directory|unrecognized option|applet|invalid option|"
    r"unknown (user|group)|invalid user|does not exist|is not executable|can't open|cannot stat|"
    r"No module named|illegal option|unrecognised|nonexistent directory",
    re.IGNORECASE,
)
_GRACE = 30
ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class StandInImages:
    """Places (as --build-context takes them) of the images that are built on instead: `small`
    for those with alpine or busybox in their names, `base` for all others."""

    base: str
    small: str

    def contexts(self, names: Sequence[str]) -> list[str]:
        """Arguments of the command by which every name means a stand-in."""
        found: list[str] = []
        for name in names:
            small = re.search("alpine|busybox", name, re.IGNORECASE)
            found += ["--build-context", f"{name}={self.small if small else self.base}"]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a build: its `kind`, and the text that says why; `step` is the instruction
    that failed, `context` the directory that was built in."""

    kind: str
    text: str = ""
    step: str = ""
    context: str = ""
    seconds: float = 0.0


def build_file(
    path: Path,
    planned: PlannedFile,
    images: StandInImages,
    source: Path | None,
    store: Path,
    *,
    limit: float,
) -> Outcome:
    """Build a file in its own directory of the work tree `source` or, where files are missing
    there, in those above; without one in an empty directory. `limit` in seconds."""
    own = source / path.name.partition("__")[2].replace("__", "/") if source else None
    if own is None or source is None or not own.is_file():
        with tempfile.TemporaryDirectory() as empty:
            return _build(path, Path(empty), planned, images, store, limit)
    context = own.parent
    while True:
        outcome = _build(own, context, planned, images, store, limit)
        if outcome.kind != "needs a file" or context == source:
            return outcome
        context = context.parent


def _build(
    file: Path,
    context: Path,
    planned: PlannedFile,
    images: StandInImages,
    store: Path,
    limit: float,
) -> Outcome:
    command = [
        sys.executable, "-m", "imgtools", "build", "--progress", "json", "--tls-verify=false",
        "--allow", "security.insecure",
        "--root", str(store / "root"), "--runroot", str(store / "run"), "-f", str(file),
        *images.contexts(planned.images),
        *(word for name in planned.missing for word in ("--build-arg", f"{name}={STAND_IN}")),
        str(context),
    ]  # fmt: skip
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    late = False
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        late = True
        process.send_signal(signal.SIGTERM)
        try:
            out, err = process.communicate(timeout=_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            return Outcome(kind="does not end", context=str(context))
    seconds = time.monotonic() - started
    text = err.decode(errors="replace").strip()
    if late:
        return Outcome(kind="takes too long", context=str(context), seconds=seconds)
    failed = _failed_step(out)
    step = str(failed.get("text") or "")
    tail = "".join(failed.get("tail") or ())
    kind = "built" if not process.returncode else _kind(step, failed.get("code"), tail, text)
    return Outcome(kind=kind, text=tail + text, step=step, context=str(context), seconds=seconds)


def _failed_step(out: bytes) -> dict[str, object]:
    for line in out.splitlines():
        event = json.loads(line)
        if event["event"] == "step-failed":
            return dict(event)
    return {}


def _kind(step: str, code: object, tail: str, text: str) -> str:
    if "Traceback (most recent call last)" in text:
        return "error"
    if code is not None and code != 125:
        if code in (126, 127):
            return "needs a program"
        if _NETWORK.search(tail):
            return "needs the network"
        return "needs a program" if _PROGRAM.search(tail) else "command failed"
    if not step:
        return "refused"
    if _NETWORK.search(text):
        return "needs the network"
    if re.search("there is no (user|group) |--chown is empty", text):
        return "needs an account"
    return "needs a file" if " is not in " in text else "error"
