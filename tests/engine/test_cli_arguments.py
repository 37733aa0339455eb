"""Command lines are read as runc's and crun's users write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cli.arguments import (
    Arguments,
    Option,
    Syntax,
    check_count,
    decimal,
    parse_arguments,
)
from engine.cli.commands.execute import COMMANDS as EXEC
from engine.cli.commands.execute import override
from engine.cli.commands.limits import COMMANDS as LIMITS
from engine.cli.commands.limits import resources_of, size
from engine.cli.main import COMMANDS, FOREIGN, GLOBAL, load
from engine.runtime.errors import Failure, InvalidConfig, Unsupported
from engine.runtime.spec.model import Capabilities, Process, User
from engine.runtime.spec.parse import parse_resources

SYNTAX = Syntax(
    usage="x",
    description="",
    options=(
        Option(name="bundle", letter="b", value="DIR"),
        Option(name="env", letter="e", value="ENV"),
        Option(name="detach", letter="d"),
        Option(name="tty", letter="t"),
        Option(name="old", refusal="not done here"),
    ),
    minimum=1,
    maximum=2,
)
FIRST = SYNTAX.with_values(options_first=True)


def read(words: str, syntax: Syntax = SYNTAX) -> tuple[dict[str, list[str]], list[str]]:
    """Options and arguments of space-separated words."""
    arguments = parse_arguments(syntax, words.split())
    return arguments.options, arguments.positional


@pytest.mark.parametrize(
    ("words", "options", "positional"),
    [
        ("", {}, []),
        ("c", {}, ["c"]),
        ("--bundle d c", {"bundle": ["d"]}, ["c"]),
        ("--bundle=d c", {"bundle": ["d"]}, ["c"]),
        ("--bundle= c", {"bundle": [""]}, ["c"]),
        ("--bundle=a=b c", {"bundle": ["a=b"]}, ["c"]),
        ("--bundle --detach c", {"bundle": ["--detach"]}, ["c"]),
        ("-b d c", {"bundle": ["d"]}, ["c"]),
        ("-bd c", {"bundle": ["d"]}, ["c"]),
        ("-b=d c", {"bundle": ["d"]}, ["c"]),
        ("-bundle d c", {"bundle": ["d"]}, ["c"]),
        ("-bundle=d c", {"bundle": ["d"]}, ["c"]),
        ("c --bundle d -t", {"bundle": ["d"], "tty": ["true"]}, ["c"]),
        ("-dt c", {"detach": ["true"], "tty": ["true"]}, ["c"]),
        ("-dtb d c", {"detach": ["true"], "tty": ["true"], "bundle": ["d"]}, ["c"]),
        ("--tty=false c", {"tty": ["false"]}, ["c"]),
        ("-t=0 c", {"tty": ["false"]}, ["c"]),
        ("--tty=TRUE c", {"tty": ["true"]}, ["c"]),
        ("-e A=1 -e B=2 c", {"env": ["A=1", "B=2"]}, ["c"]),
        ("-- -d", {}, ["-d"]),
        ("c -- -d", {}, ["c", "-d"]),
        ("- c", {}, ["-", "c"]),
    ],
)
def test_ways_to_write_options(
    words: str, options: dict[str, list[str]], positional: list[str]
) -> None:
    """Long, short, with and without a sign, before and after."""
    assert read(words) == (options, positional)


@pytest.mark.parametrize(
    ("words", "options", "positional"),
    [
        ("-t c sh -c x", {"tty": ["true"]}, ["c", "sh", "-c", "x"]),
        ("c -t", {}, ["c", "-t"]),
        ("-t -- c -t", {"tty": ["true"]}, ["c", "-t"]),
        ("c -- x", {}, ["c", "--", "x"]),
        ("c --help", {}, ["c", "--help"]),
    ],
)
def test_a_command_in_the_container_keeps_its_options(
    words: str, options: dict[str, list[str]], positional: list[str]
) -> None:
    """`exec` and `ps` end their own at the first argument."""
    assert read(words, FIRST) == (options, positional)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--nope", "unknown option --nope"),
        ("--nope=1", "unknown option --nope"),
        ("-x", "unknown option -x"),
        ("-dx", "unknown option -x"),
        ("--bundle", "option --bundle needs a value"),
        ("-b", "option -b needs a value"),
        ("--tty=perhaps", "option --tty: expected true or false, got 'perhaps'"),
        ("--old", "option --old: not done here"),
        ("--old=false", "option --old: not done here"),
    ],
)
def test_wrong_options_are_named(words: str, message: str) -> None:
    """Instead of being ignored."""
    with pytest.raises(InvalidConfig, match=message):
        read(words)


def test_help_ends_everything() -> None:
    """Whatever else is wrong after it."""
    for words in (["--help", "--nope"], ["-h"], ["-?"], ["-dh"]):
        assert parse_arguments(SYNTAX, words).help


@given(st.lists(st.sampled_from(("-", "--", "-b", "-t", "--env", "=", "x", "--tty", "-d=x"))))
def test_nothing_but_failures_is_raised(words: list[str]) -> None:
    """Whatever the order; and no argument is lost."""
    try:
        arguments = parse_arguments(SYNTAX, words)
    except Failure:
        return
    assert all(word in words for word in arguments.positional)


@pytest.mark.parametrize(
    ("number", "message"),
    [(0, "a minimum of 1"), (3, "a maximum of 2")],
)
def test_number_of_arguments_is_checked(number: int, message: str) -> None:
    """In the words of runc."""
    arguments = Arguments()
    arguments.positional = ["x"] * number
    with pytest.raises(InvalidConfig, match=f'"run" requires {message}'):
        check_count("run", SYNTAX, arguments)
    with pytest.raises(InvalidConfig, match="exactly 1"):
        check_count("run", SYNTAX.with_values(maximum=1), arguments)


@pytest.mark.parametrize("text", ["", "+0", "-0", "0x0", "00", "1 ", "1_0", "٣", "4294967295"])
def test_c7_ids_are_strictly_decimal(text: str) -> None:
    """What another reader takes for 0 must not become root (CVE-2026-30892)."""
    with pytest.raises(InvalidConfig, match="user id: expected a number from 0 to 4294967294"):
        decimal(text, "user id", (1 << 32) - 2)


def given_to_exec(*words: str) -> Process:
    """The process of `exec WORDS c true` in a container of user 5."""
    base = Process(
        args=("init",),
        cwd="/w",
        env=("A=1",),
        terminal=True,
        user=User(uid=5, gid=6, additional_gids=(7,)),
        capabilities=Capabilities(bounding=("CAP_KILL",)),
    )
    arguments = parse_arguments(EXEC["exec"][0], [*words, "c", "true"])
    return override(base, tuple(arguments.positional[1:]), arguments)


@pytest.mark.parametrize(
    "user", ["1000:", ":", ":5", "0x0", "+0", "-1", "root", "1:2:3", "1: 2", "1,2", "01"]
)
def test_c7_exec_takes_no_odd_user(user: str) -> None:
    """The same through the option."""
    with pytest.raises(InvalidConfig, match="option --user"):
        given_to_exec("--user", user)


def test_exec_options_change_the_containers_process() -> None:
    """Each alone; the rest stays."""
    plain = given_to_exec()
    assert plain == Process(
        args=("true",),
        cwd="/w",
        env=("A=1",),
        user=User(uid=5, gid=6, additional_gids=(7,)),
        capabilities=Capabilities(bounding=("CAP_KILL",)),
    )
    assert given_to_exec("-u", "8").user == User(uid=8, gid=6, additional_gids=(7,))
    assert given_to_exec("-u", "8:9", "-g", "1").user.additional_gids == (7, 1)
    assert given_to_exec("-u", "8:9").user.gid == 9
    assert given_to_exec("-e", "B=2", "--env=C=").env == ("A=1", "B=2", "C=")
    assert given_to_exec("--cwd", "/x").cwd == "/x"
    assert given_to_exec("-t").terminal
    assert given_to_exec("--no-new-privs").no_new_privileges
    assert given_to_exec("--apparmor", "p").apparmor_profile == "p"
    assert given_to_exec("--process-label", "l").selinux_label == "l"
    more = given_to_exec("--cap", "CAP_CHOWN").capabilities
    both, one = ("CAP_KILL", "CAP_CHOWN"), ("CAP_CHOWN",)
    assert more == Capabilities(bounding=both, effective=one, permitted=one)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--cwd", "x"), "option --cwd: expected an absolute path"),
        (("-e", "B"), "option --env: expected NAME=VALUE"),
        (("--cap", "CAP_UNKNOWN"), "unknown capability 'CAP_UNKNOWN'"),
        (("-g", "-1"), "option --additional-gids"),
        (("--pidfd-socket", "x"), "option --pidfd-socket"),
    ],
)
def test_exec_options_are_checked(words: tuple[str, ...], message: str) -> None:
    """Before anything is done."""
    with pytest.raises(InvalidConfig, match=message):
        given_to_exec(*words)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-1", -1),
        ("0", 0),
        ("1048576", 1 << 20),
        ("512m", 512 << 20),
        ("512M", 512 << 20),
        ("1g", 1 << 30),
        ("1.5GiB", 3 << 29),
        ("10kb", 10240),
        ("2b", 2),
        ("1t", 1 << 40),
    ],
)
def test_sizes(text: str, value: int) -> None:
    """As docker/go-units reads them."""
    assert size(text, "x") == value


@pytest.mark.parametrize("text", ["", "m", "-2", "1x", "1.m", "1..2", "0x10", "1e3", "9" * 30])
def test_what_is_no_size(text: str) -> None:
    """An error that names the option."""
    with pytest.raises(InvalidConfig, match="x: expected bytes"):
        size(text, "x")


def test_every_limit_option_reaches_the_resources() -> None:
    """All of `update` but those that are refused."""
    syntax = LIMITS["update"][0]
    options = [o for o in syntax.options if not o.refusal and o.name != "resources"]
    words = [f"--{o.name}={'0-1' if 'cpuset' in o.name else '7'}" for o in options]
    document = resources_of(parse_arguments(syntax, [*words, "c"]))
    assert sum(len(section) for section in document.values()) == len(options)
    resources = parse_resources(document)
    assert resources.cpu is not None
    assert resources.cpu.realtime_period == 7
    assert resources.cpu.cpus == "0-1"
    assert resources.memory is not None
    assert resources.memory.kernel_tcp == 7
    assert resources.pids_limit == 7
    assert resources_of(parse_arguments(syntax, ["c"])) == {}
    with pytest.raises(InvalidConfig, match="option --cpu-share: expected an integer"):
        resources_of(parse_arguments(syntax, ["--cpu-share=x"]))
    with pytest.raises(InvalidConfig, match=r"cpu\.shares"):
        parse_resources(resources_of(parse_arguments(syntax, ["--cpu-share=-1"])))


# What `runc COMMAND --help` (1.5) and `crun COMMAND --help` (1.28) list.
THEIRS = {
    "create": "bundle b console-socket pidfd-socket pid-file no-pivot no-new-keyring preserve-fds "
    "config f no-subreaper",
    "run": "bundle b console-socket pidfd-socket detach d keep pid-file no-subreaper no-pivot "
    "no-new-keyring preserve-fds config f",
    "exec": "console-socket pidfd-socket cwd env e tty t user u additional-gids g process p detach "
    "d pid-file process-label apparmor no-new-privs cap c preserve-fds cgroup ignore-paused",
    "kill": "all a regex r",
    "delete": "force f regex r",
    "list": "format f quiet q",
    "ps": "format f",
    "update": "resources r blkio-weight cpu-period cpu-quota cpu-burst cpu-share cpu-rt-period "
    "cpu-rt-runtime cpuset-cpus cpuset-mems kernel-memory kernel-memory-tcp memory cpu-idle "
    "memory-reservation memory-swap pids-limit l3-cache-schema mem-bw-schema",
    "spec": "bundle b rootless file f",
    "": "debug log log-format root criu systemd-cgroup rootless version v cgroup-manager log-level",
}


@pytest.mark.parametrize("command", THEIRS)
def test_every_option_of_runc_and_crun_is_known(command: str) -> None:
    """Honoured, or refused with a reason."""
    syntax = load(command)[0] if command else GLOBAL
    names = {n for o in syntax.options for n in (o.name, o.letter) if n}
    assert set(THEIRS[command].split()) <= names
    assert all(o.help or o.refusal for o in syntax.options)
    letters = [o.letter for o in syntax.options if o.letter]
    assert len(letters) == len(set(letters))


def test_commands() -> None:
    """All that are listed can be loaded; those of others only are refused."""
    for command in COMMANDS:
        assert load(command)[0].usage.split()[0] == command
    for command in FOREIGN:
        with pytest.raises(Unsupported, match=command):
            load(command)
    with pytest.raises(InvalidConfig, match="unknown command 'nope'"):
        load("nope")


def test_documentation_lists_every_option() -> None:
    """docs/runtime.md is checked against the tables."""
    text = (Path(__file__).parents[2] / "docs/runtime.md").read_text()
    for command in ("", *COMMANDS):
        syntax = load(command)[0] if command else GLOBAL
        missing = [o.name for o in syntax.options if f"--{o.name}" not in text]
        assert missing == [], command
        assert not command or f"### {command}" in text
