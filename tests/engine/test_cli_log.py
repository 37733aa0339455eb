"""Messages are what podman, conmon and containerd read, and hold nothing a terminal obeys."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cli.log import Log, plain
from engine.runtime.errors import Failure, InvalidConfig, KernelRefused

FAILURE = Failure('exec: "x": executable file not found in $PATH', hint="look for it")


def test_text_without_a_file(capfd: pytest.CaptureFixture[str]) -> None:
    """For a person at a terminal."""
    log = Log()
    log.error(FAILURE)
    log.warn("w")
    log.debug("d")
    assert capfd.readouterr().err == (
        'imgtools-runtime: exec: "x": executable file not found in $PATH (look for it)\n'
        "imgtools-runtime: warning: w\n"
    )


def test_json_without_a_file(capfd: pytest.CaptureFixture[str]) -> None:
    """A line per message."""
    Log(form="json").error(FAILURE)
    line = json.loads(capfd.readouterr().err)
    assert line["level"] == "error"
    assert line["msg"] == f"{FAILURE.message} (look for it)"


def test_text_in_a_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As logrus writes it; errors are shown too, warnings are not in the file by default."""
    path = tmp_path / "log"
    path.write_text("before\n")
    log = Log(path=str(path))
    log.warn("w")
    log.error(FAILURE)
    before, line = path.read_text().splitlines()
    assert before == "before"
    assert re.fullmatch(
        r'time="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ" level=error '
        r'msg="exec: \\"x\\": executable file not found in \$PATH \(look for it\)"',
        line,
    )
    shown = capfd.readouterr().err
    assert shown.splitlines() == [
        f"imgtools-runtime: {FAILURE.message}",
        "imgtools-runtime: look for it",
    ]


def test_json_file_is_one_value_after_an_error(tmp_path: Path) -> None:
    """podman reads the whole file with one json.Unmarshal, and takes msg."""
    path = tmp_path / "log"
    log = Log(path=f"file:{path}", form="json")
    log.warn("w")
    log.error(FAILURE)
    document = json.loads(path.read_text())
    assert set(document) == {"level", "msg", "time"}
    assert re.search(r"(?i).*executable file not found in.*", document["msg"])


def test_levels(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each with those before it."""
    for number, level in enumerate(("error", "warning", "info", "debug")):
        path = tmp_path / level
        log = Log(path=str(path), form="json", level=level)
        log.error(FAILURE)
        log.warn("w")
        log.debug("d")
        assert len(path.read_text().splitlines()) == (1, 2, 2, 3)[number]
    capfd.readouterr()


def test_wrong_settings(tmp_path: Path) -> None:
    """Named by their options."""
    with pytest.raises(InvalidConfig, match="--log-format: expected text or json, got 'xml'"):
        Log(form="xml")
    with pytest.raises(InvalidConfig, match="--log-level"):
        Log(level="loud")
    with pytest.raises(InvalidConfig, match="--log: journald is not supported"):
        Log(path="journald:x")
    with pytest.raises(KernelRefused, match=r"open log .*: no such file"):
        Log(path=str(tmp_path / "no" / "log"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, ünï", "plain text, ünï"),
        ("a\nb", "a\\nb"),
        ("\x1b[2J", "\\x1b[2J"),
        ("caf\udce9", "caf\\udce9"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
    ],
)
def test_r7_names_cannot_control_a_terminal(text: str, shown: str) -> None:
    """File names are the image's choice."""
    assert plain(text) == shown


@given(st.text(st.characters()))
def test_r7_every_message_is_one_line(text: str) -> None:
    """And can be encoded."""
    assert len(plain(text).encode("utf-8").splitlines()) <= 1
