"""The words of `imgtools run` as frozen options, without running anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from engine.containers.options import RunOptions
from imgtools.cli.passthrough import PassThroughCommand
from imgtools.cli.run_options import run_flags, run_options
from imgtools.errors import Error, InvalidInput, StorageError, Unsupported


def parsed(*words: str, env: dict[str, str] | None = None) -> tuple[tuple[str, ...], RunOptions]:
    """The words after the options, and the options."""
    found: list[tuple[tuple[str, ...], RunOptions]] = []

    @click.command("run", cls=PassThroughCommand)
    @click.argument("words", nargs=-1)
    @run_flags
    def command(words: tuple[str, ...], **kwargs: Any) -> None:
        options = run_options(kwargs, words[1:], env or {}, "/here")
        found.append((words, options))

    command.main(list(words), standalone_mode=False)
    return found[0]


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (["-it", "image", "-x"], ("image", "-x")),
        (["-itv", "./a:/b", "image"], ("image",)),
        (["-itv./a:/b", "image", "--rm"], ("image", "--rm")),
        (["-e", "image", "image", "--", "a"], ("image", "--", "a")),
        (["-ie", "A=1", "image"], ("image",)),
        (["--name=x", "--", "image", "-i"], ("image", "-i")),
        (["--name", "x", "image", "--name", "y"], ("image", "--name", "y")),
        (["-t=false", "image"], ("image",)),
        (["--tty=true", "-i", "image", "-"], ("image", "-")),
    ],
)
def test_where_the_options_end(words: list[str], left: tuple[str, ...]) -> None:
    assert parsed(*words)[0] == left


def test_clusters_set_what_they_say() -> None:
    _, options = parsed("-itv", "./a:/b", "-m1g", "-w/x", "-ujoe", "image", "c")
    assert (options.interactive, options.terminal) == (True, True)
    assert options.volumes[0].source == "/here/a"
    assert options.limits.memory == 1 << 30
    assert (options.workdir, options.user, options.command) == ("/x", "joe", ("c",))


@pytest.mark.parametrize(
    ("text", "size"),
    [("5", 5), ("5b", 5), ("2k", 2048), ("2KiB", 2048), ("1.5g", 3 << 29), ("0.5m", 1 << 19),
     ("1 g", 1 << 30), ("3tb", 3 << 40)],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parsed(f"--memory={text}", "image")[1].limits.memory == size


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["--memory=x"], InvalidInput),
        (["--memory=5x"], InvalidInput),
        (["--memory=-5"], InvalidInput),
        (["--memory-swap=5m"], InvalidInput),
        (["--memory=5m", "--memory-swap=4m"], InvalidInput),
        (["--ulimit=nofile"], InvalidInput),
        (["--ulimit=nofile=x"], InvalidInput),
        (["--ulimit=flight=5"], InvalidInput),
        (["--ulimit=nofile=5:4"], InvalidInput),
        (["--ulimit=nofile=\N{ARABIC-INDIC DIGIT FIVE}"], InvalidInput),
        (["--env==x"], InvalidInput),
        (["--env-file=/nonexistent"], StorageError),
        (["--name=a b"], InvalidInput),
        (["--name=-a"], InvalidInput),
        (["--annotation=a"], InvalidInput),
        (["--workdir=a"], InvalidInput),
        (["--rm=false"], Unsupported),
    ],
)
def test_words_that_make_no_sense(words: list[str], kind: type[Error]) -> None:
    with pytest.raises(kind):
        parsed(*words, "image")


def test_env_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"A=\0\n")
    with pytest.raises(InvalidInput, match="no text"):
        parsed(f"--env-file={tmp_path}/file", "image")
    (tmp_path / "latin").write_bytes(b"A=\xe4\n")
    assert parsed(f"--env-file={tmp_path}/latin", "image")[1].env == ("A=\udce4",)


def test_limits_that_are_none() -> None:
    _, options = parsed("--memory=0", "--cpus=0", "--ulimit=host", "--ulimit=core=-1", "image")
    assert options.limits.memory is None
    assert options.limits.host_ulimits
    assert options.limits.ulimits == (("RLIMIT_CORE", (1 << 64) - 1, (1 << 64) - 1),)
    assert parsed("--memory=5m", "--memory-swap=-1", "image")[1].limits.memory_swap == -1


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", ()), ("a b", ("a b",)), ('["a", "b"]', ("a", "b")), ("[]", ()), ("[1]", ("[1]",)),
     ("[x", ("[x",))],
)  # fmt: skip
def test_entrypoints(text: str, expected: tuple[str, ...]) -> None:
    assert parsed(f"--entrypoint={text}", "image")[1].entrypoint == expected


def test_variables_of_the_caller() -> None:
    found = parsed("-eA", "-eB*", "-eC", "image", env={"A": "1", "B1": "2", "B2": "3", "D": "4"})
    assert found[1].env == ("A=1", "B1=2", "B2=3")


def test_nothing_is_left_over() -> None:
    """Every flag is read: what is in kwargs afterwards is nobody's."""
    kept: dict[str, Any] = {}

    @click.command("run", cls=PassThroughCommand)
    @click.argument("words", nargs=-1)
    @run_flags
    def command(words: tuple[str, ...], **kwargs: Any) -> None:
        run_options(kwargs, words, {}, "/")
        kept.update(kwargs)

    command.main(["image"], standalone_mode=False)
    assert kept == {}
