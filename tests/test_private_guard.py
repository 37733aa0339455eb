"""Where a registry may lead: kinds of addresses, and every way a registry has to point at one.

The registry and the other host are both on loopback; what their addresses are said to be is a
table of the test's, put in by the same door by which the real one comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest

from imgtools.errors import ConnectionFailed, Denied, Error
from imgtools.spec.digest import Digest
from imgtools.transport.options import Credentials, Proxies, RegistryOptions, Timeouts
from imgtools.transport.registry.access.challenge_cache import ChallengeCache, KnownHost
from imgtools.transport.registry.api import Repository
from imgtools.transport.registry.pages import pages
from imgtools.transport.registry.session import Session
from imgtools.transport.registry.wire.connect import Address, Check, resolve
from imgtools.transport.registry.wire.connection import Network
from imgtools.transport.registry.wire.exchange import ExchangeFailed
from imgtools.transport.registry.wire.guard import (
    Kind,
    classify,
    common_kind,
    is_allowed,
    literal,
    may_lead,
)
from imgtools.transport.registry.wire.retry import RetryPolicy
from tests.registry_fake import Answer, FakeRegistry, Request, say

HERE, THERE = "127.0.0.1", "127.0.0.2"
"""The addresses of the registry and of the host it leads to."""

USER = Credentials(username="me", password="secret")
ONCE = RetryPolicy(attempts=1, connect_attempts=1)


# Kinds


@pytest.mark.parametrize(
    ("kind", "addresses"),
    [
        ("public", "1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 172.15.255.255 "
                   "172.32.0.0 192.167.255.255 192.169.0.0 126.255.255.255 128.0.0.0 "
                   "169.253.255.255 223.255.255.255 2606:4700::1111 2001:4860::8888 2a00::1 "
                   "::ffff:1.1.1.1 64:ff9b::101:101 2002:101:101::1"),
        ("private", "10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.1 100.64.0.0 "
                    "100.127.255.255 198.18.0.1 198.19.255.255 fc00::1 fdff::1 fec0::1 "
                    "::ffff:10.0.0.1 ::ffff:0:10.0.0.1 64:ff9b::a00:1 64:ff9b:1::1 2002:a00:1::1 "
                    "::10.0.0.1 2001:2::1 5f00::1"),
        ("loopback", "127.0.0.1 127.255.255.255 ::1 ::ffff:127.0.0.1 ::ffff:7f00:1 "
                     "64:ff9b::7f00:1 2002:7f00:1:: ::127.0.0.1"),
        ("link-local", "169.254.0.1 169.254.255.255 fe80::1 febf::1 fe80::1%eth0 "
                       "::ffff:169.254.1.1"),
        ("metadata", "169.254.169.254 169.254.170.2 fd00:ec2::254 fd20:ce::254 100.100.100.200 "
                     "168.63.129.16 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe::"),
        ("unspecified", "0.0.0.0 0.1.2.3 :: ::ffff:0.0.0.0 64:ff9b::"),
        ("multicast", "224.0.0.1 239.255.255.255 ff02::1 ::ffff:224.0.0.1"),
        ("reserved", "192.0.2.1 198.51.100.1 203.0.113.1 240.0.0.1 255.255.255.255 2001:db8::1 "
                     "100::1 192.0.0.8 3fff::1"),
        # Teredo (RFC 4380): the last four bytes are the client's address, inverted.
        ("private", "2001::1:f5ff:fffe"),
        ("metadata", "2001::5601:5601"),
    ],
)  # fmt: skip
def test_kinds(kind: Kind, addresses: str) -> None:
    assert {a: classify(a) for a in addresses.split()} == dict.fromkeys(addresses.split(), kind)


@pytest.mark.parametrize("text", ["", "example.com", "1.2.3", "300.0.0.1", "::g", "1.2.3.4/8"])
def test_what_is_no_address_has_no_kind(text: str) -> None:
    with pytest.raises(ValueError, match="not a numeric address"):
        classify(text)


KINDS: tuple[Kind, ...] = (
    "public", "reserved", "private", "loopback", "unspecified", "link-local", "metadata",
    "multicast",
)  # fmt: skip


@pytest.mark.parametrize(
    ("source", "targets"),
    [
        ("public", {"public"}),
        ("reserved", {"public", "reserved", "private"}),
        ("private", {"public", "reserved", "private"}),
        ("loopback", {"public", "reserved", "private", "loopback", "unspecified"}),
        ("link-local", {"public", "reserved", "private", "link-local", "metadata"}),
    ],
)
def test_who_may_lead_where(source: Kind, targets: set[Kind]) -> None:
    assert {target for target in KINDS if may_lead(source, target)} == targets


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("example.com", None),
        ("10.example.com", None),
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("::1", "::1"),
        ("fe80::1%1", "fe80::1%1"),
        ("::zz", None),
        ("LocalHost", "127.0.0.1"),
        ("a.localhost", "127.0.0.1"),
        ("metadata.google.internal", "169.254.169.254"),
    ],
)
def test_hosts_that_are_addresses(host: str, address: str | None) -> None:
    assert literal(host) == address


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("minio.corp", True),
        ("MinIO.corp", True),
        ("minio.corp:9000", True),
        ("minio.corp:9001", False),
        ("corp", False),
        (".corp", True),
        ("*.corp", True),
        ("10.1.2.3", True),
        ("10.0.0.0/8", True),
        ("11.0.0.0/8", False),
        ("10.0.0.0/99", False),
        ("", False),
    ],
)
def test_what_the_user_allows(rule: str, expected: bool) -> None:
    assert is_allowed("minio.corp", "minio.corp:9000", "10.1.2.3", ("else", rule)) is expected


def test_allowed_networks_of_ipv6() -> None:
    assert is_allowed("fd00::1", "[fd00::1]:9", "fd00::1", ("[fd00::1]",))
    assert is_allowed("fd00::1", "[fd00::1]:9", "fd00::1", ("fd00::/16",))
    assert is_allowed("x", "x", "fe80::1%eth0", ("fe80::/10",))
    assert not is_allowed("x", "x", "10.0.0.1", ("fd00::/16",))


def test_kind_of_a_host_with_several_addresses() -> None:
    assert common_kind(["private", "public", "loopback"]) == "public"
    assert common_kind(["loopback", "private"]) == "private"
    assert common_kind([]) == "public"


# Ways to lead

BLOB = Digest.parse("sha256:" + "a" * 64)


def by_redirect(session: Session, other: str) -> None:
    session.request("GET", "/redirect", repository="a/b", scopes=()).close()


def by_upload_location(session: Session, other: str) -> None:
    repository = Repository(session, "a/b", push=True)
    with repository.start_upload() as response:
        location = session.resolve(response, response.header("Location"))
    repository.put_upload(location, BLOB, None).close()


def by_foreign_layer(session: Session, other: str) -> None:
    session.request("GET", "/plain", repository="a/b", scopes=()).close()
    session.anonymous_request("GET", f"{other}/layer", {}).close()


def by_redirected_layer(session: Session, other: str) -> None:
    session.request("GET", "/plain", repository="a/b", scopes=()).close()
    session.anonymous_request("GET", f"{session.base}/plain/redirect", {}).close()


def by_realm(session: Session, other: str) -> None:
    session.request("GET", "/wants-token", repository="a/b", scopes=("s",)).close()


WAYS = (by_redirect, by_upload_location, by_foreign_layer, by_redirected_layer, by_realm)


def registry_script(other: Callable[[], str]) -> Callable[[Request], Answer]:
    """A registry that wants Basic credentials where it says so, and leads to `other`."""

    def script(request: Request) -> Answer:
        if request.path == "/wants-token" and "Bearer" not in request.authorization:
            return say(401, WWW_Authenticate=f'Bearer realm="{other()}/token",service="s"')
        if not request.path.startswith("/plain") and not request.authorization:
            return say(401, WWW_Authenticate='Basic realm="r"')
        if request.path.endswith("/redirect"):
            return say(307, Location=f"{other()}/led")
        if request.method == "POST":
            return say(202, Location=f"{other()}/led?state=1")
        return say(200)

    return script


@contextmanager
def two_hosts(
    kinds: Mapping[str, Kind], **options: object
) -> Iterator[tuple[Session, FakeRegistry, FakeRegistry]]:
    """A session with `registry.test`, that registry, and the host `other.test`."""
    names = {"registry.test": HERE, "other.test": THERE}

    def look_up(host: str, port: int, seconds: float, check: Check) -> list[Address]:
        return resolve(names.get(host, host), port, seconds, check)

    def other_url() -> str:
        return f"http://other.test:{other.host.rpartition(':')[2]}"

    def answer(request: Request) -> Answer:
        return say(200, {"token": "t"}) if request.path == "/token" else say(201)

    with (
        FakeRegistry(answer, address=THERE) as other,
        FakeRegistry(registry_script(other_url)) as registry,
    ):
        host = f"registry.test:{registry.host.rpartition(':')[2]}"
        cache = ChallengeCache(None)
        cache.put(host, KnownHost(scheme="http"))
        values: dict[str, object] = {
            "tls_verify": False,
            "credentials": USER,
            "timeouts": Timeouts(connect=5, first_byte=5, idle=5),
            **options,
        }
        network = Network(resolve=look_up, classify=lambda address: kinds[address])
        given = RegistryOptions(**values)  # type: ignore[arg-type]
        session = Session(host, given, cache, ONCE, network=network)
        try:
            yield session, registry, other
        finally:
            session.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["private", "loopback", "link-local", "metadata", "unspecified"])
def test_public_registry_does_not_lead_inside(
    way: Callable[[Session, str], None], kind: Kind
) -> None:
    with two_hosts({HERE: "public", THERE: kind}) as (session, registry, other):
        url = f"http://other.test:{other.host.rpartition(':')[2]}"
        with pytest.raises((ConnectionFailed, Denied), match=f"{THERE}, which is a {kind}") as e:
            way(session, url)
        # Nobody is advised to let a registry reach a cloud's metadata.
        advised = "--allow-private other.test" in (e.value.hint or "")
        assert advised is (kind in ("private", "loopback"))
        assert registry.requests
        assert other.requests == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("own", "kind", "allowed"),
    [
        ("public", "public", ()),
        ("private", "private", ()),
        ("loopback", "private", ()),
        ("loopback", "loopback", ()),
        ("public", "private", ("other.test",)),
        ("public", "metadata", ("127.0.0.0/8",)),
    ],
)
def test_where_it_may_lead_it_is_followed_without_credentials(
    way: Callable[[Session, str], None], own: Kind, kind: Kind, allowed: tuple[str, ...]
) -> None:
    kinds: dict[str, Kind] = {HERE: own, THERE: kind}
    with two_hosts(kinds, private_hosts=allowed) as (session, registry, other):
        way(session, f"http://other.test:{other.host.rpartition(':')[2]}")
        led = [request for request in other.requests if request.path != "/token"]
        assert len(led) == (way is not by_realm)
        assert [request.authorization for request in led] == [""] * len(led)
        assert all("cookie" not in request.headers for request in other.requests)
        # A token server is shown them, that is what a realm is for; nobody else is.
        tokens = [request for request in other.requests if request.path == "/token"]
        assert [bool(request.authorization) for request in tokens] == [True] * (way is by_realm)
        if way in (by_redirect, by_upload_location):
            assert registry.requests[-1].authorization.startswith("Basic ")


@pytest.mark.parametrize(("own", "kind"), [("private", "loopback"), ("private", "link-local")])
def test_private_registry_does_not_lead_further_in(own: Kind, kind: Kind) -> None:
    with two_hosts({HERE: own, THERE: kind}) as (session, _, other):
        with pytest.raises(ExchangeFailed, match=kind):
            by_redirect(session, "")
        assert other.requests == []


def test_remembered_realm_is_checked_before_the_registry_was_asked() -> None:
    """The registry's own address is looked up where nothing has been sent to it yet."""
    for own, error in (("public", Error), ("private", None)):
        kinds: dict[str, Kind] = {HERE: own, THERE: "private"}  # type: ignore[dict-item]
        with two_hosts(kinds) as (first, registry, other):
            url = f"http://other.test:{other.host.rpartition(':')[2]}/token"
            cache = ChallengeCache(None)
            cache.put(first.host, KnownHost(scheme="http", auth="bearer", realm=url, service="s"))
            session = Session(first.host, first.options, cache, ONCE, network=first._network)
            if error:
                # Of no use, so the registry is asked, which wants Basic.
                session.request("GET", "/x", repository="a", scopes=("s",)).close()
                assert other.requests == []
                assert registry.requests
            else:
                session.request("GET", "/wants-token", repository="a", scopes=("s",)).close()
                assert other.seen[0].startswith("GET /token")
            session.close()


def test_address_is_what_counts_and_not_the_name() -> None:
    """A name with a public and a private address leads to the public one only."""
    kinds: dict[str, Kind] = {HERE: "public", THERE: "public", "127.0.0.9": "private"}
    with two_hosts(kinds) as (session, _, other):
        port = int(other.host.rpartition(":")[2])

        def look_up(host: str, _: int, seconds: float, check: Check) -> list[Address]:
            both = ("127.0.0.9", THERE) if host == "other.test" else (HERE,)
            at = port if host == "other.test" else int(session.host.rpartition(":")[2])
            return [Address(2, (address, at)) for address in both]

        network = Network(resolve=look_up, classify=lambda address: kinds[address])
        cache = ChallengeCache(None)
        cache.put(session.host, KnownHost(scheme="http"))
        again = Session(session.host, session.options, cache, ONCE, network=network)
        by_redirect(again, "")
        again.close()
        assert other.seen == ["GET /led"]


def test_registry_s_own_name_does_not_come_to_mean_what_is_inside() -> None:
    kinds: dict[str, Kind] = {HERE: "public", THERE: "private"}
    means = [HERE]
    with FakeRegistry(lambda r: say(200, Connection="close"), address="0.0.0.0") as registry:
        port = int(registry.host.rpartition(":")[2])

        def look_up(host: str, at: int, seconds: float, check: Check) -> list[Address]:
            return [Address(2, (means[0], port))]

        cache = ChallengeCache(None)
        cache.put(f"registry.test:{port}", KnownHost(scheme="http"))
        network = Network(resolve=look_up, classify=lambda address: kinds[address])
        options = RegistryOptions(tls_verify=False)
        session = Session(f"registry.test:{port}", options, cache, ONCE, network=network)
        try:
            session.request("GET", "/x", repository="a", scopes=()).drain()
            means[0] = THERE
            with pytest.raises(ExchangeFailed, match="private"):
                session.request("GET", "/x", repository="a", scopes=())
            means[0] = HERE
            session.request("GET", "/x", repository="a", scopes=()).drain()
        finally:
            session.close()
        assert len(registry.requests) == 2


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("１２７.0.0.1", "127.0.0.1"),
        ("127。0。0。1", "127.0.0.1"),
        ("ⓛocalhost", "127.0.0.1"),
        ("127%2e0.0.1", ""),
        ("localhost%20x", ""),
        ("localhost x", ""),
        ("10.0.0.1\u00a0x", ""),
        ("localhost\x00x", ""),
    ],
)
def test_hosts_that_a_proxy_could_read_otherwise(scheme: str, host: str, address: str) -> None:
    """What is left of such a host is decided on before a proxy hears of it."""
    with FakeRegistry(lambda r: say(500)) as proxy:
        proxies = Proxies(http=f"{scheme}://{proxy.host}")
        options = RegistryOptions(tls_verify=False, proxies=proxies)
        cache = ChallengeCache(None)
        cache.put("registry.test", KnownHost(scheme="http"))
        session = Session("registry.test", options, cache, ONCE)
        words = f"{address}, which is a loopback" if address else "no possible host|malformed"
        try:
            with pytest.raises(ConnectionFailed, match=words):
                session.anonymous_request("GET", f"http://{host}/secret", {})
        finally:
            session.close()
        assert proxy.requests == []


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("http://169.254.169.254/latest", "metadata"),
        ("http://0x7f.1:5000/", ""),
        ("http://10.1.2.3/", "private"),
        ("http://[fd00::1]/", "private"),
        ("http://metadata.google.internal/", "metadata"),
    ],
)
def test_literal_addresses_through_a_proxy(target: str, words: str) -> None:
    """Names are the proxy's to resolve; what is an address already is known here."""

    def script(request: Request) -> Answer:
        return say(200) if request.target == target else say(307, Location=target)

    with FakeRegistry(script) as proxy:
        proxies = Proxies(http=f"http://{proxy.host}")
        for allowed in ((), ("169.254.0.0/16", "10.1.2.3", "fd00::1", "0x7f.1")):
            cache = ChallengeCache(None)
            cache.put("registry.test", KnownHost(scheme="http"))
            options = RegistryOptions(tls_verify=False, proxies=proxies, private_hosts=allowed)
            session = Session("registry.test", options, cache, ONCE)
            try:
                if allowed:
                    by_redirect(session, "")
                    assert proxy.requests[-1].target == target
                else:
                    with pytest.raises(ExchangeFailed, match=words or "loopback"):
                        by_redirect(session, "")
                    assert len(proxy.requests) == 1
            finally:
                session.close()


def test_next_page_stays_on_the_registry() -> None:
    """A Link is held to the registry's origin before anything is resolved."""
    with (
        FakeRegistry(lambda r: say(200)) as other,
        FakeRegistry(
            lambda r: say(200, {"tags": []}, Link=f'<{other.url}/v2/next>; rel="next"')
        ) as registry,
    ):
        session = Session(registry.host, RegistryOptions(tls_verify=False, credentials=USER),
                          ChallengeCache(None), ONCE)  # fmt: skip
        repository = Repository(session, "a/b")
        with pytest.raises(ConnectionFailed, match="another host"):
            list(pages(repository, repository.tags(10)))
        assert other.requests == []
        session.close()


def test_another_port_of_the_registry_s_name_is_not_the_registry() -> None:
    """A name that means something else by the time of the redirect is looked at again."""
    kinds: dict[str, Kind] = {HERE: "public", THERE: "private"}

    with FakeRegistry(lambda r: say(200), address=THERE) as other:
        port = other.host.rpartition(":")[2]

        def look_up(host: str, at: int, seconds: float, check: Check) -> list[Address]:
            return resolve(THERE if str(at) == port else HERE, at, seconds, check)

        location = f"http://registry.test:{port}/led"
        with FakeRegistry(lambda r: say(307, Location=location)) as registry:
            host = f"registry.test:{registry.host.rpartition(':')[2]}"
            cache = ChallengeCache(None)
            cache.put(host, KnownHost(scheme="http"))
            network = Network(resolve=look_up, classify=lambda address: kinds[address])
            session = Session(host, RegistryOptions(tls_verify=False), cache, ONCE, network=network)
            with pytest.raises(ExchangeFailed, match="private"):
                session.request("GET", "/v2/", repository="a", scopes=())
            session.close()
        assert other.requests == []
