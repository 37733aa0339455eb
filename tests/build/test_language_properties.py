"""What holds for any Containerfile: it is read or refused by an error of ours, nothing is read
twice or left out, and what is printed again means the same. And the runner of BuildKit's own
data, on a tree made here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from imgtools.build.language.errors import ContainerfileError, render
from imgtools.build.language.model import (
    Add,
    Containerfile,
    Copy,
    Heredoc,
    Instruction,
    Location,
    OnBuild,
    Run,
)
from imgtools.build.language.parser import parse, parse_trigger
from imgtools.build.language.source import read_source
from imgtools.build.language.statements import GRAMMARS, statements
from tests.build.conformance_parser import dump, quote, run

PIECES = st.sampled_from(
    [
        *GRAMMARS, "RUNN", "# escape=`", "# check=x", "#", "\\", "`", "\n", "\r\n", " ", "\t",
        "\xa0", "\ufeff", "\x85", "\0", "é", "<<EOF", "<<-'EOF'", "3<<X", "EOF", "\tEOF", "X", "<<",
        "--", "--from=x", "--mount=from=$a", "--link", '"', "'", "[", '["a"', ",", '"b"]', "1]",
        "=", "a=b", "$x", "${", "}", "AS", "NONE", "CMD", "FROM scratch\n", "\\\n", "\\ \n",
        "COPY <<EOF /x\n", "EOF\n",
    ]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=40).map("".join)


def read_or_refused(content: bytes) -> Containerfile | None:
    """A file, or None if it is refused as it should be."""
    try:
        return parse(content, "Containerfile")
    except ContainerfileError as e:
        error = e
    assert 1 <= error.location.first <= error.location.last
    assert 0 <= error.column <= len(error.excerpt) + 1
    assert render(error).startswith("Containerfile:")
    return None


@settings(max_examples=400)
@given(st.one_of(TEXTS, TEXTS.map("FROM a\n{}".format), st.text()).map(str.encode))
def test_any_text_is_read_or_refused(content: bytes) -> None:
    file = read_or_refused(content)
    if file is not None:
        assert file.instructions


@given(st.binary(max_size=200), st.sampled_from([b"", b"FROM a\n", b"FROM a\nRUN <<E\n"]))
def test_any_bytes_are_read_or_refused(content: bytes, head: bytes) -> None:
    read_or_refused(head + content)


@given(st.one_of(TEXTS, st.text(st.characters(), max_size=40)))
def test_any_trigger_is_read_or_refused(text: str) -> None:
    try:
        name = parse_trigger(text, "base").location.file
    except ContainerfileError as e:
        name = e.location.file
    assert name == "ONBUILD of base"


# No escape and nothing but blanks at the ends, which printing on one line would change.
WORD = st.text(st.sampled_from("abXY09$_.-=/:'\"[]{},<#é漢"), min_size=1, max_size=8)
LINE = st.lists(WORD, min_size=1, max_size=4).map(" ".join)
BODY = st.lists(LINE | st.just(""), max_size=3).map(
    lambda lines: "".join(f"\t{x}\n" for x in lines)
)


@st.composite
def files(draw: st.DrawFn) -> str:
    """A file of instructions with continuations, comments, documents and triggers, all of them
    such that they are not refused."""
    texts = ["FROM a"]
    for keyword in draw(st.lists(st.sampled_from(sorted(GRAMMARS)), max_size=8)):
        prefix = draw(st.sampled_from(["", "", "onbuild "]))
        rest = draw(LINE).replace(" ", draw(st.sampled_from([" ", " \\\n  ", " \\\n# c\n\n\t"])))
        if keyword in ("RUN", "COPY") and draw(st.booleans()):
            mark = draw(st.sampled_from(["<<", "<<-"]))
            rest = f"{mark}E1 /x\n{draw(BODY)}E1"
        text = f"{prefix}{keyword.title()} {rest}"
        if read_or_refused(f"FROM a\n{text}".encode()):
            texts.append(text)
    return "\n".join(texts)


def printed(instruction: Instruction) -> str:
    """An instruction on one line, with its documents."""
    holder = instruction.inner if isinstance(instruction, OnBuild) else instruction
    found: tuple[Heredoc, ...] = ()
    if isinstance(holder, Run):
        found = holder.command.heredocs
    elif isinstance(holder, Copy | Add):
        found = holder.heredocs
    return "\n".join([instruction.text, *(f"{each.content}{each.name}" for each in found)])


def placeless(instruction: Instruction) -> Instruction:
    """An instruction without what printing it changes: its place, and how it is written."""
    nowhere = Location(file="", first=0, last=0)
    instruction = replace(instruction, location=nowhere, written="", comments=())
    if isinstance(instruction, OnBuild):
        return replace(instruction, inner=placeless(instruction.inner), trigger="")
    return instruction


@given(files())
def test_instructions_follow_one_another(text: str) -> None:
    file, end = parse(text.encode(), "Containerfile"), 0
    for instruction in file.instructions:
        assert end < instruction.location.first <= instruction.location.last <= len(file.lines)
        end = instruction.location.last
    assert end == len(file.lines)


@settings(max_examples=300)
@given(files())
def test_what_is_printed_again_means_the_same(text: str) -> None:
    file = parse(text.encode(), "Containerfile")
    again = parse("\n".join(map(printed, file.instructions)).encode(), "Containerfile")
    assert list(map(placeless, again.instructions)) == list(map(placeless, file.instructions))


@given(files())
def test_triggers_mean_what_their_instruction_does(text: str) -> None:
    for instruction in parse(text.encode(), "Containerfile").instructions:
        if isinstance(instruction, OnBuild):
            again = parse_trigger(instruction.trigger, "base")
            assert placeless(again) == placeless(instruction.inner)


def test_strings_are_quoted_as_by_go() -> None:
    assert quote('a"\\\n\t\0\x7f\xa0é漢\u2028\U000e0001') == (
        r'"a\"\\\n\t\x00\x7f\u00a0é漢\u2028\U000e0001"'
    )


def test_trees_are_dumped_as_by_buildkit() -> None:
    text = 'FROM a\nONBUILD run --a="b c" [ "x", "y" ]\nENV a b\nFoo bar\nHEALTHCHECK cmd x'
    assert dump(statements(read_source(text.encode(), "x"), "\\")) == (
        '(from "a")\n(onbuild (run ["--a=b c"] "x" "y"))\n(env "a" "b" "")\n(foo "")\n'
        '(healthcheck "cmd" "x")'
    )


def test_the_runner_tells_cases_that_pass_from_those_that_do_not(tmp_path: Path) -> None:
    folder = tmp_path / "buildkit" / "frontend" / "dockerfile" / "parser"
    trees = {
        "testfiles/good/Dockerfile": "FROM a\n",
        "testfiles/good/result": '(from "a")\n',
        "testfiles/other/Dockerfile": "FROM a\n",
        "testfiles/other/result": '(from "b")\n',
        "testfiles/refused/Dockerfile": "ENV a\n",
        "testfiles/refused/result": "",
        "testfiles-negative/empty/Dockerfile": "",
        "testfiles-negative/fine/Dockerfile": "FROM a\n",
        "testfile-line/Dockerfile": "\nFROM a\nRUN b\\\n c\n",
        "parser_test.go": "func TestParseIncludesLineNumbers(\n(2, ast.StartLine)"
        "(t, 4, ast.EndLine)[][]int{\n{2, 2},\n{9, 9},\n}\nfor i, x",
        "json_test.go": "var invalid = []string{`[1]`, `[]`}\nvar validJSONArraysOfStrings = {\n"
        '\t`["a"]`: {"a"},\n\t`["b"]`: {"c"},\n}',
    }
    for name, content in trees.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    assert {name: passed for name, passed, _ in run(str(tmp_path))} == {
        "parser/good": True,
        "parser/other": False,
        "parser/refused": False,
        "parser-negative/empty": True,
        "parser-negative/fine": False,
        "parser-line/0": True,
        "parser-line/1": False,
        "json-invalid/[1]": True,
        "json-invalid/[]": False,
        'json-valid/["a"]': True,
        'json-valid/["b"]': False,
    }
