"""Variables: where they come from, which definition wins, how words are expanded, and what
they are not expanded in."""

from __future__ import annotations

import pytest

from imgtools.spec.platform import Platform
from tests.build.features.kit import BASE, IMAGE, Kit

F = f"FROM {BASE}\n"
# The words of LABEL behind a text, and what becomes of them.
EXPANDED = {
    "ARG with a default": ("ARG A=1", "$A", "1"),
    "ARG without": ("ARG A", "[$A]", "[]"),
    "ARG without, then a fallback": ("ARG A", "${A:-x}", "x"),
    "undeclared": ("", "[$NOTHING]", "[]"),
    "several of one ARG": ("ARG A=1 B=2 C", "$A$B[$C]", "12[]"),
    "of one ARG, the second by the first": ("ARG A=1 B=${A}2", "$B", "12"),
    "ARG by ARG": ("ARG A=1\nARG B=$A$A", "$B", "11"),
    "ARG twice": ("ARG A=1\nARG A=2", "$A", "2"),
    "ARG twice, then without default": ("ARG A=1\nARG A", "$A", "1"),
    "ENV after ARG": ("ARG A=1\nENV A=2", "$A", "2"),
    "ARG after ENV": ("ENV A=1\nARG A=2", "$A", "2"),
    "ARG after an inherited ENV": ("ARG INHERITED=own", "$INHERITED", "own"),
    "ARG without default after an inherited ENV": ("ARG INHERITED", "$INHERITED", "base"),
    "inherited ENV": ("", "$INHERITED", "base"),
    "ENV by itself": ("ENV A=1\nENV A=${A}2", "$A", "12"),
    "ENV of one instruction sees old values": ("ENV A=old\nENV A=new B=$A", "$A$B", "newold"),
    "old form of ENV": ("ENV A one  two = 3", '"$A"', "one  two = 3"),
    "old form of ENV with quotes": ("ENV A 'b c'  d", '"$A"', "b c  d"),
    "quotes in ENV": ("ENV A=\"b c\" B='d e' C=f\\ g", '"$A|$B|$C"', "b c|d e|f g"),
    "joined quotes": ("ENV A=a\"b c\"'d e'f", '"$A"', "ab cd ef"),
    "empty value": ('ENV A= B=""', "[$A$B]", "[]"),
    "equals sign in a value": ("ENV A=b=c", "$A", "b=c"),
    "brace in the middle": ("ARG A=1", "x${A}y", "x1y"),
    "name ends at a sign": ("ARG A=1", "$A-$A.$A/$A", "1-1.1/1"),
    "longest name": ("ARG A=1\nARG A_B2=2", "$A_B2", "2"),
    "digits": ("ARG A=1", "$A$1$2", "1"),
    ":- unset": ("", "${X:-w}", "w"),
    ":- empty": ("ENV X=", "${X:-w}", "w"),
    ":- set": ("ENV X=v", "${X:-w}", "v"),
    "- unset": ("", "${X-w}", "w"),
    "- empty": ("ENV X=", "[${X-w}]", "[]"),
    "- set": ("ENV X=v", "${X-w}", "v"),
    ":+ unset": ("", "[${X:+w}]", "[]"),
    ":+ empty": ("ENV X=", "[${X:+w}]", "[]"),
    ":+ set": ("ENV X=v", "${X:+w}", "w"),
    "+ unset": ("", "[${X+w}]", "[]"),
    "+ empty": ("ENV X=", "${X+w}", "w"),
    "? set": ("ENV X=v", "${X?no}${X:?no}", "vv"),
    "? empty": ("ENV X=", "[${X?no}]", "[]"),
    "# shortest": ("ENV X=foobarbaz", "${X#f*b}", "arbaz"),
    "## longest": ("ENV X=foobarbaz", "${X##f*b}", "az"),
    "% shortest": ("ENV X=foobarbaz", "${X%b*}", "foobar"),
    "%% longest": ("ENV X=foobarbaz", "${X%%b*}", "foo"),
    "/ first": ("ENV X=foobarbaz", "${X/ba/fo}", "fooforbaz"),
    "// all": ("ENV X=foobarbaz", "${X//ba/fo}", "fooforfoz"),
    "// with nothing": ("ENV X=foobarbaz", "${X//ba/}", "foorz"),
    "/ with question marks": ("ENV X=foobarbaz", "${X/b?r/_}", "foo_baz"),
    "# no match": ("ENV X=foo", "${X#z*}", "foo"),
    "% with an escaped star": ("ENV X=a*b*c", "${X%\\**}", "a*b"),
    "pattern is a variable": ("ENV X=foobar P=foo", "${X#$P}", "bar"),
    "nested fallback": ("ENV Y=y", "${X:-${Y:-z}}", "y"),
    "fallback with text around": ("ENV Y=y", "${X:-a${Y}b}", "ayb"),
    "fallback with quotes": ("", '"${X:-a b}"', "a b"),
    "escaped": ("ARG A=1", "\\$A\\${A}", "$A${A}"),
    "single quotes": ("ARG A=1", "'$A'", "$A"),
    "double quotes": ("ARG A=1", '"$A"', "1"),
    "escape in double quotes": ("ARG A=1", '"\\$A\\""', '$A"'),
    "escape in single quotes": ("ARG A=1", "'\\$A'", "\\$A"),
    "the escape directive's": ("# escape=`\n" + F + "ARG A=1", "`$A\\$A", "$A\\1"),
    "a lone dollar": ("", '"a$ b"', "a$ b"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "word", "expected"), EXPANDED.values(), ids=EXPANDED)
def test_expansion(kit: Kit, text: str, word: str, expected: str) -> None:
    assert kit.echo(text, word) == [expected]


REFUSED = {
    ":? unset": ('LABEL a="${X:?say this}"', "say this"),
    ":? empty": ('ENV X=\nLABEL a="${X:?say this}"', "say this"),
    ":? of an ARG without value": ('ARG X\nLABEL a="${X:?say this}"', "say this"),
    "? unset": ('LABEL a="${X?say this}"', "say this"),
    "? without words": ("LABEL a=${X?}", "X"),
    ":#": ("ENV X=a\nLABEL a=${X:#a}", "X|modifier"),
    "unknown modifier": ("ENV X=a\nLABEL a=${X^a}", "X|modifier"),
    "empty braces": ("LABEL a=${}", "\\$|brac"),
    "open braces": ("LABEL a=${X", "\\$|brac|X"),
    "open quote": ('LABEL a="b', "quote|\"|'|unexpected"),
}


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED)
def test_expansion_that_is_refused(kit: Kit, text: str, said: str) -> None:
    import re

    assert re.search(said, kit.fails(text))


def test_an_empty_value_of_the_caller_takes_the_fallback(kit: Kit) -> None:
    text = 'ARG A\nENV B "b=${A:-def}"\nENV C "${B%%e*}"'
    for args, expected in ((None, "b=def|b=d"), ("", "b=def|b=d"), ("over", "b=over|b=ov")):
        assert kit.echo(text, '"$B|$C"', build_args={"A": args}) == [expected]


def test_messages_of_arguments(kit: Kit) -> None:
    text = f'ARG A=${{A:?"custom error"}}\nFROM {BASE}'
    assert "custom error" in kit.fails(text)
    assert kit(text, build_args={"A": "1"}).tree
    text = 'ARG A\nARG B=${A:?"A missing"}'
    assert "A missing" in kit.fails(text)
    assert kit(text, build_args={"A": "1"}).tree
    assert kit(text, build_args={"B": "1"}).tree


@pytest.mark.parametrize(
    ("text", "args", "word", "expected"),
    [
        ("ARG A=1", {"A": "2"}, "$A", "2"),
        ("ARG A=1", {"A": ""}, "[$A]", "[]"),
        ("ARG A=1", {"A": None}, "$A", "1"),
        ("ARG A", {"A": "2"}, "$A", "2"),
        ("ENV A=1\nARG A", {"A": "2"}, "$A", "2"),
        ("ARG A\nENV A=1", {"A": "2"}, "$A", "1"),
        ("ARG A\nENV A=${A:-1}", {"A": "2"}, "$A", "2"),
        ("ARG INHERITED", {"INHERITED": "own"}, "$INHERITED", "own"),
        ("", {"A": "2"}, "[$A]", "[]"),
        ("ARG A=$B", {"B": "2"}, "[$A]", "[]"),
        ("ARG TARGETARCH", {"TARGETARCH": "mine"}, "$TARGETARCH", "mine"),
        ("ARG A=b c=d", {"c": "e f"}, '"$c"', "e f"),
    ],
)  # fmt: skip
def test_values_of_the_caller(
    kit: Kit, text: str, args: dict[str, str | None], word: str, expected: str
) -> None:
    assert kit.echo(text, word, build_args=args) == [expected]


def test_an_argument_that_nothing_declares_is_told(kit: Kit) -> None:
    built = kit("RUN true", build_args={"NOBODY": "1", "HTTP_PROXY": "x", "BUILDKIT_SYNTAX": "x"})
    assert "NOBODY" in built.warnings
    assert "PROXY" not in built.warnings


GLOBALS = {
    "not seen in a stage": (f"ARG A=1\n{F}", "[$A]", "[]"),
    "declared again": (f"ARG A=1\n{F}ARG A", "$A", "1"),
    "declared again with another default": (f"ARG A=1\n{F}ARG A=2", "$A", "2"),
    "in FROM": ("ARG NAME=base TAG=latest\nFROM localhost/${NAME}:$TAG", "$INHERITED", "base"),
    "in FROM by a fallback": (f"FROM ${{NAME:-{BASE}}}", "$INHERITED", "base"),
    "one by the other": (f"ARG A=1\nARG B=${{A}}2\n{F}ARG B", "$B", "12"),
    "by a predefined one": (f"ARG A=x$TARGETARCH\n{F}ARG A", "$A", "xamd64"),
    "in FROM by a predefined one": (
        f"FROM {BASE} AS for-amd64\nFROM for-$TARGETARCH", "$INHERITED", "base"
    ),
    "of the other stage is not seen": (f"{F}ARG A=1\n{F}", "[$A]", "[]"),
    "of the stage below is": (f"FROM {BASE} AS one\nARG A=1\nENV B=2\nFROM one", "$A$B", "12"),
    "of the stage below, declared again": (
        f"FROM {BASE} AS one\nARG A=1\nFROM one\nARG A", "$A", "1"
    ),
    "between stages": (f"{F}ARG A=1\nFROM {IMAGE}\nARG A", "[$A]", "[]"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "word", "expected"), GLOBALS.values(), ids=GLOBALS)
def test_arguments_before_the_first_stage(kit: Kit, text: str, word: str, expected: str) -> None:
    assert kit.echo(text, word) == [expected]


def test_a_global_argument_of_the_caller(kit: Kit) -> None:
    args = {"A": "given", "NAME": "base"}
    text = "ARG A=1\nARG B=by-$A\nARG NAME=none\nFROM localhost/$NAME\nARG A\nARG B=x\nARG C=$A"
    assert kit.echo(text, "$A|$B|$C", build_args=args) == ["given|x|given"]
    assert "none" in kit.fails(text)


def test_from_of_an_empty_variable_is_refused(kit: Kit) -> None:
    assert "blank" in kit.fails("ARG A\nFROM $A") or "empty" in kit.fails("ARG A\nFROM $A")


PREDEFINED = ("TARGETPLATFORM", "TARGETOS", "TARGETARCH", "TARGETVARIANT", "BUILDPLATFORM",
              "BUILDOS", "BUILDARCH", "BUILDVARIANT", "TARGETSTAGE")  # fmt: skip


def test_platform_arguments(kit: Kit) -> None:
    words = "|".join(f"${name}" for name in PREDEFINED)
    declared = "".join(f"ARG {name}\n" for name in PREDEFINED)
    assert kit.echo(F, words) == ["|" * 8]
    assert kit.echo(F + declared, words) == [
        "linux/amd64|linux|amd64||linux/amd64|linux|amd64||default"
    ]
    arm = (Platform(os="linux", architecture="arm", variant="v7"),)
    assert kit.echo("FROM scratch\n" + declared, words, platforms=arm) == [
        "linux/arm/v7|linux|arm|v7|linux/amd64|linux|amd64||default"
    ]
    built = kit("FROM scratch AS own\nARG TARGETSTAGE\nLABEL a=$TARGETSTAGE", target="own")
    assert built.config["Labels"]["a"] == "own"
    built = kit("FROM scratch AS own\nARG TARGETSTAGE\nLABEL a=$TARGETSTAGE")
    assert built.config["Labels"]["a"] == "own"


def test_arguments_in_the_environment_of_run(kit: Kit) -> None:
    built = kit(
        "ARG A=1\nARG B\nARG TARGETARCH\nARG C=c\nENV C=d\nENV E=1\nARG E=2\nENV PATH=/bin:/x\n"
        "RUN env >/o\nRUN echo $A >>/o",
        build_args={"B": "two"},
    )
    env = set(built.lines("o"))
    assert {"A=1", "B=two", "TARGETARCH=amd64", "C=d", "E=2", "PATH=/bin:/x", "1"} <= env
    assert built.env == {"PATH": "/bin:/x", "INHERITED": "base", "C": "d", "E": "1"}


def test_an_argument_without_value_is_not_in_the_environment(kit: Kit) -> None:
    built = kit("ARG A\nARG B=\nRUN echo ${A-unset} ${B-unset} >/o")
    assert built["o"] == "unset"


def test_proxies_are_known_but_not_kept(kit: Kit) -> None:
    text = "RUN echo $http_proxy $HTTPS_PROXY >/o"
    args = {"http_proxy": "http://a:b@c", "HTTPS_PROXY": "d"}
    built = kit(text, build_args=args)
    assert built["o"] == "http://a:b@c d"
    assert "http://a:b@c" not in str(built.document)
    again = kit(text, build_args={"http_proxy": "other"})
    assert again["o"] == "http://a:b@c d", "a proxy is no reason to run anew"


def test_declared_proxies_are_kept(kit: Kit) -> None:
    built = kit("ARG no_proxy\nRUN echo $no_proxy >/o", build_args={"no_proxy": "a"})
    assert built["o"] == "a"
    assert any("no_proxy=a" in line for line in built.history)
    other = kit("ARG no_proxy\nRUN echo $no_proxy >/o", build_args={"no_proxy": "b"})
    assert other["o"] == "b"


def test_where_variables_are_expanded(kit: Kit) -> None:
    built = kit(
        "ARG V=v\nARG N=7\n"
        "ENV E$V=$V\nLABEL l.$V=$V\nEXPOSE $N/udp\nSTOPSIGNAL SIG${S:-INT}\nVOLUME /vol-$V\n"
        "WORKDIR /w-$V\nCOPY $V.txt d-$V\nADD $V.txt /a-$V\n"
        "COPY --chown=$N:$N --chmod=64$O v.txt /owned\nUSER $N:8\nONBUILD ENV $V=$V\n"
        'CMD $V\nENTRYPOINT ["$V"]\nHEALTHCHECK CMD $V\nSHELL ["$V"]\n'.replace("$O", "${O:-0}"),
        {"v.txt": "text"},
    )  # fmt: skip
    assert built.env["Ev"] == "v"
    assert built.config["Labels"]["l.v"] == "v"
    assert set(built.config["ExposedPorts"]) == {"7/udp"}
    assert built.config["StopSignal"] == "SIGINT"
    assert set(built.config["Volumes"]) == {"/vol-v"}
    assert built.config["WorkingDir"] == "/w-v"
    assert built["w-v/d-v"] == built["a-v"] == "text"
    assert (built.tree["owned"].owner, built.tree["owned"].octal) == ((7, 7), "640")
    assert built.config["User"] == "7:8"
    assert built.config["OnBuild"] == ["ENV $V=$V"]
    assert built.config["Cmd"] == ["/bin/sh", "-c", "$V"]
    assert built.config["Entrypoint"] == ["$V"]
    assert built.config["Healthcheck"]["Test"] == ["CMD-SHELL", "$V"]
    assert built.config["Shell"] == ["$V"]


def test_run_leaves_variables_to_the_shell(kit: Kit) -> None:
    built = kit("ARG A=1\nRUN A=2; echo \"$A\" '$A' \\$A >/o")
    assert built["o"] == "2 $A $A"


def test_variables_of_words_with_blanks(kit: Kit) -> None:
    built = kit('ARG A="a b"\nCOPY $A /x/\nWORKDIR /w $A\nVOLUME $A', {"a b": "text"})
    assert built["x/a b"] == "text"
    assert built.config["WorkingDir"] == "/w a b"


def test_sandbox_hostname(kit: Kit) -> None:
    built = kit("RUN hostname >/o", build_args={"BUILDKIT_SANDBOX_HOSTNAME": "own-name"})
    assert built["o"] == "own-name"
    assert "BUILDKIT" not in str(built.document)


def test_cache_mounts_of_a_namespace(kit: Kit) -> None:
    text = "ARG N\nRUN --mount=type=cache,target=/c cat /c/a >/o; echo $N >/c/a; true"
    for name in ("one", "two"):
        args = {"BUILDKIT_CACHE_MOUNT_NS": name, "N": name}
        assert kit(text, build_args=args)["o"] == ""
    assert kit(text, build_args={"BUILDKIT_CACHE_MOUNT_NS": "one", "N": "3"})["o"] == "one"


def test_buildkits_own_arguments_need_not_be_declared(kit: Kit) -> None:
    names = ("BUILDKIT_BUILD_NAME", "BUILDKIT_CACHE_MOUNT_NS", "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
             "BUILDKIT_INLINE_CACHE", "BUILDKIT_MULTI_PLATFORM", "BUILDKIT_SANDBOX_HOSTNAME",
             "BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE")  # fmt: skip
    built = kit(
        "RUN true",
        build_args={**dict.fromkeys(names, "1"), "BUILDKIT_DOCKERFILE_CHECK": "skip=all"},
    )
    assert not any(name in built.warnings for name in names), built.warnings


def test_foreign_frontends(kit: Kit) -> None:
    ours = ("docker/dockerfile:1", "docker/dockerfile:1.7-labs", "docker/dockerfile@sha256:1",
            "docker.io/docker/dockerfile-upstream:master")  # fmt: skip
    for name in ours:
        assert "frontend" not in kit(f"# syntax={name}\n{F}").warnings, name
    built = kit(f"# syntax=example.com/other:1\n{F}RUN echo a >/o")
    assert "example.com/other" in built.warnings
    assert built["o"] == "a"
    asked = kit(F, build_args={"BUILDKIT_SYNTAX": "example.com/other"})
    assert "example.com/other" in asked.warnings
    native = {"BUILDKIT_SYNTAX": "dockerfile.v0"}
    assert "frontend" not in kit(f"# syntax=example.com/other:1\n{F}", build_args=native).warnings
