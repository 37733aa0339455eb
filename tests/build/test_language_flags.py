"""Flags of instructions: where they end, quotes, values, repetitions, and the ones meant."""

from __future__ import annotations

import pytest

from imgtools.build.language.model import Add, Command, Copy, Run
from tests.build.language_kit import only, refused


@pytest.mark.parametrize(
    ("text", "reason", "hint"),
    [
        ("COPY --chwon=a b c", "COPY has no flag --chwon", "did you mean --chown?"),
        ("RUN --mont=a b", "RUN has no flag --mont", "did you mean --mount?"),
        ("FROM --plattform=a b", "FROM has no flag --plattform", "did you mean --platform?"),
        ("COPY --CHOWN=a b c", "COPY has no flag --CHOWN", "did you mean --chown?"),
        ("COPY --link=maybe b c", "--link=maybe: expected true or false", None),
        ("COPY --link= b c", "the flag --link has no value", None),
        ("COPY --chown b c", "the flag --chown has no value", None),
        ("RUN --mount x", "the flag --mount has no value", None),
        ("COPY --from=a --from=a b c", "the flag --from is there twice", None),
        ("COPY --link --link=false b c", "the flag --link is there twice", None),
    ],
)
def test_e17_flag_that_is_wrong_is_refused(text: str, reason: str, hint: str | None) -> None:
    error = refused(text)
    assert (error.reason, error.hint) == (reason, hint)
    assert error.excerpt[error.column - 1 :].startswith("--")


@pytest.mark.parametrize(
    "keyword", ["ARG", "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "MAINTAINER", "ONBUILD",
                "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"]
)  # fmt: skip
def test_e17_instruction_without_flags_has_none(keyword: str) -> None:
    error = refused(f"{keyword} --boo RUN=x")
    assert error.reason == f"{keyword} has no flag --boo"
    assert error.hint is not None
    assert "takes no flags" in error.hint


def test_e17_flags_come_before_arguments() -> None:
    instruction = only("COPY a --chown=b --link c")
    assert isinstance(instruction, Copy)
    assert instruction.sources == ("a", "--chown=b", "--link")
    assert (instruction.chown, instruction.link) == ("", False)


def test_e17_two_dashes_end_flags() -> None:
    instruction = only("RUN --network=none -- --mount=x")
    assert isinstance(instruction, Run)
    assert instruction.command == Command(words=("--mount=x",), shell=True)
    assert only("USER -- --help").user == "--help"  # type: ignore[attr-defined]


def test_e17_flags_that_repeat_are_kept_in_order() -> None:
    copy = only("COPY --exclude=a --link --exclude='b c' --parents=FALSE --exclude=d\\ e f g")
    assert isinstance(copy, Copy)
    assert copy.exclude == ("a", "b c", "d e")
    assert (copy.link, copy.parents) == (True, False)
    run = only('RUN --mount=type=cache,target=/a --mount="type=ssh" --device=a --device=b x')
    assert isinstance(run, Run)
    assert run.mounts == ("type=cache,target=/a", "type=ssh")
    assert run.devices == ("a", "b")


def test_flags_keep_variables_and_characters_beyond_ascii() -> None:
    copy = only("COPY --from=$x --chown=ü:${g} --chmod='u=rwX,go=' a b")
    assert isinstance(copy, Copy)
    assert (copy.from_, copy.chown, copy.chmod) == ("$x", "ü:${g}", "u=rwX,go=")


def test_add_has_all_its_flags() -> None:
    add = only("ADD --keep-git-dir --unpack=false --checksum=sha256:0 --link --chown=1 a b/")
    assert isinstance(add, Add)
    assert (add.keep_git_dir, add.unpack, add.checksum, add.link) == (True, False, "sha256:0", True)
    plain = only("ADD a b c")
    assert isinstance(plain, Add)
    assert (plain.keep_git_dir, plain.unpack, plain.sources) == (None, None, ("a", "b"))
