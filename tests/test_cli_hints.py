"""What an error advises has to be an option of the verb that failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgtools.cli.hints import adapt_hints, adapted
from imgtools.errors import ConnectionFailed, SeveralErrors
from imgtools.testing import images
from imgtools.testing.registry import ScriptedRegistry
from tests.bad_input import PLAIN, cli, push

BOTH = {"--src-creds", "--dest-creds", "--src-tls-verify", "--dest-tls-verify", "--tls-verify"}


@pytest.mark.parametrize(
    ("hint", "options", "found"),
    [
        ("give --creds", {"--creds"}, "give --creds"),
        ("give --creds", BOTH, "give --src-creds or --dest-creds"),
        (
            "or --tls-verify=false for http",
            BOTH,
            "or --src-tls-verify=false or --dest-tls-verify=false for http",
        ),
        ("--src-creds and --credsx", BOTH, "--src-creds and --credsx"),
        ("--cert-dir", BOTH, "--cert-dir"),
    ],
)
def test_options_in_hints(hint: str, options: set[str], found: str) -> None:
    assert adapted(hint, options) == found


def test_every_error_of_several_is_adapted() -> None:
    each = [ConnectionFailed("x", host="h", hint="--creds") for _ in range(2)]
    adapt_hints(SeveralErrors(each), BOTH)
    assert [e.hint for e in each] == ["--src-creds or --dest-creds"] * 2


def test_hints_on_the_command_line(tmp_path: Path) -> None:
    with ScriptedRegistry(auth="basic") as registry:
        name = push(registry, "app", images.random_image())
        cli(tmp_path, "inspect", PLAIN, name).refused("with --creds)")
        done = cli(tmp_path, "copy", "--src-tls-verify=false", name, f"dir:{tmp_path}/d")
        done.refused("with --src-creds or --dest-creds)")
        strict = cli(tmp_path, "copy", name, f"dir:{tmp_path}/d")
        strict.refused("--src-tls-verify=false or --dest-tls-verify=false")
