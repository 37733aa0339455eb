"""Runs programs in the environments of the isolation ladder, as their users would.

Run as a program it becomes a process of one environment and executes a command there. The
source tree and the interpreter's environment are bound where every user can read them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.runtime.kernel.mounting import MS_BIND, MS_REC, mount
from tests.engine import jail
from tests.rig import REPOSITORY

SECONDS = 60
APPLICATION, INTERPRETER = "/etc/application", "/etc/interpreter"
START = "import sys; from imgtools.cli.main import main; sys.exit(main())"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, kw_only=True)
class Environment:
    """`rung` is jail.py's. `named` says that passwd knows the user; `hidden` are programs
    that are not there; `masked` hides parts of /proc, as runtimes do; `home` and `runtime`
    whether HOME and XDG_RUNTIME_DIR are set. `empty` are directories with a fresh tmpfs."""

    name: str
    rung: str
    named: bool = True
    hidden: tuple[str, ...] = ()
    masked: bool = False
    empty: tuple[str, ...] = ()
    home: bool = True
    runtime: bool = False

    @property
    def uid(self) -> int:
        """Who runs there."""
        return 0 if self.rung[0] in "AD" else jail.USER


ROOT = Environment(name="root", rung="A")
GRANTED = Environment(name="user with subuid", rung="B", runtime=True)
UNGRANTED = Environment(name="user without subuid", rung="C")
HELPERLESS = Environment(name="user without newuidmap", rung="B", hidden=("newuidmap",))
NAMELESS = Environment(name="uid without a name", rung="B", named=False, home=False, runtime=True)
MASKED = Environment(name="user with a masked procfs", rung="C", masked=True)
POD = Environment(name="pod under CRI-O", rung="E-crio", masked=True)
PODMAN = Environment(name="podman of root", rung="A", empty=("/run", "/dev/shm"))
USER_PODMAN = Environment(name="podman of a user", rung="B", runtime=True, empty=("/dev/shm",))
ROOT_POD = Environment(name="root pod under CRI-O", rung="D-crio", masked=True)
DOCKER = Environment(name="root under Docker's profile", rung="D", masked=True)
RESTRICTED = Environment(name="restricted pod", rung="E", masked=True)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Ladder:
    """`directory` is readable for all, and holds a home for each environment."""

    directory: Path

    def home(self, where: Environment) -> Path:
        """The home of `where`'s user; made if it is not there."""
        path = self.directory / where.name.replace(" ", "-").replace("'", "")
        if not path.exists():
            path.mkdir(mode=0o755)
            # Root inside a user namespace may be somebody whom root's own directories exclude.
            for name in ("run", "tmp"):
                (path / name).mkdir(mode=0o700 if where.uid else 0o755)
            for each in (path, *path.iterdir()):
                os.chown(each, where.uid, where.uid)
        return path

    def execute(self, where: Environment, *words: str, stdin: bytes = b"") -> Done:
        """Run a command there."""
        home = self.home(where)
        variables = {"PATH": PATH, "LC_ALL": "C.UTF-8", "PYTHONPATH": APPLICATION}
        variables["TMPDIR"] = str(home / "tmp")
        if where.home:
            variables["HOME"] = str(home)
        if where.runtime:
            variables["XDG_RUNTIME_DIR"] = str(home / "run")
        order = {"where": asdict(where), "home": str(home), "variables": variables}
        program = [sys.executable, "-m", "tests.engine.ladder_rig", json.dumps(order)]
        done = subprocess.run(
            [*program, *words],
            cwd=REPOSITORY,
            input=stdin,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
        out, err = (text.decode("utf-8", "surrogateescape") for text in (done.stdout, done.stderr))
        return Done(done.returncode, out, err)

    def imgtools(self, where: Environment, verb: str, *words: str, stdin: bytes = b"") -> Done:
        """Run a verb of imgtools there, on a store in the home."""
        return self.execute(where, *self.program(where, verb), *words, stdin=stdin)

    def program(self, where: Environment, verb: str) -> tuple[str, ...]:
        """The beginning of the command of `imgtools`."""
        home = self.home(where)
        store: tuple[str, ...] = ("--root", f"{home}/store", "--runroot", f"{home}/run/store")
        if verb in ("info", "unshare"):
            store = ()
        return (f"{INTERPRETER}/bin/python", "-c", START, verb, *store)

    def base(self, tar: Path) -> Path:
        """An OCI archive of an image with the layer `tar`, readable for all."""
        archive = self.directory / "base.tar"
        done = self.imgtools(
            ROOT, "copy", "--dest-compress=false", f"tarball:{tar}", f"oci-archive:{archive}"
        )
        assert done.code == 0, done.err
        archive.chmod(0o644)
        return archive

    def child(self, where: Environment, action: str, **options: object) -> Done:
        """Run an action of ladder_child.py there."""
        home = self.home(where)
        order = {"root": f"{home}/store", "runroot": f"{home}/run/store", **options}
        python = f"{INTERPRETER}/bin/python"
        return self.execute(
            where, python, "-m", "tests.engine.ladder_child", action, json.dumps(order)
        )


def become(order: dict[str, object], words: list[str]) -> None:
    """Turn into a process of an environment, and execute `words`."""
    values = dict(order["where"])  # type: ignore[call-overload]
    lists = {name: tuple(values[name]) for name in ("hidden", "empty")}
    where = Environment(**{**values, **lists})
    os.chdir("/")

    def prepare() -> None:
        for source, target in ((str(REPOSITORY), APPLICATION), (sys.prefix, INTERPRETER)):
            os.mkdir(target)
            mount(source.encode(), target.encode(), None, MS_BIND | MS_REC, None)
        for name in where.hidden:
            found = os.path.realpath(shutil.which(name, path=PATH) or f"/usr/bin/{name}")
            if os.path.exists(found):
                mount(b"/etc/hosts", found.encode(), None, MS_BIND, None)
        if not where.named:
            for name in ("passwd", "group", "subuid", "subgid"):
                with open(f"/etc/{name}", "w", encoding="ascii") as file:
                    file.write("root:x:0:0::/root:/bin/sh\n" if name == "passwd" else "")
        for name in where.empty:
            mount(b"tmpfs", name.encode(), b"tmpfs", 0, b"mode=1777")
        if where.masked:
            jail.hide_proc()

    jail.enter(where.rung, prepare)
    os.chdir(str(order["home"]))
    program = shutil.which(words[0], path=PATH) or words[0]
    os.execve(program, words, order["variables"])  # type: ignore[arg-type]


if __name__ == "__main__":
    become(json.loads(sys.argv[1]), sys.argv[2:])
