"""Go templates: the same output and the same messages as Go's text/template."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgtools.cli.gotemplate import (
    Struct,
    TemplateError,
    Time,
    is_json,
    render,
    render_report,
)
from imgtools.errors import Error, LimitExceeded
from tests.gotemplate_tables import MAP_ERRORS, MAP_OUTPUTS, STRUCT_ERRORS, STRUCT_OUTPUTS

MAP = {
    "Name": "x",
    "Labels": {"foo": "bar", "a.b": "dot", "e": ""},
    "Layers": ["l1", "l2"],
    "N": 5,
    "Neg": -3,
    "F": 1.5,
    "Big": 1e21,
    "Small": 1.5e-7,
    "T": True,
    "Fa": False,
    "Nil": None,
    "Mixed": [1, "a", None, {"k": 1}],
    "Empty": [],
    "M": {"a": 1, "b": {"c": [1, 2]}, "n": None},
    "Q": "x<y>\"&'é\n",
}


def layer(media_type: str, size: int, annotations: dict[str, str]) -> Struct:
    return Struct("main.Data", {"MIMEType": media_type, "Size": size, "Ann": annotations})


STRUCT = Struct(
    "main.Out",
    {
        "Name": "n",
        "Tag": "",
        "Digest": "sha256:ab",
        "RepoTags": ["a", "b"],
        "Created": Time("2023-01-02T03:04:05.1234Z"),
        "None": None,
        "Labels": {"foo": "bar", "a.b": "dot"},
        "Os": "linux",
        "Layers": ["l1", "l2"],
        "LayersData": [layer("m", 5, {}), layer("m2", 6, {"k": "v"})],
        "Any": None,
        "F": 1.5,
        "B": True,
    },
    omitempty=("Name", "Tag"),
)


@pytest.mark.parametrize(("template", "expected"), MAP_OUTPUTS)
def test_output_over_a_map(template: str, expected: str) -> None:
    assert render(template, MAP) == expected


@pytest.mark.parametrize(("template", "expected"), STRUCT_OUTPUTS)
def test_output_over_a_struct(template: str, expected: str) -> None:
    assert render(template, STRUCT) == expected


@pytest.mark.parametrize(("template", "message"), MAP_ERRORS)
def test_message_over_a_map(template: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(template, MAP)
    assert caught.value.message == message


@pytest.mark.parametrize(("template", "message"), STRUCT_ERRORS)
def test_message_over_a_struct(template: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(template, STRUCT)
    assert caught.value.message == message


def test_json_of_a_struct_keeps_order_and_leaves_out_the_empty() -> None:
    data = Struct("T", {"B": 1, "Tag": "", "A": Time("2023-01-02T03:04:05Z")}, omitempty=["Tag"])
    assert render("{{json .}}", data) == '{"B":1,"A":"2023-01-02T03:04:05Z"}'
    assert render("{{json .}}", {"b": 1e-7, "a": [1e16, None, True]}) == (
        '{"a":[10000000000000000,null,true],"b":1e-7}'
    )
    assert render("{{json .}}", "\u2028<é>") == '"\\u2028<é>"'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023-01-02T03:04:05Z", "2023-01-02 03:04:05 +0000 UTC"),
        ("2023-01-02T03:04:05.123456789Z", "2023-01-02 03:04:05.123456789 +0000 UTC"),
        ("2023-01-02T03:04:05.100Z", "2023-01-02 03:04:05.1 +0000 UTC"),
        ("2023-01-02T03:04:05+02:00", "2023-01-02 03:04:05 +0200 +0200"),
        ("0001-01-01T00:00:00Z", "0001-01-01 00:00:00 +0000 UTC"),
        ("not a time", "not a time"),
    ],
)
def test_time(text: str, expected: str) -> None:
    assert render("{{.}}", Time(text)) == expected
    assert render("{{json .}}", Time(text)) == f'"{text}"'


# What `skopeo inspect --format` 1.9.3 printed for the same templates.
@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{.Os}} {{.Arch}}", "linux amd64\n"),
        (r"{{.Os}}\n", "linux\n"),
        (r"table {{.Os}}\t{{.Arch}}\nx", "linux   amd64\nx\n"),
        (r"table {{.Os}} {{.Arch}}\nend", "linux   amd64\nend\n"),
        (" table {{.Os}}", " table linux\n"),
        (r'{{println "a\tb" `c\td`}}', "a       b c     d\n\n"),
        (
            r"a\tbbbbbbbbbb\tc\nccccccccccc\td\te\nx\ny\tz\nend",
            "a            bbbbbbbbbb  c\nccccccccccc  d           e\nx\ny       z\nend\n",
        ),
        (r"\ta\n\tb\t\tc\nend", "        a\n        b               c\nend\n"),
        (r"é\tb\n\nx\ty\nend", "é       b\n\nx       y\nend\n"),
    ],
)
def test_report(template: str, expected: str) -> None:
    assert render_report(template, {"Os": "linux", "Arch": "amd64"}) == expected


def test_table_leaves_actions_alone() -> None:
    assert render_report('table {{ printf "a b" }} x', {}) == "a b     x\n"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("json", True),
        ("{{json .}}", True),
        (" {{ json . }} ", True),
        ("{{json}}", True),
        ("{{json .Labels}}", False),
        ("{{json .}}x", False),
        ("", False),
    ],
)
def test_is_json(template: str, expected: bool) -> None:
    assert is_json(template) is expected


def test_name_of_the_template_is_in_messages() -> None:
    with pytest.raises(TemplateError, match=r"^template: skopeo inspect:1:2: executing"):
        render("{{.Foo}}", STRUCT, name="skopeo inspect")


@pytest.mark.parametrize(
    "template",
    [
        "{{range 100000}}{{range 100000}}{{end}}{{end}}",
        '{{range 1000}}{{printf "%900000d" 1}}{{end}}',
        '{{define "t"}}{{template "t"}}{{end}}{{template "t"}}',
    ],
)
def test_work_is_bounded(template: str) -> None:
    with pytest.raises(LimitExceeded):
        render(template, {})


@pytest.mark.parametrize(
    "template",
    [
        "{{" + "(" * 5000 + "1" + ")" * 5000 + "}}",
        "{{if 1}}" * 5000 + "{{end}}" * 5000,
        "{{if 0}}" + "{{else if 0}}" * 5000 + "{{end}}",
        '{{printf "%9999999d" 1}}',
        '{{pad "x" 9999999 1}}',
    ],
)
def test_nesting_and_widths_are_bounded(template: str) -> None:
    with pytest.raises(TemplateError):
        render(template, {})


WORDS = "if else end range with define template nil true index len printf eq lt join json"
SIGNS = "{{ }} {{- -}} $x $ := = | ( ) .Name .M.b .. 'c' 1 -2.5 1e400 , @ {{/* */}} `b`"
PIECES = [*WORDS.split(), *SIGNS.split(), '"a"', '"%v%[3]*.[1]d"']


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=2), max_size=14), st.booleans())
def test_any_text_renders_or_is_refused(pieces: list[str], inside: bool) -> None:
    template = " ".join(pieces)
    message = "template: "
    try:
        render("{{" + template + "}}" if inside else template, MAP)
    except Error as e:
        message = e.message
    assert message.startswith(("template: ", "output", "work", "nesting", "printf"))


def test_not_imported_with_the_command_line_package() -> None:
    code = "import sys, imgtools.cli; assert 'imgtools.cli.gotemplate' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
