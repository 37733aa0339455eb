"""Every instruction: what it is read as, and what is refused of it."""

from __future__ import annotations

import pytest

from imgtools.build.language.model import (
    Arg,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    From,
    HealthCheck,
    Run,
    Shell,
    Volume,
)
from imgtools.build.language.statements import GRAMMARS
from tests.build.language_kit import all_of, only, parsed, refusal, refused


def shell_form(line: str) -> Command:
    return Command(words=(line,), shell=True)


def exec_form(*words: str) -> Command:
    return Command(words=words, shell=False)


@pytest.mark.parametrize("text", ["", "\n\n", "# Hello\n# only comments\n", "# escape=`\n"])
def test_e12_file_without_instructions_is_refused(text: str) -> None:
    assert refusal(text).reason == "the file has no instructions"


@pytest.mark.parametrize("text", ["ARG A=1", "# c\nARG A\nARG B=$A\n"])
def test_e12_file_of_arg_alone_is_refused(text: str) -> None:
    assert refusal(text).reason == "the file has no FROM"


@pytest.mark.parametrize("text", ["RUN x", "ENV a=b\n", "ARG A\nCOPY a b\nFROM c", "MAINTAINER x"])
def test_e12_instruction_in_front_of_from_is_refused(text: str) -> None:
    error = refusal(text)
    assert error.reason.endswith("in front of the first FROM")
    assert error.hint == "only ARG can stand there"


@pytest.mark.parametrize(
    ("rest", "command"),
    [
        ('["a", "b c"]', exec_form("a", "b c")),
        ('\t[ "a" ,\t"b" ]  ', exec_form("a", "b")),
        ('[""]', exec_form("")),
        (r'["\u00e9\ud83d\ude00 \" \\ \/ \n"]', exec_form('é😀 " \\ / \n')),
        (r'["\ud800x"]', exec_form("\ufffdx")),
        ("['a', 'b']", shell_form("['a', 'b']")),
        ("[ -f x ] && y", shell_form("[ -f x ] && y")),
        ('["a" "b"]', shell_form('["a" "b"]')),
        ('["a",]', shell_form('["a",]')),
        ('["a"] b', shell_form('["a"] b')),
        ('["a", NaN]', shell_form('["a", NaN]')),
        ('["a", 1, x]', shell_form('["a", 1, x]')),
        ('["a", 1e999]', shell_form('["a", 1e999]')),
        ('["\ta"]', shell_form('["\ta"]')),
        ('{"a": "b"}', shell_form('{"a": "b"}')),
        ("echo  two   blanks", shell_form("echo  two   blanks")),
    ],
)
def test_e13_json_form_with_single_quotes_is_shell_form(rest: str, command: Command) -> None:
    for keyword in ("RUN", "CMD", "ENTRYPOINT"):
        instruction = only(f"{keyword} {rest}")
        assert isinstance(instruction, Run | Cmd | Entrypoint)
        assert instruction.command == command


@pytest.mark.parametrize(
    "element", ["1", "1.5", "{}", '{"a": "b"}', '["b"]', "true", "false", "null"]
)
@pytest.mark.parametrize(
    "keyword", ["RUN", "CMD", "ENTRYPOINT", "SHELL", "VOLUME", "HEALTHCHECK CMD"]
)
def test_e14_json_of_other_than_strings_is_refused(keyword: str, element: str) -> None:
    assert refused(f'{keyword} ["a", {element}]').reason == "the JSON form takes strings only"


def test_e15_run_of_a_test_command_is_shell_form() -> None:
    instruction = only("RUN [ -f x ]")
    assert isinstance(instruction, Run)
    assert instruction.command == shell_form("[ -f x ]")


def test_json_with_a_nul_character_is_refused() -> None:
    assert "NUL character" in refused(r'CMD ["a\u0000"]').reason


def test_empty_json_is_no_command() -> None:
    for keyword in ("CMD", "ENTRYPOINT"):
        assert only(f"{keyword} []").command == exec_form()  # type: ignore[attr-defined]
    assert refused("RUN []").reason == "RUN needs a command"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("FROM", "FROM needs one argument or three"),
        ("FROM a b", "FROM needs one argument or three"),
        ("FROM a as b c", "FROM needs one argument or three"),
        ("FROM a in b", "FROM needs one argument or three"),
        ("FROM a AS 1b", "1b cannot be the name of a stage"),
        ("FROM a AS b/c", "b/c cannot be the name of a stage"),
        ("FROM a AS é", "é cannot be the name of a stage"),
        ("COPY", "COPY needs at least two arguments, sources and a destination"),
        ("COPY \t\n  a \\\n", "COPY needs at least two arguments, sources and a destination"),
        ("ADD a", "ADD needs at least two arguments, sources and a destination"),
        ("ENV a", "ENV a has no value"),
        ("ENV a=b c", "c has no value"),
        ("ENV =b", "a name of ENV is empty"),
        ("LABEL =b", "a name of LABEL is empty"),
        ("ARG =b", "a name of ARG is empty"),
        ("ARG a =b", "a name of ARG is empty"),
        ("SHELL /bin/sh -c", "SHELL takes the JSON form only"),
        ("SHELL []", "SHELL needs at least one argument"),
        ('VOLUME [" "]', "a path of VOLUME is empty"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK curl x", "HEALTHCHECK curl does not exist"),
        ("HEALTHCHECK CMD", "HEALTHCHECK CMD needs a command"),
        ("RUN --network=hots x", "--network=hots: expected default, none, host"),
        ("RUN --network= x", "--network=: expected default, none, host"),
        ("RUN --security=no x", "--security=no: expected sandbox, insecure"),
        ('RUN --mount=type="bind x', "the quote is not closed"),
        ('RUN --mount=a"b x', "the quote is not closed"),
        ("RUN --mount='\"a\"b' x", '--mount: a quote is in the wrong place: "a"b'),
        ("RUN --mount=from=$x,target=/y z", "--mount: from=$x has a variable"),
        ("RUN --mount= x", "--mount is empty"),
    ],
)
def test_what_is_malformed_is_refused(text: str, reason: str) -> None:
    assert refused(text.replace("\n", " \\\n", 1) if "\t\n" in text else text).reason == reason


@pytest.mark.parametrize("keyword", GRAMMARS)
@pytest.mark.parametrize("rest", ["", "  ", " \\\n", " --"])
def test_e18_instruction_without_arguments_is_refused(keyword: str, rest: str) -> None:
    error = refused(f"{keyword}{rest}")
    assert error.reason.startswith(f"{keyword} needs ")
    assert (error.location.first, error.column) == (2, 1)


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("RUNN x", "did you mean RUN?"),
        ("FRM x", "did you mean FROM?"),
        ("coppy a b", "did you mean copy?"),
        ("Entrypiont x", "did you mean ENTRYPOINT?"),
        ("MAINTENER x", "did you mean MAINTAINER?"),
        ("QWFPGJ x", None),
        ("ſHELL x", "did you mean SHELL?"),
        ("R" * 100_000, None),
    ],
)
def test_unknown_instruction_is_refused_with_the_one_that_was_meant(
    written: str, hint: str | None
) -> None:
    error = refused(written)
    assert error.reason.startswith("unknown instruction: ")
    assert len(error.reason) < 120
    assert error.hint == hint


@pytest.mark.parametrize(
    ("text", "image", "platform", "name"),
    [
        ("FROM a", "a", "", ""),
        ("from --platform=$BUILDPLATFORM a:${v:-1} As Stage_1.x-Y", "a:${v:-1}", "$BUILDPLATFORM",
         "stage_1.x-y"),
        ("FROM\ta\tAS\tb", "a", "", "b"),
    ],
)  # fmt: skip
def test_e31_stage_names_are_in_lower_case(text: str, image: str, platform: str, name: str) -> None:
    instruction = only(text)
    assert isinstance(instruction, From)
    assert (instruction.image, instruction.platform, instruction.name) == (image, platform, name)


@pytest.mark.parametrize(
    ("rest", "pairs", "legacy"),
    [
        ("a=b", (("a", "b"),), False),
        ("a=b c='d e' f=\"g h\"", (("a", "b"), ("c", "'d e'"), ("f", '"g h"')), False),
        ("a=b\\ c d=e", (("a", "b\\ c"), ("d", "e")), False),
        ("a=b=c d=", (("a", "b=c"), ("d", "")), False),
        ("a b c=d", (("a", "b c=d"),), True),
        ("a   b  c", (("a", "b  c"),), True),
        ('"a b"=c', (('"a b"', "c"),), False),
        ("a='b", (("a", "'b"),), False),
        ('a="b\\"c" d=e', (("a", '"b\\"c"'), ("d", "e")), False),
        ("a='b\\' c=d", (("a", "'b\\'"), ("c", "d")), False),
        ("a=b\\\\", (("a", "b\\\\"),), False),
        ("a=é b=漢 字", None, False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("keyword", ["ENV", "LABEL"])
def test_e88_names_and_values_keep_quotes_and_order(
    keyword: str, rest: str, pairs: tuple[tuple[str, str], ...] | None, legacy: bool
) -> None:
    if pairs is None:
        assert refused(f"{keyword} {rest}").reason == "字 has no value"
        return
    instruction = only(f"{keyword} {rest}")
    assert instruction.pairs == pairs  # type: ignore[attr-defined]
    assert instruction.legacy == legacy  # type: ignore[attr-defined]


def test_the_escape_character_of_the_file_escapes_in_words() -> None:
    file = parsed('# escape=`\nFROM a\nENV a=b` c d="`"" e=f\\ g=h\nCOPY --chown=a`b x c:\\y\n')
    assert file.instructions[1].pairs == (  # type: ignore[attr-defined]
        ("a", "b` c"), ("d", '"`""'), ("e", "f\\"), ("g", "h"),
    )  # fmt: skip
    assert isinstance(file.instructions[2], Copy)
    assert file.instructions[2].chown == "ab"


def test_arg_takes_several_names() -> None:
    instruction = only('ARG a b= c="d e" f=g=h')
    assert isinstance(instruction, Arg)
    assert instruction.pairs == (("a", None), ("b", ""), ("c", '"d e"'), ("f", "g=h"))


def test_e86_healthcheck_none_and_cmd() -> None:
    none = only("HEALTHCHECK none")
    assert isinstance(none, HealthCheck)
    assert none.command is None
    check = only(
        "HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=0 --start-interval=+1.5h"
        ' --retries=3 cmd ["a", "b"]'
    )
    assert isinstance(check, HealthCheck)
    assert check.command == exec_form("a", "b")
    assert (check.interval, check.timeout, check.start_period) == ("1m30s", "500ms", "0")
    assert (check.start_interval, check.retries) == ("+1.5h", "3")
    plain = only("HEALTHCHECK\tCMD\tcurl  x || exit 1")
    assert isinstance(plain, HealthCheck)
    assert plain.command == shell_form("curl  x || exit 1")


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--interval=30", "a duration"),
        ("--timeout=-5s", "a duration"),
        ("--start-period=1 s", "a duration"),
        ("--start-interval=1d", "a duration"),
        ("--retries=-1", "a number"),
        ("--retries=x", "a number"),
        ("--retries=9999999999", "a number"),
    ],
)
def test_e86_healthcheck_settings_are_checked(flag: str, expected: str) -> None:
    error = refused("HEALTHCHECK {}='{}' CMD x".format(*flag.split("=")))
    assert expected in error.reason
    assert error.column == 13


def test_e87_expose_keeps_its_words() -> None:
    instruction = only("EXPOSE 80 80/TCP $port\t8000-8010/udp")
    assert instruction.ports == ("80", "80/TCP", "$port", "8000-8010/udp")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("rest", "paths", "json"),
    [
        ("/a /b /a", ("/a", "/b", "/a"), False),
        ('["/a", " /b c "]', ("/a", "/b c"), True),
        ("['/a']", ("['/a']",), False),
    ],
)
def test_e89_volume_as_json_and_as_words(rest: str, paths: tuple[str, ...], json: bool) -> None:
    instruction = only(f"VOLUME {rest}")
    assert isinstance(instruction, Volume)
    assert (instruction.paths, instruction.json) == (paths, json)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("USER  a:b  ", "user", "a:b"),
        ("WORKDIR /a b/$c", "path", "/a b/$c"),
        ("STOPSIGNAL SIGTERM", "signal", "SIGTERM"),
        ("maintainer A B <c@d>", "name", "A B <c@d>"),
    ],
)
def test_the_whole_rest_is_one_argument(text: str, name: str, value: str) -> None:
    assert getattr(only(text), name) == value


def test_shell_takes_json() -> None:
    instruction = only('SHELL ["/bin/bash", "-c"]')
    assert isinstance(instruction, Shell)
    assert instruction.words == ("/bin/bash", "-c")


def test_run_network_and_security_are_empty_by_default() -> None:
    values = []
    for flags in (
        "",
        "--network=default --security=sandbox ",
        "--network=host --security=insecure ",
    ):
        run = only(f"RUN {flags}x")
        assert isinstance(run, Run)
        values.append((run.network, run.security))
    assert values == [("", ""), ("", ""), ("host", "insecure")]


def test_copy_in_json_form_keeps_its_words() -> None:
    copy = only('COPY --link ["a b", "<<EOF", "c d/"]')
    assert isinstance(copy, Copy)
    assert (copy.sources, copy.destination, copy.json) == (("a b", "<<EOF"), "c d/", True)
    assert (copy.heredocs, copy.link) == ((), True)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("run  a  b ", "RUN a  b"),
        ("Copy\t--link\ta b", "COPY --link\ta b"),
        ("RUN a \\\n  b \\\n # c\n  c", "RUN a   b   c"),
        ("RUN <<E cat\nx\nE", "RUN <<E cat"),
        ("onbuild run x", "ONBUILD run x"),
    ],
)
def test_the_text_is_what_history_shows(written: str, text: str) -> None:
    instruction = only(written)
    assert instruction.text == text
    assert instruction.written == written.split(None, 1)[0]
    assert instruction.keyword == text.split(" ", 1)[0]


def test_every_instruction_is_read_whatever_its_case() -> None:
    text = "from a\nrun x\nCmD y\neNTRYPOINT z\n"
    assert all_of(text) == ["FROM a", "RUN x", "CMD y", "ENTRYPOINT z"]
