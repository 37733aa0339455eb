"""Options in front of the verb, where buildah and podman have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgtools.cli import main
from imgtools.cli.leading import leading_values
from imgtools.cli.settings import Settings
from imgtools.cli.state import Cli
from imgtools.cli.store_options import StoreAccess
from imgtools.errors import InvalidInput, Unsupported
from tests.build.cli_request import kept_signals

NOTHING = {"root": None, "runroot": None, "storage_driver": None, "storage_opt": ()}


def run(directory: Path, *words: str) -> int:
    """The exit code of a command line."""
    settings = Settings.from_environment({"HOME": str(directory), "TMPDIR": str(directory)})
    with kept_signals():
        return main.run(list(words), Cli(settings=settings))


def test_a_store_in_front_of_the_verb_is_that_of_the_verb(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Built there, listed there; behind the verb counts more."""
    (tmp_path / "Containerfile").write_text("FROM scratch\nLABEL a=b\n")
    store = ("--root", str(tmp_path / "root"), f"--runroot={tmp_path}/run", "--log-level", "warn",
             "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs")  # fmt: skip
    assert run(tmp_path, *store, "build", "-q", "-t", "here", str(tmp_path)) == 0
    identity = capfd.readouterr().out.strip()
    assert run(tmp_path, *store, "images", "-q", "--no-trunc") == 0
    assert identity in capfd.readouterr().out
    assert run(tmp_path, *store, "images", "--root", str(tmp_path / "other"), "-q") == 0
    assert capfd.readouterr().out == ""


def test_options_of_the_store_add_up(tmp_path: Path) -> None:
    """Those in front come first; the others are replaced."""
    values = {"root": "/front", "runroot": "/run", "storage_opt": ("a=1",)}
    cli = Cli(settings=Settings.from_environment({}), values=values)
    behind = {**NOTHING, "root": "/behind", "storage_opt": ("b=2",)}
    access = StoreAccess(cli, dict(behind))
    found = access._values
    assert found == {"root": "/behind", "runroot": "/run", "storage_driver": None,
                     "storage_opt": ("a=1", "b=2")}  # fmt: skip


def test_a_log_level_is_debug_or_not() -> None:
    assert leading_values({"log_level": "debug", "cgroup_manager": "systemd"}) == {"debug": True}
    assert leading_values({"log_level": "error", "debug": False, "storage_opt": ()}) == {}
    with pytest.raises(InvalidInput, match="--log-level loud"):
        leading_values({"log_level": "loud"})
    with pytest.raises(InvalidInput, match="--log-level : expected"):
        leading_values({"log_level": ""})
    with pytest.raises(InvalidInput, match="--cgroup-manager x"):
        leading_values({"cgroup_manager": "x"})
    with pytest.raises(Unsupported, match="--userns-uid-map is not supported"):
        leading_values({"userns_uid_map": ("0:1:2",)})


@pytest.mark.parametrize(
    ("words", "debug"),
    [
        (("images", "--log-level", "debug"), True),
        (("images", "--log-level=TRACE", "-q"), True),
        (("images", "--log-level", "warn"), False),
        (("--log-level", "debug", "images"), True),
        (("--log-level", "debug", "images", "--log-level", "error"), False),
        (("--debug", "images"), True),
        (("manifest", "--log-level", "debug", "exists", "x"), True),
        (("manifest", "exists", "--log-level", "debug", "x"), True),
    ],
)
def test_a_log_level_may_follow_the_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], debug: bool
) -> None:
    """As with all verbs of buildah and podman; the last one counts."""
    seen = []

    class Stopped(Exception):
        """Instead of opening a store."""

    def stop(access: StoreAccess, *_: object) -> None:
        seen.append(access._cli.debug)
        raise Stopped

    for name in ("look", "open"):
        monkeypatch.setattr(StoreAccess, name, stop)
    settings = Settings.from_environment({"HOME": str(tmp_path)})
    with pytest.raises(Stopped):
        main.app.main(list(words), obj=Cli(settings=settings), standalone_mode=False)
    assert seen == [debug]


@pytest.mark.parametrize("words", [("images", "--log-level", "loud"),
                                   ("pull", "--log-level=", "x")])  # fmt: skip
def test_a_log_level_that_is_none(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert run(tmp_path, *words) in (1, 125)
    assert "--log-level" in capfd.readouterr().err


def test_files_of_registries_may_be_named_there(tmp_path: Path) -> None:
    """Instead of the usual directories, and of the file with short names."""
    values = {"registries_conf_dir": "/d", "short_name_alias_conf": "/aliases"}
    files = Cli(settings=Settings.from_environment({}), values=values).registries()
    assert (files.drop_ins, files.aliases) == (("/d",), "/aliases")
