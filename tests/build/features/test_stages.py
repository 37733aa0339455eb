"""Stages: how they are named, found, skipped, and what they take from each other."""

from __future__ import annotations

import re

import pytest

from imgtools.spec.platform import Platform
from tests.build.features.kit import BASE, IMAGE, Kit

F = f"FROM {BASE}\n"
UUID = "RUN cat /proc/sys/kernel/random/uuid >/o"
GROUP = "root:x:0:\njoe:x:1000:\nwheel:x:10:joe\naudio:x:29:"
ARM = Platform(os="linux", architecture="arm64")
ONE = f"FROM {BASE} AS one\nRUN echo one >/one\nENV STAGE=one\n"
# A whole file, and files (or variables, with a dollar) that come of it.
BUILT = {
    "scratch": ("FROM scratch\nCOPY f /f", {"f": "text", "bin": None}),
    "stage of a stage": (f"{ONE}FROM one\nRUN echo $STAGE >/o", {"one": "one", "o": "one"}),
    "names in any case": (f"{ONE}FROM ONE\nCOPY --from=One /one /two", {"two": "one"}),
    "AS in any case": (f"FROM {BASE} aS Two\nRUN echo a >/o\nFROM two", {"o": "a"}),
    "digits, dots and dashes": (f"FROM {BASE} AS a-1.b_2\nFROM a-1.b_2\nCOPY f /o", {"o": "text"}),
    "COPY --from a name": (f"{ONE}FROM scratch\nCOPY --from=one /one /o", {"o": "one"}),
    "COPY --from a number": (f"{ONE}FROM scratch\nCOPY --from=0 /one /o", {"o": "one"}),
    "COPY --from an image": (
        f"FROM scratch\nCOPY --from={BASE} /etc/group /o", {"o": GROUP}
    ),
    "ADD follows COPY": (f"{ONE}FROM one\nADD f /g\nCOPY --from=one one /o", {"o": "one"}),
    "COPY --from a variable": (
        f"ARG A={BASE}\nFROM scratch\nARG A\nCOPY --from=$A /etc/group /o", {"o": GROUP}
    ),
    "a stage without name is skipped": (f"{F}RUN exit 1\n{F}COPY f /o", {"o": "text"}),
    "a stage that nobody needs is skipped": (
        f"FROM nowhere.invalid/a AS no\nCOPY nothing /\nFROM no AS neither\n{F}COPY f /o",
        {"o": "text"},
    ),
    "what a skipped stage refers to is not looked at": (
        f"FROM later AS no\nCOPY --from=later /x /\nFROM {BASE} AS later\nCOPY f /o", {"o": "text"}
    ),
    "the last of equal names": (
        f"FROM {BASE} AS a\nRUN echo 1 >/o\nFROM {BASE} AS a\nRUN echo 2 >/o\nFROM a",
        {"o": "2"},
    ),
    "the earlier of equal names, in between": (
        f"FROM {BASE} AS a\nRUN echo 1 >/o\nFROM a AS b\nFROM {BASE} AS a\nFROM b", {"o": "1"}
    ),
    "a stage that is called as an image": (
        "FROM scratch AS base\nCOPY f /o\nFROM base", {"o": "text", "bin": None}
    ),
    "source is absolute without a slash": (
        f"{ONE}WORKDIR /w\nFROM scratch\nCOPY --from=one one /o", {"o": "one"}
    ),
    "FROM with a platform": (f"FROM --platform=linux/amd64 {BASE}\nCOPY f /o", {"o": "text"}),
    "FROM with a platform that is a variable": (
        f"FROM --platform=$BUILDPLATFORM {BASE}\nCOPY f /o", {"o": "text"}
    ),
    "RUN mounts a stage": (
        f"{ONE}{F}RUN --mount=from=one,target=/m cp /m/one /o", {"o": "one", "m": None}
    ),
    "arguments choose a stage": (
        f"ARG WHICH=b\nFROM {BASE} AS with-a\nRUN exit 1\nFROM {BASE} AS with-b\n"
        "COPY f /o\nFROM with-$WHICH", {"o": "text"}
    ),
    "variable in COPY's source": (
        f"{ONE}FROM scratch\nARG N=one\nCOPY --from=one /$N /o", {"o": "one"}
    ),
    "user and directory of a stage below": (
        f"FROM {BASE} AS a\nWORKDIR /w\nUSER 12:34\nFROM a\nCOPY f g\nUSER 0\nRUN pwd >/o",
        {"w/g": "text", "o": "/w"},
    ),
    "SHELL of a stage below": (
        f'FROM {BASE} AS a\nSHELL ["/bin/sh", "-xc"]\nFROM a\nRUN echo $- >/o', {"o": "xc"}
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "files"), BUILT.values(), ids=BUILT)
def test_stages(kit: Kit, text: str, files: dict[str, str | None]) -> None:
    built = kit(text, {"f": "text"})
    for path, content in files.items():
        if content is None:
            assert path not in built.tree
        else:
            assert built[path] == content


REFUSED = {
    "COPY --from itself": ("FROM scratch AS a\nCOPY --from=a /x /", "itself|circular|a"),
    "COPY --from its own number": ("FROM scratch\nCOPY --from=0 /x /", "0"),
    "COPY --from a later stage": (
        "FROM scratch\nCOPY --from=z /x /\nFROM scratch AS z\nFROM 0", "z|0"
    ),
    "FROM itself": ("FROM own-name.invalid/a AS a\nFROM b.invalid/b AS b\nCOPY --from=b . .", "b"),
    "a name that begins with a digit": ("FROM scratch AS 1a", "1a"),
    "a bad name": ("FROM scratch AS a/b", "a/b"),
    "words behind the name": ("FROM scratch AS a b", "FROM"),
    "no name": ("FROM scratch AS", "FROM|AS"),
    "no image": ("FROM ", "FROM"),
    "a bad platform": ("FROM --platform=a/b/c/d/e scratch", "platform"),
    "an empty platform": ("FROM --platform=$NOTHING scratch", "platform"),
    "RUN in scratch": ("FROM scratch\nRUN true", "/bin/sh"),
    "an image that is nowhere": ("FROM localhost/none", "localhost/none"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED)
def test_stages_that_are_refused(kit: Kit, text: str, said: str) -> None:
    assert re.search(said, kit.fails(text, whole=True, pull="never"))


@pytest.mark.parametrize("name", ["scratch", "context"])
def test_reserved_names_are_told(kit: Kit, name: str) -> None:
    assert "ReservedStageName" in kit(f"FROM {BASE} AS {name}").warnings


@pytest.mark.parametrize(
    ("target", "content"), [("one", "1"), ("ONE", "1"), ("0", "1"), ("1", "2"), ("", "3")]
)
def test_targets(kit: Kit, target: str, content: str) -> None:
    text = (f"FROM {BASE} AS one\nRUN echo 1 >/o\nFROM {BASE}\nRUN echo 2 >/o\n"
            f"FROM {BASE}\nRUN echo 3 >/o")  # fmt: skip
    assert kit(text, target=target)["o"] == content


def test_a_target_that_is_none(kit: Kit) -> None:
    assert "'tow'" in kit.fails("FROM scratch AS two", target="tow")


def test_skipped_stages_can_be_asked_for(kit: Kit) -> None:
    text = f"FROM {BASE} AS no\nRUN exit 7\n{F}COPY f /o"
    assert kit(text, {"f": "text"})["o"] == "text"
    assert "exit code 7" in kit.fails(text, {"f": "text"}, skip_unused_stages=False)


def test_layers_and_history_of_scratch(kit: Kit) -> None:
    built = kit("FROM scratch\nLABEL a=b")
    assert built.tars == []
    assert built.document["rootfs"]["diff_ids"] == []
    assert built.document["os"] == "linux"


def test_an_image_of_another_platform(kit: Kit) -> None:
    """A base is for the target's platform unless FROM says otherwise."""
    kit("FROM scratch\nCOPY <<EOF /arch\narm\nEOF\nENV A=arm", platforms=(ARM,),
        name="localhost/arm-only:latest")  # fmt: skip
    built = kit("FROM --platform=linux/arm64 localhost/arm-only\nCOPY f /f", {"f": "text"})
    assert (built["arch"], built.document["architecture"]) == ("arm", "arm64")
    for flag in ("", "--platform=linux/amd64"):
        built = kit(f"FROM --platform=linux/arm64 localhost/arm-only AS a\nFROM {flag} a\nUSER 5")
        assert built.document["architecture"] == "arm64", "a stage is what it stands on"
    copied = kit("FROM --platform=$BUILDPLATFORM localhost/base AS tool\nRUN echo $A >/tool\n"
                 "FROM localhost/arm-only\nCOPY --from=tool /tool /tool",
                 platforms=(ARM,))  # fmt: skip
    assert copied.document["architecture"] == "arm64"
    assert copied["tool"] == ""
    assert "arch" in copied.tree


def test_the_first_base_is_replaced(kit: Kit) -> None:
    built = kit(f"FROM nowhere.invalid/x\nCOPY f /o\nFROM {BASE}\nCOPY --from=0 /o /p\n",
                {"f": "text"}, from_=IMAGE)  # fmt: skip
    assert built["p"] == "text"


def test_named_contexts(kit: Kit) -> None:
    other = kit.context({"g": "other", "d/h": "deep", ".dockerignore": "d"})
    built = kit("FROM scratch\nCOPY --from=Other g /g\nCOPY --from=other . /all",
                contexts={"other": other})  # fmt: skip
    assert built["g"] == "other"
    assert "all/d/h" not in built.tree
    for value in (f"docker-image://{BASE}", f"container-image://{BASE}"):
        text = "FROM scratch\nCOPY --from=img /etc/group /o"
        assert built.config != kit(text, contexts={"img": value}).tree["o"]
    instead = kit("FROM alpine:3\nCOPY --from=alpine:3 /etc/group /o",
                  contexts={"alpine:3": f"docker-image://{BASE}"})  # fmt: skip
    assert instead.env["INHERITED"] == "base"
    stage = kit(f"FROM {BASE} AS made\nRUN exit 1\nFROM scratch\nCOPY --from=made g /g",
                contexts={"made": other})  # fmt: skip
    assert stage["g"] == "other"
    base = kit("FROM made\nCOPY f /f", {"f": "text"}, contexts={"made": other})
    assert (base["g"], base["f"]) == ("other", "text")
    mounted = kit("RUN --mount=from=other,target=/m cat /m/g >/o", contexts={"other": other})
    assert mounted["o"] == "other"


def test_several_platforms(kit: Kit) -> None:
    host = Platform(os="linux", architecture="amd64")
    built = kit("FROM scratch\nARG TARGETARCH\nLABEL a=$TARGETARCH", platforms=(host, ARM))
    found = [image.config.document["config"]["Labels"]["a"] for image in built.images]
    assert found == ["amd64", "arm64"]


def test_steps_that_are_done_already(kit: Kit) -> None:
    text = f"{F}COPY a /a\n{UUID}\nFROM {BASE}\nCOPY --from=0 /o /o"
    first = kit(text, {"a": "1"})
    again = kit(text, {"a": "1"})
    assert first["o"] == again["o"]
    assert first.document["rootfs"] == again.document["rootfs"]
    assert kit(text, {"a": "2"})["o"] != first["o"]
    assert kit(f"{F}COPY a /a\n{UUID} ", {"a": "1"})["o"] == first["o"]
    assert kit(f"{F}ENV A=1\nCOPY a /a\n{UUID}", {"a": "1"})["o"] != first["o"]
