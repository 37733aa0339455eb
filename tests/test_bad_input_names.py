"""Names that name nothing, and destinations that must not be touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgtools.testing import images
from tests.bad_input import cli, everything
from tests.local_images import write

SAMPLE = images.random_image("names", layers=1, size=300)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", ["it has no transport", "docker://busybox"]),
        ("busybox", ["it has no transport", "docker://busybox"]),
        ("nope:x", ["unknown transport 'nope'", "oci-archive"]),
        ("quay.io/a/b:1", ["did you mean docker://quay.io/a/b:1?"]),
        ("docker:x", ["begin with //", "docker://x"]),
        ("docker://", ["it is empty"]),
        ("docker:///", ["not a valid component"]),
        ("docker://a.b/UPPER:1", ["'UPPER'", "lower case"]),
        ("docker://a.b/x:bad tag", ["'bad tag' is not a valid tag"]),
        ("docker://a.b/x@sha256:12", ["64 lower-case hexadecimal digits"]),
        ("docker://a.b/x@md5:12", ["unsupported digest algorithm 'md5'"]),
        ("docker://a.b:99999/x", ["99999 is not a valid port"]),
        ("docker://[::1/x", ["invalid reference"]),
        ("docker://u:p@a.b/x", ["invalid digest"]),
        ("docker://a.b/../x", ["'..'"]),
        ("docker://a.b/x\n", [r"'x\n'"]),
        ("docker://a.b/\x1b[31m", [r"\x1b[31m"]),
        ("oci:", ["oci:path"]),
        ("oci:/x:@z", ["'@z' is not a position"]),
        ("oci-archive:", ["oci-archive:path"]),
        ("docker-archive:", ["docker-archive:path"]),
        ("docker-archive:x:BAD", ["BAD"]),
        ("tarball:", ["tarball:path"]),
        ("tarball:a::b", ["tarball:path"]),
        ("tarball:-:-", ["only once"]),
        ("containers-storage:", ["containers-storage:", "missing"]),
        ("containers-storage:[overlay@", ["bracket"]),
        ("containers-storage:X!", ["'X!'"]),
        ("docker-daemon:x", ["docker-daemon", "not supported"]),
        ("dir:" + "x" * 5000, ["file name too long"]),
        *((f"{t}:a\0b", ["NUL"]) for t in ("dir", "oci", "oci-archive", "tarball", "docker")),
    ],
)
def test_malformed_names(tmp_path: Path, name: str, words: list[str]) -> None:
    cli(tmp_path, "inspect", name).refused(*words)
    cli(tmp_path, "copy", name, f"dir:{tmp_path}/new").refused(*words)
    assert everything(tmp_path) == {}


@pytest.mark.parametrize("transport", ["dir", "oci", "oci-archive", "docker-archive", "tarball"])
def test_what_is_not_there_is_not_found(tmp_path: Path, transport: str) -> None:
    name = f"{transport}:{tmp_path}/nothing"
    cli(tmp_path, "inspect", name).refused(f"{tmp_path}/nothing", "no such file", code=2)
    cli(tmp_path, "copy", name, f"dir:{tmp_path}/new").refused("nothing", code=2)
    assert everything(tmp_path) == {}


@pytest.mark.parametrize(
    ("transport", "code"),
    [("dir", 2), ("oci", 2), ("oci-archive", 1), ("docker-archive", 1), ("tarball", 1)],
)
def test_a_file_that_is_no_image(tmp_path: Path, transport: str, code: int) -> None:
    (tmp_path / "notes").write_text("buy milk\n" * 100)
    cli(tmp_path, "inspect", f"{transport}:{tmp_path}/notes").refused("notes", code=code)


@pytest.mark.parametrize("transport", ["dir", "oci"])
def test_a_directory_that_is_no_image(tmp_path: Path, transport: str) -> None:
    cli(tmp_path, "inspect", f"{transport}:{tmp_path}").refused(str(tmp_path), code=2)


@pytest.mark.parametrize(
    ("destination", "words"),
    [
        ("", ["no transport"]),
        ("docker:x", ["begin with //"]),
        ("tarball:{}/x", ["only be read"]),
        ("dir:", ["needs a path"]),
        ("oci:{}/x:@1", ["can only be read"]),
        ("oci:{}/x:bad ref", ["letters and digits"]),
        ("docker-archive:{}/x:repo@sha256:" + "0" * 64, ["digest"]),
        *((f"{t}:{{}}/no/x", ["no does not exist", "mkdir -p"])
          for t in ("dir", "oci", "oci-archive", "docker-archive")),
        *((f"{t}:{{}}/notes", ["not a directory"]) for t in ("dir", "oci")),
        ("docker-archive:{}/notes", ["does not modify existing"]),
        ("docker-archive:{}/foreign", ["foreign"]),
        ("oci-archive:{}/foreign", ["is a directory"]),
        ("dir:{}/foreign", ["not a dir: image", "choose a new or an empty directory"]),
    ],
)  # fmt: skip
def test_destinations_that_are_refused(tmp_path: Path, destination: str, words: list[str]) -> None:
    write(f"oci:{tmp_path}/source:v1", SAMPLE)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "letter").write_text("dear")
    (tmp_path / "notes").write_text("buy milk")
    before = everything(tmp_path)
    done = cli(tmp_path, "copy", f"oci:{tmp_path}/source:v1", destination.format(tmp_path))
    # The note about a digest that changes comes before what stops the copy.
    done.refused(*words, lines=len(done.err.splitlines()))
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", ["oci:{}/one:v1", "dir:{}/one", "oci-archive:{}/one:v1"])
def test_source_as_destination_changes_nothing(tmp_path: Path, name: str) -> None:
    name = name.format(tmp_path)
    write(name, SAMPLE)
    before = everything(tmp_path)
    assert cli(tmp_path, "copy", name, name).code == 0
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"default":[{"type":"reject"}]}', ["is rejected by policy", "scope default"]),
        (
            '{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k"}]}',
            ["is not admitted: signedBy: there is no key file /k", "scope default"],
        ),
        ('{"default":[]}', ["must not be empty"]),
        ('{"default":[{"type":"perhaps"}]}', ["unknown requirement type 'perhaps'"]),
        ('{"default":[{"type":"reject"}],"default":[]}', ["duplicate key"]),
        ("{", ["not valid JSON"]),
        (None, ["no policy file", "--policy"]),
    ],
)
def test_denied_by_policy(tmp_path: Path, content: str | None, words: list[str]) -> None:
    write(f"oci:{tmp_path}/source:v1", SAMPLE)
    policy = tmp_path / "policy.json"
    if content is not None:
        policy.write_text(content)
    before = everything(tmp_path)
    done = cli(
        tmp_path, "--policy", policy, "copy", f"oci:{tmp_path}/source:v1", f"dir:{tmp_path}/new"
    )
    done.refused(*words, str(policy))
    assert everything(tmp_path) == before


def test_manifest_digest_of_bad_files(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(b" " * (4 * 1024 * 1024 + 1))
    cli(tmp_path, "manifest-digest", big).refused("big is larger than the limit")
    cli(tmp_path, "manifest-digest", tmp_path / "none").refused("no such file")
    cli(tmp_path, "manifest-digest", tmp_path).refused("is a directory")
    lying = tmp_path / "lying"
    lying.write_text('{"schemaVersion":1,"signatures":[]}')
    cli(tmp_path, "manifest-digest", lying).refused("empty list of signatures")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{}/none"], ["no such file"]),
        (["{}", "--listen", "x:70000"], ["HOST:PORT"]),
        (["{}", "--listen", "127.0.0.1"], ["HOST:PORT"]),
        (["{}", "--tls-cert", "x"], ["--tls-key"]),
        (["{}", "--listen", "127.0.0.1:0", "--tls-cert", "{}/c", "--tls-key", "{}/c"], [""]),
    ],
)
def test_serve_refuses(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    (tmp_path / "c").write_text("no certificate")
    cli(tmp_path, "serve", *(a.format(tmp_path) for a in arguments)).refused(*words)
