"""BuildKit's own tables of words with variables, run against our expansion of words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from imgtools.build.language.expand import expand_word, expand_words
from imgtools.errors import InvalidInput
from tests.build.go_tables import Value, table

# The variables that shell/lex_test.go sets for envVarTest.
VARIABLES = {"PWD": "/home", "SHELL": "bash", "KOREAN": "한국어", "NULL": ""}

Case = tuple[str, bool, str]


def run(anchors: Path) -> Iterator[Case]:
    """The name of each case, whether it passed, and the difference if not.

    `anchors` holds a source tree of BuildKit in `buildkit`.
    """
    folder = anchors / "buildkit/frontend/dockerfile/shell"
    yield from _single_words((folder / "envVarTest").read_text("utf-8"))
    with (folder / "wordsTest").open(encoding="utf-8", newline="") as words:
        yield from _split_words(words.read())
    yield from _matches((folder / "lex_test.go").read_text("utf-8"))


def _single_words(text: str) -> Iterator[Case]:
    """Lines of `PLATFORM|word|expansion`, of which W is for Windows only."""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        platform, word, wanted = (field.strip() for field in line.split("|"))
        if platform != "W":
            got = _expanded(word)
            yield _case(f"expand:{number}", word, None if wanted == "error" else wanted, got)


def _split_words(text: str) -> Iterator[Case]:
    """Lines of `word | word,word`, between them `ENV name=value` for all that follow."""
    variables: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if line.startswith("ENV "):
            name, _, value = line[4:].partition("=")
            variables[name.strip()] = value
        elif line and not line.startswith("#"):
            word, _, wanted = line.partition("|")
            wanted = wanted.lstrip(" ")
            try:
                got = ",".join(expand_words(word.strip(), variables))
            except InvalidInput:
                got = "error"
            yield _case(f"words:{number}", word.strip(), wanted, got)


def _matches(source: str) -> Iterator[Case]:
    """Records with the expansion and the names that were, and were not, found in it."""
    rows = table(source[source.index("func TestProcessWithMatches(") :], "\n\t}")
    assert isinstance(rows, list)
    for number, row in enumerate(rows, start=1):
        assert isinstance(row, dict)
        word = row["input"]
        assert isinstance(word, str)
        variables = {name: str(value) for name, value in _members(row, "envs").items()}
        wanted: object = None
        if row.get("expectedErr") != "true":
            names = (sorted(_members(row, key)) for key in ("matches", "unmatched"))
            wanted = (row.get("expected", ""), *names)
        got: object = None
        with suppress(InvalidInput):
            found = expand_word(word, variables)
            got = (found.text, sorted(found.matched), sorted(found.unmatched))
        yield _case(f"matches:{number}", word, wanted, got)


def _members(row: dict[str, Value], key: str) -> dict[str, Value]:
    """A map of a record; `nil` and `{}` are empty ones."""
    found = row.get(key)
    return found if isinstance(found, dict) else {}


def _expanded(word: str) -> str | None:
    try:
        return expand_word(word, VARIABLES).text
    except InvalidInput:
        return None


def _case(name: str, word: str, wanted: object, got: object) -> Case:
    """A case; None stands for an error."""
    return name, got == wanted, f"{word!r}: expected {wanted!r}, got {got!r}"
