"""Instructions applied to a config, one function each."""

from __future__ import annotations

from typing import Any

import pytest

from imgtools.build.planning import config_state as config
from imgtools.errors import InvalidInput


def test_e88_a_variable_that_is_there_keeps_its_place() -> None:
    settings: dict[str, Any] = {"Env": ["A=1", "B=2", "C=3"], "User": "x"}
    changed = config.with_env(settings, [("B", "new"), ("D", "a=b"), ("A", "")])
    assert changed["Env"] == ["A=", "B=new", "C=3", "D=a=b"]
    assert changed["User"] == "x"
    assert settings["Env"] == ["A=1", "B=2", "C=3"], "what was given is never changed"


def test_e88_labels_are_in_order_of_their_names() -> None:
    changed = config.with_labels({"Labels": {"b": "1"}}, [("c", "2"), ("a", "3"), ("b", "4")])
    assert list(changed["Labels"].items()) == [("a", "3"), ("b", "4"), ("c", "2")]
    assert "Labels" not in config.without_labels(changed, ["a", "b", "c"])
    assert "Labels" not in config.without_labels(changed)


@pytest.mark.parametrize("name", ["", "A=B", "A\0B"])
def test_names_that_no_variable_can_have(name: str) -> None:
    with pytest.raises(InvalidInput):
        config.with_env({}, [(name, "x")])


def test_e84_entrypoint_takes_an_inherited_cmd_away_and_no_other() -> None:
    inherited = {"Cmd": ["base"], "Entrypoint": ["old"]}
    assert config.with_entrypoint(inherited, ["new"], keep_command=False) == {"Entrypoint": ["new"]}
    kept = config.with_entrypoint(inherited, ["new"], keep_command=True)
    assert kept == {"Cmd": ["base"], "Entrypoint": ["new"]}


def test_e85_the_shell_form_uses_shell() -> None:
    assert config.in_shell({}, "a b") == ("/bin/sh", "-c", "a b")
    settings = config.with_shell({}, ["pwsh", "-Command"])
    assert config.in_shell(settings, "a b") == ("pwsh", "-Command", "a b")


def test_e86_healthcheck_none_and_durations_in_nanoseconds() -> None:
    assert config.with_healthcheck({}, ["NONE"])["Healthcheck"] == {"Test": ["NONE"]}
    check = config.with_healthcheck(
        {},
        ["CMD-SHELL", "x"],
        interval="1m30s",
        timeout="2.5s",
        start_period="0s",
        start_interval="1500us",
        retries="3",
    )["Healthcheck"]
    assert check == {
        "Test": ["CMD-SHELL", "x"],
        "Interval": 90_000_000_000,
        "Timeout": 2_500_000_000,
        "StartInterval": 1_500_000,
        "Retries": 3,
    }


@pytest.mark.parametrize(
    "text", ["1", "s", "-1s", "1 s", "1s ", "1us", "1d", "1e3s", "9" * 30 + "h"]
)
def test_durations_that_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="--interval="):
        config.duration(text, "--interval")


@pytest.mark.parametrize("retries", ["-1", "a", "1.5", "９"])
def test_numbers_of_retries_that_are_refused(retries: str) -> None:
    with pytest.raises(InvalidInput):
        config.with_healthcheck({}, ["CMD", "x"], retries=retries)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["80"], ["80/tcp"]),
        (["80", "80/tcp", "80/TCP"], ["80/tcp"]),
        (["443/UDP", "53/sctp", "80"], ["53/sctp", "80/tcp", "443/udp"]),
        (["8000-8002/udp"], ["8000/udp", "8001/udp", "8002/udp"]),
        (["80/"], ["80/tcp"]),
        (
            ["8080:80", "1.2.3.4::81", "0.0.0.0:1234-1235:82-83/udp"],
            ["80/tcp", "81/tcp", "82/udp", "83/udp"],
        ),
        (
            ["[::1]:80:80", "::1:81:81", "[2001:4860:0:2001::68]::333", "::::82"],
            ["80/tcp", "81/tcp", "82/tcp", "333/tcp"],
        ),
        (["8000-8002:80"], ["80/tcp"]),
    ],
)
def test_e87_ports(words: list[str], expected: list[str]) -> None:
    assert list(config.with_ports({}, words)["ExposedPorts"]) == expected


@pytest.mark.parametrize(
    "word",
    ["", "x", "80/icmp", "70000", "90-80", "-1", "1-", "80:", "80:/tcp", "a:80", "70000:80",
     "1-2:1-3", "localhost:80:80", "[::1:80:80", "0.0.0.0:1-2:/tcp"],
)  # fmt: skip
def test_e87_ports_that_are_refused(word: str) -> None:
    with pytest.raises(InvalidInput, match="invalid port"):
        config.with_ports({}, [word])


@pytest.mark.parametrize(
    ("before", "path", "after"),
    [
        ("", "a", "/a"),
        ("/x", "a/../b/./c", "/x/b/c"),
        ("/x", "/y/", "/y"),
        ("/x", "../../..", "/"),
        ("/x", "//y//z", "/y/z"),
    ],
)
def test_working_directories(before: str, path: str, after: str) -> None:
    settings = {"WorkingDir": before} if before else {}
    assert config.with_workdir(settings, path)["WorkingDir"] == after


def test_e89_volumes_are_a_set() -> None:
    assert list(config.with_volumes({"Volumes": {"/b": {}}}, ["/a", "/b"])["Volumes"]) == [
        "/a",
        "/b",
    ]
    with pytest.raises(InvalidInput):
        config.with_volumes({}, [" "])


@pytest.mark.parametrize("signal", ["SIGTERM", "term", "9", "SIGRTMIN+3"])
def test_stop_signals(signal: str) -> None:
    assert config.with_stop_signal({}, signal) == {"StopSignal": signal}


@pytest.mark.parametrize("signal", ["", "SIG TERM", "-9", "$X"])
def test_stop_signals_that_are_refused(signal: str) -> None:
    with pytest.raises(InvalidInput):
        config.with_stop_signal({}, signal)


def test_triggers_are_in_order_and_cleared() -> None:
    settings = config.with_trigger(config.with_trigger({}, "RUN a"), "RUN b")
    assert settings == {"OnBuild": ["RUN a", "RUN b"]}
    assert config.without_triggers(settings) == {}
