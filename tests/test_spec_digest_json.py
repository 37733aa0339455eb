"""Digests and strict JSON: tables of what is refused, and Go's form of what is written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.errors import InvalidDigest, InvalidJSON, LimitExceeded
from imgtools.spec import strict_json
from imgtools.spec.digest import Digest
from imgtools.spec.identity import chain_id, chain_ids

HEX = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        HEX,
        f"sha256:{HEX[:-1]}",
        f"sha256:{HEX}0",
        f"sha256:{HEX.upper()}",
        f"SHA256:{HEX}",
        f"md5:{HEX[:32]}",
        f"blake3:{HEX}",
        f"sha512:{HEX}",
        f"sha256:{HEX[:-2]}/.",
        f"sha256:../{HEX[3:]}",
        f"sha256:{HEX}\n",
        f" sha256:{HEX}",
        f"sha256:{HEX[:-1]}\u0661",
    ],
)
def test_digest_refused_before_use_in_url_or_path(text: str) -> None:
    with pytest.raises(InvalidDigest):
        Digest.parse(text)


def test_digest_of_known_value() -> None:
    assert str(Digest.of(b"test")) == f"sha256:{HEX}"
    assert Digest.of(b"x", "sha512").hex == Digest.of(b"x", "sha512").hex.lower()
    assert Digest.parse(f"sha256:{HEX}") == Digest.of(b"test")


@given(st.binary(max_size=200), st.sampled_from(["sha256", "sha384", "sha512"]))
def test_digest_round_trip(data: bytes, algorithm: str) -> None:
    digest = Digest.of(data, algorithm)
    assert Digest.parse(str(digest)) == digest
    hasher = digest.hasher()
    hasher.update(data)
    assert hasher.hexdigest() == digest.hex


def test_chain_id_follows_the_specification() -> None:
    a, b, c = (Digest.of(x) for x in (b"a", b"b", b"c"))
    assert chain_id([]) is None
    assert chain_id([a]) == a
    ab = Digest.of(f"{a} {b}".encode())
    assert chain_ids([a, b, c]) == (a, ab, Digest.of(f"{ab} {c}".encode()))


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b'{"a":1,"a":2}', "duplicate key 'a'"),
        (b'{"x":{"a":1,"a":1}}', "duplicate key"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":Infinity}', "Infinity"),
        (b'{"a":-Infinity}', "-Infinity"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b'{"a":"\xff"}', "not UTF-8"),
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"{} {}", "not valid JSON"),
        (b"[" * 101 + b"]" * 101, "nested deeper"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "nested deeper"),
        (b"1" * 5000, "not valid JSON"),
    ],
)
def test_strict_json_refuses(data: bytes, part: str) -> None:
    with pytest.raises(InvalidJSON) as caught:
        strict_json.loads(data)
    assert part in caught.value.message


def test_strict_json_is_bounded() -> None:
    with pytest.raises(LimitExceeded):
        strict_json.loads(b" " * 11, limit=10)


def test_brackets_inside_strings_do_not_count_as_nesting() -> None:
    value = ["[" * 500, '"{[\\']
    assert strict_json.loads(json.dumps(value).encode()) == value


def test_unterminated_strings_are_scanned_once() -> None:
    hostile = b'"' + b'\\"[' * 300_000
    with pytest.raises(InvalidJSON):
        strict_json.loads(hostile)


@given(st.binary(max_size=80))
def test_strict_json_has_only_typed_errors(data: bytes) -> None:
    try:
        strict_json.loads(data)
    except InvalidJSON:
        return


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_dumps_round_trips(value: object) -> None:
    assert strict_json.loads(strict_json.dumps(value)) == value


def test_dumps_escapes_as_go_does() -> None:
    assert (
        strict_json.dumps({"a": "<b>&\u2028é"}) == b'{"a":"\\u003cb\\u003e\\u0026\\u2028\xc3\xa9"}'
    )
