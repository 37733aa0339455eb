"""How many requests each verb needs, counted at the registry's and the token server's door.

A registry a continent away answers in 100 ms, so requests are what a copy of an unchanged image
costs. Skopeo is counted in the same way in the same run; `pytest -s` prints both.
"""

from __future__ import annotations

import contextlib
import ssl
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.debian import Made, entry, finish, image, new_layout, write_tar
from tests.rig import Exchange, Head, LoggingProxy, RegistryServer, RunCli

Skopeo = Callable[..., subprocess.CompletedProcess[str]]
LAYERS = 10
HERE, THERE = "requests/here", "requests/there"


class Gate(LoggingProxy):
    """Speaks TLS before a server that does not, so that there is no doubt about the scheme."""

    def __init__(self, host: str, certificates: Path, tokens: str = "", realm: str = "") -> None:
        """Before `host`; token servers called `tokens` are told to be at `realm`."""

        def challenge(_: Exchange, head: Head) -> Head | None:
            text = head.get("WWW-Authenticate")
            return (
                head.with_header("WWW-Authenticate", text.replace(tokens, realm)) if text else None
            )

        super().__init__(
            host,
            certificates=certificates,
            on_request=lambda head: head.with_header("X-Forwarded-Proto", "https"),
            on_response=challenge if tokens else None,
        )

    def _tls(self) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
        return super()._tls()[0], None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What one command asked for."""

    source: Counter[str]
    target: Counter[str]
    tokens: int

    @property
    def total(self) -> int:
        """All requests."""
        return self.source.total() + self.target.total() + self.tokens

    def __str__(self) -> str:
        parts = (f"{name}={dict(c)}" for name, c in (("src", self.source), ("dst", self.target)))
        return f"{self.total} ({', '.join(parts)}, tokens={self.tokens})"


class Rig:
    """One registry that asks for tokens, behind two doors that pass for two registries."""

    def __init__(self, registry: RegistryServer, stack: contextlib.ExitStack) -> None:
        assert registry.tokens is not None
        self.registry = registry
        self.creds = f"{registry.username}:{registry.password}"
        self.cert_dir = registry.cert_dir
        address = registry.tokens.url
        where = registry.certificates
        self.tokens = stack.enter_context(Gate(urlsplit(address).netloc, where))
        self.one, self.other = (
            stack.enter_context(Gate(registry.host, where, address, f"{self.tokens.url}/token"))
            for _ in range(2)
        )

    def flags(self, *sides: str) -> list[str]:
        """What reaches it."""
        prefixes = [f"--{side}-" if side else "--" for side in sides]
        return [
            flag
            for prefix in prefixes
            for flag in (f"{prefix}cert-dir={self.cert_dir}", f"{prefix}creds={self.creds}")
        ]

    def count(self) -> Counted:
        """The requests since the last call."""
        words = ("manifests", "blobs/uploads", "blobs", "tags")
        source, target = (
            Counter(
                f"{e.method} {next((w for w in words if f'/{w}/' in e.path), e.path)}"
                + (" 401" if e.status == 401 else "")
                for e in gate.take()
            )
            for gate in (self.one, self.other)
        )
        return Counted(source=source, target=target, tokens=len(self.tokens.take()))


@pytest.fixture(scope="module")
def ten_layers(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """An image of ten small layers."""
    directory = tmp_path_factory.mktemp("ten-layers")
    tars = [
        write_tar(directory / f"{n}.tar", [entry(f"file-{n}", bytes([n]) * 5000)])
        for n in range(LAYERS)
    ]
    layout = directory / "layout"
    top = image(new_layout(layout), tars, {"architecture": "amd64", "os": "linux"}, "ten layers")
    return finish(directory, layout, top, tars)


@pytest.fixture(scope="module")
def filled(registry_token: RegistryServer, ten_layers: Made, platforms: Made) -> RegistryServer:
    """A registry with the images, an index beside the one of ten layers."""
    for repository in (HERE, THERE):
        registry_token.push(ten_layers.directory, f"{repository}:1")
        registry_token.push(platforms.directory, f"{repository}/index:1")
    return registry_token


@pytest.fixture
def rig(filled: RegistryServer) -> Iterator[Rig]:
    """Two doors and counters at zero."""
    with contextlib.ExitStack() as stack:
        yield Rig(filled, stack)


# Name -> arguments, requests at first contact, requests when it is known where tokens come from.
# {src} and {dst} are repositories with the image; {new} is an empty one of the second registry,
# {own} of the first. Both numbers hold the requests for tokens.
Case = tuple[str, int, int]
CASES: dict[str, Case] = {
    # HEAD on both ends; GET of the manifest, the config and 10 layers; POST and PUT of each of the
    # 11 blobs; PUT of the manifest; 2 tokens. First contact adds a 401 on either side.
    # Newer skopeo: 71, for it asks twice whether each blob is there and uploads in three requests.
    "copy, nothing there": ("copy {src}:1 {new}:1", 41, 39),
    # HEAD on both ends and 2 tokens. Newer skopeo: 18.
    "copy, everything there": ("copy {src}:1 {dst}:1", 6, 4),
    # Manifest, config, tags and a token. At first contact manifest and tags are asked for at the
    # same time, so both meet a 401: one request more, and one round trip less where nothing asks
    # for tokens. Newer skopeo: 7, one after the other.
    "inspect": ("inspect {src}:1", 6, 4),
    # And the manifest of one platform. Newer skopeo: 8.
    "inspect of an index": ("inspect {src}/index:1", 7, 5),
    "inspect --no-tags": ("inspect --no-tags {src}:1", 4, 3),
    "inspect --config": ("inspect --config {src}:1", 4, 3),
    "inspect --raw": ("inspect --raw {src}:1", 3, 2),
    # The page of tags and a token. Newer skopeo: 3.
    "list-tags": ("list-tags {src}", 3, 2),
    # HEAD on both ends, GET and PUT of the manifest, a POST for each blob that mounts it; three
    # tokens, since reading the one, writing the other and mounting between them differ in scope.
    # At first contact both ends meet the one challenge at the same time. Newer skopeo: 71, or 42
    # when it remembers where the blobs came from.
    "copy in a registry": ("copy {src}:1 {own}:1", 20, 18),
    # HEAD on both ends; 5 manifests and 9 blobs, of which all platforms share one; 2 tokens.
    "copy of an index, nothing there": ("copy --all {src}/index:1 {new}:1", 43, 41),
    # Newer skopeo: 34 for an index of this kind.
    "copy of an index, everything there": ("copy --all {src}/index:1 {dst}/index:1", 6, 4),
}


@pytest.mark.parametrize("name", CASES)
def test_requests(
    name: str,
    rig: Rig,
    repository: str,
    run_cli: RunCli,
    skopeo: Skopeo,
) -> None:
    """Exactly as many as the table says, and fewer than skopeo's."""
    template, first, known = CASES[name]

    def arguments(who: str) -> list[str]:
        src, dst = f"docker://{rig.one.host}", f"docker://{rig.other.host}"
        names = {"src": f"{src}/{HERE}", "dst": f"{dst}/{THERE}"}
        empty = {"new": f"{dst}/{repository}/{who}", "own": f"{src}/{repository}/{who}"}
        verb, *rest = template.format(**names, **empty).split()
        return [verb, *rig.flags(*(["src", "dest"] if verb == "copy" else [""])), *rest]

    counts = {}
    for who in ("first", "known"):
        # What is asked at the same time is under way before the first answer comes.
        rig.one.latency = rig.other.latency = 0.1 if who == "first" else 0
        run_cli(*arguments(who), check=True)
        counts[who] = rig.count()
    skopeo(*arguments("skopeo"))
    counts["skopeo"] = rig.count()
    ratio = counts["skopeo"].total / counts["first"].total
    print(f"\n{name}: {ratio:.1f} times fewer requests than skopeo")
    for who, count in counts.items():
        print(f"  {who}: {count}")
    assert {who: counts[who].total for who in ("first", "known")} == {
        "first": first,
        "known": known,
    }
    assert counts["known"].total < counts["skopeo"].total


def test_requests_of_a_copy_in_detail(rig: Rig, repository: str, run_cli: RunCli) -> None:
    """Nothing is asked twice."""
    source, target = f"{rig.one.host}/{HERE}:1", f"{rig.other.host}/{repository}:1"
    copy = ("copy", *rig.flags("src", "dest"), f"docker://{source}", f"docker://{target}")
    run_cli(*copy, check=True)
    cold = rig.count()
    assert cold.tokens == 2
    asked = {"HEAD manifests 401": 1, "HEAD manifests": 1}
    assert cold.source == {**asked, "GET manifests": 1, "GET blobs": LAYERS + 1}
    assert cold.target == {
        **asked,
        "POST blobs/uploads": LAYERS + 1,
        "PUT blobs/uploads": LAYERS + 1,
        "PUT manifests": 1,
    }
    run_cli(*copy, check=True)
    warm = rig.count()
    assert (warm.source, warm.target) == ({"HEAD manifests": 1}, {"HEAD manifests": 1})
