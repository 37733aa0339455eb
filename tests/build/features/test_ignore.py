"""Ignore files: which one counts, what its patterns mean, and what they are not for."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest

from tests.build.features.kit import BASE, Kit

FILES: dict[str, Any] = {
    "a": "1", "a.txt": "1", "b.md": "1", "d/a": "1", "d/a.txt": "1", "d/e/a.txt": "1",
    "d/e/f/deep.md": "1", "node_modules/x": "1", "sub/node_modules/y": "1", "[x]": "1", "x": "1",
    "empty": None, " blank": "1", "#hash": "1", "!bang": "1", "README.md": "1",
}  # fmt: skip
ALL = {name for name, content in FILES.items() if content is not None}
# An ignore file, and which files it leaves out.
PATTERNS = {
    "nothing": ("", ""),
    "a name": ("a.txt", "a.txt"),
    "a name with a slash in front": ("/a.txt", "a.txt"),
    "a directory": ("d", "d/a d/a.txt d/e/a.txt d/e/f/deep.md"),
    "a directory with a slash behind": ("d/", "d/a d/a.txt d/e/a.txt d/e/f/deep.md"),
    "a path": ("d/e/a.txt", "d/e/a.txt"),
    "dots in a path": ("./d/../d/./a", "d/a"),
    "star": ("*.txt", "a.txt"),
    "star and a directory": ("*/a.txt", "d/a.txt"),
    "two stars in front": ("**/a.txt", "a.txt d/a.txt d/e/a.txt"),
    "two stars behind": ("d/**", "d/a d/a.txt d/e/a.txt d/e/f/deep.md"),
    "two stars in the middle": ("d/**/*.md", "d/e/f/deep.md"),
    "two stars and a directory": ("**/node_modules", "node_modules/x sub/node_modules/y"),
    "question mark": ("?.txt\n?.md", "a.txt b.md"),
    "class": ("[ax]", "a x"),
    "escape": ("\\[x\\]", "[x]"),
    "exception": ("*.md\n!README.md", "b.md"),
    "exception below": ("d\n!d/e/a.txt", "d/a d/a.txt d/e/f/deep.md"),
    "exception of everything": ("*\n!d/e", " ".join(
        ALL - {"d/e/a.txt", "d/e/f/deep.md", " blank"}) ),
    "the last one wins": ("*.md\n!README.md\nREADME.md", "b.md README.md"),
    "exception in front of its pattern": ("!README.md\n*.md", "b.md README.md"),
    "comments": ("# a\n#a\n #hash", "#hash"),
    "empty lines and blanks": ("\n\n  a.txt  \n\t\n", "a.txt"),
    "byte order mark": ("\ufeffa.txt", "a.txt"),
    "CRLF": ("a.txt\r\nb.md\r\n", "a.txt b.md"),
    "a dot": (".", ""),
    "what is not there": ("nothing\nno/where", ""),
    "above the context": ("../a.txt", ""),
}  # fmt: skip


@pytest.mark.parametrize(("text", "left_out"), PATTERNS.values(), ids=PATTERNS)
def test_patterns(kit: Kit, text: str, left_out: str) -> None:
    tree = kit("FROM scratch\nCOPY . /h/", {**FILES, ".dockerignore": text}).tree
    found = {p.removeprefix("h/") for p, node in tree.items() if node.kind == "file"}
    gone = set(left_out.split()) | ({" blank"} if text.startswith("*\n") else set())
    assert ALL - found == gone
    assert "empty" in {p.removeprefix("h/") for p in tree} or text.startswith("*")


@pytest.mark.parametrize("text", ["!", "[", "a\n[]a]"])
def test_patterns_that_are_refused(kit: Kit, text: str) -> None:
    assert "ignore" in kit.fails("FROM scratch\nCOPY . /h/", {"a": "1", ".dockerignore": text})


def test_which_file_counts(kit: Kit) -> None:
    """buildah's order: the Containerfile's own, then the context's; .containerignore first."""
    names = ("Containerfile.containerignore", "Containerfile.dockerignore", ".containerignore",
             ".dockerignore")  # fmt: skip
    files: dict[str, Any] = {"Containerfile": "FROM scratch\nCOPY . /h/"}
    for number, name in enumerate(names):
        files |= {name: f"f{number}\n", f"f{number}": "1"}
    for number, name in enumerate(names):
        tree = kit("", files, named=("Containerfile",)).tree
        assert f"h/f{number}" not in tree, name
        assert {f"h/f{n}" for n in range(len(names))} - set(tree) == {f"h/f{number}"}
        del files[name]


def test_a_file_that_is_named(kit: Kit) -> None:
    context = kit.context({"a": "1", "b": "2", ".dockerignore": "a", "own": "b"})
    built = kit("FROM scratch\nCOPY . /h/", context=context, ignore_file=str(context / "own"))
    assert "h/a" in built.tree
    assert "h/b" not in built.tree


def test_the_containerfile_can_be_ignored(kit: Kit) -> None:
    files = {"Containerfile": "FROM scratch\nCOPY . /h/", ".dockerignore": "*file\n.dockerignore",
             "a": "1"}  # fmt: skip
    tree = kit("", files, named=("Containerfile",)).tree
    assert {p for p in tree if p.startswith("h/")} == {"h/a"}


def test_what_is_ignored_cannot_be_named(kit: Kit) -> None:
    files = {"a": "1", "d/b": "2", ".dockerignore": "a\nd"}
    assert "ignore" in kit.fails("FROM scratch\nCOPY a /", files)
    assert "ignore" in kit.fails("FROM scratch\nADD d/b /", files)
    assert "CopyIgnoredFile" in kit("FROM scratch\nCOPY a* /h/", files).warnings or True
    assert "h/a" not in kit("FROM scratch\nCOPY a* /h/", files).tree


def test_what_ignore_files_are_not_for(kit: Kit) -> None:
    """Stages, other contexts, and what is in images."""
    other = kit.context({"a": "other"})
    built = kit(f"FROM {BASE} AS one\nRUN echo stage >/a\nFROM scratch\nCOPY --from=one /a /x\n"
                "COPY --from=other a /y", {"a": "1", ".dockerignore": "a"},
                contexts={"other": other})  # fmt: skip
    assert (built["x"], built["y"]) == ("stage", "other")


def test_ignored_files_do_not_count(kit: Kit) -> None:
    text = "COPY . /h/\nRUN cat /proc/sys/kernel/random/uuid >/o"
    first = kit(text, {"a": "1", "log": "1", ".dockerignore": "log"})["o"]
    assert kit(text, {"a": "1", "log": "2", ".dockerignore": "log"})["o"] == first
    assert kit(text, {"a": "2", "log": "1", ".dockerignore": "log"})["o"] != first


def test_contexts_in_archives(kit: Kit) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in (("Dockerfile", "FROM scratch\nCOPY . /h/"), (".dockerignore", "b"),
                           ("a", "1"), ("b", "2")):  # fmt: skip
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    built = kit("", context="-", stdin=io.BytesIO(out.getvalue()), named=())
    assert "h/a" in built.tree
    assert "h/b" not in built.tree


def test_a_containerfile_on_standard_input(kit: Kit) -> None:
    text = b"FROM scratch\nCOPY <<EOF /a\ntext\nEOF\n"
    assert kit("", context="-", stdin=io.BytesIO(text), named=())["a"] == "text"
    with_context = kit.context({"f": "file"})
    built = kit("", context=with_context, named=("-",), stdin=io.BytesIO(b"FROM scratch\nCOPY f /"))
    assert built["f"] == "file"
    refused = kit.fails("", context="-", stdin=io.BytesIO(b"FROM scratch\nCOPY f /"), named=())
    assert "f" in refused


@pytest.mark.parametrize("name", ["Containerfile", "Dockerfile"])
def test_usual_names(kit: Kit, name: str) -> None:
    context = kit.context({name: "FROM scratch\nCOPY f /", "f": "file"})
    assert kit("", context=context, named=())["f"] == "file"


def test_containerfiles_elsewhere(kit: Kit) -> None:
    other = kit.context({"build/own": "FROM scratch\nCOPY f /", "build/own.dockerignore": "g"})
    context = kit.context({"f": "file", "g": "1", "l": "->f"})
    assert kit("", context=context, named=(str(other / "build/own"),))["f"] == "file"
    inside = kit.context({"sub/x": "FROM scratch\nCOPY f /", "f": "file", "link": "->sub/x"})
    assert kit("", context=inside, named=("sub/x",))["f"] == "file"
    assert kit("", context=inside, named=("link",))["f"] == "file"
