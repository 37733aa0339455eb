"""policy.json: strict parsing, scope lookup, and refusal of what cannot be verified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from imgtools.errors import InvalidInput, NotFound, Rejected
from imgtools.sign.policy import Policy, accept_all, check, identity_scopes, load
from imgtools.transport.table import parse_name

ACCEPT, REJECT = [{"type": "insecureAcceptAnything"}], [{"type": "reject"}]
D = "sha256:" + "ab" * 32


def policy(value: object) -> Policy:
    return Policy.parse(json.dumps(value).encode())


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"default": []},
        {"default": None},
        {"default": {}},
        {"default": ACCEPT, "extra": 1},
        {"default": [{"type": "Reject"}]},
        {"default": [{"Type": "reject"}]},
        {"default": [{"type": "reject", "x": 1}]},
        {"default": [{"type": "signedBy", "keyring": "x"}]},
        {"default": ["reject"]},
        {"default": ACCEPT, "transports": []},
        {"default": ACCEPT, "transports": {"docker": []}},
        {"default": ACCEPT, "transports": {"docker": {"a": []}}},
        {"default": ACCEPT, "transports": {"dir": {"a": ACCEPT}}},
        {"default": ACCEPT, "transports": {"dir": {"/": ACCEPT}}},
        {"default": ACCEPT, "transports": {"oci": {"/a/../b": ACCEPT}}},
        {"default": ACCEPT, "transports": {"docker-archive": {"/a": ACCEPT}}},
    ],
)
def test_parser_refuses(value: object) -> None:
    with pytest.raises(InvalidInput):
        policy(value)


def test_duplicate_keys_are_refused() -> None:
    with pytest.raises(InvalidInput):
        Policy.parse(b'{"default":[{"type":"reject"}],"default":[{"type":"reject"}]}')


@pytest.mark.parametrize(
    ("name", "scopes"),
    [
        (
            "docker://a.b.example.com:5000/n/s/r:t",
            ["a.b.example.com:5000/n/s/r:t", "a.b.example.com:5000/n/s/r",
             "a.b.example.com:5000/n/s", "a.b.example.com:5000/n", "a.b.example.com:5000",
             "*.b.example.com", "*.example.com", "*.com", ""],
        ),
        (
            f"docker://busybox@{D}",
            [f"docker.io/library/busybox@{D}", "docker.io/library/busybox", "docker.io/library",
             "docker.io", "*.io", ""],
        ),
        ("dir:/usr/share", ["/usr/share", "/usr", ""]),
        ("oci:/usr/share:tag", ["/usr/share", "/usr", ""]),
        ("docker-archive:/usr/x", [""]),
    ],
)  # fmt: skip
def test_scopes_most_specific_first(name: str, scopes: list[str]) -> None:
    assert list(identity_scopes(parse_name(name))) == scopes


def admitted(value: dict[str, Any], name: str) -> bool:
    try:
        check(policy(value), parse_name(name))
    except Rejected:
        return False
    return True


def test_first_scope_wins_and_lists_are_not_merged() -> None:
    value = {
        "default": REJECT,
        "transports": {
            "docker": {"quay.io": ACCEPT, "quay.io/bad": REJECT, "quay.io/bad/ok:1": ACCEPT},
            "dir": {"": ACCEPT},
        },
    }
    assert admitted(value, "docker://quay.io/a")
    assert not admitted(value, "docker://quay.io/bad/x")
    assert admitted(value, "docker://quay.io/bad/ok:1")
    assert not admitted(value, f"docker://quay.io/bad/ok@{D}")
    assert not admitted(value, "docker://busybox")
    assert admitted(value, "dir:/anything")
    assert not admitted(value, "oci:/anything")


def test_symlinks_do_not_escape_a_scope(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    value = {"default": ACCEPT, "transports": {"dir": {f"{tmp_path}/real": REJECT}}}
    assert not admitted(value, f"dir:{tmp_path}/link")


@pytest.mark.parametrize("kind", ["signedBy", "sigstoreSigned", "signedBaseLayer"])
def test_what_cannot_be_verified_is_rejected(kind: str) -> None:
    with pytest.raises(Rejected) as caught:
        check(policy({"default": [{"type": kind}]}), parse_name("docker://a"))
    assert caught.value.requirement == kind


def test_all_requirements_must_hold() -> None:
    assert not admitted({"default": ACCEPT + REJECT}, "docker://a")


def test_load(tmp_path: Path) -> None:
    absent, present = tmp_path / "absent", tmp_path / "policy.json"
    present.write_text(json.dumps({"default": REJECT}))
    assert load([str(absent)], required=False) == accept_all()
    with pytest.raises(NotFound):
        load([str(absent)], required=True)
    assert load([str(absent), str(present)], required=True).default[0]["type"] == "reject"
    present.write_text("{")
    with pytest.raises(InvalidInput):
        load([str(present)], required=False)
