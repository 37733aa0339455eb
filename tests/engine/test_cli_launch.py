"""The launch script finds its interpreter and its package, and starts with little."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.cli.version import VERSION
from tests.rig import REPOSITORY

SCRIPT = REPOSITORY / "scripts" / "imgtools-runtime"
SITE = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}"
FIRST_LINE = f"imgtools-runtime version {VERSION}\n"
# Each of these alone would take a good part of the time a container's start may take.
BANNED = {
    "argparse",
    "collections",
    "contextlib",
    "dataclasses",
    "enum",
    "functools",
    "inspect",
    "json",
    "logging",
    "pathlib",
    "re",
    "shutil",
    "signal",
    "site",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
    "typing",
}


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """A directory as `pip install --prefix` makes it, without the package."""
    (tmp_path / "bin").mkdir()
    shutil.copy(SCRIPT, tmp_path / "bin")
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    (tmp_path / SITE / "site-packages").mkdir(parents=True)
    return tmp_path


def editable(prefix: Path) -> None:
    """As hatch's editable wheels have it."""
    pth = prefix / SITE / "site-packages" / "_editable_impl_imgtools.pth"
    pth.write_text(f"{REPOSITORY}\n")


def run(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Its output and errors."""
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        **options,  # type: ignore[call-overload]
    )


@pytest.mark.parametrize("kind", ["site-packages", "dist-packages"])
def test_installed_beside_the_interpreter(prefix: Path, kind: str) -> None:
    """A wheel unpacked by pip; Debian's directory has another name."""
    shutil.copytree(REPOSITORY / "engine", prefix / SITE / kind / "engine")
    done = run(prefix / "bin/imgtools-runtime", "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(FIRST_LINE)


def test_editable_install(prefix: Path) -> None:
    """By the .pth file; lines that are code are not run."""
    evil = prefix / SITE / "site-packages" / "a_imgtools.pth"
    evil.write_text(f"import os; os.mkdir({str(prefix / 'evil')!r})\n/nonexistent\n")
    editable(prefix)
    assert run(prefix / "bin/imgtools-runtime", "--version").stdout.startswith(FIRST_LINE)
    assert not (prefix / "evil").exists()


def test_interpreter_elsewhere(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """`pip install --user`: the version in the package's path says which it is. Where there is
    no such interpreter, the error says what was looked for."""
    (prefix / "bin/python3").unlink()
    shutil.copytree(REPOSITORY / "engine", prefix / SITE / "site-packages/engine")
    done = run(prefix / "bin/imgtools-runtime", "--version")
    name = SITE.rpartition("/")[2]
    if any(Path(d, name).exists() for d in ("/usr/bin", "/usr/local/bin")):
        assert done.stdout.startswith(FIRST_LINE)
    else:
        assert (done.returncode, done.stdout) == (1, "")
    alone = tmp_path_factory.mktemp("alone") / "imgtools-runtime"
    shutil.copy(SCRIPT, alone)
    done = run(alone, "--version")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"no interpreter: expected {alone.parent}/python3" in done.stderr


def test_links_are_followed(prefix: Path, tmp_path: Path) -> None:
    """To the script, absolute and relative, one to another; by PATH as well."""
    editable(prefix)
    links = tmp_path / "links"
    links.mkdir()
    (links / "one").symlink_to(prefix / "bin/imgtools-runtime")
    (links / "two").symlink_to("one")
    (links / "three").symlink_to("../links/two")
    for name in ("one", "two", "three"):
        assert run(links / name, "--version").stdout.startswith(FIRST_LINE)
        assert run(f"./{name}", "--version", cwd=links).stdout.startswith(FIRST_LINE)
    environment = {**os.environ, "PATH": f"{links}:{os.environ['PATH']}"}
    done = run("sh", "-c", "three --version", env=environment)
    assert done.stdout.startswith(FIRST_LINE)


def test_arguments_arrive_as_they_are(prefix: Path) -> None:
    """Spaces, quotes, nothing, and bytes that are no text."""
    editable(prefix)
    for word in ("a b", "'", '"$x`', "*", "\udcff"):
        done = run(prefix / "bin/imgtools-runtime", word, errors="surrogateescape")
        assert done.returncode == 1
        assert "unknown command" in done.stderr


def test_y6_environment_and_directory_have_no_influence(prefix: Path, tmp_path: Path) -> None:
    """PYTHON* variables, modules of the current directory, the encoding of the locale."""
    editable(prefix)
    work = tmp_path / "work"
    work.mkdir()
    for name in ("os", "engine", "stat", "ctypes", "_ctypes"):
        (work / f"{name}.py").write_text("raise SystemExit('taken from the directory')\n")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(work),
        "PYTHONHOME": str(work),
        "PYTHONSTARTUP": str(work / "os.py"),
        "PYTHONWARNINGS": "error",
        "PYTHONINSPECT": "1",
        "PYTHONUTF8": "0",
        "LC_ALL": "C",
    }
    script = prefix / "bin/imgtools-runtime"
    done = run(script, "--version", cwd=work, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    done = run(script, "müll", cwd=work, env=environment)
    assert "müll" in done.stderr


def test_directory_that_cannot_be_written(prefix: Path) -> None:
    """Compiled modules are a matter of speed only."""
    site = prefix / SITE / "site-packages"
    shutil.copytree(
        REPOSITORY / "engine", site / "engine", ignore=shutil.ignore_patterns("__pycache__")
    )
    for directory, _, _ in os.walk(site):
        os.chmod(directory, 0o555)
    done = run(prefix / "bin/imgtools-runtime", "--version")
    assert done.stdout.startswith(FIRST_LINE)


# What each command needs to begin with; `features` may load more than the others.
HOT = ("create", "run", "start", "state", "kill", "delete", "exec", "list", "pause", "update")


@pytest.mark.parametrize("command", HOT)
def test_nothing_slow_is_imported(command: str) -> None:
    """By what a command loads before it does anything, and by the loop of the foreground."""
    program = (
        f"import sys; sys.path.append({str(REPOSITORY)!r});"
        "from engine.cli.main import load;"
        f"load({command!r}); import engine.cli.foreground, engine.cli.root;"
        "print(*sys.modules)"
    )
    done = run(sys.executable, "-I", "-S", "-c", program)
    assert done.returncode == 0, done.stderr
    assert BANNED & set(done.stdout.split()) == set()


def test_the_check_sees_slow_modules() -> None:
    """So that an empty result means something."""
    done = run(sys.executable, "-I", "-S", "-c", "import sys, json; print(*sys.modules)")
    assert {"json", "re", "enum"} <= BANNED & set(done.stdout.split())


def test_version_is_that_of_the_project() -> None:
    """The command knows it without reading metadata."""
    import imgtools

    assert imgtools.__version__ == VERSION
