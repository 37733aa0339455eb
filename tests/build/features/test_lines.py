"""Lines of a Containerfile: directives, continuations, comments, line ends, JSON forms,
here-documents."""

from __future__ import annotations

import re

import pytest

from tests.build.features.kit import BASE, Kit

F = f"FROM {BASE}\n"
# Text of a Containerfile, and what its steps write in /o.
WRITTEN = {
    "byte order mark": ("\ufeff" + F + "RUN echo a >/o", "a"),
    "CRLF": (F.replace("\n", "\r\n") + "RUN echo a \\\r\n  b >/o\r\n", "a b"),
    "CRLF behind a here-document": ("RUN <<EOF\necho a >/o\necho b >>/o\nEOF\r\n", "a\nb"),
    "lower-case instructions": (f"from {BASE}\nrun echo a >/o", "a"),
    "mixed case": (f"FrOm {BASE} aS x\nrUn echo a >/o", "a"),
    "indented instructions": (f"  FROM {BASE}\n\t RUN echo a >/o", "a"),
    "comment inside a continuation": ("RUN echo a \\\n# no\n  # no \\\n b >/o", "a b"),
    "empty line inside a continuation": ("RUN echo a \\\n\n\n b >/o", "a b"),
    "continuation with blanks behind it": ("RUN echo a \\ \t\n b >/o", "a b"),
    "continuation at the end of the file": ("RUN echo a >/o \\", "a"),
    "leading blanks of a continued line stay": ('RUN echo "a\\\n   b" >/o', "a   b"),
    "number sign in the middle of a line": ("RUN echo a#b '# c' >/o", "a#b # c"),
    "escape directive": ("# escape=`\n" + F + "RUN echo a `\n b >/o", "a b"),
    "escape directive in capitals": ("#EsCaPe = `\n" + F + "RUN echo a `\n \\b >/o", "a b"),
    "escape directive leaves backslashes": (
        "# escape=`\n" + F + "ENV A=c:\\x\\\nRUN echo \"$A\" >/o", "c:\\x\\"
    ),
    "directive after a comment is a comment": (
        "# words\n# escape=`\n" + F + "RUN echo a \\\n b >/o", "a b"
    ),
    "directive after an empty line is a comment": (
        "\n# escape=`\n" + F + "RUN echo a \\\n b >/o", "a b"
    ),
    "directive after an unknown one is a comment": (
        "# unknown=1\n# escape=`\n" + F + "RUN echo a \\\n b >/o", "a b"
    ),
    "syntax then escape": (
        "# syntax=docker/dockerfile:1\n# escape=`\n" + F + "RUN echo a `\n b >/o", "a b"
    ),
    "no directive is behind a script's first line": (
        "#!/usr/bin/env x\n# escape=`\n" + F + "RUN echo a \\\n b >/o", "a b"
    ),
    "a line of 100,000 bytes": (f"RUN echo {'a' * 100_000} | wc -c >/o", "100001"),
    "JSON form": ('RUN ["sh", "-c", "echo \\"$0\\" >/o", "a  b"]', "a  b"),
    "JSON form expands nothing": ('ENV A=1\nRUN ["sh", "-c", "echo \'$A\' >/o"]', "$A"),
    "JSON form over two lines": ('RUN ["sh", \\\n "-c", "echo a >/o"]', "a"),
    "JSON escapes": ("RUN [\"sh\", \"-c\", \"echo '\\u0061\\tb\\\\\\/' >/o\"]", "a\tb\\/"),
    "a test is no JSON form": ("RUN [ -d /bin ] && echo a >/o", "a"),
    "a command that begins with a bracket": ("RUN [ 1 = 1 ]; echo b >/o", "b"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "written"), WRITTEN.values(), ids=WRITTEN)
def test_lines(kit: Kit, text: str, written: str) -> None:
    assert kit(text)["o"] == written


HEREDOCS = {
    "RUN <<EOF": ("RUN <<EOF\necho a >/o\ncd /\npwd >>/o\nEOF", "a\n/"),
    "RUN <<EOF keeps the shell's variables": ("ENV A=1\nRUN <<EOF\nB=2; echo $A$B >/o\nEOF", "12"),
    "RUN <<'EOF'": ("ENV A=1\nRUN <<'EOF'\necho $A >/o\nEOF", "1"),
    "RUN <<\"EOF\"": ('RUN <<"EOF"\necho "a b" >/o\nEOF', "a b"),
    "RUN <<-EOF strips tabs": ("RUN <<-EOF\n\techo a >/o\n\t\techo b >>/o\n\tEOF", "a\nb"),
    "RUN stops at the first failure of the last command": (
        "RUN <<EOF\nfalse\necho went on >/o\nEOF", "went on"
    ),
    "RUN cat <<EOF expands in the shell": (
        "ENV A=1\nRUN cat <<EOF >/o\na $A $(echo b)\nEOF", "a 1 b"
    ),
    "RUN cat <<'EOF' does not": ("ENV A=1\nRUN cat <<'EOF' >/o\na $A\nEOF", "a $A"),
    "RUN with two": ("RUN cat <<ONE >/o; cat <<TWO >>/o\n1\nONE\n2\nTWO", "1\n2"),
    "RUN with descriptors": (
        "RUN cat /dev/fd/3 /dev/fd/4 3<<ONE 4<<TWO >/o\n1\nONE\n2\nTWO", "1\n2"
    ),
    "RUN with two, each to a command of its own": (
        "RUN <<ONE cat >/o && <<TWO cat >>/o\n1\nONE\n2\nTWO", "1\n2"
    ),
    "RUN with two pipes": (
        "RUN cat <<ONE | tr a-z A-Z >/o; \\\n  cat <<TWO | tr A-Z a-z >>/o\nOne\nONE\nTwo\nTWO",
        "ONE\ntwo",
    ),
    "RUN with standard input and descriptors": (
        "RUN <<EOF 3<<IN 4<<MORE sh -s\ncat /dev/fd/3 /dev/fd/4 >/o\nEOF\n3\nIN\n4\nMORE", "3\n4"
    ),
    "RUN with a SHELL that is none": (
        'SHELL ["/bin/awk"]\nRUN <<EOF\nBEGIN { print "a" > "/o" }\nEOF', "a"
    ),
    "RUN keeps tabs without a dash": ('RUN <<EOF\necho "\n\ta" >/o\nEOF', "a"),
    "RUN <<- and #!": ("RUN <<-EOF\n\t#!/bin/sh\n\techo a >/o\n\tEOF", "a"),
    "COPY takes escapes as sh does": (
        'COPY <<EOF /o\n"q" \\ \\\\ \\$ \'$INHERITED\' "$INHERITED"\nEOF',
        '"q"  \\ $ \'base\' "base"'
    ),
    "COPY <<\"EOF\" takes none": ('COPY <<"EOF" /o\n\\ \\\\ \\$ $A\nEOF', "\\ \\\\ \\$ $A"),
    "RUN with an interpreter": ("RUN <<EOF sed -n s/a/b/p >/o\na\nc\nEOF", "b"),
    "RUN <<EOF sh": ("RUN <<EOF sh\necho a >/o\nEOF", "a"),
    "RUN (cat <<EOF) pipes": ("RUN cat <<EOF | sed s/a/b/ >/o\nxay\nEOF", "xby"),
    "RUN <<EOF with #!": ("RUN <<EOF\n#!/bin/sed wo\na\nEOF", "#!/bin/sed wo\na"),
    "RUN <<EOF with #!/bin/sh": ("RUN <<EOF\n#!/bin/sh\necho $# >/o\nEOF", "0"),
    "RUN <<EOF with #! and -e": ("RUN <<EOF\n#!/bin/sh -e\necho a >/o\nEOF", "a"),
    "RUN <<EOF with #! and a user": (
        "RUN mkdir -m 777 /w\nUSER joe\nRUN <<EOF\n#!/bin/sh\nid -u >/w/o\nEOF\n"
        "USER root\nRUN mv /w/o /o", "1000"
    ),
    "RUN <<EOF with #! after an empty line is for the shell": (
        "RUN <<EOF\n\n#!/bin/false\necho a >/o\nEOF", "a"
    ),
    "RUN <<EOF and the SHELL": (
        'SHELL ["/bin/sh", "-c", "eval \\"$0\\"; echo own >>/o"]\nRUN <<EOF\necho a >/o\nEOF',
        "a\nown",
    ),
    "empty": ("RUN <<EOF\nEOF\nRUN echo a >/o", "a"),
    "with comments and continuations in it": (
        "RUN <<EOF\n# no\necho a \\\n b >/o\nEOF", "a b"
    ),
    "terminator with a blank is text": ("COPY <<EOF /o\nEOF \n EOF\nEOF", "EOF \n EOF"),
    "instruction-like lines are text": (
        F + "COPY <<EOF /o\nFROM x\n# c\n\nRUN y\nEOF", "FROM x\n# c\n\nRUN y"
    ),
    "<<< is none": ("RUN echo 'cat <<<a' >/o", "cat <<<a"),
    "COPY expands": ("ARG A=1\nCOPY <<EOF /o\n$A ${A:-2} ${B:-3} \\$A\nEOF", "1 1 3 $A"),
    "COPY <<'EOF' does not": ("ARG A=1\nCOPY <<'EOF' /o\n$A \\$A\nEOF", "$A \\$A"),
    "COPY keeps quotes": ("ARG A=1\nCOPY <<EOF /o\n\"$A\" '$A'\nEOF", "\"1\" '1'"),
    "COPY <<-EOF": ("COPY <<-EOF /o\n\ta\n\t\tb\n\tEOF", "a\nb"),
    "COPY <<-EOF keeps blanks": ("COPY <<-EOF /o\n\ta\n\t  b\n\tEOF", "a\n  b"),
    "ADD": ("ARG A=1\nADD <<EOF /o\n$A\nEOF", "1"),
    "COPY to a directory": ("COPY <<o /\na\no", "a"),
    "COPY of two": ("COPY <<o <<p /\na\no\nb\np\nRUN cat /p >>/o", "a\nb"),
    "COPY of one and a file": ("COPY <<o f /\na\no\nRUN cat /f >>/o", "a\nf"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "written"), HEREDOCS.values(), ids=HEREDOCS)
def test_here_documents(kit: Kit, text: str, written: str) -> None:
    assert kit(text, {"f": "f"})["o"] == written


def test_what_a_here_document_is_copied_as(kit: Kit) -> None:
    built = kit(
        "COPY --chown=7:8 --chmod=0640 <<EOF /a/b\nx\nEOF\nCOPY <<EOF /c\nx\nEOF\n"
        "ADD --chmod=700 <<EOF /d\nx\nEOF\nCOPY <<EOF /e\nEOF\n"
    )
    assert (built.tree["a/b"].octal, built.tree["a/b"].owner) == ("640", (7, 8))
    assert (built.tree["c"].octal, built.tree["c"].owner) == ("644", (0, 0))
    assert built.tree["d"].octal == "700"
    assert built.tree["e"].raw == b""


def test_nothing_of_a_here_document_is_left(kit: Kit) -> None:
    built = kit("RUN <<EOF\n#!/bin/sh\necho a >/o\nEOF")
    assert built.last == ["o"]


def test_a_lone_escape_in_a_here_document(kit: Kit) -> None:
    built = kit("COPY <<EOF /o\n\\\nEOF\nCOPY <<'EOF' /p\n\\\nEOF")
    assert (built.tree["o"].raw, built.tree["p"].raw) == (b"\n", b"\\\n")


def test_carriage_returns_in_a_here_document_are_text(kit: Kit) -> None:
    assert kit("COPY <<EOF /o\r\na\r\nb\r\nEOF\r\n").tree["o"].raw == b"a\r\nb\r\n"


REFUSED = {
    "two escapes do not continue a line": ('RUN echo a\\\\\nb', "instruction: b"),
    "syntax in another language's comment": (f"//syntax=docker/dockerfile:1.4\n{F}", "frontend"),
    "syntax in JSON": ('{"syntax": "example.com/x"}', "frontend"),
    "no instruction": ("#only\n\n", "FROM|no (build stage|instruction)|empty"),
    "instruction before FROM": ("RUN a\nFROM scratch\n", "FROM"),
    "only ARG": (f"ARG A=1\n# FROM {BASE}", "FROM|stage"),
    "directive twice": (f"# escape=`\n# escape=`\n{F}", "escape"),
    "escape of two characters": (f"# escape=ab\n{F}", "escape"),
    "unknown instruction": (f"{F}RUM true", "RUM"),
    "unknown flag": ("COPY --form=x a b", "form"),
    "flag of another instruction": ("RUN --chown=1 true", "chown"),
    "flag twice": ("COPY --chown=1 --chown=2 a b", "chown"),
    "flag without a value": ("COPY --chown a b", "chown"),
    "no argument": ("RUN", "RUN"),
    "no destination": ("COPY a", "COPY"),
    "unterminated here-document": ("RUN <<EOF\ntrue\n", "EOF"),
    "unterminated braces": ("ENV A=${B", "B|\\$"),
    "ENV without a value": ("ENV A", "ENV"),
    "ENV with a blank name": ("ENV =1", "ENV"),
    "LABEL with a blank name": ("LABEL =1", "LABEL"),
    "ARG with a bad name": ("ARG =1", "ARG"),
    "SHELL without JSON": ("SHELL /bin/sh -c", "SHELL"),
    "ONBUILD ONBUILD": ("ONBUILD ONBUILD RUN true", "ONBUILD"),
    "ONBUILD FROM": ("ONBUILD FROM x", "FROM"),
    "ONBUILD MAINTAINER": ("ONBUILD MAINTAINER x", "MAINTAINER"),
    "HEALTHCHECK of an unknown kind": ("HEALTHCHECK FOO x", "FOO"),
    "HEALTHCHECK NONE with a flag": ("HEALTHCHECK --interval=1s NONE x", "NONE"),
    "HEALTHCHECK with a bad duration": ("HEALTHCHECK --interval=1x CMD a", "interval"),
    "HEALTHCHECK with a short interval": ("HEALTHCHECK --interval=1us CMD a", "interval"),
    "EXPOSE of nothing like a port": ("EXPOSE http", "http|port"),
    "EXPOSE out of range": ("EXPOSE 70000", "70000"),
    "JSON form of numbers": ("CMD [1]", "string"),
    "STOPSIGNAL with two words": ("STOPSIGNAL A B", "A B"),
    "STOPSIGNAL of no signal": ("STOPSIGNAL SIGFOO", "SIGFOO"),
    "VOLUME of an empty name": ('VOLUME [""]', "VOLUME"),
    "CMD with single quotes": ("CMD ['a'", None),
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(kit: Kit, text: str, said: str | None) -> None:
    if said is None:
        assert kit(text).config["Cmd"] == ["/bin/sh", "-c", "['a'"]
        return
    error = kit.fails(text, whole=text.startswith(("#only", "{", "ARG A=1\n#")))
    assert re.search(said, error), error
