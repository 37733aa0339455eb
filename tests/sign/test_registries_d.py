"""registries.d: files, sections, and where an image's signatures are by them."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgtools.cli.settings import Settings
from imgtools.cli.state import Cli
from imgtools.errors import InvalidInput, NotFound
from imgtools.sign.registries_d import RegistriesD, StorePlaces, load
from imgtools.spec.reference import Reference
from tests.rig import RunCli

FALLBACK = "file:///fallback"


def written(directory: Path, **files: str) -> RegistriesD:
    """The configuration of `files`, by their names without ending."""
    directory.mkdir(exist_ok=True)
    for name, content in files.items():
        (directory / f"{name}.yaml").write_text(content)
    return load([str(directory)], lookaside=FALLBACK)


def places(config: RegistriesD, name: str) -> StorePlaces:
    """Where the signatures of the image `name` are."""
    return config.for_reference(Reference.parse(name))


SECTIONS = """
default-docker:
  lookaside: https://default/read
  lookaside-staging: file:///default/write
docker:
  registry.example:5000:
    lookaside: https://host/
  registry.example:5000/ns:
    use-sigstore-attachments: true
  registry.example:5000/ns/app:
    lookaside-staging: file:///app
  registry.example:5000/ns/app:v1:
    lookaside: https://tag/
    use-sigstore-attachments: false
  registry.example:5000/ns/app@sha256:%s:
    sigstore: https://digest/
  "*.wild.example":
    sigstore: https://wild/
    sigstore-staging: file:///wild
  "*.example":
    use-sigstore-attachments: true
""" % ("a" * 64)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "read", "write", "attachments"),
    [
        ("elsewhere.test/x", "https://default/read", "file:///default/write", None),
        ("registry.example:5000/x", "https://host/", "https://host/", True),
        ("registry.example:5000/ns/x", "https://host/", "https://host/", True),
        ("registry.example:5000/nsx/x", "https://host/", "https://host/", True),
        ("registry.example:5000/ns/app:v2", "https://host/", "file:///app", True),
        ("registry.example:5000/ns/app/more", "https://host/", "file:///app", True),
        ("registry.example:5000/ns/app:v1", "https://tag/", "https://tag/", False),
        (f"registry.example:5000/ns/app@sha256:{'a' * 64}", "https://digest/", "https://digest/",
         True),
        (f"registry.example:5000/ns/app:v1@sha256:{'a' * 64}", "https://digest/",
         "https://digest/", True),
        ("a.b.wild.example:443/x", "https://wild/", "file:///wild", True),
        ("wild.example/x", "https://default/read", "file:///default/write", True),
        ("busybox", "https://default/read", "file:///default/write", None),
    ],
)  # fmt: skip
def test_each_field_comes_from_the_most_specific_section_that_has_it(
    tmp_path: Path, name: str, read: str, write: str, attachments: bool | None
) -> None:
    config = written(tmp_path, all=SECTIONS)
    assert places(config, name) == StorePlaces(
        lookaside_read=read, lookaside_write=write, attachments=attachments
    )


def test_the_new_names_win_over_the_old(tmp_path: Path) -> None:
    config = written(tmp_path, a="""
default-docker:
  sigstore: https://old
  sigstore-staging: file:///old
  lookaside: https://new
  lookaside-staging: file:///new
""")  # fmt: skip
    found = places(config, "busybox")
    assert (found.lookaside_read, found.lookaside_write) == ("https://new", "file:///new")


def test_sections_may_be_in_several_files_but_once(tmp_path: Path) -> None:
    first = "docker:\n  a.example:\n    lookaside: https://a/\n"
    config = written(tmp_path, a=first, b=first.replace("a.", "b."))
    assert places(config, "a.example/x").lookaside_read == "https://a/"
    assert places(config, "b.example/x").lookaside_read == "https://a/"
    with pytest.raises(InvalidInput, match=r"'a.example' is defined both in .*a.yaml and .*c.yaml"):
        written(tmp_path, c=first)


def test_two_defaults_are_an_error(tmp_path: Path) -> None:
    section = "default-docker:\n  lookaside: https://a/\n"
    with pytest.raises(InvalidInput, match="default-docker is defined both"):
        written(tmp_path, a=section, b=section)


def test_only_files_in_yaml_are_read_and_unknown_fields_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("{")
    (tmp_path / "README").write_text("{")
    config = written(
        tmp_path,
        a="x: 1\ndefault-docker:\n  lookaside: https://a/\n  more: [1]\n",
        b="",
        c="docker:\n",
        d="default-docker:\ndocker:\n  a.example:\n",
    )
    assert places(config, "a.example/b").lookaside_read == "https://a/"


@pytest.mark.parametrize(
    "content",
    [
        "[1]",
        "text",
        "docker: [1]",
        "default-docker: x",
        "docker:\n  a: x",
        "docker:\n  a:\n    lookaside: [x]",
        "docker:\n  a:\n    use-sigstore-attachments: maybe",
        "docker:\n  a:\n    lookaside: x\n    lookaside: y",
        "docker:\n  a: {}\n  a: {}",
        "{",
        "a: 1\n---\nb: 1",
        "\x00",
    ],
)
def test_what_cannot_be_understood_is_an_error(tmp_path: Path, content: str) -> None:
    with pytest.raises(InvalidInput, match=r"bad\.yaml"):
        written(tmp_path, bad=content)


def test_the_first_directory_that_is_there_is_the_only_one(tmp_path: Path) -> None:
    written(tmp_path / "b", a="default-docker:\n  lookaside: https://b/\n")
    written(tmp_path / "c", a="default-docker:\n  lookaside: https://c/\n")
    directories = [str(tmp_path / name) for name in "abc"]
    config = load(directories, lookaside=FALLBACK, required=True)
    assert places(config, "busybox").lookaside_read == "https://b/"
    assert places(load(directories[:1], lookaside=FALLBACK), "busybox") == StorePlaces(
        lookaside_read=FALLBACK, lookaside_write=FALLBACK
    )
    with pytest.raises(NotFound, match=r"registries\.d"):
        load(directories[:1], required=True)


def test_the_command_line_knows_where_to_look(tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path)}
    user, root = (Settings.from_environment(env, uid) for uid in (1000, 0))
    own = f"{tmp_path}/.config/containers/registries.d"
    assert set(user.registries_d) == {own, "/etc/containers/registries.d"}
    assert user.registries_d[-1] == "/etc/containers/registries.d"
    assert user.lookaside == f"file://{tmp_path}/.local/share/containers/sigstore"
    assert root.lookaside == "file:///var/lib/containers/sigstore"
    Path(own).mkdir(parents=True)
    written(Path(own), a="default-docker:\n  lookaside: https://own/\n")
    cli = Cli(settings=user)
    assert places(cli.signature_places(), "busybox").lookaside_read == "https://own/"
    written(tmp_path / "other", a="default-docker:\n  lookaside: https://other/\n")
    chosen = cli.with_globals({"registries_d": str(tmp_path / "other")})
    assert places(chosen.signature_places(), "busybox").lookaside_read == "https://other/"
    with pytest.raises(NotFound):
        cli.with_globals({"registries_d": str(tmp_path / "none")}).signature_places()


def test_the_option_is_taken_before_and_after_the_verb(run_cli: RunCli, tmp_path: Path) -> None:
    """Nothing is read from there by what needs no signatures."""
    for words in (("--registries.d", "/none", "manifest-digest", "m"),
                  ("manifest-digest", "m", "--registries.d=/none")):  # fmt: skip
        (run_cli.work / "m").write_bytes(b"{}")
        assert run_cli(*words, check=True).stdout.startswith("sha256:")
    assert "--registries.d" in run_cli("--help", check=True).stdout
