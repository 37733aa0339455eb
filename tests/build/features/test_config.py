"""Instructions that only change the config, triggers, and the history."""

from __future__ import annotations

from typing import Any

import pytest

from imgtools.build.options import ConfigEdits
from tests.build.features.kit import BASE, Kit

F = f"FROM {BASE}\n"
SH = ["/bin/sh", "-c"]
# Instructions, and settings of the config; None for none.
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "CMD shell": ("CMD a b  $c", {"Cmd": [*SH, "a b  $c"]}),
    "CMD exec": ('CMD ["a", "b c"]', {"Cmd": ["a", "b c"]}),
    "CMD twice": ("CMD a\nCMD b", {"Cmd": [*SH, "b"]}),
    "CMD empty": ("CMD []", {"Cmd": None}),
    "CMD nearly JSON": ("CMD ['a']", {"Cmd": [*SH, "['a']"]}),
    "CMD inherited": ("", {"Cmd": ["base-command"]}),
    "ENTRYPOINT shell": ("ENTRYPOINT a b", {"Entrypoint": [*SH, "a b"]}),
    "ENTRYPOINT exec": ('ENTRYPOINT ["a", "b"]', {"Entrypoint": ["a", "b"]}),
    "ENTRYPOINT takes an inherited CMD away": ('ENTRYPOINT ["a"]', {"Cmd": None}),
    "ENTRYPOINT leaves this file's CMD": (
        'CMD ["b"]\nENTRYPOINT ["a"]', {"Cmd": ["b"], "Entrypoint": ["a"]}
    ),
    "CMD behind ENTRYPOINT": ('ENTRYPOINT ["a"]\nCMD ["b"]', {"Cmd": ["b"]}),
    "ENTRYPOINT leaves the CMD of a stage below": (
        f'FROM {BASE} AS one\nCMD ["b"]\nFROM one\nENTRYPOINT ["a"]', {"Cmd": None}
    ),
    "SHELL": ('SHELL ["/bin/x", "-y"]\nCMD a\nENTRYPOINT b\nHEALTHCHECK CMD c',
              {"Shell": ["/bin/x", "-y"], "Cmd": ["/bin/x", "-y", "a"],
               "Entrypoint": ["/bin/x", "-y", "b"]}),
    "EXPOSE": ("EXPOSE 80 443/tcp 53/udp 53/UDP",
               {"ExposedPorts": {"443/tcp": {}, "53/udp": {}, "80/tcp": {}}}),
    "EXPOSE a range": ("EXPOSE 8000-8002/udp", {
        "ExposedPorts": {"8000/udp": {}, "8001/udp": {}, "8002/udp": {}}}),
    "EXPOSE twice": ("EXPOSE 80\nEXPOSE 81 80/tcp",
                     {"ExposedPorts": {"80/tcp": {}, "81/tcp": {}}}),
    "EXPOSE sctp": ("EXPOSE 80/sctp", {"ExposedPorts": {"80/sctp": {}}}),
    "EXPOSE variables": ("ARG P=80 Q='81 82/udp'\nEXPOSE $P ${R:-83}",
                         {"ExposedPorts": {"80/tcp": {}, "83/tcp": {}}}),
    "EXPOSE words of a variable": ("ARG PORTS='3000 4000/udp'\nEXPOSE $PORTS 5000", {
        "ExposedPorts": {"3000/tcp": {}, "4000/udp": {}, "5000/tcp": {}}}),
    "ENTRYPOINT that is no JSON": ("ENTRYPOINT []random words",
                                   {"Entrypoint": [*SH, "[]random words"]}),
    "VOLUME words": ("VOLUME /a /b", {"Volumes": {"/a": {}, "/b": {}}}),
    "VOLUME JSON": ('VOLUME ["/a b", "c"]', {"Volumes": {"/a b": {}, "c": {}}}),
    "VOLUME twice": ("VOLUME /a\nVOLUME /b /a", {"Volumes": {"/a": {}, "/b": {}}}),
    "WORKDIR": ("WORKDIR /a/./b//c/..\nWORKDIR d", {"WorkingDir": "/a/b/d"}),
    "WORKDIR with a slash at its end": ("WORKDIR /a/", {"WorkingDir": "/a"}),
    "WORKDIR relative to the root": ("WORKDIR a", {"WorkingDir": "/a"}),
    "USER": ("USER joe:wheel", {"User": "joe:wheel"}),
    "USER twice": ("USER joe\nUSER 5", {"User": "5"}),
    "STOPSIGNAL": ("STOPSIGNAL SIGKILL", {"StopSignal": "SIGKILL"}),
    "STOPSIGNAL by number": ("STOPSIGNAL 9", {"StopSignal": "9"}),
    "STOPSIGNAL of real time": ("STOPSIGNAL SIGRTMIN+3", {"StopSignal": "SIGRTMIN+3"}),
    "HEALTHCHECK shell": ("HEALTHCHECK CMD a b",
                          {"Healthcheck": {"Test": ["CMD-SHELL", "a b"]}}),
    "HEALTHCHECK exec": ('HEALTHCHECK CMD ["a", "b"]',
                         {"Healthcheck": {"Test": ["CMD", "a", "b"]}}),
    "HEALTHCHECK NONE": ("HEALTHCHECK CMD a\nHEALTHCHECK NONE",
                         {"Healthcheck": {"Test": ["NONE"]}}),
    "HEALTHCHECK with everything": (
        "HEALTHCHECK --interval=1m30s --timeout=3s --start-period=1h --start-interval=500ms "
        "--retries=4 CMD a",
        {"Healthcheck": {
            "Test": ["CMD-SHELL", "a"], "Interval": 90_000_000_000, "Timeout": 3_000_000_000,
            "StartPeriod": 3_600_000_000_000, "StartInterval": 500_000_000, "Retries": 4}},
    ),
    "HEALTHCHECK twice": ("HEALTHCHECK CMD a\nHEALTHCHECK CMD b",
                          {"Healthcheck": {"Test": ["CMD-SHELL", "b"]}}),
    "HEALTHCHECK in lower case": ("HEALTHCHECK cmd a",
                                  {"Healthcheck": {"Test": ["CMD-SHELL", "a"]}}),
    "ONBUILD": ("ONBUILD RUN a b\nONBUILD copy --from=x . /y",
                {"OnBuild": ["RUN a b", "copy --from=x . /y"]}),
    "ENV order": ("ENV B=1 A=2\nENV B=3", {"Env": ["PATH=/bin", "INHERITED=base", "B=3", "A=2"]}),
    "ENV over an inherited one": ("ENV INHERITED=x", {"Env": ["PATH=/bin", "INHERITED=x"]}),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), SETTINGS.values(), ids=SETTINGS)
def test_settings(kit: Kit, text: str, expected: dict[str, Any]) -> None:
    config = kit(f"{F}{text}" if "FROM" not in text else text).config
    assert {name: config.get(name) for name in expected} == expected


LABELS = {
    "one": ("LABEL a=b", {"a": "b"}),
    "several": ("LABEL a=1 b=2 \\\n  c=3", {"a": "1", "b": "2", "c": "3"}),
    "quotes": ("LABEL \"a.b\"=\"c d\" 'e f'='g h'", {"a.b": "c d", "e f": "g h"}),
    "escapes": ('LABEL a=b\\ c d="e\\"f" g=\'h"i\'', {"a": "b c", "d": 'e"f', "g": 'h"i'}),
    "over two lines": ('LABEL a="b \\\nc"', {"a": "b c"}),
    "old form": ("LABEL a b  c", {"a": "b  c"}),
    "empty": ('LABEL a="" b=', {"a": "", "b": ""}),
    "equals signs": ("LABEL a=b=c", {"a": "b=c"}),
    "by variables": ("ARG A=x\nLABEL k$A=v$A q='$A'", {"kx": "vx", "q": "$A"}),
    "over an inherited one": ("LABEL from=here", {"from": "here"}),
    "twice": ("LABEL a=1\nLABEL a=2", {"a": "2"}),
    "dollar": ('LABEL a="\\$x"', {"a": "$x"}),
    "JSON as a value": ("LABEL a='{\"b\": [1]}'", {"a": '{"b": [1]}'}),
    "other alphabets": ("LABEL ключ=значение", {"ключ": "значение"}),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), LABELS.values(), ids=LABELS)
def test_labels(kit: Kit, text: str, expected: dict[str, str]) -> None:
    edits = ConfigEdits(identity_label=False)
    assert kit(text, edits=edits).config["Labels"] == {"from": "base", **expected}


def test_maintainer(kit: Kit) -> None:
    built = kit("MAINTAINER A B <a@b>")
    assert built.document["author"] == "A B <a@b>"
    assert "MaintainerDeprecated" in built.warnings


def test_config_of_scratch(kit: Kit) -> None:
    built = kit('FROM scratch\nCMD ["/x"]', edits=ConfigEdits(identity_label=False))
    assert built.config == {
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/x"],
    }  # fmt: skip
    assert (built.document["os"], built.document["architecture"]) == ("linux", "amd64")


def test_stages_take_no_settings_from_what_they_copy(kit: Kit) -> None:
    built = kit(f"{F}ENV A=1\nLABEL a=b\nUSER 5\nRUN echo a >/tmp/a\n"
                "FROM scratch\nCOPY --from=0 /tmp/a /a",
                edits=ConfigEdits(identity_label=False))  # fmt: skip
    assert set(built.config) == {"Env"}


def test_history(kit: Kit) -> None:
    """One entry for each instruction; those without a layer say so."""
    built = kit("ENV A=1\nRUN echo a >/o\nLABEL b=c\nCOPY f /f\nWORKDIR /etc\nWORKDIR /new\n"
                'USER 5\nCMD ["x"]', {"f": "text"})  # fmt: skip
    entries = built.document["history"][5:]
    assert [bool(e.get("empty_layer")) for e in entries] == [
        True, False, True, False, True, False, True, True
    ]  # fmt: skip
    whole = built.document["history"]
    assert sum(not e.get("empty_layer") for e in whole) == len(built.tars)
    words = ("ENV A=1", "echo a >/o", "LABEL b=c", "COPY", "WORKDIR /etc", "WORKDIR /new",
             "USER 5", "CMD")  # fmt: skip
    for word, text in zip(words, built.history[5:], strict=True):
        assert word in text


def test_arguments_in_the_history(kit: Kit) -> None:
    built = kit("ARG A=1\nARG B\nRUN echo $A >/o", build_args={"B": "2"})
    assert built.history[-1] == "|2 A=1 B=2 /bin/sh -c echo $A >/o"


TRIGGERED = {
    "RUN": ("ONBUILD RUN echo a >/o", "", "a"),
    "in order, in front of all else": (
        "ONBUILD RUN echo 1 >/o\nONBUILD RUN echo 2 >>/o", "RUN echo 3 >>/o", "1\n2\n3"
    ),
    "ENV and expansion when it fires": (
        "ENV X=old\nONBUILD ENV Y=$X\nENV X=new", "RUN echo $Y >/o", "new"
    ),
    "COPY from the new context": ("ONBUILD COPY f /o", "", "text"),
    "ADD": ("ONBUILD ADD f /o", "", "text"),
    "WORKDIR": ("ONBUILD WORKDIR /w", "RUN pwd >/o", "/w"),
    "USER": ("ONBUILD USER joe\nONBUILD RUN id -u >/tmp/o", "USER 0\nRUN mv /tmp/o /o", "1000"),
    "ARG": ("ONBUILD ARG A=1", "RUN echo $A >/o", "1"),
    "SHELL": ('ONBUILD SHELL ["/bin/sh", "-xc"]', "RUN echo $- >/o", "xc"),
    "LABEL, EXPOSE and others": (
        "ONBUILD LABEL a=b\nONBUILD EXPOSE 80\nONBUILD VOLUME /v\nONBUILD STOPSIGNAL 9\n"
        "ONBUILD CMD x\nONBUILD ENTRYPOINT y\nONBUILD HEALTHCHECK NONE", "RUN echo a >/o", "a"
    ),
    "RUN with a mount": ("ONBUILD RUN --mount=target=/m cat /m/f >/o", "", "text"),
    "RUN with a cache": ("ONBUILD RUN --mount=type=cache,target=/m echo a >/m/a; cat /m/a >/o", "",
                         "a"),
    "RUN over two lines": ("ONBUILD RUN echo a \\\n  b >/o", "", "a b"),
    "COPY with flags": ("ONBUILD COPY --chmod=600 --chown=7 f /g", "RUN stat -c %a:%u /g >/o",
                        "600:7"),
    "here-document": ("ONBUILD RUN <<EOF\necho a >/o\necho b >>/o\nEOF", "", "a\nb"),
    "here-document that is copied": ("ONBUILD COPY <<EOF /o\na $INHERITED\nEOF", "", "a base"),
}  # fmt: skip


@pytest.mark.parametrize(("triggers", "more", "written"), TRIGGERED.values(), ids=TRIGGERED)
@pytest.mark.parametrize("kept", [True, False], ids=["image", "stage"])
def test_triggers(kit: Kit, triggers: str, more: str, written: str, kept: bool) -> None:
    """Of an image that was built earlier, and of a stage of the same file."""
    files = {"f": "text"}
    if kept:
        kit(f"{F}{triggers}", files, name="localhost/triggers:latest")
        built = kit(f"FROM localhost/triggers\n{more}", files)
    else:
        built = kit(f"FROM {BASE} AS one\n{triggers}\nFROM one\n{more}", files)
    assert built["o"] == written
    assert not built.config.get("OnBuild")


def test_triggers_that_copy_from_stages_and_contexts(kit: Kit) -> None:
    kit(f"{F}ONBUILD COPY --from=build /made /o\nONBUILD RUN --mount=from=other,target=/m "
        "cat /m/g >/p", name="localhost/copies:latest")  # fmt: skip
    other = kit.context({"g": "other"})
    built = kit(f"FROM {BASE} AS build\nRUN echo made >/made\nFROM localhost/copies",
                contexts={"other": other})  # fmt: skip
    assert (built["o"], built["p"]) == ("made", "other")


def test_triggers_do_not_fire_twice(kit: Kit) -> None:
    kit(f"{F}ONBUILD RUN echo x >>/o", name="localhost/once:latest")
    kit("FROM localhost/once", name="localhost/child:latest")
    assert kit("FROM localhost/child\nRUN true")["o"] == "x"
    assert kit("FROM localhost/once AS a\nFROM a\nRUN true")["o"] == "x"


def test_a_trigger_that_fails(kit: Kit) -> None:
    kit(f"{F}ONBUILD RUN exit 9", name="localhost/fails:latest")
    assert "exit code 9" in kit.fails("FROM localhost/fails")
    assert kit("FROM localhost/fails AS unused\nFROM scratch\nCOPY f /f", {"f": "text"})["f"]


def test_edits_of_the_command_line(kit: Kit) -> None:
    edits = ConfigEdits(
        labels=(("x", "y"),), unset_labels=("from",), env=("NEW=1",), unset_env=("INHERITED",),
        identity_label=False,
    )  # fmt: skip
    config = kit("RUN echo $NEW >/o\nLABEL x=z", edits=edits)
    assert config.config["Labels"] == {"x": "y"}
    assert "NEW=1" in config.config["Env"]
    assert "INHERITED" not in config.env
