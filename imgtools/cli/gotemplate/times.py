"""The methods of Go's time.Time that templates call, such as `{{.Created.Format "2006-01-02"}}`:
by the documentation of Go's package time.

A time is RFC 3339 text, to the nanosecond; a layout is how Go would write a certain moment.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType

from imgtools.cli.gotemplate.values import Time
from imgtools.frozen import dataclass

_TEXT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))",
    re.ASCII,
)
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September",
          "October", "November", "December")  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_PARTS = re.compile(
    r"January|Jan(?![a-z])|Monday|Mon(?![a-z])|MST|2006|[-Z]07:00:00|[-Z]07:00|[-Z]070000|"
    r"[-Z]0700|[-Z]07|002|01|02|03|04|05|06|__2|_2(?!006)|_(?=2006)|15|PM|pm|"
    r"[.,](?:0+|9+)(?!\d)|1|2|3|4|5",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A time, with the clock of its zone in `clock` and the rest of the second in nanoseconds."""

    clock: datetime
    nanosecond: int

    @property
    def seconds(self) -> int:
        """Since the epoch."""
        return (self.clock - _EPOCH) // timedelta(seconds=1)

    @property
    def offset(self) -> int:
        """Minutes east of UTC."""
        return (self.clock.utcoffset() or timedelta()) // timedelta(minutes=1)

    def to_time(self) -> Time:
        """The same as text."""
        digits = f".{self.nanosecond:09}".rstrip("0").rstrip(".")
        return Time(self.clock.strftime("%Y").zfill(4) + self.clock.strftime("-%m-%dT%H:%M:%S")
                    + digits + _zone(self.offset, ":", zulu=True))  # fmt: skip


def moment_of(time: Time) -> Moment:
    """The moment that a text names; raises ValueError for one that is no time."""
    found = _TEXT.fullmatch(time)
    if found is None:
        raise ValueError(f"{str(time)!r} is no time")
    *numbers, fraction, sign, hours, minutes = found.groups()
    east = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    zone = timezone(-east if sign == "-" else east)
    year, month, day, hour, minute, second = map(int, numbers)
    clock = datetime(year, month, day, hour, minute, second, tzinfo=zone)
    return Moment(clock=clock, nanosecond=int((fraction or "")[:9].ljust(9, "0")))


def go_format(moment: Moment, layout: str) -> str:
    """The moment as Format writes it."""
    return _PARTS.sub(lambda found: _part(moment, found[0]), layout)


def _part(moment: Moment, word: str) -> str:
    clock = moment.clock
    if word[0] in ".,":
        digits = f"{moment.nanosecond:09}".ljust(len(word) - 1, "0")[: len(word) - 1]
        digits = digits.rstrip("0") if word[1] == "9" else digits
        return word[0] + digits if digits else ""
    if word[0] in "-Z" and len(word) > 1:
        return _offset(moment.offset, word)
    hour = clock.hour % 12 or 12
    month, weekday = MONTHS[clock.month - 1], DAYS[clock.weekday()]
    days = clock.timetuple().tm_yday
    table = {
        "January": month, "Jan": month[:3], "Monday": weekday, "Mon": weekday[:3],
        "2006": f"{clock.year:04}", "06": f"{clock.year % 100:02}", "1": str(clock.month),
        "01": f"{clock.month:02}", "2": str(clock.day), "02": f"{clock.day:02}",
        "_2": f"{clock.day:2}", "__2": f"{days:3}", "002": f"{days:03}", "15": f"{clock.hour:02}",
        "3": str(hour), "03": f"{hour:02}", "4": str(clock.minute), "04": f"{clock.minute:02}",
        "5": str(clock.second), "05": f"{clock.second:02}", "PM": "PM" if clock.hour > 11 else "AM",
        "pm": "pm" if clock.hour > 11 else "am", "_": "_",
        "MST": "UTC" if not moment.offset else _zone(moment.offset, ""),
    }  # fmt: skip
    return table[word]


def _offset(minutes: int, word: str) -> str:
    """A zone in the form of `word`; seconds of zones are not written in RFC 3339."""
    if word[0] == "Z" and not minutes:
        return "Z"
    form = word[1:]
    if form == "07":
        return _zone(minutes, "")[:3]
    text = _zone(minutes, ":" if ":" in form else "")
    return text + {"07:00:00": ":00", "070000": "00"}.get(form, "")


def _zone(minutes: int, between: str, *, zulu: bool = False) -> str:
    if zulu and not minutes:
        return "Z"
    hours, rest = divmod(abs(minutes), 60)
    return f"{'-' if minutes < 0 else '+'}{hours:02}{between}{rest:02}"


def _is_zero(moment: Moment) -> bool:
    first = datetime(1, 1, 1, tzinfo=UTC)
    return moment.clock == first and not moment.nanosecond


def _utc(moment: Moment) -> Time:
    return Moment(clock=moment.clock.astimezone(UTC), nanosecond=moment.nanosecond).to_time()


METHODS: Mapping[str, Callable[[Moment], object]] = MappingProxyType({
    "Unix": lambda m: m.seconds,
    "UnixMilli": lambda m: m.seconds * 1000 + m.nanosecond // 1_000_000,
    "UnixMicro": lambda m: m.seconds * 1_000_000 + m.nanosecond // 1000,
    "UnixNano": lambda m: m.seconds * 1_000_000_000 + m.nanosecond,
    "Year": lambda m: m.clock.year,
    "Month": lambda m: MONTHS[m.clock.month - 1],
    "Day": lambda m: m.clock.day,
    "YearDay": lambda m: m.clock.timetuple().tm_yday,
    "Weekday": lambda m: DAYS[m.clock.weekday()],
    "Hour": lambda m: m.clock.hour,
    "Minute": lambda m: m.clock.minute,
    "Second": lambda m: m.clock.second,
    "Nanosecond": lambda m: m.nanosecond,
    "IsZero": _is_zero,
    "String": lambda m: m.to_time().go_string(),
    "UTC": _utc,
})  # fmt: skip
"""The methods without arguments, by name. Those of UTC's neighbours (Local, In) depend on the
machine."""
FORMAT = "Format"
"""The one with an argument, which is a layout."""
