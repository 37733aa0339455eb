"""The file of `--src yaml`: what is read of it, and what is refused with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgtools.errors import Error, InvalidInput, LimitExceeded, NotFound, StorageError
from imgtools.spec.yaml_tree import parse_yaml
from imgtools.sync.config import read_source_file
from imgtools.sync.options import RepositoryWanted
from imgtools.sync.tags import EveryTag, MatchingTags, VersionTags
from imgtools.transport.options import Credentials, RegistryOptions

DIGEST = "sha256:" + "ab" * 32

WHOLE = f"""\
registry.example.com:
    images:
        busybox: []
        library/alpine:
        redis:
            - "1.0"
            - 2.10
            - 0x10
            - yes
            - {DIGEST}
    images-by-tag-regex:
        nginx: ^1\\.13\\.[12]-alpine-perl$
    images-by-semver:
        alpine: ">= 3.12.0"
    credentials:
        username: john
        password: 007
    tls-verify: no
    cert-dir: /home/john/certs
quay.io:
    tls-verify: true
    images:
        coreos/etcd: [latest]
"""


def read(
    tmp_path: Path, text: str, options: RegistryOptions | None = None
) -> tuple[tuple[RepositoryWanted, ...], list[str]]:
    """What is wanted, and the warnings."""
    path = tmp_path / "sync.yml"
    path.write_text(text)
    warnings: list[str] = []
    found = read_source_file(str(path), options or RegistryOptions(), warn=warnings.append)
    return found, [warning.replace(str(tmp_path), "") for warning in warnings]


def test_everything(tmp_path: Path) -> None:
    """Each kind of entry, in the order of the file; texts stay what was written."""
    found, warnings = read(tmp_path, WHOLE)
    assert warnings == []
    first = "registry.example.com/"
    assert [wanted.name for wanted in found] == [
        f"{first}busybox",
        f"{first}library/alpine",
        f"{first}redis",
        f"{first}nginx",
        f"{first}alpine",
        "quay.io/coreos/etcd",
    ]
    assert isinstance(found[0].tags, EveryTag)
    assert isinstance(found[1].tags, EveryTag)
    assert found[2].tags is None
    assert [str(each).removeprefix(f"{first}redis") for each in found[2].explicit] == [
        ":1.0",
        ":2.10",
        ":0x10",
        ":yes",
        f"@{DIGEST}",
    ]
    assert isinstance(found[3].tags, MatchingTags)
    assert isinstance(found[4].tags, VersionTags)
    options = found[0].registry
    assert options.credentials == Credentials(username="john", password="007")
    assert (options.tls_verify, options.tls_verify_given) == (False, True)
    assert options.cert_dir == "/home/john/certs"
    assert (found[5].registry.credentials, found[5].registry.tls_verify) == (None, True)


def test_the_command_line_stands_where_the_file_is_silent(tmp_path: Path) -> None:
    """Credentials and TLS of the flags are overridden by what the file has only."""
    flags = RegistryOptions(
        tls_verify=False, cert_dir="/certs", credentials=Credentials(username="a", password="b")
    )
    found, _ = read(tmp_path, "r.io:\n  images: {a: []}\n  credentials:\n", flags)
    assert found[0].registry == flags


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("a.io: {images: {x: []}}\nb.io:\n", "/sync.yml:2: b.io: No images specified"),
        ("a.io: {images: {x: []}, imagse: {}}", "/sync.yml:1: a.io > imagse: unknown key"),
    ],
)
def test_warnings(tmp_path: Path, text: str, warning: str) -> None:
    """What skopeo passes over too, but not in silence."""
    found, warnings = read(tmp_path, text)
    assert len(found) == 1
    assert [each[: len(warning)] for each in warnings] == [warning]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "No images to sync found"),
        ("a.io:\n", "No images to sync found"),
        ("- a.io\n", "sync.yml:1: has to be a mapping"),
        ("a.io: text\n", "sync.yml:1: a.io: has to be a mapping"),
        ("a.io:\n  images: [x]\n", "sync.yml:2: a.io > images: has to be a mapping"),
        ("a.io:\n  images:\n    x: 1.0\n", "sync.yml:3: a.io > images > x: has to be a list"),
        ("a.io:\n  images:\n    x: [{a: b}]\n", "sync.yml:3: a.io > images > x: has to be a text"),
        ("a.io:\n  images:\n    x: ['-1']\n", "'-1' is neither a tag nor a digest"),
        ("a.io:\n  images:\n    x: ['']\n", "'' is neither a tag nor a digest"),
        ("a.io:\n  images:\n    'x:1': []\n", "names an image, not a repository"),
        ("a.io:\n  images:\n    UP: []\n", "repository names are lower case|not a valid component"),
        ("a.io:\n  images-by-tag-regex:\n    x: '('\n", "sync.yml:3: .*x: invalid regular"),
        ("a.io:\n  images-by-tag-regex:\n    x: '(?=a)'\n", "is not supported"),
        ("a.io:\n  images-by-semver:\n    x: new\n", "sync.yml:3: .*x: invalid version constraint"),
        ("a.io:\n  images-by-semver:\n    x: [1]\n", "has to be a text"),
        ("a.io:\n  tls-verify: maybe\n", "sync.yml:2: a.io > tls-verify: has to be true or false"),
        ("a.io:\n  credentials: {user: x}\n", "a.io > credentials > user: unknown key"),
        ("a.io:\n  credentials: secret\n", "a.io > credentials: has to be a mapping"),
        ("a.io: {}\na.io: {}\n", "sync.yml:2: key 'a.io' comes twice"),
        ("a.io:\n  images: {x: [], x: []}\n", "sync.yml:2: key 'x' comes twice"),
        ("a: &a [*a]\n", "alias 'a' has no anchor before it"),
        ("a: *b\n", "alias 'b' has no anchor before it"),
        ("a: &a {}\nb:\n  <<: *a\n", r"sync.yml:3: merge keys \(<<\) are not supported"),
        ("a: {}\n---\nb: {}\n", "sync.yml:2: a second document"),
        ("? [a]\n: b\n", "a key that is no text"),
        ("a: [\n", "sync.yml:2: "),
        ("a:\n\t- b\n", "sync.yml:2: "),
        ("a: \x01\n", "sync.yml: "),
        ("!!python/object:os.system a\n", "has to be a mapping"),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, text: str, message: str) -> None:
    """One error that says where."""
    with pytest.raises(InvalidInput, match=message) as found:
        read(tmp_path, text)
    assert "\n" not in found.value.message


def test_aliases_are_read(tmp_path: Path) -> None:
    """Credentials are written once in real files."""
    found, _ = read(
        tmp_path,
        "a.io: {images: {x: []}, credentials: &c {username: u, password: p}}\n"
        "b.io: {images: {x: []}, credentials: *c}\n",
    )
    assert found[1].registry.credentials == Credentials(username="u", password="p")


def test_alias_bomb(tmp_path: Path) -> None:
    """Aliases count for what they stand for."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(LimitExceeded, match="nodes"):
        read(tmp_path, "\n".join(lines))


@pytest.mark.parametrize(
    ("text", "unit"),
    [("[" * 200 + "]" * 200, "levels"), ("# " + "x" * (4 << 20), "bytes"),
     ("a: [" + "x," * 200_000 + "]", "nodes")],
)  # fmt: skip
def test_limits(tmp_path: Path, text: str, unit: str) -> None:
    """Depth, size and number are bounded."""
    with pytest.raises(LimitExceeded, match=unit):
        read(tmp_path, text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Absent, a directory, and a name that no file can have."""
    for path, kind in (
        (str(tmp_path / "absent"), NotFound),
        (str(tmp_path), StorageError),
        ("a\0b", InvalidInput),
    ):
        with pytest.raises(kind):
            read_source_file(path, RegistryOptions(), warn=lambda text: None)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200) | st.text(alphabet="a:- \n[]{}&*!|>'\"#%@?,\t", max_size=80))
def test_any_bytes(content: bytes | str) -> None:
    """A tree or our own error."""
    try:
        parse_yaml(content.encode() if isinstance(content, str) else content, "x")
    except Error:
        return
