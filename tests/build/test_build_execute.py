"""Whole builds: what is executed, what is found again, and what the image is then."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from imgtools.build.events import BuildNote, StepFailed, StepOutput
from imgtools.build.execute.errors import CommandFailed
from imgtools.build.language.errors import ContainerfileError
from imgtools.build.options import (
    CacheOptions,
    ConfigEdits,
    NamedContext,
    SecretSource,
    Stamps,
)
from imgtools.errors import Cancelled, Error, InvalidInput, NotFound
from imgtools.spec.platform import Platform
from imgtools.task import Task
from tests.build.build_rig import BuildRig

SECRET = b"correct horse battery staple"


@pytest.fixture
def rig(tmp_path: Path) -> BuildRig:
    return BuildRig(tmp_path)


def everything(rig: BuildRig) -> bytes:
    """All bytes that a build has kept or said."""
    files = [p.read_bytes() for p in rig.directory.rglob("*") if p.is_file() and p.name != "secret"]
    return b"".join(files) + repr((rig.events, rig.store.records, rig.result)).encode()


def test_copy_run_and_config(rig: BuildRig) -> None:
    rig.write(a="1", d__b="2")
    image = rig.build('FROM scratch\nCOPY . /x/\nENV A=v\nRUN write /y $A\nCMD ["z"]\n')
    assert rig.files() == {"x/a": "1", "x/d/b": "2", "y": "v"}
    assert image.config.document["config"]["Cmd"] == ["z"]
    assert [h.empty_layer for h in image.config.history] == [False, True, False, True]
    assert len(image.config.diff_ids) == len(image.layers) == 2


def test_e90_history_counts_layers_exactly(rig: BuildRig) -> None:
    rig.base("b", {"history": [{"created_by": "one"}, {"created_by": "two", "empty_layer": True}]},
             bytes(1024))  # fmt: skip
    image = rig.build("FROM b\nWORKDIR /w\nWORKDIR /w\nVOLUME /v\nLABEL a=b\nRUN write /w/f x\n")
    layers = [h for h in image.config.history if not h.empty_layer]
    assert len(layers) == len(image.config.diff_ids) == 3
    assert [h.created_by for h in image.config.history[:2]] == ["one", "two"]
    assert image.config.history[3].empty_layer, "the directory is there already"


def test_a_second_build_executes_nothing_and_gives_the_same_image(rig: BuildRig) -> None:
    rig.write(a="1")
    text = (
        "FROM scratch AS x\nCOPY a /a\nRUN write /b 2\nFROM scratch\nCOPY --from=x / /\nLABEL l=1\n"
    )
    first = rig.build(text)
    assert rig.ran == 1
    time.sleep(1.1)  # Times are in whole seconds.
    second = rig.build(text)
    assert rig.ran == 0
    assert all(rig.cached())
    assert second.config.to_bytes() == first.config.to_bytes()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("RUN write /a 1", "RUN write /a 2"),
        ("ENV A=1\nRUN write /a $A", "ENV A=2\nRUN write /a $A"),
        ("WORKDIR /a\nRUN write /x 1", "WORKDIR /b\nRUN write /x 1"),
        ("USER 1\nRUN write /x 1", "USER 2\nRUN write /x 1"),
        ('SHELL ["a"]\nRUN write /x 1', 'SHELL ["b"]\nRUN write /x 1'),
        ("RUN --network=none write /x 1", "RUN write /x 1"),
        ("RUN --mount=type=tmpfs,target=/a say x", "RUN --mount=type=tmpfs,target=/b say x"),
        ("RUN --mount=type=secret,id=a say x", "RUN --mount=type=secret,id=b say x"),
        ("RUN --mount=type=cache,id=a,target=/c say", "RUN --mount=type=cache,id=b,target=/c say"),
        ("COPY a /x", "COPY a /y"),
        ("COPY a /x", "COPY b /x"),
        ("COPY a /x", "COPY --chmod=700 a /x"),
        ("COPY a /x", "COPY --chown=1 a /x"),
        ("COPY a /x", "ADD a /x"),
        ("COPY d /x", "COPY --exclude=*.c d /x"),
        ("RUN <<EOF\nwrite /x 1\nEOF", "RUN <<EOF\nwrite /x 2\nEOF"),
        ("COPY <<EOF /x\n1\nEOF", "COPY <<EOF /x\n2\nEOF"),
    ],
)  # fmt: skip
def test_what_decides_about_a_step_is_in_its_key(rig: BuildRig, before: str, after: str) -> None:
    rig.write(a="1", b="2", d__x_dot_c="3")
    rig.build(f"FROM scratch\n{before}\n")
    rig.build(f"FROM scratch\n{before}\n")
    assert all(rig.cached())
    rig.build(f"FROM scratch\n{after}\n")
    assert not all(rig.cached())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("LABEL a=1\nRUN write /x 1", "LABEL a=2\nRUN write /x 1"),
        ("RUN write /x 1", "RUN   write /x 1"),
        ("COPY a /x", "COPY ./a /x"),
        ("CMD a\nRUN write /x 1", "EXPOSE 80\nRUN write /x 1"),
        ("ARG A=1\nCOPY a /x", "ARG A=2\nCOPY a /x"),
    ],
)
def test_what_decides_nothing_is_not_in_a_key(rig: BuildRig, before: str, after: str) -> None:
    rig.write(a="1")
    rig.build(f"FROM scratch\n{before}\n")
    rig.build(f"FROM scratch\n{after}\n")
    assert all(rig.cached())


def test_build_arguments_count_where_they_are_declared(rig: BuildRig) -> None:
    text = "FROM scratch\nRUN write /x 1\nARG A\nRUN write /y $A\n"
    rig.build(text, build_args={"A": "1"})
    rig.build(text, build_args={"A": "2", "B": "3"})
    assert rig.cached() == [True, False]
    assert rig.files()["y"] == "2"
    (note,) = [e for e in rig.events if isinstance(e, BuildNote)]
    assert note.level == "warning"
    assert note.text.endswith(": B")


def test_content_counts_and_times_do_not(rig: BuildRig) -> None:
    rig.write(a="1")
    text = "FROM scratch\nCOPY a /x\n"
    first = rig.build(text)
    (rig.context / "a").touch()
    assert rig.build(text).config.diff_ids == first.config.diff_ids
    assert rig.cached() == [True]
    rig.write(a="2")
    rig.build(text)
    assert rig.cached() == [False]
    (rig.context / "a").chmod(0o755)
    rig.build(text)
    assert rig.cached() == [False]


def test_a_rename_in_a_directory_counts(rig: BuildRig) -> None:
    rig.write(d__a="1")
    rig.build("FROM scratch\nCOPY d /x\n")
    (rig.context / "d/a").rename(rig.context / "d/b")
    rig.build("FROM scratch\nCOPY d /x\n")
    assert rig.files() == {"x/b": "1"}


def test_a_stage_that_gives_the_same_files_again_is_found_by_content(rig: BuildRig) -> None:
    text = "FROM scratch AS x\nRUN write /n %s;write /b 2\nFROM scratch\nCOPY --from=x /b /b\n"
    rig.build(text % "1")
    rig.build(text % "other")
    assert rig.cached() == [False, True]
    rig.build(text % "other")
    assert rig.cached() == [True, True]


def test_what_a_bind_mount_shows_counts(rig: BuildRig) -> None:
    text = "FROM scratch\nRUN --mount=target=/m,source=a mounted /m /x\n"
    rig.write(a="1", b="1")
    rig.build(text)
    rig.write(b="2")
    rig.build(text)
    assert rig.cached() == [True]
    rig.write(a="2")
    rig.build(text)
    assert rig.cached() == [False]
    assert rig.files() == {"x": "2"}


def test_e71_caches_that_begin_with_something_else_are_others(rig: BuildRig) -> None:
    """One id and other files, or another owner, are another cache; the same ones are not."""
    rig.write(one="1", two="2")
    mounts = {
        "id=c": 0, "id=c,from=first": 1, "id=c,from=first,source=/": 1, "id=c,from=second": 2,
        "id=c,uid=5": 3, "id=c,mode=0700": 4, "id=c,mode=0755": 0, "id=c,from=first,source=/d": 5,
        "id=c,sharing=locked": 0, "id=d": 6,
    }  # fmt: skip
    lines = [f"RUN --mount=type=cache,{mount},target=/c say {mount}" for mount in mounts]
    rig.build(
        "\n".join(
            ["FROM scratch AS first", "COPY one one", "COPY one d/one", "FROM scratch AS second",
             "COPY two two", "FROM scratch", "COPY one one", *lines]
        )
    )  # fmt: skip
    names = [spec.mounts[0].cache for spec in rig.executor.specs]
    groups = [names.index(name) for name in names]
    expected = list(mounts.values())
    assert groups == [expected.index(number) for number in expected]


def test_e69_secrets_are_in_nothing_that_is_kept_or_said(rig: BuildRig) -> None:
    secret = rig.directory / "secret"
    secret.write_bytes(SECRET)
    text = """\
FROM scratch
RUN --mount=type=secret,id=s mounted /run/secrets/s /x;write /x gone
RUN --mount=type=secret,id=s,env=TOKEN write /y $TOKEN;write /y gone
RUN write /env $TOKEN
"""
    rig.build(text, secrets=(SecretSource(id="s", file=str(secret)),))
    assert rig.files() == {"x": "gone", "y": "gone", "env": ""}
    assert SECRET in rig.executor.specs[0].mounts[0].content
    assert SECRET not in everything(rig)
    rig.build(text, secrets=(SecretSource(id="s", value=b"another"),))
    assert all(rig.cached()), "its value is not in a key"


def test_e69_a_secret_that_is_required(rig: BuildRig) -> None:
    with pytest.raises(NotFound, match="secret 's' is required") as caught:
        rig.build("FROM scratch\nRUN --mount=type=secret,id=s,required=true write /x 1\n")
    assert "--secret id=s" in str(caught.value.hint)
    rig.build("FROM scratch\nRUN --mount=type=secret,id=s write /x 1\n")
    assert rig.executor.specs[0].mounts == ()


def test_e27_proxies_reach_commands_and_nothing_else(rig: BuildRig) -> None:
    text = "FROM scratch\nRUN write /x 1\n"
    rig.build(text, proxy={"http_proxy": "http://user:word@p"})
    assert "http_proxy=http://user:word@p" in rig.executor.specs[0].env
    assert b"word@p" not in everything(rig)
    rig.build(text, proxy={})
    assert rig.cached() == [True]


def test_e25_an_argument_of_the_first_lines_is_refused_with_its_place(rig: BuildRig) -> None:
    with pytest.raises(ContainerfileError, match="A: wanted") as caught:
        rig.build("# x\nARG A=${A:?wanted}\nFROM scratch\n")
    assert caught.value.location.first == 2


@pytest.mark.parametrize(
    ("arguments", "both"),
    [
        ({"HTTP_PROXY": "http://p"}, ("http://p", "http://p")),
        ({"http_proxy": "http://p"}, ("http://p", "http://p")),
        ({"http_proxy": "http://l", "HTTP_PROXY": "http://u"}, ("http://l", "http://u")),
        ({"HTTP_PROXY": ""}, ("", "")),
    ],
)
def test_e27_proxies_that_are_arguments_have_either_spelling(
    rig: BuildRig, arguments: dict[str, str], both: tuple[str, str]
) -> None:
    rig.build(
        "FROM scratch\nRUN write /x 1\n", build_args=arguments, proxy={"http_proxy": "http://h"}
    )
    env = dict(item.partition("=")[::2] for item in rig.executor.specs[0].env)
    assert (env["http_proxy"], env["HTTP_PROXY"]) == both


def test_stages_that_nobody_needs_are_not_built(rig: BuildRig) -> None:
    text = "FROM scratch AS a\nRUN exit 1\nFROM missing AS b\nFROM scratch\nRUN write /x 1\n"
    rig.build(text)
    assert rig.ran == 1
    with pytest.raises(Error):
        rig.build(text, skip_unused_stages=False)


def test_e35_a_target_by_name_and_number(rig: BuildRig) -> None:
    text = "FROM scratch AS One\nRUN write /x 1\nFROM scratch AS two\nRUN exit 3\n"
    rig.build(text, target="ONE")
    rig.build(text, target="0")
    assert rig.files() == {"x": "1"}
    with pytest.raises(NotFound, match="there is no stage 'tow'") as caught:
        rig.build(text, target="tow")
    assert caught.value.hint == "did you mean 'two'?"


def test_stages_run_side_by_side(rig: BuildRig) -> None:
    rig.executor.meeting = threading.Barrier(3)
    text = "\n".join(f"FROM scratch AS s{n}\nRUN meet;write /f{n} x" for n in range(3))
    text += "\nFROM scratch\n" + "\n".join(f"COPY --from=s{n} / /" for n in range(3)) + "\n"
    rig.build(text)
    assert set(rig.files()) == {"f0", "f1", "f2"}


def test_no_more_steps_at_once_than_jobs(rig: BuildRig) -> None:
    text = "\n".join(f"FROM scratch AS s{n}\nRUN write /f{n} x\nRUN write /g x" for n in range(6))
    text += "\nFROM scratch\n" + "\n".join(f"COPY --from=s{n} / /" for n in range(6)) + "\n"
    rig.build(text, jobs=1)
    assert rig.executor.most == 1


def test_the_same_step_in_two_stages_is_executed_once(rig: BuildRig) -> None:
    text = """\
FROM scratch AS a
RUN write /x 1
FROM scratch AS b
RUN write /x 1
FROM scratch
COPY --from=a /x /a
COPY --from=b /x /b
"""
    rig.build(text)
    assert rig.ran == 1
    rig.build(text, cache=CacheOptions(enabled=False))
    assert rig.ran == 1


def test_nothing_from_before_counts_without_a_cache(rig: BuildRig) -> None:
    rig.build("FROM scratch\nRUN write /x 1\n")
    rig.build("FROM scratch\nRUN write /x 1\n", cache=CacheOptions(enabled=False))
    assert rig.ran == 1
    rig.build("FROM scratch\nRUN write /x 1\n", layers=False)
    assert rig.ran == 1
    rig.build("FROM scratch\nRUN write /x 1\n", cache=CacheOptions(ttl=0.0))
    assert rig.ran == 1


def test_e66_a_command_that_fails(rig: BuildRig) -> None:
    with pytest.raises(CommandFailed) as caught:
        rig.build("FROM scratch\nRUN say first;say last;exit 7\nRUN write /x 1\n")
    assert caught.value.code == 7
    assert caught.value.tail == (b"first\n", b"last\n")
    assert caught.value.location.first == 2
    (failed,) = [e for e in rig.events if isinstance(e, StepFailed)]
    assert failed.code == 7
    assert [e.data for e in rig.events if isinstance(e, StepOutput)] == [b"first\n", b"last\n"]
    assert rig.store.records == {}
    assert not list(rig.directory.glob("store/work-*")), "no tree is left"


def test_a_failure_stops_the_other_stages(rig: BuildRig) -> None:
    rig.executor.meeting = threading.Barrier(2)
    text = """\
FROM scratch AS a
RUN meet;exit 4
FROM scratch AS b
RUN meet;wait
FROM scratch
COPY --from=a / /
COPY --from=b / /
"""
    with pytest.raises(CommandFailed, match="exit code 4"):
        rig.build(text)
    assert not list(rig.directory.glob("store/work-*"))
    assert not list(rig.directory.glob("store/scratch-*"))


def test_e96_cancelling_leaves_nothing(rig: BuildRig) -> None:
    task = Task()
    text = "FROM scratch\nRUN write /x 1\nRUN say now;wait\n"

    def stop(event: object) -> None:
        if isinstance(event, StepOutput):
            threading.Thread(target=task.cancel.cancel).start()

    with pytest.raises(Cancelled):
        rig.build(text, task=task, on_event=stop)
    assert not list(rig.directory.glob("store/work-*"))
    rig.build("FROM scratch\nRUN write /x 1\n")
    assert rig.cached() == [True], "what was done is kept"


def test_base_layers_are_obtained_when_they_are_needed_and_not_before(rig: BuildRig) -> None:
    rig.base("b", {}, bytes(1024))
    rig.build("FROM b\nRUN write /x 1\n", dry=True)
    assert rig.store.obtained == []
    rig.build("FROM b\nRUN write /x 1\n")
    assert rig.store.obtained == ["b"]
    assert rig.result.images[0].layers[0].size == 1024, "a manifest will say it"


def test_a_dry_run_says_what_would_be_done(rig: BuildRig) -> None:
    rig.build("FROM scratch\nRUN write /x 1\nLABEL a=b\nRUN write /y 1\n")
    text = """\
FROM scratch AS a
RUN write /x 1
LABEL a=b
RUN write /y 2
RUN write /z 2
FROM scratch
COPY --from=a / /
"""
    rig.build(text, dry=True)
    assert rig.ran == 0
    assert [step.fate for step in rig.result.planned] == ["cached", "config", "run", "run", "run"]
    assert rig.result.planned[2].text == "RUN write /y 2"


def test_e39_triggers_of_a_base_image(rig: BuildRig) -> None:
    rig.base("other", {}, bytes(1024))
    rig.base(
        "b", {"config": {"OnBuild": ["COPY a /on", "COPY --from=0 / /", "ENV T=1"]}}, bytes(1024)
    )
    rig.write(a="1")
    image = rig.build("FROM other\nRUN write /s 0\nFROM b\nRUN write /t $T\n")
    assert rig.files() == {"on": "1", "s": "0", "t": "1"}
    assert "OnBuild" not in image.config.document["config"]
    assert [h.created_by.split()[2] for h in image.config.history[:3]] == ["#(nop)"] * 3


def test_e39_triggers_of_a_stage(rig: BuildRig) -> None:
    text = "FROM scratch AS a\nONBUILD RUN write /t 1\nFROM a AS b\nFROM b\nRUN write /u 1\n"
    rig.build(text)
    assert rig.files() == {"t": "1", "u": "1"}
    assert rig.ran == 2, "the trigger fires in the child and not in the grandchild"


def test_e33_a_named_context_is_copied_from(rig: BuildRig) -> None:
    other = rig.directory / "other"
    other.mkdir()
    (other / "f").write_text("named")
    text = "FROM scratch\nCOPY --from=ctx f /x\n"
    rig.build(text, contexts=(NamedContext(name="ctx", value=str(other)),))
    assert rig.files() == {"x": "named"}


def test_a_named_context_takes_the_place_of_a_stage_or_a_base(rig: BuildRig) -> None:
    other = rig.directory / "other"
    other.mkdir()
    (other / "f").write_text("named")
    contexts = (NamedContext(name="a", value=str(other)),)
    rig.build(
        "FROM missing AS a\nRUN exit 1\nFROM scratch\nCOPY --from=a f /x\n", contexts=contexts
    )
    assert rig.files() == {"x": "named"}
    rig.build("FROM a\nRUN write /y 1\n", contexts=contexts)
    assert rig.files() == {"f": "named", "y": "1"}


def test_a_named_context_can_be_nothing_at_all(rig: BuildRig) -> None:
    rig.base("full", {"config": {"Env": ["R=1"]}}, bytes(1024))
    contexts = (NamedContext(name="full", value="docker-image://scratch"),)
    image = rig.build("FROM full\nRUN write /x [$R]\n", contexts=contexts)
    assert rig.files() == {"x": "[]"}
    assert image.base is None
    rig.build(
        "FROM scratch\nCOPY --from=full a* /\nRUN --mount=from=full,target=/m write /y 1\n",
        contexts=contexts,
    )
    assert rig.files() == {"y": "1"}


def test_e33_a_context_that_is_an_image(rig: BuildRig) -> None:
    rig.base("real", {"config": {"Env": ["R=1"]}}, bytes(1024))
    contexts = (NamedContext(name="alpine", value="docker-image://real"),)
    image = rig.build("FROM alpine\nRUN write /x $R\n", contexts=contexts)
    assert rig.files() == {"x": "1"}
    assert image.base is not None
    assert image.base.name == "real"


def test_several_platforms(rig: BuildRig) -> None:
    arm = Platform(os="linux", architecture="arm64", variant="v8")
    amd = Platform(os="linux", architecture="amd64")
    text = """\
FROM --platform=$BUILDPLATFORM scratch AS tool
RUN write /tool 1
FROM scratch
ARG TARGETARCH
COPY --from=tool /tool /tool
RUN write /arch $TARGETARCH
"""
    rig.build(text, platforms=(arm, amd))
    first, second = rig.result.images
    assert (first.platform, second.platform) == (arm, amd)
    assert rig.files(first) == {"tool": "1", "arch": "arm64"}
    assert rig.files(second) == {"tool": "1", "arch": "amd64"}
    assert first.config.document["architecture"] == "arm64"
    assert first.config.document["variant"] == "v8"
    assert rig.ran == 3, "the stage of the build platform is carried out once"


def test_the_time_that_was_asked_for_is_everywhere(rig: BuildRig) -> None:
    rig.write(a="1")
    text = "FROM scratch\nCOPY a /a\nRUN write /b 1\nWORKDIR /w\nLABEL a=b\n"
    first = rig.build(text, stamps=Stamps(timestamp=1_000_000_000))
    assert {h.created for h in first.config.history} == {"2001-09-09T01:46:40Z"}
    assert first.config.created == "2001-09-09T01:46:40Z"
    rig.store.records.clear()
    (rig.context / "a").touch()
    time.sleep(1.1)
    second = rig.build(text, stamps=Stamps(timestamp=1_000_000_000))
    assert second.config.to_bytes() == first.config.to_bytes()
    third = rig.build(text, stamps=Stamps(source_date_epoch=1_000_000_000, rewrite=True))
    assert third.config.diff_ids == first.config.diff_ids, "all files are newer"
    assert set(first.config.labels) == {"a"}, "no version of ours is in it"


def test_the_epoch_is_an_argument(rig: BuildRig) -> None:
    text = "FROM scratch\nARG SOURCE_DATE_EPOCH\nRUN write /x $SOURCE_DATE_EPOCH\n"
    rig.build(text, stamps=Stamps(source_date_epoch=5))
    assert rig.files() == {"x": "5"}
    image = rig.build(text, build_args={"SOURCE_DATE_EPOCH": "7"})
    assert rig.files() == {"x": "7"}
    assert image.config.created == "1970-01-01T00:00:07Z"
    with pytest.raises(InvalidInput, match="SOURCE_DATE_EPOCH"):
        rig.build(text, build_args={"SOURCE_DATE_EPOCH": "today"})


def test_e91_fields_of_the_base_that_nobody_knows_are_carried_on(rig: BuildRig) -> None:
    base = {
        "config": {"StopSignal": "SIGINT", "X-Own": [1], "Cmd": ["c"], "Labels": {"b": "1"}},
        "author": "them",
        "moby.thing": {"a": 1},
        "container_config": {"Cmd": ["x"]},
        "docker_version": "20",
    }
    rig.base("b", base, bytes(1024))
    document = rig.build("FROM b\nLABEL c=2\n").config.document
    assert document["moby.thing"] == {"a": 1}
    assert document["author"] == "them"
    assert document["config"]["StopSignal"] == "SIGINT"
    assert document["config"]["X-Own"] == [1]
    assert document["config"]["Cmd"] == ["c"]
    assert set(document["config"]["Labels"]) == {"b", "c", "io.imgtools.version"}
    assert not {"container_config", "docker_version"} & set(document)


def test_what_the_command_line_changes_at_the_end(rig: BuildRig) -> None:
    rig.base("b", {"config": {"Env": ["U=1"], "Labels": {"old": "1", "own": "2"}}}, bytes(1024))
    edits = ConfigEdits(
        labels=(("l", "1"),),
        env=("E=2",),
        unset_env=("U",),
        unset_labels=("own",),
        inherit_labels=False,
        identity_label=False,
        omit_history=True,
    )
    image = rig.build("FROM b\nRUN write /x $E$U\n", edits=edits)
    settings = image.config.document["config"]
    assert {item.partition("=")[0] for item in settings["Env"]} == {"PATH", "E"}
    assert settings["Labels"] == {"l": "1"}
    assert "history" not in image.config.document
    assert rig.files() == {"x": "21"}


def test_errors_tell_the_place(rig: BuildRig) -> None:
    with pytest.raises(ContainerfileError) as caught:
        rig.build("FROM scratch\nCPOY a b\n")
    assert caught.value.location.first == 2
    assert "COPY" in str(caught.value.hint)
    with pytest.raises(NotFound, match="Containerfile:1: FROM missing"):
        rig.build("FROM missing\n")


def test_insecure_steps_and_the_command_lines_mounts(rig: BuildRig) -> None:
    rig.build("FROM scratch\nRUN --security=insecure write /x 1\n", allow_insecure=True,
              mounts=("type=tmpfs,target=/t,size=1m",))  # fmt: skip
    (spec,) = rig.executor.specs
    assert spec.insecure
    assert [(m.kind, m.target, m.size) for m in spec.mounts] == [("tmpfs", "/t", 1 << 20)]


@pytest.mark.parametrize(
    ("place", "name"), [("made", "stage made"), ("0", "stage made"), ("alpine", "image alpine")]
)
def test_what_is_not_there_is_missed_where_the_file_says_it_is(
    rig: BuildRig, place: str, name: str
) -> None:
    rig.base("alpine", None, bytes(1024))
    text = f"FROM scratch AS made\nRUN write /a 1\nFROM scratch\nCOPY --from={place} /b /b\n"
    with pytest.raises(Error, match=f"'/b' is not in {name}"):
        rig.build(text)
