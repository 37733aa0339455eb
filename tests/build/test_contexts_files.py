"""Containerfiles and ignore files: found, read, preprocessed, and read although ignored."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from imgtools.build.contexts.containerfiles import ContainerfileText, read_containerfiles
from imgtools.build.contexts.context import CONTAINERFILE_LIMIT, Context, open_context
from imgtools.build.contexts.ignoring import with_ignore_file
from imgtools.build.contexts.options import ContextOptions, FetchOptions, GitOptions
from imgtools.errors import Error, InvalidInput, LimitExceeded, NotFound, UnsafePath, Unsupported
from imgtools.task import Event, Note, Task
from tests.build.test_contexts import make_tar
from tests.build.web_rig import Answer, web_server


@contextmanager
def context_of(
    tmp_path: Path, files: Mapping[str, str], *, remote: bool = False, stdin: bytes | None = None
) -> Iterator[tuple[Context, ContextOptions]]:
    """A context `ctx` with files; with `remote` out of an archive."""
    (tmp_path / "scratch").mkdir(exist_ok=True)
    path = os.environ["PATH"]
    options = ContextOptions(
        scratch=str(tmp_path / "scratch"),
        directory=str(tmp_path),
        stdin=io.BytesIO(stdin) if stdin is not None else None,
        fetch=FetchOptions(git=GitOptions(environment={"PATH": path})),
    )
    (tmp_path / "ctx").mkdir(exist_ok=True)
    write(tmp_path / "ctx", files)
    if remote:
        members = [(name, text.encode()) for name, text in files.items()]
        (tmp_path / "ctx.tar").write_bytes(make_tar(*members))
    with open_context("ctx.tar" if remote else "ctx", options, task=Task()) as context:
        yield context, options


def write(directory: Path, files: Mapping[str, str]) -> None:
    """Make files."""
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


def read(context: Context, options: ContextOptions, *files: str) -> list[tuple[str, bytes, bool]]:
    """Names and contents."""
    found = read_containerfiles(context, files, options, task=Task())
    return [(text.name, text.content, text.in_context) for text in found]


@pytest.mark.parametrize("remote", [False, True])
def test_containerfile_goes_before_dockerfile(tmp_path: Path, remote: bool) -> None:
    """Where --file says nothing."""
    files = {"Containerfile": "1", "Dockerfile": "2"}
    with context_of(tmp_path, files, remote=remote) as (context, options):
        assert read(context, options) == [("Containerfile", b"1", True)]


def test_dockerfile_is_the_second_choice(tmp_path: Path) -> None:
    """In the context only, not in the current directory."""
    (tmp_path / "Containerfile").write_text("not this")
    with context_of(tmp_path, {"Dockerfile": "2"}) as (context, options):
        assert read(context, options) == [("Dockerfile", b"2", True)]


def test_file_is_looked_for_in_the_current_directory_then_in_the_context(tmp_path: Path) -> None:
    """Several are read in the order they are given."""
    write(tmp_path, {"here": "1", "both": "2", "sub/also": "3"})
    files = {"both": "no", "inside": "4", "sub/deep": "5"}
    with context_of(tmp_path, files) as (context, options):
        found = read(context, options, "both", "here", "inside", "sub/deep", "sub/also")
        absolute = read(context, options, str(tmp_path / "here"))
    assert found == [
        ("both", b"2", False),
        ("here", b"1", False),
        ("inside", b"4", True),
        ("sub/deep", b"5", True),
        ("sub/also", b"3", False),
    ]
    assert absolute == [(str(tmp_path / "here"), b"1", False)]


def test_file_from_standard_input_or_a_url(tmp_path: Path) -> None:
    """`-` once, and URLs."""
    with web_server() as web, context_of(tmp_path, {}, stdin=b"1") as (context, options):
        web.routes["/d/Dockerfile"] = Answer(body=b"2")
        found = read(context, options, "-", web.url + "/d/Dockerfile?token=hidden")
        assert found[0] == ("(standard input)", b"1", False)
        assert found[1][1] == b"2"
        assert "hidden" not in found[1][0]
        assert os.listdir(options.scratch) == []
        with pytest.raises(InvalidInput, match="named twice"):
            read(context, options, "-", "-")
        with pytest.raises(NotFound, match="/none: 404"):
            read(context, options, web.url + "/none")


def test_e62_containerfile_that_is_the_context(tmp_path: Path) -> None:
    """A Containerfile as context is the Containerfile; it cannot be read as --file too."""
    with (
        context_of(tmp_path, {}, stdin=b"FROM scratch") as (_, options),
        open_context("-", options, task=Task()) as context,
    ):
        assert read(context, options) == [("Dockerfile", b"FROM scratch", True)]
        with pytest.raises(InvalidInput, match="named twice"):
            read(context, options, "-")


@pytest.mark.parametrize(
    ("files", "names", "error", "text"),
    [
        ({}, [], NotFound, "no Containerfile and no Dockerfile"),
        ({}, ["none"], NotFound, "Containerfile none: there is no such file"),
        ({}, ["/nonexistent/f"], NotFound, "Containerfile /nonexistent/f"),
        ({"d/x": ""}, ["d"], InvalidInput, "Containerfile d is a directory"),
        ({"Containerfile/x": ""}, [], InvalidInput, "Containerfile is a directory"),
    ],
)
def test_missing_containerfile(
    tmp_path: Path, files: dict[str, str], names: list[str], error: type[Error], text: str
) -> None:
    """Each with what was looked for."""
    with context_of(tmp_path, files) as (context, options), pytest.raises(Error) as caught:
        read(context, options, *names)
    assert isinstance(caught.value, error)
    assert text in caught.value.message


@pytest.mark.parametrize("directory", ["", "ctx"])
def test_containerfile_without_end(tmp_path: Path, directory: str) -> None:
    """Is refused, here and in the context."""
    with context_of(tmp_path, {}) as (context, options):
        with open(tmp_path / directory / "big", "wb") as file:
            file.truncate(CONTAINERFILE_LIMIT + 1)
        with pytest.raises(LimitExceeded, match="big"):
            read(context, options, "big")


def test_links_of_a_context_do_not_lead_to_files_of_the_host(tmp_path: Path) -> None:
    """A Dockerfile that is a link stays inside, one that loops is an error."""
    (tmp_path / "secret").write_text("outside")
    with context_of(tmp_path, {"sub/real": "inside"}) as (context, options):
        (tmp_path / "ctx/Dockerfile").symlink_to("../secret")
        with pytest.raises(NotFound):
            read(context, options)
        (tmp_path / "ctx/Containerfile").symlink_to("/sub/real")
        assert read(context, options) == [("Containerfile", b"inside", True)]
        (tmp_path / "ctx/loop").symlink_to("loop")
        with pytest.raises(UnsafePath, match="loop"):
            read(context, options, "loop")


def test_names_that_end_in_in_are_preprocessed(tmp_path: Path) -> None:
    """By cpp, with the context for includes and the flags that were given."""
    files = {"Dockerfile.in": '#include "base"\n#ifdef X\nRUN x\n#endif\n', "base": "FROM a\n"}
    with context_of(tmp_path, files) as (context, options):
        plain = read(context, options, "Dockerfile.in")[0][1]
        flagged = read(context, replace(options, cpp_flags=("-DX",)), "Dockerfile.in")[0][1]
    assert b"FROM a" in plain
    assert b"RUN x" not in plain
    assert b"RUN x" in flagged


def test_preprocessing_that_fails(tmp_path: Path) -> None:
    """Without cpp there is a remedy, without output the reason, with output a warning."""
    files = {"Dockerfile.in": "FROM a\n#error what now\n", "none.in": "#error nothing\n"}
    events: list[Event] = []
    with context_of(tmp_path, files) as (context, options):
        found = read_containerfiles(
            context, ["Dockerfile.in"], options, task=Task(progress=events.append)
        )
        assert b"FROM a" in found[0].content
        assert any(isinstance(event, Note) and "what now" in event.text for event in events)
        without = replace(options, fetch=FetchOptions())
        without = replace(
            without, fetch=FetchOptions(git=GitOptions(environment={"PATH": "/nonexistent"}))
        )
        with pytest.raises(Unsupported, match=r"there is no cpp here") as caught:
            read(context, without, "Dockerfile.in")
        assert "install cpp" in (caught.value.hint or "")
        with pytest.raises(InvalidInput, match="cpp: "):
            read(context, replace(options, cpp_flags=("--no-such-flag",)), "none.in")


def ignored(
    context: Context, options: ContextOptions, *files: str, ignore_file: str = ""
) -> list[str]:
    """Which of the names a to f are left out."""
    found = read_containerfiles(context, files, options, task=Task())
    applied = with_ignore_file(
        context, found[0], ignore_file=ignore_file, directory=options.directory
    )
    return [name for name in "abcdef" if applied.ignored is not None and applied.ignored(name)]


@pytest.mark.parametrize("remote", [False, True])
def test_e61_order_of_ignore_files(tmp_path: Path, remote: bool) -> None:
    """The one of --ignorefile, the Containerfile's own two, the context's two: the first there
    is counts, alone."""
    write(tmp_path, {"mine": "a"})
    files = {
        "d/Dockerfile": "FROM scratch",
        "d/Dockerfile.containerignore": "b",
        "d/Dockerfile.dockerignore": "c",
        ".containerignore": "d",
        ".dockerignore": "e",
    }
    order = list(files)[1:]
    with context_of(tmp_path, files, remote=remote) as (context, options):
        assert ignored(context, options, "d/Dockerfile", ignore_file="mine") == ["a"]
    for expected, name in zip("bcde", order, strict=True):
        with context_of(tmp_path, files, remote=remote) as (context, options):
            assert ignored(context, options, "d/Dockerfile") == [expected]
        (tmp_path / "ctx" / name).unlink()
        del files[name]


def test_e61_ignore_file_of_a_containerfile_outside(tmp_path: Path) -> None:
    """It is beside it, wherever that is; one from standard input has only the context's."""
    write(tmp_path, {"x/C": "FROM scratch", "x/C.dockerignore": "a"})
    files = {".dockerignore": "b", "C.dockerignore": "c"}
    with context_of(tmp_path, files, stdin=b"FROM scratch") as (context, options):
        assert ignored(context, options, "x/C") == ["a"]
        assert ignored(context, options, "-") == ["b"]


def test_e61_containerfile_and_ignore_file_are_read_although_ignored(tmp_path: Path) -> None:
    """Both are ignored as sources of COPY all the same."""
    files = {"Dockerfile": "FROM scratch", ".dockerignore": "*\n!b"}
    with context_of(tmp_path, files) as (context, options):
        found = read_containerfiles(context, (), options, task=Task())
        applied = with_ignore_file(context, found[0])
        assert found[0].content == b"FROM scratch"
        assert applied.ignored is not None
        assert applied.may_keep is not None
        assert applied.ignored("Dockerfile")
        assert applied.ignored(".dockerignore")
        assert not applied.ignored("b")


def test_e61_nothing_is_ignored_without_patterns(tmp_path: Path) -> None:
    """No ignore file, or one with nothing in it, or one that is a directory."""
    for files in ({}, {".dockerignore": "# nothing\n\n"}, {".containerignore/x": ""}):
        directory = tmp_path / f"t{len(os.listdir(tmp_path))}"
        directory.mkdir()
        with context_of(directory, files) as (context, _):
            assert with_ignore_file(context).ignored is None


def test_e61_ignore_files_that_are_wrong(tmp_path: Path) -> None:
    """The named one has to be there, a pattern has to be one; a link stays inside."""
    with context_of(tmp_path, {".dockerignore": "a\n!\n"}) as (context, options):
        with pytest.raises(NotFound, match="ignore file none"):
            with_ignore_file(context, ignore_file="none", directory=options.directory)
        with pytest.raises(InvalidInput, match=r"\.dockerignore:2"):
            with_ignore_file(context)
        (tmp_path / "outside").write_text("a")
        (tmp_path / "ctx/.dockerignore").unlink()
        (tmp_path / "ctx/.dockerignore").symlink_to("../outside")
        assert with_ignore_file(context).ignored is None


def test_several_threads_may_ask_at_once(tmp_path: Path) -> None:
    """Stages are built in parallel, and share the context."""
    with context_of(tmp_path, {".dockerignore": "**/x\n!keep/**/x"}) as (context, _):
        applied = with_ignore_file(context, ContainerfileText(name="", content=b""))
        ask = applied.ignored
        assert ask is not None
        wrong: list[str] = []

        def work(start: int) -> None:
            for number in range(start, start + 300):
                for top in ("keep", "drop"):
                    path = f"{top}/{number}/{number % 7}/x"
                    if ask(path) != (top == "drop"):
                        wrong.append(path)

        threads = [threading.Thread(target=work, args=(start,)) for start in (0, 100, 200, 50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
