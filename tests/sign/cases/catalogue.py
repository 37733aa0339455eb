"""The cases by number, how each has to end, and which tests hold it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tests.numbered import REPOSITORY

Ending = Literal["A", "R", "E"]
"""Accepted, rejected, or an error that is not "unsigned"."""

CASES: dict[int, tuple[Ending, str]] = {
    # Identity
    1: ("R", "a signature put beside another repository"),
    2: ("R", "another tag, by the default rule"),
    3: ("R", "a name without a tag, by the default rule"),
    4: ("R", "the image that a tag was before"),
    5: ("A", "any name of the repository, if the policy says so"),
    6: ("R", "a name with tag and digest for an image by tag"),
    7: ("R", "a prefix that ends within a word"),
    8: ("R", "a host without its port"),
    9: ("R", "names compared where an image has none"),
    10: ("R", "a bundle without a name, unless that is asked for"),
    # Digests
    11: ("R", "the signature of another manifest"),
    12: ("R", "digests of other algorithms, in capitals, or none"),
    13: ("E", "bytes that are not those of the digest that was asked for"),
    14: ("R", "a tag that moves while it is copied"),
    15: ("R", "a manifest that hides behind the digest of what was signed of it"),
    16: ("R", "a signed index with an instance that is not"),
    17: ("R", "an instance that somebody added to an index"),
    18: ("R", "an index without its instances, which nobody signed"),
    19: ("E", "a copy that changes what was signed"),
    20: ("E", "an index that two readers understand in two ways"),
    # Payloads
    21: ("R", "critical properties that nobody knows"),
    22: ("R", "keys that are there twice, at any depth"),
    23: ("R", "another type"),
    24: ("R", "the type of another format"),
    25: ("R", "no optional"),
    26: ("R", "what is no object"),
    27: ("R", "something behind the document"),
    28: ("R", "a byte order mark"),
    29: ("R", "numbers that are none"),
    30: ("R", "times with fractions"),
    31: ("R", "keys in another case"),
    32: ("R", "halves of surrogate pairs"),
    33: ("R", "deep nesting"),
    # Encodings
    34: ("R", "base64 with anything in it"),
    35: ("R", "DER with anything behind it"),
    36: ("A", "the other value of s; signatures are never compared by their bytes"),
    37: ("E", "payloads that are not what their layer says"),
    38: ("E", "sizes and numbers without bounds"),
    39: ("E", "what expands on the way"),
    # Keys
    40: ("R", "another key"),
    41: ("R", "a key in the list that cannot be read"),
    42: ("R", "keys that are too weak, or of other curves"),
    43: ("E", "costs of a passphrase that a file chooses"),
    44: ("R", "messages that GnuPG says something else of than one good signature"),
    45: ("A", "subkeys, known by their primary key"),
    46: ("R", "keys in the user's own key ring"),
    47: ("R", "keys that a signature brings along"),
    # Certificates and logs
    48: ("R", "log entries that are missing, changed, or about something else"),
    49: ("R", "signatures before or after the certificate"),
    50: ("R", "entries that nobody vouches for the time of"),
    51: ("R", "timestamps of nobody's, twice, or of something else"),
    52: ("R", "proofs and checkpoints that do not hold"),
    53: ("R", "certificates for other purposes"),
    54: ("R", "issuers of tokens that differ, are missing or malformed"),
    55: ("R", "the same text as another kind of name, two certificates"),
    56: ("R", "authorities as signers, roots that come along"),
    57: ("R", "no certificate log, in bundles; in attachments it is not asked for"),
    58: ("R", "bundles of other versions, with both contents, with several entries"),
    59: ("R", "envelopes and statements that sign no image"),
    60: ("R", "a key where a certificate should be"),
    # Transport
    61: ("E", "registries that refuse, fail, or say something else"),
    62: ("E", "attachments that are none"),
    63: ("A", "entries of the fallback index that say nothing of themselves"),
    64: ("A", "signatures from the mirror of the image, by its own name"),
    65: ("R", "paths out of lookaside storage"),
    66: ("E", "a policy that is missing or wrong"),
    67: ("E", "destinations that would lose signatures"),
    68: ("E", "keys and places that cannot be used"),
    69: ("A", "signing again what is signed"),
    70: ("A", "signers at the same time"),
}

_NAME = re.compile(r"test((?:_s\d\d)+)_")


def cases_with_tests() -> dict[int, list[str]]:
    """The ids of tests by case, for every case."""
    found: dict[int, list[str]] = {number: [] for number in CASES}
    for numbers, name in _numbered():
        for number in numbers:
            found.setdefault(number, []).append(name)
    return {number: found[number] for number in CASES}


def unknown_numbers() -> set[int]:
    """Numbers in names of tests that no case has."""
    return {number for numbers, _ in _numbered() for number in numbers} - set(CASES)


def _numbered() -> Iterator[tuple[list[int], str]]:
    """Every test with numbers in the beginning of its name, which may be several."""
    for path in sorted((REPOSITORY / "tests" / "sign").rglob("test_*.py")):
        for name in _functions(path):
            if match := _NAME.match(name):
                numbers = [int(each) for each in match[1].split("_s") if each]
                yield numbers, f"{path.relative_to(REPOSITORY)}::{name}"


def _functions(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            yield node.name
