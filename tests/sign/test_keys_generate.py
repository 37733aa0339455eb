"""New key pairs and their files, and the verb that makes them."""

from __future__ import annotations

import os
import pty
import stat
import subprocess
from pathlib import Path

import pytest

from imgtools.cli.settings import Settings
from imgtools.errors import Conflict, InvalidInput, LimitExceeded, NotFound, StorageError
from imgtools.sign.keys import generate as module
from imgtools.sign.keys.generate import generate, write_pair
from imgtools.sign.keys.kinds import DEFAULT_KIND, KINDS
from imgtools.sign.keys.passphrase import first_line, read_passphrase_file
from imgtools.sign.keys.private import load_private_key
from imgtools.sign.keys.public import load_public_key
from tests.rig import RunCli
from tests.sign.key_makers import DESCRIPTIONS


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"rsa-4096"}))
def test_every_kind_signs(kind: str) -> None:
    private, public = generate(b"pass", kind)
    key = load_private_key(private, b"pass", "k")
    assert key.public_pem == public
    assert load_public_key(public, "k").description == DESCRIPTIONS[kind]
    load_public_key(public, "k").verify(key.sign(b"m"), b"m")


def test_unknown_kind() -> None:
    with pytest.raises(InvalidInput, match="unknown kind of key 'dsa'"):
        generate(b"", "dsa")
    assert DEFAULT_KIND in KINDS


def test_files_and_their_modes(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        paths = write_pair(f"{tmp_path}/my", b"private", b"public")
    finally:
        os.umask(before)
    assert paths == (f"{tmp_path}/my.private", f"{tmp_path}/my.pub")
    found = {p.name: (p.read_bytes(), stat.S_IMODE(p.stat().st_mode)) for p in tmp_path.iterdir()}
    assert found == {"my.private": (b"private", 0o600), "my.pub": (b"public", 0o644)}


@pytest.mark.parametrize("taken", ["my.private", "my.pub"])
@pytest.mark.parametrize("what", ["file", "link", "directory"])
def test_nothing_is_overwritten(tmp_path: Path, taken: str, what: str) -> None:
    path = tmp_path / taken
    if what == "file":
        path.write_bytes(b"old")
    elif what == "link":
        path.symlink_to("nowhere")
    else:
        path.mkdir()
    with pytest.raises(Conflict, match="refusing to overwrite existing"):
        write_pair(f"{tmp_path}/my", b"private", b"public")
    assert [p.name for p in tmp_path.iterdir()] == [taken]
    assert what != "file" or path.read_bytes() == b"old"


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("taken", ["my.private", "my.pub"])
def test_no_half_pair_when_somebody_is_quicker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: str, links: bool
) -> None:
    """The name is taken between the look and the write."""
    monkeypatch.setattr(module, "check_absent", lambda path: (tmp_path / taken).write_text("own"))
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(Conflict, match="refusing to overwrite"):
        write_pair(f"{tmp_path}/my", b"private", b"public")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(taken, "own")]


def no_links(source: str, target: str) -> None:
    """What FAT says."""
    raise PermissionError(1, "operation not permitted", source)


def test_file_systems_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", no_links)
    write_pair(f"{tmp_path}/my", b"private", b"public")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["my.private", "my.pub"]
    assert stat.S_IMODE((tmp_path / "my.private").stat().st_mode) == 0o600


@pytest.mark.parametrize("call", [1, 2])
def test_no_half_pair_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    calls = []

    def fsync(fd: int) -> None:
        calls.append(fd)
        if len(calls) == call:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError, match="no space"):
        write_pair(f"{tmp_path}/my", b"private", b"public")
    assert list(tmp_path.iterdir()) == []


def test_directory_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no/my"):
        write_pair(f"{tmp_path}/no/my", b"", b"")


def test_passphrase_files(tmp_path: Path) -> None:
    """Only the first line, only without its newline, as skopeo and gpg have it."""
    for content, expected in (
        (b"one\ntwo\n", b"one"),
        (b"one", b"one"),
        (b" one \r\n", b" one \r"),
        (b"", b""),
        (b"\nsecond", b""),
        ("größer\n".encode(), "größer".encode()),
    ):
        assert first_line(content) == expected
        (tmp_path / "pass").write_bytes(content)
        assert read_passphrase_file(f"{tmp_path}/pass") == expected
    assert read_passphrase_file(os.devnull) == b""
    with pytest.raises(LimitExceeded):
        read_passphrase_file("/dev/zero")
    with pytest.raises(NotFound):
        read_passphrase_file(f"{tmp_path}/none")
    with pytest.raises(StorageError):
        read_passphrase_file(str(tmp_path))


def test_passphrase_of_the_environment_is_not_shown() -> None:
    settings = Settings.from_environment({"COSIGN_PASSWORD": "geheim"}, uid=5)
    assert settings.passphrase == b"geheim"
    assert "geheim" not in repr(settings)
    assert Settings.from_environment({"COSIGN_PASSWORD": ""}, uid=5).passphrase == b""
    assert Settings.from_environment({}, uid=5).passphrase is None


def test_verb_makes_a_pair(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "pass").write_text("the first\nthe second\n")
    prefix = f"{tmp_path}/my"
    arguments = ("generate-sigstore-key", "--output-prefix", prefix)
    done = run_cli(*arguments, "--passphrase-file", tmp_path / "pass", check=True)
    assert done.stdout == f'Key written to "{prefix}.private" and "{prefix}.pub"\n'
    assert done.stderr == ""
    key = load_private_key((tmp_path / "my.private").read_bytes(), b"the first", "k")
    assert key.public_pem == (tmp_path / "my.pub").read_bytes()
    assert key.public.description == "ECDSA P-256"
    again = run_cli(*arguments, "--passphrase-file", tmp_path / "pass")
    assert again.returncode == 1
    assert f'refusing to overwrite existing "{prefix}.pub"' in again.stderr


def test_verb_takes_the_passphrase_of_the_environment(run_cli: RunCli, tmp_path: Path) -> None:
    run_cli(
        "generate-sigstore-key",
        f"--output-prefix={tmp_path}/my",
        "--type=ed25519",
        env={"COSIGN_PASSWORD": "geheim"},
        check=True,
    )
    key = load_private_key((tmp_path / "my.private").read_bytes(), b"geheim", "k")
    assert key.public.description == "Ed25519"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "usage: generate-sigstore-key --output-prefix PREFIX"),
        (["--output-prefix", "P", "more"], "usage: generate-sigstore-key"),
        (["--output-prefix", "P"], "P.private, standard input is not a TTY"),
        (["--output-prefix", "P", "--passphrase-file", "missing"], "missing"),
        (["--output-prefix", "no/P", "--passphrase-file", "/dev/null"], "no/P"),
        (["--output-prefix", "P", "--type", "dsa"], "dsa"),
    ],
)
def test_verb_refuses(run_cli: RunCli, arguments: list[str], said: str) -> None:
    done = run_cli("generate-sigstore-key", *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stdout == ""
    assert list(run_cli.work.iterdir()) == []


@pytest.mark.parametrize("same", [True, False])
def test_verb_asks_twice_on_a_terminal(run_cli: RunCli, same: bool) -> None:
    """What is typed is not shown, and a slip does not lock the key for good."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        run_cli.command("generate-sigstore-key", "--output-prefix", "my"),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=run_cli.env,
        cwd=run_cli.work,
        start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
    )
    os.close(theirs)
    shown = b""
    for question, answer in ((b"Passphrase for key my.private: ", b"geheim\n"), (b": ", b"x\n")):
        while not shown.endswith(question):
            shown += os.read(ours, 1)
        os.write(ours, b"geheim\n" if same else answer)
        shown += os.read(ours, 1)
    output, _ = process.communicate(timeout=60)
    os.close(ours)
    assert b"geheim" not in shown + output
    if same:
        assert process.returncode == 0, output
        load_private_key((run_cli.work / "my.private").read_bytes(), b"geheim", "k")
    else:
        assert process.returncode == 1
        assert b"the two passphrases differ" in output
        assert list(run_cli.work.iterdir()) == []
