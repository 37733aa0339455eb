"""Canonical JSON (RFC 8785): its own examples, and the same as another implementation."""

from __future__ import annotations

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from imgtools.errors import InvalidJSON
from imgtools.sign.certificates.jcs import EXACT_INTEGER, canonical


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # Section 3.2.3: members by their UTF-16 code units.
        (
            {
                "\u20ac": "Euro Sign",
                "\r": "Carriage Return",
                "\ufb33": "Hebrew Letter Dalet With Dagesh",
                "1": "One",
                "\U0001f600": "Emoji: Grinning Face",
                "\u0080": "Control",
                "\u00f6": "Latin Small Letter O With Diaeresis",
            },
            '{"\\r":"Carriage Return","1":"One","\u0080":"Control",'
            '"\u00f6":"Latin Small Letter O With Diaeresis","\u20ac":"Euro Sign",'
            '"\U0001f600":"Emoji: Grinning Face","\ufb33":"Hebrew Letter Dalet With Dagesh"}',
        ),
        # Section 3.2.2: strings and literals of the example (its numbers are fractions).
        (
            {"string": '\u20ac$\u000f\nA\'B"\\\\"/', "literals": [None, True, False]},
            '{"literals":[null,true,false],"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
        ),
        ("\b\t\n\f\r\x1f\x7f\u2028", '"\\b\\t\\n\\f\\r\\u001f\x7f\u2028"'),
        ([], "[]"),
        ({}, "{}"),
        ([[-1, 0], EXACT_INTEGER], "[[-1,0],9007199254740991]"),
    ],
)
def test_canonical(value: object, expected: str) -> None:
    """Byte for byte."""
    assert canonical(value) == expected.encode()


@pytest.mark.parametrize(
    "value",
    [
        1.5,
        1.0,
        float("nan"),
        float("inf"),
        EXACT_INTEGER + 1,
        -EXACT_INTEGER - 1,
        "\ud800",
        {"\udfff": 1},
        {1: 1},
        b"x",
        {"a": object()},
    ],
)
def test_no_canonical_form(value: object) -> None:
    """Better no form than one that another reader does not have."""
    with pytest.raises(InvalidJSON):
        canonical(value)


def test_nesting_is_bounded() -> None:
    """No recursion error, whoever calls it."""
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(InvalidJSON, match="nested deeper"):
        canonical(value)
    while value:
        # Python would recurse to free it.
        value = value.pop()


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-EXACT_INTEGER, EXACT_INTEGER) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
)


@given(VALUES)
def test_same_as_rfc8785(value: Any) -> None:
    """As the package that sigstore's client uses, and the same value when it is read."""
    written = canonical(value)
    assert written == rfc8785.dumps(value)
    assert json.loads(written) == value
