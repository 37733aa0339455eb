"""Source policies: what rules match and make of a source, and where builds ask them."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.build.execute.admitting import (
    admitted_git,
    admitted_image,
    admitted_options,
    admitted_url,
)
from imgtools.build.options import BuildOptions, NamedContext
from imgtools.build.source_policy import SourceName, SourcePolicy, parse_policy
from imgtools.errors import InvalidInput, Rejected, Unsupported
from tests.build.build_rig import BuildRig

ALPINE = "docker-image://docker.io/library/alpine"
PIN = "@sha256:" + "a" * 64


def policy(*rules: dict[str, Any]) -> SourcePolicy:
    """The policy of a file with these rules."""
    return parse_policy(json.dumps({"version": 1, "rules": rules}), "policy.json")


def rule(action: str, identifier: str, to: str = "", **selector: Any) -> dict[str, Any]:
    """A rule; `to` is what CONVERT makes of it."""
    found: dict[str, Any] = {"action": action, "selector": {"identifier": identifier, **selector}}
    return {**found, "updates": {"identifier": to}} if to else found


def outcome(rules: SourcePolicy, identifier: str, **attributes: str) -> str:
    """What becomes of a source: its name, or `denied`."""
    named = {key.replace("_", "."): text for key, text in attributes.items()}
    try:
        return rules.admitted(SourceName(identifier=identifier, attributes=named)).identifier
    except Rejected:
        return "denied"


@pytest.mark.parametrize(
    ("rules", "identifier", "expected"),
    [
        # What nothing is said about is allowed, and the last word counts.
        ([], "a", "a"),
        ([rule("DENY", "*"), rule("ALLOW", "a*")], "ab", "ab"),
        ([rule("DENY", "*"), rule("ALLOW", "a*")], "b", "denied"),
        ([rule("ALLOW", "a"), rule("DENY", "a")], "a", "denied"),
        # Wildcards take anything, slashes too; a question mark is one.
        ([rule("DENY", "x://*/b:*")], "x://h/p/b:1", "denied"),
        ([rule("DENY", "a?")], "ab", "ab"),
        ([rule("DENY", "a.c")], "abc", "abc"),
        ([rule("DENY", "a*", matchType="EXACT")], "ab", "ab"),
        ([rule("DENY", "a*", match_type="EXACT")], "a*", "denied"),
        ([rule("DENY", "b+", matchType="REGEX")], "abbc", "denied"),
        ([rule("DENY", "^b", matchType="REGEX")], "abbc", "abbc"),
        # Conversions, with what the wildcards found.
        ([rule("CONVERT", "h/g:*", "g:${1}-alpine@1")], "h/g:1.19", "g:1.19-alpine@1"),
        ([rule("CONVERT", "*/l:*", "m/$1:$2$3", matchType="WILDCARD")], "h/l:1", "m/h:1"),
        ([rule("CONVERT", "g", "cost$$1")], "g", "cost$1"),
        ([rule("CONVERT", "g", "$1", matchType="EXACT")], "g", "$1"),
        ([rule("CONVERT", "o(?P<x>.)", "n${x}", matchType="REGEX")], "a/od", "a/nd"),
        # What comes out is looked at again, by rules in front too.
        ([rule("DENY", "b"), rule("CONVERT", "a", "b")], "a", "denied"),
        ([rule("CONVERT", "b", "c"), rule("CONVERT", "a", "b")], "a", "c"),
        ([rule("CONVERT", "a", "a"), rule("DENY", "a")], "a", "denied"),
    ],
)  # fmt: skip
def test_rules(rules: list[dict[str, Any]], identifier: str, expected: str) -> None:
    assert outcome(policy(*rules), identifier) == expected


def test_constraints_are_about_attributes() -> None:
    def constrained(**constraint: str) -> SourcePolicy:
        return policy(rule("DENY", "*", constraints=[{"key": "http.checksum", **constraint}]))

    assert outcome(constrained(value=""), "u") == "denied"
    assert outcome(constrained(value=""), "u", http_checksum="x") == "u"
    assert outcome(constrained(value="x", condition="NOTEQUAL"), "u", http_checksum="x") == "u"
    assert outcome(constrained(value="^x", condition="MATCHES"), "u", http_checksum="xy") == (
        "denied"
    )


def test_an_endless_conversion_is_an_error() -> None:
    rules = policy(rule("CONVERT", "a*", "a${1}a"))
    with pytest.raises(InvalidInput, match="again and again"):
        rules.admitted(SourceName(identifier="ab"))


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", '{"rules": {}}', '{"version": 2}', '{"other": 1}', '{"rules": [1]}',
        '{"rules": [{"action": "ALLOW"}]}', '{"rules": [{"selector": {"identifier": ""}}]}',
        '{"rules": [{"action": "NO", "selector": {"identifier": "a"}}]}',
        '{"rules": [{"action": "CONVERT", "selector": {"identifier": "a"}}]}',
        '{"rules": [{"action": 3, "selector": {"identifier": "a"}}]}',
        '{"rules": [{"selector": {"identifier": "a**"}}]}',
        '{"rules": [{"selector": {"identifier": "(", "matchType": "REGEX"}}]}',
        '{"rules": [{"selector": {"identifier": "a", "constraints": [{"value": "b"}]}}]}',
    ],
)  # fmt: skip
def test_a_malformed_file_is_an_error(text: str) -> None:
    with pytest.raises(InvalidInput, match="source policy p"):
        parse_policy(text, "p")


def test_enums_may_be_numbers() -> None:
    rules = policy({"action": 1, "selector": {"identifier": "a*", "matchType": 1}})
    assert outcome(rules, "ab") == "ab"
    assert outcome(rules, "a*") == "denied"


@given(st.text(max_size=8), st.text("ab*/", max_size=8), st.text("$1{}ab", max_size=8))
def test_any_rule_ends(identifier: str, pattern: str, template: str) -> None:
    """In a source, or in an error that can be told."""
    with suppress(InvalidInput):
        rules = policy(rule("CONVERT", pattern, template))
        assert rules.admitted(SourceName(identifier=identifier)).identifier or not identifier


def test_images_have_their_full_names() -> None:
    rules = policy(
        rule("CONVERT", f"{ALPINE}:latest", f"{ALPINE}:3{PIN}"), rule("DENY", "*/evil:*")
    )
    assert admitted_image(rules, "alpine") == f"docker.io/library/alpine:3{PIN}"
    assert admitted_image(rules, "docker://alpine") == f"docker.io/library/alpine:3{PIN}"
    assert admitted_image(rules, "alpine:2") == "alpine:2"
    assert admitted_image(rules, "oci:dir:tag") == "oci:dir:tag"
    assert admitted_image(None, "evil") == "evil"
    with pytest.raises(Rejected, match=r"denies docker-image://docker\.io/library/evil:latest"):
        admitted_image(rules, "evil")
    with pytest.raises(Unsupported, match="something else"):
        admitted_image(policy(rule("CONVERT", f"{ALPINE}:*", "https://h/x")), "alpine")


def test_urls_can_get_a_checksum() -> None:
    change = {"action": "CONVERT", "selector": {"identifier": "https://h/*"},
              "updates": {"attrs": {"http.checksum": "sha256:1"}}}  # fmt: skip
    assert admitted_url(policy(change), "https://h/f", "") == ("https://h/f", "sha256:1")
    assert admitted_url(policy(change), "https://i/f", "x") == ("https://i/f", "x")
    moved = policy(rule("CONVERT", "http://h/*", "https://mirror/h/${1}"))
    assert admitted_url(moved, "http://h/f", "") == ("https://mirror/h/f", "")
    change["updates"]["attrs"] = {"http.filename": "g"}
    with pytest.raises(Unsupported, match=r"http\.filename"):
        admitted_url(policy(change), "https://h/f", "")


@pytest.mark.parametrize(
    ("selector", "to", "url", "expected"),
    [
        ("git://h/p.git#v1", "git://h/p.git#c0ffee", "https://h/p.git#v1",
         "https://h/p.git#c0ffee"),
        ("git://h/p.git*", "git://m/p.git#x", "https://h/p.git?keep-git-dir=1&ref=v1",
         "https://m/p.git?keep-git-dir=1#x"),
        ("git://h/p.git#*", "git://h/p.git#x:sub", "https://u:p@h/p.git#v1",
         "https://u:p@h/p.git#x:sub"),
        ("git://other/*", "git://x/y", "https://h/p.git#v1", "https://h/p.git#v1"),
        ("git://git@h/p.git", "git://git@m/p.git", "git@h:p.git", "git@m:p.git"),
    ],
)  # fmt: skip
def test_repositories_are_named_without_how_they_are_reached(
    selector: str, to: str, url: str, expected: str
) -> None:
    assert admitted_git(policy(rule("CONVERT", selector, to)), url, "") == (expected, "")


def test_repositories_can_get_a_checksum_and_an_address() -> None:
    attributes = {"git.checksum": "c0ffee1", "git.fullurl": "ssh://h/p"}
    change = {"action": "CONVERT", "selector": {"identifier": "git://h/*"},
              "updates": {"attrs": attributes}}  # fmt: skip
    assert admitted_git(policy(change), "https://h/p.git#v1", "") == ("ssh://h/p#v1", "c0ffee1")


def test_contexts_that_are_urls_are_sources_and_directories_are_not() -> None:
    rules = policy(rule("DENY", "*"), rule("ALLOW", "https://good/*"))
    here = BuildOptions(context="/dir", files=("Containerfile", "-"), source_policy=rules)
    assert admitted_options(here) == here
    for bad in (
        BuildOptions(context="https://h/c.tar", source_policy=rules),
        BuildOptions(context="https://h/r.git#v", source_policy=rules),
        BuildOptions(files=("https://h/f",), source_policy=rules),
        BuildOptions(contexts=(NamedContext(name="a", value="https://h/c"),), source_policy=rules),
    ):
        with pytest.raises(Rejected):
            admitted_options(bad)


@pytest.fixture
def rig(tmp_path: Path) -> BuildRig:
    return BuildRig(tmp_path)


def test_builds_ask_about_images_wherever_they_are_named(rig: BuildRig) -> None:
    rig.base("docker.io/library/good:1", {"config": {"Env": ["IS=good"]}})
    rules = policy(
        rule("CONVERT", "docker-image://docker.io/library/b:*",
             "docker-image://docker.io/library/good:1"),
        rule("DENY", "*/evil:*"),
    )  # fmt: skip
    image = rig.build("FROM b\nRUN write /f $IS\n", source_policy=rules)
    assert rig.files(image) == {"f": "good"}
    with pytest.raises(Rejected, match=r"Containerfile:1: FROM evil: the source policy denies"):
        rig.build("FROM evil\nRUN write /f 1\n", source_policy=rules)
    with pytest.raises(Rejected, match="denies"):
        rig.build("FROM scratch\nCOPY --from=evil / /\n", source_policy=rules)
    with pytest.raises(Rejected, match="denies"):
        contexts = (NamedContext(name="c", value="docker-image://evil"),)
        rig.build("FROM c\nRUN write /f 1\n", source_policy=rules, contexts=contexts)


def test_builds_ask_about_what_add_fetches_before_any_step(rig: BuildRig) -> None:
    rules = policy(rule("DENY", "https://*"), rule("DENY", "git://h/*"))
    for url in ("https://h.x/f", "https://h/r.git"):
        with pytest.raises(Rejected, match=r"Containerfile:3: the source policy denies"):
            rig.build(f"FROM scratch\nRUN write /f 1\nADD {url} /\n", source_policy=rules)
    assert rig.ran == 0
