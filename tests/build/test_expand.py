"""Words with variables, quotes and escapes, by the forms of BuildKit's shell lexer."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.build.language.expand import (
    MAX_DEPTH,
    Expanded,
    expand_heredoc,
    expand_word,
    expand_words,
)
from imgtools.errors import InvalidInput

VARIABLES = {"X": "value", "EMPTY": "", "P": "a/b/a.tar.gz", "S": "two  words", "_u1": "under"}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("$X", "value"),
        ("a${X}b", "avalueb"),
        ("$X.$X", "value.value"),
        ("$_u1-", "under-"),
        ("$NOT", ""),
        ("$", "$"),
        ("a$ b", "a$ b"),
        ("$%", "$%"),
        ("${X-w}", "value"),
        ("${EMPTY-w}", ""),
        ("${NOT-w}", "w"),
        ("${EMPTY:-w}", "w"),
        ("${X+w}", "w"),
        ("${EMPTY+w}", "w"),
        ("${EMPTY:+w}", ""),
        ("${NOT+w}", ""),
        ("${X?no}", "value"),
        ("${EMPTY?no}", ""),
        ("${NOT:-${X}}", "value"),
        ("${NOT:-${EMPTY:-${X:+deep}}}", "deep"),
        ("${NOT:-'${X}'}", "${X}"),
        ('${NOT:-"$X"}', "value"),
        ("${P#a/}", "b/a.tar.gz"),
        ("${P#*/}", "b/a.tar.gz"),
        ("${P##*/}", "a.tar.gz"),
        ("${P%.*}", "a/b/a.tar"),
        ("${P%%.*}", "a/b/a"),
        ("${P%/?????????}", "a/b/a.tar.gz"),
        ("${P%/????????}", "a/b"),
        ("${P/a/x}", "x/b/a.tar.gz"),
        ("${P//a/x}", "x/b/x.txr.gz"),
        ("${P//\\//_}", "a_b_a.tar.gz"),
        ("${P/$X/x}", "a/b/a.tar.gz"),
        ("${NOT#x}", ""),
        ("$1$12", ""),
        ("$@$*$#$?$-$$$!$0", ""),
        ("$1a", "a"),
    ],
)
def test_forms(word: str, expected: str) -> None:
    """Each form with a variable that is set, empty or not there."""
    assert expand_word(word, VARIABLES).text == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("\\$X", "$X"),
        ("'$X'", "$X"),
        ('"$X"', "value"),
        ('"\\$X"', "$X"),
        ("'\\$X'", "\\$X"),
        ('"a\\b"', "a\\b"),
        ('"a\\\\b"', "a\\b"),
        ('"\\""', '"'),
        ("\\'", "'"),
        ("a\\ b", "a b"),
        ("a'b'\"c\"", "abc"),
        ("end\\", "end"),
        ('"a\'b"', "a'b"),
        ("'a\"b'", 'a"b'),
    ],
)
def test_e24_escaped_single_and_double_quoted_variables(word: str, expected: str) -> None:
    """Only single quotes and an escape keep a dollar from meaning something."""
    assert expand_word(word, VARIABLES).text == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("${NOT-w}", "w"),
        ("${EMPTY-w}", ""),
        ("${P#a\\/b}", "/a.tar.gz"),
        ("${G#\\*}", "?b"),
        ("${G#\\*\\?}", "b"),
        ("${G##*}", ""),
        ("${G%b}", "*?"),
        ("${G/\\?/-}", "*-b"),
    ],
)
def test_e25_unset_against_empty_and_escaped_wildcards(word: str, expected: str) -> None:
    """Without colon an empty value counts; a backslash makes a wildcard a character."""
    assert expand_word(word, {**VARIABLES, "G": "*?b"}).text == expected


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("${NOT?}", "NOT: is not allowed to be unset"),
        ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
        ("${NOT:?give $X}", "NOT: give value"),
        ("${", "missing '}'"),
        ("${X", "missing '}'"),
        ("${X:-a", "missing '}'"),
        ("${X/a", "missing '/'"),
        ("${X/a/b", "missing '}'"),
        ("${}", "bad substitution"),
        ("${:-a}", "bad substitution"),
        ("${{X}}", "bad substitution"),
        ("${X:=a}", "unsupported modifier ':='"),
        ("${X=a}", "unsupported modifier '='"),
        ("${X:#a}", "unsupported modifier ':#'"),
        ("${X:%a}", "unsupported modifier ':%'"),
        ("${X^}", "unsupported modifier '^'"),
        ("${X#\\a}", "invalid escape \\a"),
        ("${X%\\a}", "invalid escape \\a"),
        ("${X/\\a/b}", "invalid escape \\a"),
        ("'open", "a single quote is not closed"),
        ('"open', "a double quote is not closed"),
        ('"${X"', "unsupported modifier '\"'"),
    ],
)
def test_e25_what_is_malformed_or_missing_is_refused_with_the_word(word: str, reason: str) -> None:
    """The message has both the word and the reason."""
    with pytest.raises(InvalidInput) as caught:
        expand_word(word, VARIABLES)
    assert caught.value.message == f"cannot expand {word!r}: {reason}" or (
        reason.startswith("invalid escape") and reason in caught.value.message
    )


def test_backtick_is_the_escape_where_the_file_says_so() -> None:
    """Then a backslash is a character."""
    assert expand_word("`$X \\$X", VARIABLES, escape="`").text == "$X \\value"
    assert expand_words("a` b C:\\d", VARIABLES, escape="`") == ("a b", "C:\\d")


def test_names_that_were_looked_up_are_told_apart() -> None:
    """Those in branches that are not taken too, for they are part of the word."""
    word = "$X ${NOT:-$EMPTY} ${P+$OTHER} '$QUOTED'"
    matched, unmatched = frozenset(("X", "EMPTY", "P")), frozenset(("NOT", "OTHER"))
    expected = Expanded("value   $QUOTED", matched, unmatched)
    assert expand_word(word, VARIABLES) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("  a  b ", ("a", "b")),
        ("$S", ("two", "words")),
        ('"$S"', ("two  words",)),
        ("a$S", ("atwo", "words")),
        ("$EMPTY a ''", ("a",)),
        ("a\\ b", ("a b",)),
        ("a'b c'd e", ("ab cd", "e")),
        ("a\u00a0b\u2003c", ("a", "b", "c")),
        ("a\x1cb", ("a\x1cb",)),
        ("pre${NOT:-fix}", ("prefix",)),
        ("<< EOF <<-EOT", ("<< EOF", "<<-EOT")),
        ("a<b", ("a<b",)),
    ],
)
def test_words_split_at_spaces_that_are_not_quoted(word: str, expected: tuple[str, ...]) -> None:
    """Those from variables too; what stands in front of a substitution is not lost."""
    assert expand_words(word, VARIABLES) == expected


def test_quotes_and_escapes_stay_where_that_is_asked_for() -> None:
    """For names of here-documents and for what logs show."""
    word = '\'$X\' "$X" \\$X ${NOT:-"q"}'
    assert expand_word(word, VARIABLES, raw_quotes=True).text == '\'$X\' "value" $X "q"'
    assert expand_word('a\\b "\\""', {}, raw_escapes=True).text == 'a\\b \\"'


@pytest.mark.parametrize(
    "word", ["$N", "${N}", "${N:-x}", "${N+x}", "${N#x}", "${N%%x}", "${N/a/b}", "${N//a/b}"]
)
def test_unset_variables_stay_where_that_is_asked_for(word: str) -> None:
    """In every form."""
    assert expand_word(word, {}, keep_unset=True).text == word
    assert expand_word(word, {"N": ""}, keep_unset=True).text in ("", "x")


def test_heredoc_bodies_expand_with_quotes_as_characters() -> None:
    """The escape is the backslash, whatever the file says."""
    body = 'it\'s "$X"\n\\$X `$X`\n'
    assert expand_heredoc(body, VARIABLES).text == 'it\'s "value"\n$X `value`\n'


def test_depth_is_bounded() -> None:
    """A word of many braces is refused and does not exhaust the stack."""
    nested = "${a:-" * MAX_DEPTH + "x" + "}" * MAX_DEPTH
    assert expand_word(nested, {}).text == "x"
    with pytest.raises(InvalidInput, match="nested more than"):
        expand_word("${a:-" * 100_000, {})


def test_growth_is_bounded() -> None:
    """Values cannot double until memory is full, neither by use nor by replacement."""
    big = {"B": "b" * 100_000}
    with pytest.raises(InvalidInput, match="longer than"):
        expand_word("$B" * 50, big)
    with pytest.raises(InvalidInput, match="makes more than"):
        expand_word("${B//b/$B}", big)
    with pytest.raises(InvalidInput, match="matched with a pattern"):
        expand_word("${L#*a}", {"L": "b" * 200_000})


def test_a_long_word_is_shown_short() -> None:
    """A message is a line."""
    with pytest.raises(InvalidInput) as caught:
        expand_word("x" * 100_000 + "${", {})
    assert len(caught.value.message) < 300


@given(st.text())
def test_single_quotes_keep_any_text(text: str) -> None:
    """All but the quote itself."""
    kept = text.replace("'", "")
    assert expand_word(f"'{kept}'", VARIABLES).text == kept


@given(st.text())
def test_escaping_every_character_keeps_any_text(text: str) -> None:
    """As a word, and as one word."""
    escaped = "".join("\\" + character for character in text)
    assert expand_word(escaped, VARIABLES).text == text
    assert expand_words(escaped, VARIABLES) == ((text,) if text else ())


@given(st.text(alphabet="$X{}:-+?#%/\\'\" ab<"))
def test_anything_else_is_expanded_or_refused(text: str) -> None:
    """Never another error."""
    words: tuple[str, ...] = ()
    with suppress(InvalidInput):
        expand_word(text, VARIABLES)
        words = expand_words(text, VARIABLES)
    assert all(words)
