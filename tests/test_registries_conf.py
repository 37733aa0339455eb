"""registries.conf: parsing, merging, matching, rewriting and short names, by table and property."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.cli.settings import Settings
from imgtools.errors import (
    Error,
    InvalidInput,
    LimitExceeded,
    NotFound,
    Rejected,
    StorageError,
)
from imgtools.spec.reference import Reference
from imgtools.transport.options import Credentials, RegistriesFiles, RegistryOptions
from imgtools.transport.registries.files import (
    FILE_LIMIT,
    load,
    load_if_any,
    load_recorded,
)
from imgtools.transport.registries.match import (
    Endpoint,
    decide,
    endpoints,
    find,
    match_length,
    rewrite,
)
from imgtools.transport.registries.merge import merge
from imgtools.transport.registries.model import Alias, Mirror, RegistriesConfig, Registry
from imgtools.transport.registries.parse import parse
from imgtools.transport.registries.short_names import is_short, resolve
from imgtools.transport.registry.routes import endpoint_options

HEX = "a" * 64
DIGEST = f"@sha256:{HEX}"


def config(*texts: str) -> RegistriesConfig:
    """The configuration of a main file and drop-ins."""
    return merge(
        [
            parse(text.encode(), f"{number}.conf", drop_in=number > 0)
            for number, text in enumerate(texts)
        ]
    )


def reference(text: str) -> Reference:
    return Reference.parse(text, default_tag="")


def asked(found: tuple[Endpoint, ...]) -> list[str]:
    return [str(endpoint.reference) for endpoint in found]


def table(prefix: str, location: str = "", more: str = "") -> str:
    return f'[[registry]]\nprefix = "{prefix}"\nlocation = "{location or prefix}"\n{more}\n'


# Parsing


def test_every_key_of_the_second_version() -> None:
    layer = parse(
        b"""
        unqualified-search-registries = ["docker.io", "localhost:5000/"]
        credential-helpers = ["containers-auth.json", "pass"]
        short-name-mode = "enforcing"
        additional-layer-store-auth-helper = "helper"
        unknown-key = 1

        [aliases]
        fedora = "registry.example.com/fedora"
        hub = "docker.io/hub"
        gone = ""

        [[registry]]
        prefix = "example.com/foo///"
        location = "internal.example.com/bar/"
        insecure = true
        blocked = true
        unknown = "x"

        [[registry.mirror]]
        location = "mirror-0.example.com/"
        insecure = true
        [[registry.mirror]]
        location = "mirror-1.example.com/a"
        pull-from-mirror = "digest-only"

        [[registry]]
        Location = "example.com"
        mirror-by-digest-only = true
        """,
        "f",
    )
    assert layer.search == ("docker.io", "localhost:5000")
    assert layer.credential_helpers == ("containers-auth.json", "pass")
    assert layer.short_name_mode == "enforcing"
    assert layer.aliases == (
        Alias(name="fedora", target="registry.example.com/fedora", file="f"),
        Alias(name="hub", target="docker.io/library/hub", file="f"),
        Alias(name="gone", target="", file="f"),
    )
    assert layer.registries == (
        Registry(
            prefix="example.com", location="example.com", file="f", mirror_by_digest_only=True
        ),
        Registry(
            prefix="example.com/foo",
            location="internal.example.com/bar",
            file="f",
            insecure=True,
            blocked=True,
            mirrors=(
                Mirror(location="mirror-0.example.com", insecure=True),
                Mirror(location="mirror-1.example.com/a", pull="digest-only"),
            ),
        ),
    )


def test_unknown_keys_are_debug_messages(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    parse(b'odd = 1\n[[registry]]\nlocation = "a.example"\nodder = 2\n', "f.conf")
    said = " ".join(record.message for record in caplog.records)
    assert "f.conf: unknown key 'odd'" in said
    assert "f.conf: [[registry]] number 1: unknown key 'odder'" in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[registry]]\n", "both location and prefix are missing"),
        ('[[registry]]\nprefix = "a.example"\n', "location is missing"),
        ('[[registry]]\nlocation = "http://a.example"\n', "a location has no scheme"),
        (table("https://a.example", "b.example"), "prefix: 'https://a.example'"),
        (table("*.a.example/b", "b.example"), "has the form *.example.com"),
        (table("*.a.example:5", "b.example"), "has the form *.example.com"),
        (table("a.example", more='pull-from-mirror = "all"'), "is for mirrors"),
        (table("a.example", more="[[registry.mirror]]\ninsecure = true"), "location is missing"),
        (
            table("a.example", more='[[registry.mirror]]\nlocation = "http://m.example"'),
            "[[registry.mirror]] number 1: location",
        ),
        (
            table(
                "a.example",
                more='mirror-by-digest-only = true\n[[registry.mirror]]\nlocation = "m.example"\n'
                'pull-from-mirror = "all"',
            ),
            "cannot both be set",
        ),
        (
            table(
                "a.example",
                more='[[registry.mirror]]\nlocation = "m.example"\npull-from-mirror = "some"',
            ),
            "'some' of 'm.example' is not one of all, digest-only, tag-only",
        ),
        (
            table("a.example", "r.example", "insecure = true") + table("b.example", "r.example"),
            "'r.example' is there more than once, with different values of 'insecure'",
        ),
        (
            table("a.example", "r.example", "blocked = true") + table("b.example", "r.example"),
            "different values of 'blocked'",
        ),
        ('short-name-mode = "loud"', "short-name-mode 'loud'"),
        ('unqualified-search-registries = ["a.example/b"]', "not a host[:port]"),
        ('unqualified-search-registries = [""]', "not a host[:port]"),
        ('unqualified-search-registries = ["http://a.example"]', "has no scheme"),
        ('unqualified-search-registries = "a.example"', "not an array of strings"),
        ("unqualified-search-registries = [1]", "not an array of strings"),
        ("registry = 1", "registry is not an array of tables"),
        ("[registry]", "registry is not an array of tables"),
        ("registry = [1]", "registry is not an array of tables"),
        (table("a.example", more="insecure = 1"), "insecure is not a boolean"),
        (table("a.example", more='blocked = "yes"'), "blocked is not a boolean"),
        ("[[registry]]\nlocation = 1", "location is not a string"),
        (table("a.example", more="mirror = 1"), "mirror is not an array of tables"),
        ("aliases = 1", "aliases is not a table"),
        ("[aliases]\na = 1", "a is not a string"),
        ('[aliases]\na = "quay.example/a:1"', "has a tag or a digest"),
        (f'[aliases]\na = "quay.example/a{DIGEST}"', "has a tag or a digest"),
        ('[aliases]\na = "b/c"', "has no registry"),
        ('[aliases]\n"a:1" = "quay.example/a"', "'a:1'"),
        ('[aliases]\n"q.example/a" = "quay.example/a"', "a short name has no registry"),
        ('[aliases]\nA = "quay.example/a"', "'A'"),
        ("a = ", "not valid TOML"),
        ("a = 1\na = 2", "not valid TOML"),
        ("a = " + "[" * 5000, "not valid TOML"),
        ("registries = 1", "registries is not a table"),
        ('[registries.search]\nregistries = "a"', "not an array of strings"),
        ('[registries.search]\nregistries = ["http://a.example"]', "has no scheme"),
        ('[registries.block]\nregistries = ["http://a.example"]', "has no scheme"),
        ('[registries.insecure]\nregistries = ["http://a.example"]', "has no scheme"),
        (
            "unqualified-search-registries = []\n[registries.search]\nregistries = []",
            "is mixed with the second",
        ),
        (
            table("a.example") + '[registries.block]\nregistries = ["b.example"]',
            "is mixed with the second",
        ),
    ],
)
def test_errors_name_file_and_key(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(text.encode(), "/etc/some.conf")
    assert "/etc/some.conf" in caught.value.message
    assert message in caught.value.message


def test_bytes_that_are_no_text_are_an_error() -> None:
    with pytest.raises(InvalidInput, match="not valid TOML"):
        parse(b"\xff\xfe", "f")


@given(st.text(alphabet='[]="\n.registy*/:aeiou#{}', max_size=80))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        file = parse(text.encode(), "f").file
    except InvalidInput as e:
        file = e.message.partition(":")[0].partition(" ")[0]
    assert file == "f"


def test_the_first_version_is_converted() -> None:
    found = config(
        """
        [registries.search]
        registries = ["registry-a.example////", "registry-c.example"]
        [registries.block]
        registries = ["registry-b.example"]
        [registries.insecure]
        registries = ["registry-b.example////", "registry-d.example", "registry-a.example"]
        """
    )
    assert found.search == ("registry-a.example", "registry-c.example")
    assert [(r.prefix, r.location, r.insecure, r.blocked) for r in found.registries] == [
        ("registry-a.example", "registry-a.example", True, False),
        ("registry-b.example", "registry-b.example", True, True),
        ("registry-d.example", "registry-d.example", True, False),
    ]


def test_drop_ins_have_the_second_version() -> None:
    with pytest.raises(InvalidInput, match="of the first version"):
        parse(b"[registries.search]\nregistries = []", "d.conf", drop_in=True)


def test_the_first_of_two_equal_prefixes_counts() -> None:
    found = config(table("a.example", "one.example") + table("a.example", "two.example"))
    assert [r.location for r in found.registries] == ["one.example"]


# Merging


def test_later_files_replace_whole_tables_and_single_aliases() -> None:
    found = config(
        'unqualified-search-registries = ["main.example"]\nshort-name-mode = "disabled"\n'
        'credential-helpers = ["one"]\n[aliases]\na = "main.example/a"\nb = "main.example/b"\n'
        + table("x.example", more='insecure = true\n[[registry.mirror]]\nlocation = "m.example"')
        + table("y.example"),
        '[aliases]\nb = ""\nc = "drop.example/c"\n' + table("x.example", "new.example"),
        'unqualified-search-registries = []\ncredential-helpers = ["two", "three"]\n',
    )
    assert [(r.prefix, r.location, r.insecure, r.mirrors, r.file) for r in found.registries] == [
        ("x.example", "new.example", False, (), "1.conf"),
        ("y.example", "y.example", False, (), "0.conf"),
    ]
    assert (found.search, found.search_file) == ((), "2.conf")
    assert (found.credential_helpers, found.credential_helpers_file) == (
        ("two", "three"),
        "2.conf",
    )
    assert (found.short_name_mode, found.short_name_mode_file) == ("disabled", "0.conf")
    assert {name: (a.target, a.file) for name, a in found.aliases.items()} == {
        "a": ("main.example/a", "0.conf"),
        "b": ("", "1.conf"),
        "c": ("drop.example/c", "1.conf"),
    }
    assert found.files == ("0.conf", "1.conf", "2.conf")


@pytest.mark.parametrize(
    ("texts", "helpers"),
    [
        ([""], ()),
        (['credential-helpers = ["containers-auth.json"]'], ()),
        (['credential-helpers = ["a", "containers-auth.json"]'], ("a", "containers-auth.json")),
        (['credential-helpers = ["a"]', "credential-helpers = []"], ()),
        (['credential-helpers = ["a"]', ""], ("a",)),
    ],
)
def test_credential_helpers(texts: list[str], helpers: tuple[str, ...]) -> None:
    assert config(*texts).credential_helpers == helpers


# Matching


@pytest.mark.parametrize(
    ("text", "prefix", "length"),
    [
        ("docker.io/a", "docker.io", 9),
        ("docker.io/a", "example.com", 0),
        ("example.com:5000/a", "example.com:5000", 16),
        ("example.com:50000/a", "example.com:5000", 0),
        ("example.com:5000/a", "example.com", 11),
        ("example.com/foo", "example.com", 11),
        ("example.com/foo/bar:baz", "example.com/foo", 15),
        (f"example.com/foo/bar{DIGEST}", "example.com", 11),
        ("docker.io/libraryy/a", "docker.io/library", 0),
        ("docker.io/library/busybox", "docker.io/library/busybox", 25),
        ("docker.io/library/busybox2", "docker.io/library/busybox", 0),
        ("example.com/foo:bar", "example.com/foo:bar", 19),
        ("example.com/foo:bar2", "example.com/foo:bar", 0),
        ("example.com/foo", "example.com/foo:bar", 0),
        (f"example.com/foo{DIGEST}", f"example.com/foo{DIGEST}", 15 + len(DIGEST)),
        ("example.com/foo", "*", 0),
        ("Example.COM/foo", "example.com", 11),
        ("example.com/foo", "EXAMPLE.com/foo", 15),
        ("example.com/foo", "example.com/Foo", 0),
        ("example.com./foo", "example.com", 12),
        ("example.com.:5000/foo", "example.com:5000", 17),
        ("example.com/foo", "example.com./foo", 15),
        ("[::1]:5000/foo", "[::1]:5000", 10),
        # Wildcards.
        ("sub.example.com.:5/foo", "*.example.com", 16),
        ("docker.io/foo", "*.io", 9),
        ("docker.io/foo", "*.com", 0),
        ("example.com/foo", "*.co", 0),
        ("example.com/foo", "*.example.com", 0),
        ("example.com/foo:bar", "*.com", 11),
        ("sub.example.com:5000/foo", "*.example.com", 15),
        ("yet.another.example.com/foo", "**.example.com", 0),
        ("yet.another.example.com/foo", "*.another.example.com", 23),
        ("another.example.com/namespace.com/foo", "*.example.com", 19),
        ("example.net/namespace-ends-in.com/foo", "*.com", 0),
        ("another.example.com/namespace.com/foo", "*.namespace.com", 0),
        ("a.example.com.example.com/foo", "*.example.com", 25),
        ("a.EXAMPLE.com/foo", "*.example.com", 13),
    ],
)
def test_prefixes(text: str, prefix: str, length: int) -> None:
    assert match_length(text, prefix) == length


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("simple-prefix.com/foo/bar:latest", "registry.com:5000"),
        ("not.so.simple-prefix.com/a", "subdomain-prefix.com"),
        ("not.quite.simple-prefix.com/a", "subdomain-prefix-2.com"),
        ("not.quite.simple-prefix.com:5000/with/path/and/beyond:tag", "subdomain-prefix-2.com"),
        ("foo.bar.example.com:5000/omg/wtf/bbq:foo", "subdomain-prefix-5.com"),
        ("foo.bar.example.com:6000/omg/wtf/bbq:foo", "subdomain-prefix-3.com"),
        ("complex-prefix.com:4000/with/path/and/beyond:tag", "another-registry.com:5000"),
        ("complex-prefix.com:4000/with/other:tag", None),
        ("no-prefix.com/foo:tag", "no-prefix.com"),
        ("simple-prefix.comx/a", None),
    ],
)
def test_the_longest_prefix_decides(text: str, location: str | None) -> None:
    found = config(
        table("simple-prefix.com", "registry.com:5000")
        + table("complex-prefix.com:4000/with/path", "another-registry.com:5000")
        + '[[registry]]\nlocation = "no-prefix.com"\nprefix = ""\n'
        + table("*.so.simple-prefix.com", "subdomain-prefix.com")
        + table("*.simple-prefix.com", "subdomain-prefix-2.com")
        + table("*.bar.example.com", "subdomain-prefix-3.com")
        + table("foo.bar.example.com:5000", "subdomain-prefix-5.com")
    )
    entry = find(found, reference(text))
    assert (entry.location if entry else None) == location


_COMPONENTS = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4)


@given(
    _COMPONENTS.map(lambda parts: "r.example/" + "/".join(parts)),
    st.lists(
        _COMPONENTS.map(lambda parts: "/".join(["r.example", *parts])) | st.just("*.example"),
        max_size=8,
        unique=True,
    ),
)
def test_nothing_that_matches_is_longer(name: str, prefixes: list[str]) -> None:
    found = config("".join(table(prefix, "l.example") for prefix in prefixes))
    entry = find(found, reference(name))
    parts = name.split("/")
    ancestors = {"/".join(parts[:count]) for count in range(1, len(parts) + 1)}
    matching = [p for p in prefixes if p in ancestors or p == "*.example"]
    assert (entry.prefix if entry else "") == max(matching, key=len, default="")


# Rewriting


@pytest.mark.parametrize(
    ("text", "prefix", "location", "expected"),
    [
        ("example.com/image", "example.com", "example.com", "example.com/image"),
        ("example.com:5000/image:v1", "example.com:5000", "b.com:1", "b.com:1/image:v1"),
        (f"example.com/foo{DIGEST}", "example.com", "b.com", f"b.com/foo{DIGEST}"),
        (f"example.com/foo:v1{DIGEST}", "example.com", "b.com", f"b.com/foo:v1{DIGEST}"),
        ("example.com/foo/image:v1", "example.com/foo", "b.com", "b.com/image:v1"),
        ("example.com/foo/image:v1", "example.com/foo", "b.com/path", "b.com/path/image:v1"),
        ("docker.io/library/image", "docker.io", "b.com", "b.com/library/image"),
        ("docker.io/library/image", "docker.io/library", "b.com", "b.com/image"),
        ("docker.io/library/image", "docker.io/library/image", "b.com/i", "b.com/i"),
        ("docker.io/namespace/image", "*.io", "b.com", "b.com/namespace/image"),
        ("sub.example.io/a/image", "*.example.io", "b.com/x", "b.com/x/a/image"),
        ("s.sub.example.io:5000/a:v1", "*.sub.example.io", "b.com", "b.com:5000/a:v1"),
        ("abc.registry.com/foo:bar", "*.registry.com", "", "abc.registry.com/foo:bar"),
        ("example.com/a:v1", "example.com", "localhost/b", "localhost/b/a:v1"),
    ],
)
def test_locations_replace_prefixes(text: str, prefix: str, location: str, expected: str) -> None:
    entry = Registry(prefix=prefix, location=location, file="f")
    assert str(rewrite(reference(text), entry, location)) == expected


@pytest.mark.parametrize(
    ("text", "prefix", "location"),
    [
        (f"example.com/foo{DIGEST}", "example.com/foo", "b.com"),
        ("example.com/foo:v1", "example.com/foo", "b.com"),
        ("example.com/foo:v1", "example.com", "single"),
        ("example.com/foo:v1", "example.com", "b.com/UPPER"),
        ("example.com:5000/image:v1", "example.com", "b.com:6000"),
    ],
)
def test_locations_that_make_no_reference(text: str, prefix: str, location: str) -> None:
    found = config(table(prefix, location))
    with pytest.raises(InvalidInput, match=re.escape(f"0.conf: [[registry]] {prefix!r}")):
        endpoints(found, reference(text), write=False)
    # A push is not rewritten, so that nothing is wrong for it.
    assert asked(endpoints(found, reference(text), write=True)) == [text]


# Endpoints

MIRRORS = (
    table("a.com/foo", "a.com/bar", '[[registry.mirror]]\nlocation = "m1.com"\n'
          '[[registry.mirror]]\nlocation = "m2.com"\ninsecure = true\n')
    + table("b.com/foo", "b.com/bar", 'mirror-by-digest-only = true\n'
            '[[registry.mirror]]\nlocation = "m1.com"\n')
    + table("c.com/foo", "c.com/bar", "".join(
        f'[[registry.mirror]]\nlocation = "m{number}.com"\n{pull}\n'
        for number, pull in enumerate(
            ['pull-from-mirror = "digest-only"', 'pull-from-mirror = "tag-only"', "",
             'pull-from-mirror = "all"'], 1)))
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.com/foo/i:v", ["m1.com/i:v", "m2.com/i:v", "a.com/bar/i:v"]),
        ("a.com/foo/i", ["m1.com/i", "m2.com/i", "a.com/bar/i"]),
        (f"a.com/foo/i{DIGEST}", [f"{h}/i{DIGEST}" for h in ("m1.com", "m2.com", "a.com/bar")]),
        ("b.com/foo/i:v", ["b.com/bar/i:v"]),
        (f"b.com/foo/i{DIGEST}", [f"m1.com/i{DIGEST}", f"b.com/bar/i{DIGEST}"]),
        ("c.com/foo/i:v", ["m2.com/i:v", "m3.com/i:v", "m4.com/i:v", "c.com/bar/i:v"]),
        (
            f"c.com/foo/i:v{DIGEST}",
            [f"{h}/i:v{DIGEST}" for h in ("m1.com", "m3.com", "m4.com", "c.com/bar")],
        ),
        ("c.com/other:v", ["c.com/other:v"]),
    ],
)
def test_mirrors_by_kind_of_reference(text: str, expected: list[str]) -> None:
    found = config(MIRRORS)
    assert asked(endpoints(found, reference(text), write=False)) == expected
    assert asked(endpoints(found, reference(text), write=False, mirrors=False)) == expected[-1:]
    assert asked(endpoints(found, reference(text), write=True)) == [text]


def test_endpoints_say_where_they_come_from() -> None:
    found = endpoints(config(MIRRORS), reference("a.com/foo/i:v"), write=False)
    assert [(e.kind, e.insecure, e.location, e.entry and e.entry.file) for e in found] == [
        ("mirror", False, "m1.com", "0.conf"),
        ("mirror", True, "m2.com", "0.conf"),
        ("primary", False, "a.com/bar", "0.conf"),
    ]
    (skipped,) = decide(config(MIRRORS), reference("b.com/foo/i:v"), write=False).skipped
    assert skipped.mirror.location == "m1.com"
    assert "mirror-by-digest-only" in skipped.reason


def test_blocked_names_are_refused_with_the_file() -> None:
    found = config(
        table("evil.example/ns", more="blocked = true")
        + '[[registry]]\nprefix = "*.bad.example"\nblocked = true\n'
    )
    for text in ("evil.example/ns/i:v", "EVIL.example./ns/i:v", "sub.bad.example./i"):
        for write in (True, False):
            with pytest.raises(Rejected) as caught:
                endpoints(found, reference(text), write=write)
            assert "is blocked in 0.conf" in caught.value.message
    assert asked(endpoints(found, reference("evil.example/other:v"), write=False))


def test_a_blocked_primary_leaves_its_mirrors() -> None:
    """Which is how clusters are configured never to contact the source."""
    found = config(
        table("a.com", more='blocked = true\n[[registry.mirror]]\nlocation = "m.com"')
        + table("m2.com", more="blocked = true")
        + table("b.com", more='[[registry.mirror]]\nlocation = "m2.com"')
        + table("c.com", "m2.com/c", "blocked = true")
    )
    mirror, primary = endpoints(found, reference("a.com/i:v"), write=False)
    assert (mirror.blocked, primary.blocked and primary.blocked.prefix) == (None, "a.com")
    with pytest.raises(Rejected):
        endpoints(found, reference("a.com/i:v"), write=False, mirrors=False)
    # A mirror that is blocked under its own name is left out.
    assert asked(endpoints(found, reference("b.com/i:v"), write=False)) == ["b.com/i:v"]
    with pytest.raises(Rejected, match=r"c\.com"):
        endpoints(found, reference("c.com/i:v"), write=False)


def test_options_of_an_endpoint() -> None:
    given = RegistryOptions(credentials=Credentials(username="u", password="p"))
    found = config(
        'credential-helpers = ["pass"]\n'
        + table("a.com", "b.com", 'insecure = true\n[[registry.mirror]]\nlocation = "m.com"\n'
                '[[registry.mirror]]\nlocation = "a.com/mirror"')
    )  # fmt: skip
    other, same, primary = endpoints(found, reference("a.com/i:v"), write=False)
    options = [endpoint_options(found, e, given, named="a.com") for e in (other, same, primary)]
    assert [o.credentials is None for o in options] == [True, False, False]
    assert [o.tls_verify for o in options] == [True, True, False]
    assert {o.credential_helpers for o in options} == {("pass",)}
    strict = RegistryOptions(tls_verify_given=True)
    assert endpoint_options(found, primary, strict).tls_verify
    plain = Endpoint(reference=reference("x.com/i:v"), kind="primary")
    assert endpoint_options(RegistriesConfig(), plain, given) is given


# Files


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """Directories as a system has them."""
    for name in ("etc/registries.conf.d", "home/registries.conf.d"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def where(etc: Path, **more: bool) -> RegistriesFiles:
    return RegistriesFiles(
        main=(f"{etc}/home/registries.conf", f"{etc}/etc/registries.conf"),
        drop_ins=(f"{etc}/etc/registries.conf.d", f"{etc}/home/registries.conf.d"),
        aliases=f"{etc}/aliases.conf",
        **more,
    )


def test_drop_ins_by_directory_and_name(etc: Path) -> None:
    (etc / "etc/registries.conf").write_text(table("a.com", "one.com"))
    (etc / "etc/registries.conf.d/20.conf").write_text(table("a.com", "three.com"))
    (etc / "etc/registries.conf.d/10.conf").write_text(table("a.com", "two.com"))
    (etc / "etc/registries.conf.d/99.ignored").write_text("not TOML")
    (etc / "etc/registries.conf.d/sub.conf").mkdir()
    found = load(where(etc))
    assert [r.location for r in found.registries] == ["three.com"]
    assert [os.path.basename(f) for f in found.files] == ["registries.conf", "10.conf", "20.conf"]
    (etc / "home/registries.conf.d/00.conf").write_text(table("a.com", "four.com"))
    assert [r.location for r in load(where(etc)).registries] == ["four.com"]


def test_the_users_file_replaces_the_systems_and_its_drop_ins(etc: Path) -> None:
    (etc / "etc/registries.conf").write_text(table("a.com", "one.com"))
    (etc / "etc/registries.conf.d/10.conf").write_text(table("b.com", "two.com"))
    (etc / "home/registries.conf").write_text(table("c.com", "three.com"))
    (etc / "home/registries.conf.d/00.conf").write_text(table("d.com", "four.com"))
    assert [r.prefix for r in load(where(etc)).registries] == ["c.com", "d.com"]


def test_nothing_there_is_nothing_configured(etc: Path) -> None:
    assert load(where(etc)) == RegistriesConfig()
    assert load(RegistriesFiles()) == RegistriesConfig()
    assert load_recorded(where(etc)) == {}
    with pytest.raises(NotFound, match=r"registries\.conf does not exist"):
        load(where(etc, required=True))


def test_files_that_cannot_be_read(etc: Path) -> None:
    main = etc / "home/registries.conf"
    main.mkdir()
    with pytest.raises(StorageError, match=r"registries\.conf: is a directory"):
        load(where(etc))
    main.rmdir()
    main.write_bytes(b"#" * (FILE_LIMIT + 1))
    with pytest.raises(LimitExceeded):
        load(where(etc))
    main.write_text("nonsense")
    with pytest.raises(InvalidInput, match=r"home/registries\.conf"):
        load(where(etc))


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("", False),
        ("# only\n  # comments\n\n", False),
        ('[aliases]\na = "x.com/a"\n', True),
        ('# a\n [ aliases ]\n"a" = "x.com/a" # b\n', True),
    ],
)
def test_files_without_registries_are_left_until_aliases_are_wanted(
    etc: Path, text: str, read: bool
) -> None:
    (etc / "etc/registries.conf").write_text(text)
    assert load(where(etc)).registries == ()
    assert load(where(etc)).aliases == {}
    assert bool(load(where(etc), aliases=True).aliases) == read


def test_files_without_registries_cost_no_parser(etc: Path) -> None:
    """Nor anything else: most systems have only comments and aliases."""
    (etc / "etc/registries.conf").write_text("# nothing\n")
    (etc / "etc/registries.conf.d/a.conf").write_text('[aliases]\na = "x.com/a"\n')
    program = (
        "import sys; from imgtools.transport.registries.files import load_if_any; "
        "from imgtools.transport.options import RegistriesFiles; "
        f"print(load_if_any({where(etc)!r})); "
        "print({'tomllib', 'imgtools.transport.registries.model'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE)
    assert done.stdout == b"None\nset()\n"
    (etc / "etc/registries.conf").write_text(table("a.com", "b.com"))
    assert load_if_any(where(etc)) == load(where(etc))


def test_aliases_before_tables_hide_nothing(etc: Path) -> None:
    (etc / "etc/registries.conf").write_text('[aliases]\na = "x.com/a"\n' + table("a.com", "b.com"))
    assert [r.prefix for r in load(where(etc)).registries] == ["a.com"]


def test_the_paths_of_the_environment() -> None:
    env = {"HOME": "/home/u"}
    files = Settings.from_environment(env, 1000).registries
    assert files.main == (
        "/home/u/.config/containers/registries.conf",
        "/etc/containers/registries.conf",
    )
    assert not files.required
    assert files.aliases == "/home/u/.cache/containers/short-name-aliases.conf"
    assert Settings.from_environment(env, 0).registries.aliases == (
        "/var/cache/containers/short-name-aliases.conf"
    )
    env["CONTAINERS_REGISTRIES_CONF"] = "/x.conf"
    files = Settings.from_environment(env, 1000).registries
    assert (files.main, files.required) == (("/x.conf",), True)


# Short names

NAMES = config(
    'unqualified-search-registries = ["one.com", "docker.io"]\n'
    '[aliases]\nalpha = "quay.com/alpha"\n"ns/beta" = "localhost/beta"\nerased = ""\n'
)


@pytest.mark.parametrize(
    ("text", "expected", "reason", "ambiguous"),
    [
        ("quay.com/x", ["quay.com/x:latest"], "full", ""),
        ("localhost/x:v", ["localhost/x:v"], "full", ""),
        ("alpha", ["quay.com/alpha:latest"], "alias", ""),
        ("alpha:v1", ["quay.com/alpha:v1"], "alias", ""),
        (f"alpha{DIGEST}", [f"quay.com/alpha{DIGEST}"], "alias", ""),
        ("ns/beta:1", ["localhost/beta:1"], "alias", ""),
        ("beta", ["one.com/beta:latest", "docker.io/library/beta:latest"], "search", "prefer"),
        ("ns/x:v", ["one.com/ns/x:v", "docker.io/ns/x:v"], "search", "prefer"),
        ("erased", ["one.com/erased:latest", "docker.io/library/erased:latest"], "search",
         "prefer"),
    ],
)  # fmt: skip
def test_short_names(text: str, expected: list[str], reason: str, ambiguous: str) -> None:
    found = resolve(text, NAMES)
    assert [str(candidate) for candidate in found.candidates] == expected
    assert (found.reason, found.ambiguous) == (reason, ambiguous)
    assert found.file == ("" if reason == "full" else "0.conf")
    assert is_short(text) == (reason != "full")


def test_recorded_aliases_come_first(etc: Path) -> None:
    (etc / "aliases.conf").write_text('[aliases]\nalpha = "rec.com/alpha"\n"ns/beta" = ""\n')
    recorded = load_recorded(where(etc))
    assert str(resolve("alpha", NAMES, recorded).candidates[0]) == "rec.com/alpha:latest"
    assert resolve("ns/beta", NAMES, recorded).reason == "search"


@pytest.mark.parametrize(
    ("mode", "ambiguous"), [("permissive", "prefer"), ("enforcing", "require"), ("disabled", "")]
)
def test_short_name_modes(mode: str, ambiguous: str) -> None:
    search = 'unqualified-search-registries = ["a.com", "b.com"]\n'
    assert resolve("x", config(f'{search}short-name-mode = "{mode}"')).ambiguous == ambiguous
    one = 'unqualified-search-registries = ["a.com"]\n'
    assert resolve("x", config(f'{one}short-name-mode = "{mode}"')).ambiguous == ""


def test_short_names_that_cannot_be_resolved() -> None:
    with pytest.raises(NotFound, match="no alias"):
        resolve("x", config(""))
    for text in ("", "UPPER", "a b", HEX):
        with pytest.raises(Error):
            resolve(text, NAMES)
