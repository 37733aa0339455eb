"""Case 79: mirrors of registries.conf, as the command line uses them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from imgtools.testing import images
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.options import RegistriesFiles
from tests.bad_input import Outcome, cli, push
from tests.edges.kit import USER, auth_file, basic, shown

IMAGE = images.random_image("mirrored", layers=2)
STALE = images.random_image("stale", layers=2)
NAME = "docker://upstream.invalid/app:1"


class Site:
    """upstream.invalid, which is at `primary`, and its mirrors."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self._stack = stack
        self.primary = self.registry()

    def registry(self, **options: Any) -> ScriptedRegistry:
        return self._stack.enter_context(ScriptedRegistry(**options))

    def run(
        self, *arguments: str, mirrors: list[ScriptedRegistry], each: str = "", more: str = "",
        **settings: Any,
    ) -> Outcome:  # fmt: skip
        """A command line under a configuration with these mirrors."""
        lines = ["[[registry]]", 'prefix = "upstream.invalid"',
                 f'location = "{self.primary.host}"', "insecure = true", more]  # fmt: skip
        for mirror in mirrors:
            lines += ["[[registry.mirror]]", f'location = "{mirror.host}"', "insecure = true", each]
        path = self.directory / "registries.conf"
        path.write_text("\n".join(lines) + "\n")
        files = RegistriesFiles(main=(str(path),))
        return cli(self.directory, *arguments, registries=files, **settings)

    def copy(self, *flags: str, **options: Any) -> Outcome:
        return self.run("copy", "-q", *flags, NAME, f"dir:{self.directory}/d", **options)

    def manifest(self) -> bytes:
        return (self.directory / "d" / "manifest.json").read_bytes()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site that ends with the test."""
    with ExitStack() as stack:
        yield Site(tmp_path, stack)


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
@pytest.mark.parametrize("mirror_has_it", [True, False])
def test_79_credentials_for_upstream_are_not_shown_to_mirrors(
    site: Site, scheme: Any, mirror_has_it: bool
) -> None:
    site.primary = site.registry(auth=scheme)
    # One mirror asks for credentials itself, which is not a reason to show ours.
    mirrors = [site.registry(auth=scheme), site.registry()]
    push(site.primary, "app", IMAGE)
    if mirror_has_it:
        push(mirrors[1], "app", IMAGE)
    done = site.copy("--src-creds", USER, mirrors=mirrors)
    assert done.code == 0, done.err
    assert all(mirror.requests for mirror in mirrors)
    assert [shown(mirror.requests) for mirror in mirrors if mirror.tokens == ()] == (
        [[], []] if scheme == "basic" else [[]]
    )
    # A token that a mirror's own server gives to anybody is no secret of upstream's.
    assert all(token.anonymous for mirror in mirrors for token in mirror.tokens)
    assert bool(site.primary.requests) is not mirror_has_it


def test_79_entries_of_auth_files_are_for_the_host_that_they_name(site: Site) -> None:
    site.primary = site.registry(auth="basic")
    mirror = site.registry(auth="basic")
    push(site.primary, "app", IMAGE)
    push(mirror, "app", IMAGE)
    for host, reader in ((site.primary.host, site.primary), (mirror.host, mirror)):
        for each in (site.primary, mirror):
            each.forget_requests()
        files = auth_file(
            site.directory / "auth.json",
            {"upstream.invalid": {"auth": basic("user", "never")},
             host: {"auth": basic("user", "secret")}},
        )  # fmt: skip
        done = site.copy(mirrors=[mirror], auth_files=files)
        assert done.code == 0, done.err
        other = mirror if reader is site.primary else site.primary
        assert shown(other.requests) == []
        assert set(shown(reader.requests)) == {f"Basic {basic('user', 'secret')}"}


@pytest.mark.parametrize("status", [401, 403, 404, 410, 429, 500, 503])
def test_79_what_a_mirror_does_not_give_comes_from_upstream(site: Site, status: int) -> None:
    mirror = site.registry()
    for each in (site.primary, mirror):
        push(each, "app", IMAGE)
    mirror.fail(status=status)
    done = site.copy(mirrors=[mirror])
    assert (done.code, done.err) == (0, "")
    assert site.manifest() == IMAGE.top.content
    assert mirror.requests


def test_79_blobs_that_a_mirror_lacks_come_from_upstream(site: Site) -> None:
    mirror = site.registry()
    for each in (site.primary, mirror):
        push(each, "app", IMAGE)
    mirror.repository("app").blobs.clear()
    done = site.copy(mirrors=[mirror])
    assert done.code == 0, done.err
    assert site.primary.count("GET", "/manifests/") == 0
    assert site.primary.count("GET", "/blobs/") == len(IMAGE.blobs)


def test_79_where_all_fail_it_is_upstreams_error_and_the_mirrors_are_named(site: Site) -> None:
    mirror = site.registry()
    mirror.fail(status=403)
    done = site.copy(mirrors=[mirror])
    done.refused(mirror.host, "403", "does not exist", code=2)


def test_79_mirrors_for_digests_alone_cannot_be_stale(site: Site) -> None:
    mirror = site.registry()
    push(mirror, "app", STALE)
    push(mirror, "app", IMAGE, "new")
    push(site.primary, "app", IMAGE)
    assert site.copy(mirrors=[mirror]).code == 0
    # That is what a mirror of tags means.
    assert site.manifest() == STALE.top.content
    for how in (
        {"each": 'pull-from-mirror = "digest-only"'},
        {"more": "mirror-by-digest-only = true"},
    ):
        done = site.run("inspect", "--raw", NAME, mirrors=[mirror], **how)
        assert done.out == IMAGE.top.content, done.err
    mirror.forget_requests()
    site.primary.forget_requests()
    name = f"docker://upstream.invalid/app@{IMAGE.top.digest}"
    done = site.run("inspect", "--raw", name, mirrors=[mirror],
                    more="mirror-by-digest-only = true")  # fmt: skip
    assert done.out == IMAGE.top.content, done.err
    assert (len(mirror.requests), site.primary.requests) == (1, [])


def test_79_mirrors_are_held_to_the_digest(site: Site) -> None:
    mirror = site.registry()
    push(mirror, "app", IMAGE)
    push(site.primary, "app", IMAGE)
    mirror.fail(path="/manifests/", body_override=STALE.top.content)
    mirror.fail(path="/blobs/", flip=5)
    name = f"docker://upstream.invalid/app@{IMAGE.top.digest}"
    to = f"dir:{site.directory}/d"
    done = site.run("copy", "-q", name, to, mirrors=[mirror])
    assert done.code == 0, done.err
    assert site.manifest() == IMAGE.top.content
    config = json.loads(IMAGE.top.content)["config"]["digest"].partition(":")[2]
    assert (site.directory / "d" / config).is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", NAME),
        ("copy", NAME, "dir:{tmp}/d"),
        ("copy", "dir:{tmp}/in", NAME),
        ("delete", NAME),
        ("list-tags", "docker://upstream.invalid/app"),
        ("sync", "--src=docker", "--dest=dir", "upstream.invalid/app", "{tmp}/d"),
    ],
    ids=lambda arguments: str(arguments[0]),
)
def test_79_blocked_registries_are_not_even_looked_up(
    site: Site, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    push(site.primary, "app", IMAGE)
    name = f"docker://{site.primary.host}/app:1"
    given = ("--src-tls-verify=false", name, f"dir:{site.directory}/in")
    assert cli(site.directory, "copy", "-q", *given).code == 0
    site.primary.forget_requests()

    def look_up(*_: object, **__: object) -> Any:
        raise AssertionError("a name was looked up")

    monkeypatch.setattr("socket.getaddrinfo", look_up)
    filled = [argument.replace("{tmp}", str(site.directory)) for argument in arguments]
    done = site.run(*filled, mirrors=[], more="blocked = true")
    done.refused("is blocked in", "registries.conf")
    assert site.primary.requests == []
