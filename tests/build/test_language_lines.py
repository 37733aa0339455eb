"""Lines of a Containerfile: encodings, ends, directives, comments, continuations, locations."""

from __future__ import annotations

import pytest

from imgtools.build.language.directives import foreign_frontend
from imgtools.build.language.errors import render
from imgtools.build.language.lexer import Lexer
from imgtools.build.language.model import Env, Run
from imgtools.build.language.parser import parse
from imgtools.build.language.source import MAX_SIZE, SPACE_CHARACTERS, read_source
from imgtools.errors import LimitExceeded
from tests.build.language_kit import all_of, only, parsed, refusal, refused


def command(text: str) -> str:
    """The shell line of the last instruction, a RUN."""
    run = parsed(text).instructions[-1]
    assert isinstance(run, Run)
    assert run.command.shell
    return run.command.words[0]


def test_e01_byte_order_mark_is_dropped() -> None:
    file = parsed(b"\xef\xbb\xbf# escape=`\nFROM scratch\n")
    assert file.directives.escape == "`"
    assert file.lines == ("# escape=`", "FROM scratch")


def test_a_byte_order_mark_is_one_only_at_the_start() -> None:
    assert refusal("\ufeff\ufeffFROM scratch").reason.startswith("unknown instruction")


def test_e02_carriage_returns_end_lines_and_here_documents() -> None:
    file = parsed(b"FROM scratch\r\nRUN a \\\r\n  b\r\nCOPY <<E /x\r\none\r\nE\r\nUSER u\r\n")
    assert [each.text for each in file.instructions] == [
        "FROM scratch", "RUN a   b", "COPY <<E /x", "USER u",
    ]  # fmt: skip
    assert file.instructions[2].heredocs[0].content == "one\r\n"
    assert file.lines[1] == "RUN a \\"


@pytest.mark.parametrize(
    ("head", "escape"),
    [
        ("# escape=`\n", "`"),
        ("#escape=`\n", "`"),
        ("  #\tEsCaPe \t=  `  \n", "`"),
        ("# syntax=docker/dockerfile:1\n# check=skip=all\n# escape=`\n", "`"),
        ("# escape=\\\n", "\\"),
        ("# a comment\n# escape=`\n", "\\"),
        ("#\n# escape=`\n", "\\"),
        ("\n# escape=`\n", "\\"),
        ("# other=x\n# escape=`\n", "\\"),
        ("# escape=\n", "\\"),
        ("#!/usr/bin/env x\n# escape=`\n", "\\"),
        ("ARG A\n# escape=`\n", "\\"),
    ],
)
def test_e03_directive_after_anything_else_is_a_comment(head: str, escape: str) -> None:
    assert parsed(head + "FROM scratch").directives.escape == escape


@pytest.mark.parametrize(
    "head",
    ["# escape=`\n# escape=`\n", "# syntax=a\n# SYNTAX=b\n", "# check=a\n#escape=`\n#check=b\n"],
)
def test_e04_duplicate_directive_is_an_error(head: str) -> None:
    error = refusal(head + "FROM scratch")
    assert "is there twice" in error.message
    assert error.location.first == head.count("\n")


@pytest.mark.parametrize("value", ["x", "``", "\\\\", " "])
def test_an_escape_is_a_backslash_or_a_backtick(value: str) -> None:
    error = refusal(f"# escape={value}\nFROM scratch")
    assert "expected a backslash or a backtick" in error.reason
    assert error.column == 10


@pytest.mark.parametrize(
    ("head", "syntax", "check"),
    [
        ("# syntax = docker/dockerfile:1 // more\n", "docker/dockerfile:1", ""),
        (
            "#!/bin/sh\n# check=skip=all\n# syntax=docker/dockerfile\n",
            "docker/dockerfile",
            "skip=all",
        ),
        ("#check=skip=A,B;error=true\n", "", "skip=A,B;error=true"),
        (" # check=skip=all\n", "", ""),
        ("#!/bin/sh\n\n# check=skip=all\n", "", ""),
    ],
)
def test_syntax_and_check_are_found(head: str, syntax: str, check: str) -> None:
    directives = parsed(head + "FROM scratch").directives
    assert (directives.syntax, directives.check) == (syntax, check)


@pytest.mark.parametrize(
    ("image", "foreign"),
    [
        ("", False),
        ("docker/dockerfile", False),
        ("docker/dockerfile:1.7-labs", False),
        ("docker.io/docker/dockerfile-upstream@sha256:0", False),
        ("example.com/docker/dockerfile:1", True),
        ("docker/dockerfile-other", True),
    ],
)
def test_a_frontend_that_is_not_dockers_is_noted(image: str, foreign: bool) -> None:
    assert foreign_frontend(image) == foreign
    notes = parsed(f"# syntax={image}\nFROM scratch").notes
    assert [line for line, _ in notes] == [1] * foreign


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("//syntax=other/frontend\n//x=y\n", 1),
        ("#!/bin/sh\n//syntax=other/frontend\n", 2),
        ('{"syntax": "other/frontend", "more": ["x"]}', 1),
        ('{\n"syntax": "other/frontend"\n}\n', 1),
    ],
)
def test_a_file_for_another_frontend_is_refused(text: str, line: int) -> None:
    error = refusal(text)
    assert "frontend other/frontend" in error.reason
    assert error.location.first == line


@pytest.mark.parametrize(
    "text", ['{"syntax": "x"', '{"syntax": 1}', '{"syntax": "x"}\n# y', "[" * 9999]
)
def test_what_looks_like_another_frontend_is_an_unknown_instruction(text: str) -> None:
    assert refusal(text).reason.startswith("unknown instruction")


def test_e05_backtick_escape_keeps_a_trailing_backslash() -> None:
    text = "# escape=`\nFROM scratch\nCOPY a c:\\\nRUN x `\n y\\"
    assert all_of(text) == ["FROM scratch", "COPY a c:\\", "RUN x  y\\"]


def test_e06_comment_inside_a_continuation_is_dropped() -> None:
    assert command("FROM a\nRUN a \\\n# one \\\n  # two\n  b # three\n") == "a   b # three"


def test_e07_blank_line_in_a_continuation_is_dropped_and_noted() -> None:
    file = parsed("FROM a\nRUN a \\\n\n \t\n b \\\n\n c\nRUN d\n")
    assert file.instructions[1].text == "RUN a  b  c"
    assert file.notes == ((3, "empty line inside RUN a  b  c"),)


def test_e08_number_sign_begins_a_comment_only_at_the_start_of_a_line() -> None:
    assert all_of("  # x\nFROM a\nRUN a #b # c\n") == ["FROM a", "RUN a #b # c"]
    assert "one argument or three" in refusal("FROM a # b").reason


@pytest.mark.parametrize("blanks", ["", " ", "\t", " \t  "])
def test_e09_escape_with_blanks_behind_it_continues(blanks: str) -> None:
    assert command(f"FROM a\nRUN a \\{blanks}\n b") == "a  b"


@pytest.mark.parametrize(
    ("line", "rest"), [("a\\\\", "a\\\\"), ("a \\\\\\", "a \\\\\\"), ("a \\x", "a \\x")]
)
def test_two_escapes_are_no_continuation(line: str, rest: str) -> None:
    assert all_of(f"FROM a\nRUN {line}\nUSER b") == ["FROM a", f"RUN {rest}", "USER b"]


@pytest.mark.parametrize("end", ["\\", "\\\n", "\\ ", "\\\n\\\n", "\\\n# x\n\n"])
def test_e10_escape_at_the_end_of_the_file_continues_nothing(end: str) -> None:
    assert command(f"FROM a\nRUN a {end}") == "a"


def test_a_line_may_begin_with_its_continuation() -> None:
    assert all_of("\\\nFROM a\nRU\\\nN x\n\\\n\t USER y") == ["FROM a", "RUN x", "USER y"]
    assert refusal("FROM a\n\\\n").reason == "there is no instruction on this line"


@pytest.mark.parametrize("size", [65_536, 1_000_000])
def test_e11_line_longer_than_64_kib(size: int) -> None:
    assert command(f"FROM a\nRUN {'x' * size}") == "x" * size
    assert only(f'ENV a="{"b c" * size}"').pairs == (("a", f'"{"b c" * size}"'),)


@pytest.mark.parametrize(
    ("piece", "before", "after"),
    [
        (b"  word \\\n", b"RUN x \\\n", b"  y\n"),
        (b"\n", b"RUN x \\\n", b"y\n"),
        (b"\ttext\n", b"RUN <<-E\n", b"E\n"),
        (b" a=b", b"ENV", b"\n"),
        (b"\\x", b"ENV a=", b"\n"),
        (b'"\\""', b"ENV a=", b"\n"),
        (b"\\ ", b"RUN ", b"x\n"),
        (b"[", b"RUN ", b"\n"),
        (b'"a",', b"RUN [", b'"b"]\n'),
    ],
)
def test_e11_files_of_ten_megabytes(piece: bytes, before: bytes, after: bytes) -> None:
    content = b"FROM a\n" + before + piece * (10_000_000 // len(piece)) + after + b"USER last\n"
    file = parse(content, "Containerfile")
    assert [each.keyword for each in file.instructions[::2]] == ["FROM", "USER"]
    assert file.instructions[-1].location.first == content.count(b"\n")


def test_a_file_that_is_too_large_is_refused() -> None:
    with pytest.raises(LimitExceeded):
        parse(bytes(MAX_SIZE + 1), "Containerfile")


def test_as_many_instructions_as_nobody_writes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgtools.build.language.parser.MAX_INSTRUCTIONS", 3)
    assert len(parsed("FROM a\n" * 3).instructions) == 3
    with pytest.raises(LimitExceeded, match="3 instructions"):
        parsed("FROM a\n" * 4)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("FROM a\n".encode("utf-16"), "UTF-16"),
        ("FROM a\n".encode("utf-32"), "UTF-32"),
        (b"FROM a\nRUN x\0y", "NUL byte"),
        (b"FROM a\nRUN echo \xe9", "RUN is not UTF-8"),
        (b"FROM a\nRUN <<E\n\xff\nE", "here-document is not UTF-8"),
        (b"FROM a\nCOPY <<'E' /x\na\n\xff\nE", "here-document is not UTF-8"),
        (b"FROM a\nONBUILD RUN x\\\n\xff", "ONBUILD is not UTF-8"),
    ],
)
def test_what_is_no_utf8_is_refused_where_it_would_be_executed(content: bytes, reason: str) -> None:
    error = refusal(content)
    assert reason in error.reason
    assert render(error).isprintable() or "\n" in render(error)


def test_what_is_no_utf8_elsewhere_is_replaced_and_noted() -> None:
    file = parsed(
        "# \xe9\nFROM a\nLABEL \ufffd=\ufffd\nLABEL a=\xe9\n".encode("latin-1", "replace")
    )
    assert file.instructions[-1].pairs == (("a", "\ufffd"),)
    assert [line for line, _ in file.notes] == [4]


def test_a_replacement_character_that_is_meant_is_not_noted() -> None:
    file = parsed("FROM a\nLABEL a=\ufffd\n".encode() + b"LABEL b=\xff")
    assert [line for line, _ in file.notes] == [3]


def test_locations_span_continuations_comments_and_documents() -> None:
    file = parsed("\n\nFROM a\n\nRUN b \\\n# c\n d\n\nRUN <<E\nx\nE\n\nUSER u \\\n\n")
    places = [(each.location.first, each.location.last) for each in file.instructions]
    assert places == [(3, 3), (5, 7), (9, 11), (13, 14)]


def test_comments_go_with_the_instruction_below() -> None:
    file = parsed("# check=skip=all\n# old\n#\n# one\n\n  #two\nFROM a\nUSER b\n# three\nRUN c\n")
    assert [each.comments for each in file.instructions] == [("one", "two"), (), ("three",)]


def test_the_lexer_says_how_far_it_is() -> None:
    lexer = Lexer(read_source(b"A\nB\\\nC\n\nD\n", "x"), "\\")
    seen = []
    while (line := lexer.next_line()) is not None:
        seen.append((line.text, lexer.line))
    assert seen == [("A", 1), ("BC", 3), ("D", 5)]


def test_spaces_are_those_of_go() -> None:
    assert len(SPACE_CHARACTERS) == 25
    assert "\x1f" not in SPACE_CHARACTERS
    assert {c for c in SPACE_CHARACTERS if not c.isspace()} == set()


@pytest.mark.parametrize("space", SPACE_CHARACTERS.replace("\n", ""))
def test_every_space_may_indent(space: str) -> None:
    assert only(f"{space}ENV a=b{space}").pairs == (("a", "b"),)
    assert isinstance(only(f"{space}ENV a=b"), Env)


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("  RUNN x", 2, 3),
        ("COPY --chowm=x a b", 2, 6),
        ("COPY \\\n  --link \\\n # c\n  --chowm=x a b", 5, 3),
        ("RUN --mount='type=bind x", 2, 13),
        ("ONBUILD \\\n FROM a", 3, 2),
        ('CMD \\\n  ["a", 1]', 3, 3),
        ("FROM a AS 1b", 2, 11),
    ],
)
def test_an_error_points_at_its_place(text: str, line: int, column: int) -> None:
    error = refused(text)
    assert (error.location.first, error.column) == (line, column)
    assert error.excerpt == f"FROM scratch\n{text}".split("\n")[line - 1]


def test_an_error_is_rendered_with_line_caret_and_hint() -> None:
    assert render(refused("\tCOPY --chowm=a b c")) == (
        "Containerfile:2: COPY has no flag --chowm\n"
        "   COPY --chowm=a b c\n"
        "        ^\n"
        "  hint: did you mean --chown?"
    )


@pytest.mark.parametrize("before", ["'x y' ", "'漢字' ", "x" * 500 + " ", "e\u0301 "])
def test_the_caret_of_a_long_or_wide_line_stays_below_its_place(before: str) -> None:
    _, line, caret = render(refused(f"ONBUILD {before}--")).split("\n")[:3]
    assert len(line) < 110
    _, line, caret = render(refused(f"RUN --mount={before}--boo={'x' * 500}")).split("\n")[:3]
    place = line.index("--boo")
    wide = sum(c in "漢字" for c in line) - line.count("\u0301")
    assert caret == " " * (place + wide) + "^"
    assert line.endswith("…")


def test_an_error_steers_no_terminal() -> None:
    shown = render(refused("RUNN\x1b[31m \x07\x1b]0;x\x9b"))
    assert all(c.isprintable() or c == "\n" for c in shown)
