"""Methods of times in templates; what is expected is what Go itself printed for the same."""

from __future__ import annotations

import pytest

from imgtools.cli.gotemplate import Struct, Time, render
from imgtools.cli.gotemplate.times import go_format, moment_of
from imgtools.cli.gotemplate.values import TemplateError

TIMES = (
    "2026-11-23T00:13:00.205640797Z",
    "2006-01-02T15:04:05.1+02:00",
    "1999-12-31T12:00:09-07:30",
)
LAYOUTS = {
    "2006-01-02T15:04:05Z07:00": (
        "2026-11-23T00:13:00Z",
        "2006-01-02T15:04:05+02:00",
        "1999-12-31T12:00:09-07:30",
    ),
    "2006-01-02T15:04:05.999999999Z07:00": (
        "2026-11-23T00:13:00.205640797Z",
        "2006-01-02T15:04:05.1+02:00",
        "1999-12-31T12:00:09-07:30",
    ),
    "Mon Jan 2 15:04:05 MST 2006": (
        "Mon Nov 23 00:13:00 UTC 2026",
        "Mon Jan 2 15:04:05 +0200 2006",
        "Fri Dec 31 12:00:09 -0730 1999",
    ),
    "Monday, 02-Jan-06 15:04:05 MST": (
        "Monday, 23-Nov-26 00:13:00 UTC",
        "Monday, 02-Jan-06 15:04:05 +0200",
        "Friday, 31-Dec-99 12:00:09 -0730",
    ),
    "Mon Jan _2 15:04:05 2006": (
        "Mon Nov 23 00:13:00 2026",
        "Mon Jan  2 15:04:05 2006",
        "Fri Dec 31 12:00:09 1999",
    ),
    "02 Jan 06 15:04 -0700": (
        "23 Nov 26 00:13 +0000",
        "02 Jan 06 15:04 +0200",
        "31 Dec 99 12:00 -0730",
    ),
    "3:04PM": (
        "12:13AM",
        "3:04PM",
        "12:00PM",
    ),
    "03:04:05 pm": (
        "12:13:00 am",
        "03:04:05 pm",
        "12:00:09 pm",
    ),
    "Jan _2 15:04:05.000": (
        "Nov 23 00:13:00.205",
        "Jan  2 15:04:05.100",
        "Dec 31 12:00:09.000",
    ),
    "__2 002 2006_01_02 _2006": (
        "327 327 2026_11_23 _2026",
        "  2 002 2006_01_02 _2006",
        "365 365 1999_12_31 _1999",
    ),
    "Janet Monk January Monday": (
        "Janet Monk November Monday",
        "Janet Monk January Monday",
        "Janet Monk December Friday",
    ),
    "-07 Z07 Z0700 -07:00:00 Z07:00:00 -070000 Z070000": (
        "+00 Z Z +00:00:00 Z +000000 Z",
        "+02 +02 +0200 +02:00:00 +02:00:00 +020000 +020000",
        "-07 -07 -0730 -07:30:00 -07:30:00 -073000 -073000",
    ),
    "5,000 5.0 .99x .009 2,9999": (
        "0,205 0.2 .2x .009 23,2056",
        "5,100 5.1 .1x .009 2,1",
        "9,000 9.0 x .009 31",
    ),
    "1/2/06 4": (
        "11/23/26 13",
        "1/2/06 4",
        "12/31/99 0",
    ),
    "20060102150405": (
        "20261123001300",
        "20060102150405",
        "19991231120009",
    ),
    "x2006y 01.5.00": (
        "x2026y 11.0.20",
        "x2006y 01.5.10",
        "x1999y 12.9.00",
    ),
    "": (
        "",
        "",
        "",
    ),
    ".000": (
        ".205",
        ".100",
        ".000",
    ),
    "05.0000000001": (
        "00.0000000011",
        "05.0000000001",
        "09.0000000012",
    ),
    "_2 _20 _20061": (
        "23 230 _202611",
        " 2  20 _20061",
        "31 310 _199912",
    ),
}
"""A layout, and each of TIMES in it."""


@pytest.mark.parametrize("layout", LAYOUTS)
def test_format(layout: str) -> None:
    found = tuple(go_format(moment_of(Time(time)), layout) for time in TIMES)
    assert found == LAYOUTS[layout]


def shown(template: str, created: str = TIMES[0]) -> str:
    """A template over a time, and a layout in a field."""
    return render(template, Struct("main.T", {"Created": Time(created), "Name": "15h"}), name="t")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{.Created}}", "2026-11-23 00:13:00.205640797 +0000 UTC"),
        ("{{.Created.Unix}} {{.Created.UnixNano}}", "1795392780 1795392780205640797"),
        ("{{.Created.UnixMilli}} {{.Created.UnixMicro}}", "1795392780205 1795392780205640"),
        ('{{.Created.Format "06"}} {{"06" | .Created.Format}}', "26 26"),
        ("{{.Created.Format .Name}}", "00h"),
        ("{{$x := .Created}}{{$x.Day}} {{(.Created).Hour}}", "23 0"),
        ("{{with .Created}}{{.Minute}} {{.Second}} {{.Nanosecond}}{{end}}", "13 0 205640797"),
        ("{{.Created.UTC.Year}} {{.Created.Month}} {{.Created.YearDay}}", "2026 November 327"),
        ("{{.Created.Weekday}} {{.Created.IsZero}}", "Monday false"),
        ("{{eq .Created.Year 2026}} {{.Created.String}}",
         "true 2026-11-23 00:13:00.205640797 +0000 UTC"),
        ("{{json .Created}}", '"2026-11-23T00:13:00.205640797Z"'),
    ],
)  # fmt: skip
def test_methods(template: str, expected: str) -> None:
    assert shown(template) == expected


def test_moments_of_other_zones() -> None:
    """And the first one, which Go takes for none."""
    assert shown("{{.Created.UTC}}", TIMES[2]) == "1999-12-31 19:30:09 +0000 UTC"
    assert shown("{{.Created.Unix}}", TIMES[1]) == "1136207045"
    assert shown("{{.Created.IsZero}} {{.Created.UTC}}", "0001-01-01T00:00:00Z") == (
        "true 0001-01-01 00:00:00 +0000 UTC"
    )


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{.Created.Format}}",
         "at <.Created.Format>: wrong number of args for Format: want 1 got 0"),
        ("{{.Created.Year 1}}",
         "t:1:10: executing \"t\" at <.Created.Year>: wrong number of args for Year: want 0 got 1"),
        ("{{1 | .Created.Year}}", "wrong number of args for Year: want 0 got 1"),
        ("{{.Created.Nope}}", "can't evaluate field Nope in type time.Time"),
        ("{{.Created.Year.X}}", "can't evaluate field X in type int"),
        ("{{.Created.Format 3}}", "t:1:18: executing \"t\" at <3>: expected string; found 3"),
    ],
)  # fmt: skip
def test_mistakes_are_told_as_go_tells_them(template: str, said: str) -> None:
    with pytest.raises(TemplateError) as caught:
        shown(template)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-13-01T00:00:00Z", "0000-01-01T00:00:00Z",
             "2026-01-01T00:00:00+99:00", "0001-01-01T00:00:00+05:00"],
)  # fmt: skip
def test_what_is_no_time_has_no_methods(text: str) -> None:
    """Nobody checks what images say of themselves; it prints as it is."""
    assert shown("{{.Created}}", text)[:4] == text[:4]
    with pytest.raises(TemplateError, match="error calling UTC"):
        shown("{{.Created.UTC}}", text)
