"""policy.json: strict parsing, scope lookup, the names that are refused, and its companion."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest

from imgtools.errors import InvalidInput, NotFound, NotSigned, Rejected
from imgtools.sign.gate import Gate
from imgtools.sign.policies.companion import parse_companion
from imgtools.sign.policies.evaluate import Subject, judge
from imgtools.sign.policies.files import Policies, PolicyFiles, accept_all, load
from imgtools.sign.policies.model import Policy, Reject
from imgtools.sign.policies.parse import parse_policy
from imgtools.sign.policies.scopes import choose, identity_scopes
from imgtools.spec.digest import Digest
from imgtools.transport.table import parse_name

ACCEPT, REJECT = [{"type": "insecureAcceptAnything"}], [{"type": "reject"}]
D = "sha256:" + "ab" * 32


def policy(value: object) -> Policy:
    return parse_policy(json.dumps(value).encode())


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
        parse_policy(b'{"default":[{"type":"reject"}],"default":[{"type":"reject"}]}')


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


def gate(value: object, companion: object = None, **options: Any) -> Gate:
    extra = parse_companion(json.dumps(companion).encode()) if companion is not None else None

    def nowhere(name: object) -> NoReturn:
        raise AssertionError("no signature is read")

    return Gate(Policies(policy=policy(value), companion=extra), nowhere, **options)


def admitted(value: dict[str, Any], name: str, companion: object = None) -> bool:
    try:
        return gate(value, companion).check_name(parse_name(name)) is None
    except Rejected:
        return False


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


def test_all_requirements_must_hold() -> None:
    assert not admitted({"default": ACCEPT + REJECT}, "docker://a")


def test_a_signature_can_be_asked_for_everywhere() -> None:
    """--require-signed refuses what nothing but insecureAcceptAnything admits."""
    with pytest.raises(NotSigned, match="--require-signed"):
        gate({"default": ACCEPT}, require_signed=True).check_name(parse_name("docker://a"))


KEY = {"type": "sigstoreSigned", "keyPath": "/k"}
FULCIO = {"caPath": "/ca", "oidcIssuer": "https://issuer", "subjectEmail": "a@b"}
PKI = {"caRootsPath": "/ca", "subjectEmail": "a@b"}


def sigstore(**fields: Any) -> dict[str, Any]:
    return {"type": "sigstoreSigned", **fields}


def gpg(**fields: Any) -> dict[str, Any]:
    return {"type": "signedBy", "keyType": "GPGKeys", **fields}


@pytest.mark.parametrize(
    "requirement",
    [
        KEY,
        sigstore(keyPaths=["/a", "/b"]),
        sigstore(keyData="aGk="),
        sigstore(keyDatas=["aGk=", "aG\nk="]),
        sigstore(keyPath="", keyPaths=["/a"]),
        sigstore(keyPath="/k", rekorPublicKeyPath="/r"),
        sigstore(keyPath="/k", rekorPublicKeyDatas=["aGk="]),
        sigstore(fulcio=FULCIO, rekorPublicKeyPath="/r"),
        sigstore(pki=PKI),
        sigstore(pki={**PKI, "caIntermediatesPath": "/i", "subjectHostname": "h"}),
        gpg(keyPath="/k"),
        gpg(keyPaths=["/k"]),
        gpg(keyData="aGk="),
        {"type": "signedBy", "keyType": "X509Certificates", "keyPath": "/k"},
        {"type": "signedBaseLayer", "baseLayerIdentity": {"type": "matchExact"}},
        {**KEY, "signedIdentity": {"type": "matchExact"}},
        {**KEY, "signedIdentity": {"type": "matchRepoDigestOrExact"}},
        {**KEY, "signedIdentity": {"type": "matchRepository"}},
        {**KEY, "signedIdentity": {"type": "exactReference", "dockerReference": "a:1"}},
        {**KEY, "signedIdentity": {"type": "exactRepository", "dockerRepository": "h.io/a"}},
        {**KEY, "signedIdentity": {"type": "remapIdentity", "prefix": "h:5000",
                                   "signedPrefix": "h.io/ns"}},
        {**KEY, "signedIdentity": {"type": "remapIdentity", "prefix": "ns/short",
                                   "signedPrefix": "[::1]:80"}},
    ],
)  # fmt: skip
def test_requirements_that_are_read(requirement: object) -> None:
    (found,) = policy({"default": [requirement]}).default or ()
    assert not isinstance(found, Reject)


@pytest.mark.parametrize(
    "requirement",
    [
        sigstore(),
        sigstore(keyPath=""),
        sigstore(keyPaths=[]),
        sigstore(keyPaths=["/a", 1]),
        sigstore(keyDatas=[]),
        sigstore(keyData="@"),
        sigstore(keyData="YQ==\u2028"),
        sigstore(keyPath=1),
        sigstore(keyPath="/k", keyData="aGk="),
        sigstore(keyPath="/k", fulcio=FULCIO, rekorPublicKeyPath="/r"),
        sigstore(keyPath="/k", pki=PKI),
        sigstore(fulcio=FULCIO),
        sigstore(fulcio={**FULCIO, "subjectEmail": ""}, rekorPublicKeyPath="/r"),
        sigstore(fulcio={**FULCIO, "oidcIssuer": ""}, rekorPublicKeyPath="/r"),
        sigstore(fulcio={**FULCIO, "caData": "aGk="}, rekorPublicKeyPath="/r"),
        sigstore(fulcio={**FULCIO, "x": 1}, rekorPublicKeyPath="/r"),
        sigstore(fulcio=FULCIO, rekorPublicKeyPath="/r", rekorPublicKeyData="aGk="),
        sigstore(keyPath="/k", rekorPublicKeyPaths=[]),
        sigstore(pki=PKI, rekorPublicKeyPath="/r"),
        sigstore(pki={"caRootsPath": "/ca"}),
        sigstore(pki={"subjectEmail": "a@b"}),
        sigstore(pki={**PKI, "caRootsData": "aGk="}),
        sigstore(pki={**PKI, "caIntermediatesPath": "/i", "caIntermediatesData": "aGk="}),
        gpg(),
        gpg(keyPath="/k", keyData="aGk="),
        gpg(keyPaths=[]),
        gpg(keyDatas=["aGk="]),
        {"type": "signedBy", "keyPath": "/k"},
        {"type": "signedBy", "keyType": "gpgkeys", "keyPath": "/k"},
        {"type": "signedBaseLayer"},
        {**KEY, "signedIdentity": {}},
        {**KEY, "signedIdentity": {"type": "matchexact"}},
        {**KEY, "signedIdentity": {"type": "matchExact", "x": 1}},
        {**KEY, "signedIdentity": {"type": "anyIdentity"}},
        {**KEY, "signedIdentity": {"type": "exactReference"}},
        {**KEY, "signedIdentity": {"type": "exactReference", "dockerReference": "a"}},
        {**KEY, "signedIdentity": {"type": "exactReference", "dockerReference": "A:1"}},
        {**KEY, "signedIdentity": {"type": "exactRepository", "dockerRepository": ""}},
        {**KEY, "signedIdentity": {"type": "remapIdentity", "prefix": "h"}},
        {**KEY, "signedIdentity": {"type": "remapIdentity", "prefix": "h/a:tag",
                                   "signedPrefix": "h"}},
        {**KEY, "signedIdentity": {"type": "remapIdentity", "prefix": "h/",
                                   "signedPrefix": "h"}},
        {"type": "signed", "keys": [{"keyPath": "/k"}]},
        {"type": "anyOf", "alternatives": [ACCEPT]},
    ],
)  # fmt: skip
def test_requirements_that_are_refused(requirement: object) -> None:
    """What containers/image refuses, and the companion's words, which it does not know."""
    with pytest.raises(InvalidInput):
        policy({"default": [requirement]})


WHO = {"subjectRegExp": ".*@example.com", "issuer": "https://issuer"}
KEYLESS = {"trustedRootPath": "/root.json", "identities": [WHO]}


@pytest.mark.parametrize(
    "requirement",
    [
        {"type": "signed", "keys": [{"keyPath": "/k"}]},
        {"type": "signed", "keys": [{"keyData": "aGk=", "notAfter": "2027-01-01T00:00:00Z"}],
         "formats": ["bundle"], "signedIdentity": {"type": "anyIdentity"}},
        {"type": "signed", "keys": [{"keyPath": "/k"}], "log": {"trustedRootPath": "/root.json"}},
        {"type": "signed", "keyless": KEYLESS, "signedIdentity": {"type": "matchRepository"}},
        {"type": "attested", "predicateType": "https://slsa.dev/provenance/v1",
         "keyless": KEYLESS},
        {"type": "anyOf", "alternatives": [ACCEPT, [KEY, gpg(keyPath="/k")]]},
    ],
)  # fmt: skip
def test_what_a_companion_may_ask_for(requirement: object) -> None:
    companion = json.dumps({"transports": {"docker": {"h.io": [requirement]}}}).encode()
    assert parse_companion(companion).transports["docker"]["h.io"]


@pytest.mark.parametrize(
    "requirement",
    [
        {"type": "signed"},
        {"type": "signed", "keys": []},
        {"type": "signed", "keys": [{}]},
        {"type": "signed", "keys": [{"keyPath": "/k", "x": 1}]},
        {"type": "signed", "keys": [{"keyPath": "/k", "keyData": "aGk="}]},
        {"type": "signed", "keys": [{"keyPath": "/k", "notAfter": "tomorrow"}]},
        {"type": "signed", "keys": [{"keyPath": "/k", "notAfter": "2027-01-01T00:00:00"}]},
        {"type": "signed", "keys": [{"keyPath": "/k", "notBefore": "2027-01-02T00:00:00Z",
                                     "notAfter": "2027-01-01T00:00:00Z"}]},
        {"type": "signed", "keys": [{"keyPath": "/k"}], "keyless": KEYLESS},
        {"type": "signed", "keys": [{"keyPath": "/k"}], "formats": ["simple"]},
        {"type": "signed", "keys": [{"keyPath": "/k"}], "formats": []},
        {"type": "signed", "keyless": {**KEYLESS, "identities": []}},
        {"type": "signed", "keyless": {**KEYLESS, "identities": [{"subject": "a"}]}},
        {"type": "signed", "keyless": {**KEYLESS, "identities": [{**WHO, "subject": "a"}]}},
        {"type": "signed", "keyless": {**KEYLESS, "identities": [{**WHO, "subjectRegExp": "("}]}},
        {"type": "signed", "keyless": {"identities": [WHO]}},
        {"type": "signed", "keys": [{"keyPath": "/k"}], "log": {}},
        {"type": "signed", "keys": [{"keyPath": "/k"}], "log": {"trustedRootPath": "/r", "x": 1}},
        {"type": "signed", "keyless": KEYLESS, "log": {"trustedRootPath": "/root.json"}},
        {"type": "attested", "keys": [{"keyPath": "/k"}]},
        {"type": "anyOf"},
        {"type": "anyOf", "alternatives": []},
        {"type": "anyOf", "alternatives": [[]]},
        {"type": "anyOf", "alternatives": [ACCEPT], "x": 1},
    ],
)  # fmt: skip
def test_what_a_companion_may_not_say(requirement: object) -> None:
    companion = json.dumps({"transports": {"docker": {"h.io": [requirement]}}}).encode()
    with pytest.raises(InvalidInput):
        parse_companion(companion)


def test_a_companion_decides_about_its_own_scopes() -> None:
    """Whatever policy.json says of them; of others it says nothing."""
    companion = {"transports": {"docker": {"h.io": ACCEPT, "h.io/bad": REJECT}}}
    assert admitted({"default": REJECT}, "docker://h.io/a", companion)
    assert not admitted({"default": ACCEPT}, "docker://h.io/bad/a", companion)
    assert not admitted({"default": REJECT}, "docker://other.io/a", companion)
    assert admitted({"default": ACCEPT}, "docker://other.io/a", companion)
    assert not admitted({"default": ACCEPT}, "docker://other.io/a", {"default": REJECT})


def test_requirements_that_nobody_implements_reject() -> None:
    """As in containers/image, and without reading a signature."""
    subject = Subject(digest=Digest.of(b"x"), reference=None)
    odd = [
        {"type": "signedBaseLayer", "baseLayerIdentity": {"type": "matchExact"}},
        {"type": "signedBy", "keyType": "signedByGPGKeys", "keyPath": "/dev/null"},
    ]
    for requirement in odd:
        chosen = choose(policy({"default": [requirement]}), parse_name("docker://a"))
        verdict = judge(chosen, subject, lambda kind: [], now=datetime.now(UTC))
        assert not verdict.admitted
        assert "not implemented" in verdict.outcomes[0].reasons[0]


def test_load(tmp_path: Path) -> None:
    absent, present = f"{tmp_path}/absent", tmp_path / "policy.json"
    present.write_text(json.dumps({"default": REJECT}))
    assert load(PolicyFiles(policies=(absent,))).policy == accept_all()
    with pytest.raises(NotFound):
        load(PolicyFiles(policies=(absent,), required=True))
    with pytest.raises(NotFound):
        load(PolicyFiles(companions=(absent,), companion_required=True))
    found = load(PolicyFiles(policies=(absent, str(present)), required=True))
    assert found.policy.default == (Reject(),)
    assert found.companion is None
    present.write_text("{")
    with pytest.raises(InvalidInput):
        load(PolicyFiles(policies=(str(present),)))
