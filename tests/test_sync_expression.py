"""Expressions over tags: what Python's engine finds, and what would keep that busy for ever."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.errors import InvalidInput
from imgtools.spec.expression import Expression
from imgtools.sync.tags import MatchingTags

TAGS = ("a", "b", "ab", "aab", "bA_b", "a.b-a", "A", "1.2.3", "-a", "abab", "0" * 5)

ATOMS = st.sampled_from(
    [*"ab1.", r"\.", r"\d", r"\w", r"\W", r"\S", "[ab]", "[^a]", "[a-c1]", r"[\d_]", r"[]a]",
     r"\x61", "^", r"\Z", r"\b", r"\B", r"\A", "", "{", "a{,"]
)  # fmt: skip


def _combined(part: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    repeats = st.sampled_from(["*", "+", "?", "*?", "{2}", "{1,2}", "{0,1}?", "{2,}", "{0}"])
    return st.one_of(
        st.lists(part, max_size=4).map("".join),
        st.lists(part, min_size=2, max_size=3).map("|".join),
        st.builds("(?:{}){}".format, part, repeats),
        st.builds("({})".format, part),
        st.builds("(?i:{})".format, part),
        st.builds("(?P<name>{}){}".format, part, repeats),
    )


@given(
    st.recursive(ATOMS, _combined, max_leaves=12),
    st.text(alphabet="abA1._-", min_size=1, max_size=8),
)
def test_the_same_as_python_finds(expression: str, tag: str) -> None:
    """For every expression that Python takes, on some tags."""
    try:
        theirs = re.compile(expression, re.ASCII)
    except re.error:
        return
    ours = Expression(expression)
    for each in (*TAGS, tag):
        assert ours.found_in(each) == (theirs.search(each) is not None), (expression, each)
        assert ours.found_in(each) == (theirs.search(each) is not None), "and again"


@pytest.mark.parametrize(
    ("expression", "tag", "found"),
    [
        (r"^(a+)+$", "a" * 120 + "b", False),
        (r"(a|aa|a|a)*c", "a" * 128, False),
        (r"(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)x$", "y" * 128, False),
        (r"^(\w+\.?)*$", "v1.2.3." * 18 + "-", False),
        (r"(a?){64}a{64}", "a" * 64, True),
        (r"((a{0,9}){0,9}){0,9}$", "b" * 128, True),
        (r"(|a|b)*(|a|b)*(|a|b)*c", "ab" * 64, False),
    ],
)
def test_no_expression_takes_for_ever(expression: str, tag: str, found: bool) -> None:
    """Each of these keeps an engine busy that goes back and tries again; here it is over."""
    wanted = MatchingTags(expression)
    assert [wanted(tag) for _ in range(50)] == [found] * 50


@pytest.mark.parametrize(
    "expression",
    ["a{100000}", "(a{1000}){1000}", "((((){999}){999}){999}){999}", "((a{99}){99}){99}",
     "a{99999999999999999999}", "(" * 5000 + ")" * 5000],
)  # fmt: skip
def test_too_long_when_written_out(expression: str) -> None:
    """Refused when the filter is made."""
    with pytest.raises(InvalidInput, match="invalid regular expression"):
        MatchingTags(expression)


def test_many_states_are_forgotten_again() -> None:
    """What is remembered to be quick stays small, and answers stay right."""
    wanted = MatchingTags("a.{12}b")
    tags = [f"{number:0128b}".replace("0", "a").replace("1", "b") for number in range(400)]
    theirs = re.compile("a.{12}b")
    assert [wanted(tag) for tag in tags] == [theirs.search(tag) is not None for tag in tags]
