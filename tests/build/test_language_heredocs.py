"""Here-documents: which words announce one, what is in it, and what COPY makes of it."""

from __future__ import annotations

import pytest

from imgtools.build.language.heredocs import marks_in, parse_mark
from imgtools.build.language.model import Add, Command, Copy, Heredoc, OnBuild, Run, User
from imgtools.errors import InvalidInput
from tests.build.language_kit import all_of, only, parsed, refused


def documents(text: str) -> tuple[Heredoc, ...]:
    """The documents of a RUN."""
    instruction = only(text)
    assert isinstance(instruction, Run)
    return instruction.command.heredocs


@pytest.mark.parametrize(
    ("line", "mark"),
    [
        ("<<EOF", Heredoc(name="EOF", content="")),
        ("3<<EOF", Heredoc(name="EOF", content="", descriptor=3)),
        ("007<<E", Heredoc(name="E", content="", descriptor=7)),
        ("9" * 9999 + "<<E", Heredoc(name="E", content="", descriptor=2**64 - 1)),
        ("<<-EOF", Heredoc(name="EOF", content="", strip_tabs=True)),
        ("<<'EOF'", Heredoc(name="EOF", content="", expand=False)),
        ('<<-"EOF"', Heredoc(name="EOF", content="", expand=False, strip_tabs=True)),
        ("<<eo'f'", Heredoc(name="eof", content="", expand=False)),
        ("<<eo\\'f", Heredoc(name="eo'f", content="")),
        ("<<'e'o\\'f", Heredoc(name="eo'f", content="", expand=False)),
        ("<<'one two'", Heredoc(name="one two", content="", expand=False)),
        ("<<$EOF", Heredoc(name="$EOF", content="")),
        ("<<  EOF", Heredoc(name="EOF", content="")),
        ("<< -EOF", Heredoc(name="-EOF", content="")),
        ("<<file.txt", Heredoc(name="file.txt", content="")),
        ("<<a>b", Heredoc(name="a>b", content="")),
    ],
)
def test_e16_words_that_announce_a_document(line: str, mark: Heredoc) -> None:
    assert marks_in(f"RUN cat {line} > x") == (mark,)


@pytest.mark.parametrize(
    "line",
    [
        '"<<EOF"', "'<<EOF'", "<<<EOF", "<<<<EOF", "x<<EOF", "<EOF", "<<", "<<-", "\\<<EOF",
        "<<- EOF", "1<<2<<3", "<<A '", "${", "echo $((1<<2))",
    ],
)  # fmt: skip
def test_e16_words_that_announce_nothing(line: str) -> None:
    assert all_of(f"FROM a\nRUN cat {line}\nUSER b")[2:] == ["USER b"]


@pytest.mark.parametrize("word", ["<<'EOF", '<<"EOF', "<<EOF'", '<<EOF"'])
def test_e16_open_quotes_in_a_mark_are_malformed(word: str) -> None:
    with pytest.raises(InvalidInput):
        parse_mark(word)


@pytest.mark.parametrize("word", ["", "EOF", "<<", "<<-", "<EOF", "<<<EOF", "<<EOF sh"])
def test_e16_words_that_are_no_mark(word: str) -> None:
    assert parse_mark(word) is None


@pytest.mark.parametrize("word", ["<<- EOF", "<<-\tEOF", "<< EOF"])
def test_e16_a_mark_may_have_a_blank_in_it(word: str) -> None:
    mark = parse_mark(word)
    assert mark is not None
    assert mark.name == "EOF"


def test_e16_tabs_alone_are_stripped() -> None:
    (document,) = documents("RUN <<-E\n\t\ta\n \tb\n\t\n\tc\td\n\tE")
    assert document.content == "a\n \tb\n\nc\td\n"
    (plain,) = documents("RUN <<E\n\ta\n\tE\nE")
    assert plain.content == "\ta\n\tE\n"


def test_e16_two_documents_follow_one_another() -> None:
    found = documents("RUN cat <<X 4<<'Y'\nY\nX\nX\nY")
    assert [(each.name, each.content, each.descriptor) for each in found] == [
        ("X", "Y\n", 0), ("Y", "X\n", 4),
    ]  # fmt: skip


def test_e16_a_document_is_not_lexed() -> None:
    body = "# comment\n\n\\\nRUN x \\\n<<Z\n  \n"
    (document,) = documents(f"RUN <<E\n{body}E")
    assert document.content == body
    assert documents("RUN <<E\nE")[0].content == ""


@pytest.mark.parametrize("end", ["", "\nEOF ", "\n EOF", "\nEOFx", "\n\tEOF", "\nend"])
def test_e16_document_without_an_end_is_refused(end: str) -> None:
    error = refused(f"RUN x \\\n <<EOF <<end{end}")
    assert "the here-document" in error.reason
    assert "does not end" in error.reason
    assert (error.location.first, error.excerpt[error.column - 1 :][:2]) == (3, "<<")


def test_e16_document_inside_onbuild() -> None:
    instruction = only("ONBUILD RUN <<-E cat\n\ta\n\tE")
    assert isinstance(instruction, OnBuild)
    assert isinstance(instruction.inner, Run)
    assert instruction.inner.command.heredocs[0].content == "a\n"
    assert instruction.trigger == "RUN <<-E cat\n\ta\nE"
    assert instruction.location.last == instruction.inner.location.last == 4


def test_e16_json_form_and_other_instructions_take_none() -> None:
    file = parsed('FROM a\nRUN ["<<EOF"]\nONBUILD CMD <<E\nUSER <<X\nENV a=<<Y\n')
    assert [each.keyword for each in file.instructions] == ["FROM", "RUN", "ONBUILD", "USER", "ENV"]
    assert isinstance(file.instructions[3], User)
    assert file.instructions[3].user == "<<X"


def test_the_shell_line_of_run_keeps_its_marks() -> None:
    instruction = only("RUN --network=none <<'E' | \\\n python\nprint()\nE")
    assert isinstance(instruction, Run)
    assert instruction.command == Command(
        words=("<<'E' |  python",),
        shell=True,
        heredocs=(Heredoc(name="E", content="print()\n", expand=False),),
    )


@pytest.mark.parametrize("keyword", ["COPY", "ADD"])
def test_documents_are_sources_in_their_place(keyword: str) -> None:
    instruction = only(f'{keyword} a <<X b <<-"Y" /c/\n1\nX\n\t2\nY')
    assert isinstance(instruction, Copy | Add)
    assert instruction.sources == ("a", "<<X", "b", "<<Y")
    assert instruction.destination == "/c/"
    assert [each.content for each in instruction.heredocs] == ["1\n", "2\n"]
    assert [each.expand for each in instruction.heredocs] == [True, False]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a <<E", "the destination of COPY cannot be a here-document"),
        ("<< E /x", "the here-document E is not a source of its own"),
        ("<<'E' '<<E' /x", None),
        ("<<a/b /x", "the here-document a/b cannot be a file"),
        ("<<.. /x", "the here-document .. cannot be a file"),
        ("<<'a b' /x", "the here-document a b is not a source of its own"),
        ("--chown=<<E a b", None),
    ],
)
def test_documents_that_copy_cannot_take(line: str, reason: str | None) -> None:
    name = line.split("<<")[1].split(" /")[0].strip(" '")
    text = f"COPY {line}\n{name.split(chr(39))[0]}"
    if reason is None:
        assert isinstance(only(text if "'" in line else f"COPY {line}"), Copy)
        return
    assert refused(text).reason == reason


def test_many_documents_take_linear_work() -> None:
    count = 20_000
    file = parsed("FROM a\n" + "RUN cat <<E\nx\nE\n" * count)
    assert len(file.instructions) == count + 1
    marks = "<<E " * count
    assert len(documents(f"RUN {marks}\n" + "E\n" * count)) == count
