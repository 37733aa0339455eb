"""Network plans, and the texts of resolv.conf, hosts and hostname: tables after podman's."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.network.files import make_hostname, make_hosts, make_resolv_conf
from engine.network.model import DnsOptions, NetworkFacts, NetworkPlan
from engine.network.plan import prepare_network
from imgtools.errors import InvalidInput, Unsupported

FACTS = NetworkFacts(
    pasta="/usr/bin/pasta",
    slirp4netns="/usr/bin/slirp4netns",
    resolv_conf="search example.test\nnameserver 192.0.2.53\noptions ndots:2\n",
    hosts="127.0.0.1 localhost\n192.0.2.7 other\n",
    host_name="machine",
    host_address="192.0.2.1",
)
HOST = NetworkPlan(mode="host", private=False, host_address="127.0.0.1")
NONE = NetworkPlan(mode="none", private=True)
PASTA = prepare_network("pasta", FACTS)
SLIRP = prepare_network("slirp4netns", FACTS)
BARE = NetworkPlan(mode="slirp4netns", private=True)
NO_DNS = DnsOptions()
RESOLVED = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n"


@pytest.mark.parametrize(
    ("mode", "facts", "expected"),
    [
        (None, FACTS, "pasta"),
        ("private", FACTS, "pasta"),
        (None, replace(FACTS, pasta=""), "slirp4netns"),
        ("slirp4netns", FACTS, "slirp4netns"),
        ("host", NetworkFacts(), "host"),
        ("none", NetworkFacts(), "none"),
    ],
)
def test_modes(mode: str | None, facts: NetworkFacts, expected: str) -> None:
    """pasta is the default, then slirp4netns; host and none need nothing."""
    plan = prepare_network(mode, facts)
    assert plan.mode == expected
    assert plan.private == (expected != "host")
    assert bool(plan.helper) == (expected in ("pasta", "slirp4netns"))


@pytest.mark.parametrize(
    ("mode", "facts", "message", "hint"),
    [
        ("pasta", NetworkFacts(), "pasta is not installed", "package passt"),
        ("slirp4netns", NetworkFacts(), "slirp4netns is not installed", "package slirp4netns"),
        (None, NetworkFacts(), "neither pasta nor slirp4netns is installed", "package passt"),
        ("slirp4netns", replace(FACTS, join_problem="setns: EPERM"), "setns: EPERM", "seccomp"),
        ("pasta", replace(FACTS, tun_problem="/dev/net/tun: no"), "/dev/net/tun: no", "tun"),
        ("bridge", FACTS, "network bridge is not supported", "pasta"),
    ],
)
def test_modes_that_cannot_be_had(
    mode: str | None, facts: NetworkFacts, message: str, hint: str
) -> None:
    """The package is named, and never another network given."""
    with pytest.raises(Unsupported, match=message) as caught:
        prepare_network(mode, facts)
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    "facts",
    [
        replace(FACTS, tun_problem="/dev/net/tun: no such file or directory"),
        replace(FACTS, join_problem="setns: EPERM"),
        NetworkFacts(tun_problem="/dev/net/tun: no such file or directory"),
    ],
)
def test_default_where_no_network_can_be_made(facts: NetworkFacts) -> None:
    """In a pod its network is the container's too, and that is said."""
    plan = prepare_network(None, facts)
    assert (plan.mode, plan.private) == ("host", False)
    assert facts.tun_problem + facts.join_problem in plan.warning
    assert prepare_network(None, FACTS).warning == ""


def test_unknown_mode() -> None:
    """With those there are."""
    with pytest.raises(InvalidInput, match="unknown network 'brigde': expected host, none"):
        prepare_network("brigde", FACTS)


def test_helpers_commands() -> None:
    """No ports in any direction, no way to the host's loopback."""
    words = " ".join(PASTA.helper)
    for option in ("-t none", "-u none", "-T none", "-U none", "--no-map-gw"):
        assert option in words
    assert "--runas" not in words
    assert "--map-guest-addr" not in words
    assert "--disable-host-loopback" in SLIRP.helper
    root = prepare_network("pasta", replace(FACTS, real_root=True))
    assert "--runas 0" in " ".join(root.helper)
    new = prepare_network("pasta", replace(FACTS, pasta_options=frozenset({"--map-guest-addr"})))
    assert new.host_address in new.helper


@pytest.mark.parametrize(
    ("plan", "facts", "dns", "expected"),
    [
        (HOST, FACTS, NO_DNS, "search example.test\nnameserver 192.0.2.53\noptions ndots:2\n"),
        # In the host's network its own servers can be reached.
        (
            HOST,
            replace(FACTS, resolv_conf=RESOLVED, real_resolv_conf="nameserver 192.0.2.99\n"),
            NO_DNS,
            "search lan\nnameserver 127.0.0.53\noptions edns0 trust-ad\n",
        ),
        (
            BARE,
            replace(FACTS, resolv_conf=RESOLVED, real_resolv_conf="nameserver 192.0.2.99\n"),
            NO_DNS,
            "nameserver 192.0.2.99\n",
        ),
        # The helper's forwarder first.
        (
            PASTA,
            FACTS,
            NO_DNS,
            "search example.test\nnameserver 169.254.1.1\nnameserver 192.0.2.53\noptions ndots:2\n",
        ),
        (SLIRP, replace(FACTS, resolv_conf=""), NO_DNS, "nameserver 10.0.2.3\n"),
        (
            SLIRP,
            replace(FACTS, resolv_conf="nameserver 127.0.0.1\nnameserver ::1\n"),
            NO_DNS,
            "nameserver 10.0.2.3\n",
        ),
        # Nothing left: public servers, but not where nobody can be reached.
        (
            BARE,
            replace(FACTS, resolv_conf="nameserver 127.0.0.1\n"),
            NO_DNS,
            "nameserver 8.8.8.8\nnameserver 8.8.4.4\n",
        ),
        (
            BARE,
            replace(FACTS, resolv_conf="", ipv6=True),
            NO_DNS,
            "nameserver 8.8.8.8\nnameserver 8.8.4.4\nnameserver 2001:4860:4860::8888\n"
            "nameserver 2001:4860:4860::8844\n",
        ),
        (NONE, replace(FACTS, resolv_conf="nameserver 127.0.0.1\n"), NO_DNS, ""),
        # IPv6 only where there is any, and never with a zone.
        (
            BARE,
            replace(FACTS, resolv_conf="nameserver 2001:db8::1\nnameserver 192.0.2.5\n"),
            NO_DNS,
            "nameserver 192.0.2.5\n",
        ),
        (
            BARE,
            replace(
                FACTS, ipv6=True, resolv_conf="nameserver 2001:db8::1\nnameserver fe80::1%eth0\n"
            ),
            NO_DNS,
            "nameserver 2001:db8::1\n",
        ),
        # Options replace, each its own kind.
        (
            PASTA,
            FACTS,
            DnsOptions(servers=("192.0.2.9", "2001:db8::2")),
            "search example.test\nnameserver 192.0.2.9\nnameserver 2001:db8::2\noptions ndots:2\n",
        ),
        (
            HOST,
            FACTS,
            DnsOptions(searches=("a.test", "b.test"), options=("rotate",)),
            "search a.test b.test\nnameserver 192.0.2.53\noptions rotate\n",
        ),
        (HOST, FACTS, DnsOptions(searches=(".",)), "nameserver 192.0.2.53\noptions ndots:2\n"),
        # Comments, repetitions, the last search line, junk.
        (
            HOST,
            replace(
                FACTS,
                resolv_conf="# nameserver 192.0.2.1\n; nameserver 192.0.2.2\nsearch a\n"
                "nameserver 192.0.2.3 # here\nnameserver 192.0.2.3\nnameserver nonsense\n"
                "nameserver\nsearch b c\ndomain d\n",
            ),
            NO_DNS,
            "search b c\nnameserver 192.0.2.3\n",
        ),
    ],
)
def test_resolv_conf(
    plan: NetworkPlan, facts: NetworkFacts, dns: DnsOptions, expected: str
) -> None:
    """What a container's program asks."""
    assert make_resolv_conf(plan, facts, dns) == expected


@pytest.mark.parametrize(
    "dns",
    [
        DnsOptions(servers=("example.test",)),
        DnsOptions(servers=("192.0.2.1\nnameserver 192.0.2.2",)),
        DnsOptions(searches=("a b",)),
        DnsOptions(searches=("a\noptions",)),
        DnsOptions(options=("rotate\nnameserver 192.0.2.1",)),
        DnsOptions(options=("",)),
    ],
)
def test_resolv_conf_refuses_what_would_add_lines(dns: DnsOptions) -> None:
    """Options are words."""
    with pytest.raises(InvalidInput):
        make_resolv_conf(PASTA, FACTS, dns)


@given(st.text(alphabet="namesrvch optin.:%#;0123456789\n\tabcdef"), st.booleans())
def test_resolv_conf_takes_any_host_file(text: str, ipv6: bool) -> None:
    """And never passes a loopback server on."""
    facts = replace(FACTS, resolv_conf=text, ipv6=ipv6)
    made = make_resolv_conf(BARE, facts, NO_DNS)
    assert "nameserver 127." not in made
    assert made.count("nameserver ") >= 1


LOCAL = "127.0.0.1\tlocalhost\n192.0.2.7\tother\n::1\tlocalhost\n"


@pytest.mark.parametrize(
    ("plan", "add", "base", "expected"),
    [
        (
            SLIRP,
            (),
            "",
            "127.0.0.1\tlocalhost\n::1\tlocalhost\n"
            "192.0.2.1\thost.containers.internal host.docker.internal\n10.0.2.100\tbox id\n",
        ),
        # pasta gives the container the host's own address, by which it cannot reach the host.
        (PASTA, (), "", "127.0.0.1\tlocalhost\n::1\tlocalhost\n192.0.2.1\tbox id\n"),
        (NONE, (), "", "127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.0.1\tbox id\n"),
        (
            HOST,
            (),
            "",
            "127.0.0.1\tlocalhost\n::1\tlocalhost\n"
            "127.0.0.1\thost.containers.internal host.docker.internal\n127.0.0.1\tbox id\n",
        ),
        # The host's file, and nothing twice.
        (
            NONE,
            (),
            None,
            "127.0.0.1\tlocalhost\n192.0.2.7\tother\n127.0.0.1\tbox id\n",
        ),
        (
            NONE,
            ("box:192.0.2.8", "a;b:2001:db8::1", "c:[2001:db8::2]"),
            "",
            "192.0.2.8\tbox\n2001:db8::1\ta b\n2001:db8::2\tc\n"
            "127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.0.1\tid\n",
        ),
        (
            SLIRP,
            ("gate:host-gateway", "host.containers.internal:192.0.2.3"),
            "192.0.2.4 # nobody\n# 192.0.2.5 x\n192.0.2.6 id # y\n",
            "192.0.2.1\tgate\n192.0.2.3\thost.containers.internal\n192.0.2.6\tid\n"
            "127.0.0.1\tlocalhost\n::1\tlocalhost\n192.0.2.1\thost.docker.internal\n"
            "10.0.2.100\tbox\n",
        ),
    ],
)
def test_hosts(plan: NetworkPlan, add: tuple[str, ...], base: str | None, expected: str) -> None:
    """Names a container knows without asking."""
    assert make_hosts(plan, FACTS, names=("box", "id"), add_hosts=add, base=base) == expected


@pytest.mark.parametrize(
    "text",
    ["box", "box:", ":192.0.2.1", "box:nowhere", "a b:192.0.2.1", "a;:192.0.2.1", "#a:192.0.2.1"],
)
def test_invalid_hosts(text: str) -> None:
    """Said with the text."""
    with pytest.raises(InvalidInput, match="host"):
        make_hosts(NONE, FACTS, names=("box",), add_hosts=(text,))


def test_host_gateway_without_a_host() -> None:
    """Not silently something else."""
    with pytest.raises(InvalidInput, match="no address in this network"):
        make_hosts(NONE, FACTS, names=("box",), add_hosts=("gate:host-gateway",))


@pytest.mark.parametrize(
    ("wanted", "plan", "expected"),
    [
        (None, PASTA, "0123abc"),
        (None, HOST, "machine"),
        ("chosen", HOST, "chosen"),
        ("chosen", NONE, "chosen"),
        ("x" * 64, NONE, "x" * 64),
    ],
)
def test_hostname(wanted: str | None, plan: NetworkPlan, expected: str) -> None:
    """The host's only in the host's network."""
    assert make_hostname(wanted, plan, FACTS, "0123abc") == expected


@pytest.mark.parametrize("wanted", ["x" * 65, "a b", "a/b", "a\nb", "ä" * 40])
def test_invalid_hostname(wanted: str) -> None:
    """What sethostname(2) or its readers would stumble over."""
    with pytest.raises(InvalidInput, match="invalid host name"):
        make_hostname(wanted, NONE, FACTS, "id")
