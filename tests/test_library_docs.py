"""What the documentation shows works: Python examples run as they stand, every command line
parses, and every example of a file is read by what reads such files."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import imgtools
from imgtools.cli.main import app
from imgtools.cli.settings import Settings
from imgtools.cli.state import Cli
from imgtools.cli.tls_details import read_tls_details
from imgtools.cli.working_choice import EitherCommand, loaded
from imgtools.sync.config import read_source_file
from imgtools.transport.options import RegistryOptions
from imgtools.transport.registries.parse import parse

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")


def blocks(*languages: str) -> Iterator[tuple[str, str]]:
    """The fenced blocks in one of `languages` and where they begin."""
    for page in PAGES:
        text = (ROOT / page).read_text()
        for match in BLOCK.finditer(text):
            if match[1] in languages:
                yield match[2], f"{page}:{text[: match.start()].count(chr(10)) + 2}"


def examples(*languages: str) -> list[object]:
    return [pytest.param(content, id=where) for content, where in blocks(*languages)]


@pytest.mark.parametrize("code", examples("python"))
def test_example(
    code: str, images_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(images_dir, tmp_path / "layout")
    index = (tmp_path / "layout" / "index.json").read_text()
    index = index.replace('"oci"', '"app"').replace('"index"', '"multi"')
    (tmp_path / "layout" / "index.json").write_text(index)
    shutil.copytree(tmp_path / "layout", tmp_path / "mirror")
    (tmp_path / "mirror" / "index.json").write_text(index.replace('"app"', '"app-1"'))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "example", "exec"), {})


def command_lines() -> list[object]:
    """The command lines of imgtools in console blocks."""
    found: list[object] = []
    for content, where in blocks("console", "sh", "bash"):
        for line in content.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words[:1] == ["imgtools"]:
                found.append(pytest.param(words[1:], id=f"{where}: {line}"))
    return found


@pytest.mark.parametrize("words", command_lines())
def test_command_line_parses(words: list[str]) -> None:
    parsed(words)


def test_a_wrong_command_line_would_be_noticed() -> None:
    assert len(command_lines()) > 40
    for words in (["copy", "--nosuch", "a", "b"], ["inspect"], ["config", "show"], ["nosuch"]):
        with pytest.raises(click.UsageError):
            parsed(words)


def parsed(words: list[str]) -> None:
    """Raise UsageError unless click accepts the words after `imgtools`; nothing is run."""
    for sign in ("<", ">", "|"):
        words = words[: words.index(sign)] if sign in words else words
    cli = Cli(settings=Settings.from_environment({}))
    command: click.Command = app
    context: click.Context | None = None
    name = "imgtools"
    while True:
        context = command.make_context(name, list(words), parent=context, obj=cli)
        command = context.command
        if not isinstance(command, click.Group):
            return
        # Click 8.2 has renamed what holds the name of the next command.
        held = vars(context).get("_protected_args") or vars(context).get("protected_args", [])
        words = [*held, *context.args]
        found, child, words = command.resolve_command(context, words)
        assert found is not None
        assert child is not None
        name, command = found, child
        if isinstance(child, EitherCommand) and "$c" in words:
            # In examples $c is a working container, which is not there when they are parsed.
            command = loaded(child.other)


def test_files_that_are_shown_are_read(tmp_path: Path) -> None:
    kinds = {"registries.conf": 0, "TLS details": 0, "sync": 0}
    for content, _ in blocks("toml"):
        assert parse(content.encode(), "registries.conf").registries
        kinds["registries.conf"] += 1
    path = tmp_path / "example.yaml"
    for content, _ in blocks("yaml"):
        path.write_text(content)
        if "minVersion" in content:
            assert read_tls_details(str(path)).cipher_suites
            kinds["TLS details"] += 1
            continue
        warnings: list[str] = []
        assert read_source_file(str(path), RegistryOptions(), warn=warnings.append)
        assert warnings == []
        kinds["sync"] += 1
    assert all(kinds.values())


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    for target, anchor in LINK.findall(BLOCK.sub("", text)):
        if "://" in target:
            continue
        file = (ROOT / page).parent / target if target else ROOT / page
        assert file.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}


def test_every_public_name_exists() -> None:
    assert set(imgtools.__all__) - {"__version__"} == set(imgtools._PUBLIC)
    for name in imgtools.__all__:
        assert getattr(imgtools, name) is not None
    with pytest.raises(AttributeError):
        imgtools.nosuch  # noqa: B018
