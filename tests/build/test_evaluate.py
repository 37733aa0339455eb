"""Scopes of variables, and instructions resolved in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from imgtools.build.language.errors import ContainerfileError
from imgtools.build.planning.model import (
    ContextRef,
    CopyWork,
    GitFrom,
    ImageRef,
    InlineFrom,
    PathsFrom,
    RunWork,
    ScratchRef,
    StageRef,
    UrlFrom,
    WorkdirWork,
)
from imgtools.errors import NotFound
from imgtools.spec.platform import Platform
from tests.build.planned import planned, settings_of


def env_of(text: str, given: Mapping[str, str] | None = None, **more: Any) -> list[str]:
    """The variables of the image, without PATH."""
    settings = settings_of(text, given, **more)
    return [item for item in settings.get("Env", []) if not item.startswith("PATH=")]


def run_of(text: str, given: Mapping[str, str] | None = None, **more: Any) -> RunWork:
    """The last step, a RUN."""
    work = planned(text, given, **more)[-1].steps[-1].work
    assert isinstance(work, RunWork)
    return work


def copy_of(text: str, **more: Any) -> CopyWork:
    """The last step, a COPY or ADD."""
    work = planned(text, **more)[-1].steps[-1].work
    assert isinstance(work, CopyWork)
    return work


def test_e19_arguments_in_front_of_from_are_not_seen_inside() -> None:
    assert env_of("ARG A=1\nFROM x\nENV B=[$A]") == ["B=[]"]
    assert env_of("ARG A=1\nFROM x\nARG A\nENV B=[$A]") == ["B=[1]"]
    assert env_of("ARG A=1\nFROM x\nARG A=2\nENV B=[$A]") == ["B=[2]"]


def test_e20_a_default_may_use_earlier_global_arguments() -> None:
    (plan,) = planned("ARG A=deb\nARG B=${A}ian:12\nFROM $B")
    assert plan.standing.source == ImageRef(name="debian:12")


def test_e21_a_base_that_expands_to_nothing_is_refused() -> None:
    with pytest.raises(ContainerfileError, match=r"Containerfile:1: .*\$UNSET, is empty") as caught:
        planned("FROM $UNSET\n")
    assert caught.value.excerpt == "FROM $UNSET"


def test_e22_one_instruction_sees_the_values_from_before_it() -> None:
    assert env_of("FROM x\nENV A=1\nENV A=2 B=$A\nENV C=$A") == ["A=2", "B=1", "C=2"]


@pytest.mark.parametrize(
    ("text", "given", "expected"),
    [
        ("ARG A=arg\nENV A=env", {}, "env"),
        ("ENV A=env\nARG A=arg", {}, "arg"),
        ("ENV A=env\nARG A", {}, "env"),
        ("ENV A=env\nARG A", {"A": "given"}, "given"),
        ("ARG A\nENV A=env", {"A": "given"}, "env"),
        ("ENV A=${A:-default}", {}, "base"),
    ],
)
def test_e23_the_later_definition_wins(text: str, given: dict[str, str], expected: str) -> None:
    base = {"config": {"Env": ["A=base"]}}
    plan = planned(f"FROM x\n{text}\nRUN true", given, base=base)[-1]
    work = plan.steps[-1].work
    assert isinstance(work, RunWork)
    assert dict(work.env)["A"] == expected


def test_e23_arguments_and_variables_go_on_in_a_child_stage() -> None:
    text = "FROM x AS a\nARG A=1\nENV B=2\nFROM a\nENV C=$A$B"
    assert env_of(text) == ["B=2", "C=12"]
    assert env_of("FROM x AS a\nARG A=1\nFROM x\nENV C=[$A]") == ["C=[]"]


def test_e26_a_source_may_have_a_dollar_that_is_quoted() -> None:
    assert copy_of("FROM x\nCOPY \\$a /b").sources == (
        PathsFrom(source=ContextRef(), patterns=("$a",)),
    )


def test_e27_proxies_are_hidden_unless_declared() -> None:
    proxy = {"HTTP_PROXY": "http://p", "no_proxy": "x"}
    work = run_of("FROM x\nRUN true", proxy=proxy)
    assert set(work.hidden) == set(proxy.items())
    assert "HTTP_PROXY" not in dict(work.env)
    (plan,) = planned("FROM x\nARG HTTP_PROXY\nRUN true", proxy=proxy)
    work = plan.steps[-1].work  # type: ignore[assignment]
    assert dict(work.env)["HTTP_PROXY"] == "http://p"
    assert work.hidden == (("no_proxy", "x"),)
    assert plan.steps[-1].created_by == "|1 HTTP_PROXY=http://p /bin/sh -c true"


def test_e27_history_says_no_proxy_that_is_not_declared() -> None:
    (plan,) = planned("FROM x\nRUN true", proxy={"HTTP_PROXY": "http://p"})
    assert plan.steps[-1].created_by == "/bin/sh -c true"


def test_e29_platform_arguments_in_from_and_only_there_without_arg() -> None:
    arm = Platform(os="linux", architecture="arm64")
    text = (
        "FROM --platform=$BUILDPLATFORM x:$TARGETARCH\nENV A=[$TARGETARCH]\n"
        "ARG TARGETARCH\nENV B=$TARGETARCH"
    )
    (plan,) = planned(text, target=arm)
    assert plan.standing.stage.platform == "linux/amd64"
    assert plan.standing.source == ImageRef(name="x:arm64")
    assert plan.end.settings["Env"][1:] == ["A=[]", "B=arm64"]


def test_e30_an_empty_value_that_is_given_takes_the_default_away() -> None:
    assert env_of("FROM x\nARG A=1\nENV B=[$A]", {"A": ""}) == ["B=[]"]
    assert env_of("ARG A=x\nFROM b\nARG A\nENV B=[$A]", {"A": ""}) == ["B=[]"]


def test_e31_names_of_stages_in_any_case() -> None:
    plans = planned("FROM x AS Build\nFROM bUILD\nCOPY --from=BUILD /a /b")
    assert plans[1].standing.source == StageRef(index=0)
    assert plans[1].standing.needs == (StageRef(index=0),)


def test_e32_stages_by_number() -> None:
    plans = planned("FROM x AS a\nFROM y\nFROM z\nCOPY --from=0 /a /\nCOPY --from=1 /b /")
    assert plans[2].standing.needs == (StageRef(index=0), StageRef(index=1))


def test_e33_a_context_goes_before_a_stage_and_a_stage_before_an_image() -> None:
    text = "FROM x AS alpine\nFROM alpine\nCOPY --from=alpine /a /\nCOPY --from=debian /b /"
    plans = planned(text)
    assert plans[1].standing.source == StageRef(index=0)
    assert plans[1].standing.needs == (StageRef(index=0), ImageRef(name="debian"))
    plans = planned(text, contexts=["debian:latest"])
    assert plans[1].standing.needs[1] == ContextRef(name="debian:latest")
    plans = planned("FROM x\nCOPY --from=alpine a /", contexts=["alpine"])
    assert plans[0].standing.needs == (ContextRef(name="alpine"),)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("FROM x AS a\nCOPY --from=a /x /y", "from within itself"),
        ("FROM x AS a\nCOPY --from=0 /x /y", "from within itself"),
        ("FROM x AS a\nCOPY --from=b /x /y\nFROM y AS b", "later in the file"),
        ("FROM x AS a\nRUN --mount=from=b,target=/x true\nFROM y AS b", "later in the file"),
        ("FROM x\nCOPY --from=7 /x /y", "there is no stage 7"),
    ],
)
def test_e34_stages_that_cannot_be_read_from(text: str, reason: str) -> None:
    with pytest.raises(ContainerfileError, match=f"Containerfile:2: .*{reason}"):
        planned(text)


def test_e36_the_last_of_two_stages_with_one_name() -> None:
    plans = planned("FROM x AS a\nFROM y AS a\nFROM a\nCOPY --from=a /x /y")
    assert plans[2].standing.source == StageRef(index=1)
    assert plans[2].standing.needs == (StageRef(index=1),)


def test_e37_scratch_is_no_image() -> None:
    (plan,) = planned("FROM scratch\nCOPY --from=scratch a /")
    assert plan.standing.source == ScratchRef()
    assert plan.standing.needs == (ScratchRef(),)


def test_e39_triggers_come_first_in_their_order_and_are_cleared() -> None:
    base = {"config": {"OnBuild": ["ARG A=1", "ENV B=$A", "COPY --from=other /x /y"]}}
    (plan,) = planned("FROM x\nENV C=$B", base=base)
    assert [step.text.split()[0] for step in plan.steps] == ["ARG", "ENV", "COPY", "ENV"]
    assert "OnBuild" not in plan.end.settings
    assert plan.end.settings["Env"][1:] == ["B=1", "C=1"]
    assert plan.standing.needs == (ImageRef(name="other"),)
    (plan,) = planned("FROM x\nONBUILD RUN $A", base=base)
    assert plan.end.settings["OnBuild"] == ["RUN $A"]


def test_e44_destinations_below_the_working_directory() -> None:
    text = "FROM x\nWORKDIR /w\nWORKDIR d\nCOPY a b c/"
    assert copy_of(text).destination == "/w/d/c/"
    assert copy_of("FROM x\nCOPY a b").destination == "/b"
    assert copy_of("FROM x\nWORKDIR /w\nCOPY a .").destination == "/w/"
    assert copy_of("FROM x\nCOPY a ./../..").destination == "/"
    assert copy_of("FROM x\nARG D=/x y\nCOPY a $D/").destination == "/x/"


def test_sources_of_add_are_told_apart() -> None:
    words = "a https://h/f?x=1 https://h/r.git#main:sub git@h:r.git ssh://h/r git://h/r b c"
    work = copy_of(f"FROM x\nADD {words} /d/")
    assert work.sources == (
        PathsFrom(source=ContextRef(), patterns=("a",)),
        UrlFrom(url="https://h/f?x=1"),
        GitFrom(url="https://h/r.git#main:sub"),
        GitFrom(url="git@h:r.git"),
        GitFrom(url="ssh://h/r"),
        GitFrom(url="git://h/r"),
        PathsFrom(source=ContextRef(), patterns=("b", "c")),
    )
    with pytest.raises(ContainerfileError, match="COPY takes files"):
        planned("FROM x\nCOPY https://h/f /d")


def test_documents_are_expanded_unless_quoted() -> None:
    text = "FROM x\nENV A=1\nCOPY <<ONE <<'TWO' /d/\n$A \"q\" '$A'\nONE\n$A\nTWO\n"
    first, second = copy_of(text).sources
    assert isinstance(first, InlineFrom)
    assert first.document.content == "1 \"q\" '1'\n"
    assert isinstance(second, InlineFrom)
    assert second.document.content == "$A\n"


@pytest.mark.parametrize("mode", ["755", "0644", "7777", "u=rwX,go=rX", "+x", "a-w,u+s"])
def test_modes(mode: str) -> None:
    assert copy_of(f"FROM x\nCOPY --chmod={mode} a /b").chmod == mode


@pytest.mark.parametrize("mode", ["8", "17777", "rwx", "u=q"])
def test_modes_that_are_refused(mode: str) -> None:
    with pytest.raises(ContainerfileError, match="--chmod"):
        planned(f"FROM x\nCOPY --chmod={mode} a /b")


def test_a_checksum_needs_something_fetched() -> None:
    with pytest.raises(ContainerfileError, match="--checksum needs one source"):
        planned(f"FROM x\nADD --checksum=sha256:{'0' * 64} a /b")


def test_e16_documents_of_run() -> None:
    assert run_of("FROM x\nRUN <<EOF\na\nb\nEOF\n").args == ("/bin/sh", "-c", "a\nb\n")
    shell = 'FROM x\nSHELL ["bash", "-c"]\nRUN <<EOF\na\nEOF\n'
    assert run_of(shell).args == ("bash", "-c", "a\n")
    work = run_of("FROM x\nRUN <<EOF\n#!/usr/bin/python3\nprint(1)\nEOF\n")
    assert work.args == ("/dev/pipes/EOF",)
    assert work.script is not None
    assert work.script.content == b"#!/usr/bin/python3\nprint(1)\n"
    work = run_of("FROM x\nRUN cat <<A >/x && cat <<B\n1\nA\n2\nB\n")
    assert work.args == ("/bin/sh", "-c", "cat <<A >/x && cat <<B\n1\nA\n2\nB")


def test_variables_are_not_expanded_in_commands() -> None:
    assert run_of("FROM x\nENV A=1\nRUN echo $A").args == ("/bin/sh", "-c", "echo $A")
    assert run_of('FROM x\nENV A=1\nRUN ["a", "$A"]').args == ("a", "$A")
    assert settings_of("FROM x\nENV A=1\nCMD echo $A")["Cmd"] == ["/bin/sh", "-c", "echo $A"]


def test_e72_targets_of_mounts_below_the_working_directory() -> None:
    text = "FROM x\nWORKDIR /w\nENV D=d\nRUN --mount=type=cache,target=$D/c --mount=target=. true"
    cache, bind = run_of(text).mounts
    assert (cache.mount.target, cache.source) == ("/w/d/c", ScratchRef())
    assert (bind.mount.target, bind.source) == ("/w", ContextRef())
    with pytest.raises(ContainerfileError, match="cannot be at"):
        planned("FROM x\nRUN --mount=target=/ true")


def test_mounts_of_the_command_line_are_for_every_run() -> None:
    (mount,) = run_of("FROM x\nRUN true", mounts=("type=tmpfs,target=/t",)).mounts
    assert (mount.mount.kind, mount.mount.target) == ("tmpfs", "/t")


def test_more_privileges_have_to_be_allowed() -> None:
    text = "FROM x\nRUN --security=insecure true"
    with pytest.raises(ContainerfileError, match="is not allowed"):
        planned(text)
    assert run_of(text, insecure=True).insecure


def test_devices_of_one_step_are_refused_with_what_to_do() -> None:
    with pytest.raises(ContainerfileError, match="RUN --device is not supported") as caught:
        planned("FROM x\nRUN --device=vendor.com/x=y true")
    assert caught.value.location.first == 2


def test_e84_cmd_of_the_same_file_survives_entrypoint() -> None:
    base = {"config": {"Cmd": ["base"]}}
    assert "Cmd" not in settings_of('FROM x\nENTRYPOINT ["e"]', base=base)
    assert settings_of('FROM x\nCMD ["c"]\nENTRYPOINT ["e"]', base=base)["Cmd"] == ["c"]
    text = 'FROM x AS a\nCMD ["c"]\nFROM a\nENTRYPOINT ["e"]'
    assert "Cmd" not in settings_of(text, base=base), "the child inherits it"


def test_variables_of_the_command_line_are_there_from_the_start() -> None:
    assert env_of("FROM x\nENV B=$A", env=[("A", "1")]) == ["A=1", "B=1"]


def test_history_of_instructions() -> None:
    text = """\
        FROM x
        ENV A=1  B=2
        LABEL a="b c"
        WORKDIR /w
        COPY --chown=1:2 a b /c/
        CMD ["x", "y"]
        USER 5
        ARG V=1
        RUN echo \\
            two
        ADD --checksum=sha256:%s http://h/f /f
        MAINTAINER me
        """ % ("0" * 64)
    (plan,) = planned(text)
    nop = "/bin/sh -c #(nop)"
    assert [step.created_by for step in plan.steps] == [
        f"{nop} ENV A=1  B=2",
        f'{nop} LABEL a="b c"',
        f"{nop} WORKDIR /w",
        f"{nop} COPY --chown=1:2 {{}} in /c/ ",
        f'{nop} CMD ["x", "y"]',
        f"{nop} USER 5",
        f"{nop} ARG V=1",
        "|1 V=1 /bin/sh -c echo     two",
        f"{nop} ADD --checksum=sha256:{'0' * 64} {{}} in /f ",
        f"{nop} MAINTAINER me",
    ]
    assert plan.end.author == "me"


def test_variables_that_are_not_set_change_nothing() -> None:
    (plan,) = planned("FROM x\nWORKDIR /w\nWORKDIR $A\nCOPY a $A\nUSER app\nUSER $A")
    assert isinstance(plan.steps[2].work, CopyWork)
    assert plan.steps[2].work.destination == "/w/"
    assert plan.end.settings["WorkingDir"] == "/w"
    assert "User" not in plan.end.settings


def test_the_directory_of_workdir_belongs_to_the_user() -> None:
    (plan,) = planned("FROM x\nUSER app\nWORKDIR /w\nWORKDIR d")
    assert plan.steps[-1].work == WorkdirWork(path="/w/d", user="app")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("ENV A=${A:?missing}", "missing"),
        ("EXPOSE nonsense", "invalid port"),
        ("STOPSIGNAL SIG TERM", "signal"),
        ("LABEL $A=b", "label"),
        ("VOLUME $A", "VOLUME"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(line: str, reason: str) -> None:
    with pytest.raises(
        (ContainerfileError, NotFound), match=f"Containerfile:2: .*{reason}"
    ) as caught:
        planned(f"FROM x\n{line}\n")
    assert caught.value.excerpt == line  # type: ignore[union-attr]
