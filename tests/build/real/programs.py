"""The two programs, told apart only by where their options for the store go: both are asked with
the same words for the same build, and push what came of it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.build.git_rig import Repository, git_daemon
from tests.build.real.cases import CONTEXTS, PARENT, SECRET, Case

IMGTOOLS = str(Path(sys.executable).with_name("imgtools"))


class Failed(Exception):
    """A command that ended badly: its last lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """`command` is what is run; `globals_first` whether options for the store stand before the
    verb; `options` are for builds alone."""

    name: str
    command: str
    globals_first: bool
    options: tuple[str, ...] = ()

    def argv(self, store: Path, verb: tuple[str, ...], *words: str) -> list[str]:
        """The words of a command on a store."""
        place = (f"--root={store}", f"--runroot={store}-run")
        first, then = (place, ()) if self.globals_first else ((), place)
        options = self.options if verb == ("build",) else ()
        return [self.command, *first, *verb, *then, *options, "--tls-verify=false", *words]


def programs(beside: str, options: str) -> list[Program]:
    """Ours, and the other one unless its name is empty."""
    found = [Program(name="imgtools", command=IMGTOOLS, globals_first=False)]
    if beside:
        found.append(
            Program(
                name=Path(beside).name, command=beside, globals_first=True,
                options=("--layers", *shlex.split(options)),
            )
        )  # fmt: skip
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What builds are given from outside: the registry (HOST:PORT), the base image in it, the
    file with the secret, the socket of an agent, the git URL, the environment, a directory to
    throw away, and the most seconds that a command may take."""

    registry: str
    base: str
    secret: Path
    agent: Path
    git: str
    env: Mapping[str, str]
    scratch: Path
    seconds: float

    def image(self, case: Case, program: Program) -> str:
        """The name that a program's image gets."""
        return f"{self.registry}/real/{case.name}:{program.name}"


@contextmanager
def surroundings(
    scratch: Path, registry: str, base: str, *, insecure_base: bool, seconds: float
) -> Iterator[Surroundings]:
    """Start the servers, and copy the base image (any place that `imgtools copy` reads) into the
    registry."""
    env = {**os.environ, "TMPDIR": str(scratch)}
    # buildah takes itself for a user's by the first; the other keeps Python from being quick.
    for name in ("_CONTAINERS_ROOTLESS_UID", "PYTHONDONTWRITEBYTECODE"):
        env.pop(name, None)
    secret, agent = scratch / "secret", scratch / "agent"
    secret.write_text(f"{SECRET}\n")
    with ExitStack() as stack:
        registry = registry or stack.enter_context(_registry(scratch / "registry", env))
        stack.enter_context(_process(["ssh-agent", "-D", "-a", str(agent)], env))
        (scratch / "git").mkdir()
        repository = Repository(scratch / "git/repository.git")
        files = (p for p in (CONTEXTS / "git").rglob("*") if p.is_file())
        marks = {p: "*" if p.stat().st_mode & 0o100 else "" for p in files}
        names = {f"{p.relative_to(CONTEXTS / 'git')}{mark}": p for p, mark in marks.items()}
        repository.commit({name: p.read_bytes() for name, p in names.items()})
        server = stack.enter_context(git_daemon(scratch / "git"))
        copied = f"{registry}/real/base:latest"
        words = ["copy", "-q", "--dest-tls-verify=false"]
        words += ["--src-tls-verify=false"] if insecure_base else []
        run([IMGTOOLS, *words, base, f"docker://{copied}"], env, seconds)
        yield Surroundings(
            registry=registry, base=copied, secret=secret, agent=agent, env=env,
            git=f"{server}/repository.git#main", scratch=scratch, seconds=seconds,
        )  # fmt: skip


@contextmanager
def _registry(folder: Path, env: Mapping[str, str]) -> Iterator[str]:
    folder.mkdir()
    argv = [IMGTOOLS, "serve", str(folder), "--listen", "127.0.0.1:0", "--writable"]
    with _process(argv, env) as server:
        assert server.stdout is not None
        line = server.stdout.readline().strip()
        if "://" not in line:
            raise Failed(f"no registry could be started: {line or 'it ended'}")
        yield line.split("://", 1)[1].split("/")[0]


@contextmanager
def _process(argv: list[str], env: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=dict(env)) as process:
        try:
            yield process
        finally:
            process.terminate()


def run(argv: list[str], env: Mapping[str, str], seconds: float) -> str:
    """Run to the end; its output. Failed if that is bad."""
    try:
        done = subprocess.run(
            argv, env=dict(env), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{shlex.join(argv)}: not done in {seconds:.0f} s") from error
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise Failed(f"{shlex.join(argv)}\nended with {done.returncode}:\n{said}")
    return done.stdout


def build(program: Program, case: Case, around: Surroundings) -> float:
    """Build a case and push it; the seconds that took."""
    store = around.scratch / "stores" / case.name / program.name
    store.parent.mkdir(parents=True, exist_ok=True)
    image = around.image(case, program)
    folder = CONTEXTS / case.name
    context = f"{around.git}:{case.subdirectory}" if case.subdirectory else str(folder)
    commands = []
    options = ["--build-arg", f"BASE={around.base}"]
    if case.parent:
        words = ["-t", PARENT, "--format", "docker", "-f", str(folder / case.parent), str(folder)]
        commands.append(program.argv(store, ("build",), *options, *words))
        options = ["--build-arg", f"PARENT={PARENT}"]
    elif "BASE" not in (folder / case.subdirectory / "Containerfile").read_text("utf-8"):
        options = []
    options += [word.format(secret=around.secret, agent=around.agent) for word in case.options]
    if case.platforms:
        name = ["--platform", ",".join(case.platforms), "--manifest", image]
        push = program.argv(store, ("manifest", "push"), "--all", image, f"docker://{image}")
    else:
        name = ["-t", image]
        push = program.argv(store, ("push",), image)
    commands += [program.argv(store, ("build",), *options, *name, context), push]
    started = time.monotonic()
    for argv in commands:
        run(argv, around.env, around.seconds)
    return time.monotonic() - started
