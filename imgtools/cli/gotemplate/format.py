"""Go's package fmt for template values: Print, Println and Printf.

`%v` of nested values, `%#v`, `%q`, widths, flags and the way Go shows wrong verbs and
missing operands. Everything is pure text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from imgtools.cli.gotemplate.literals import quote
from imgtools.cli.gotemplate.values import (
    MISSING,
    NIL_POINTER,
    Struct,
    TemplateError,
    Time,
    is_int,
    is_nil,
    type_name,
)

_VERB = re.compile(
    r"%(?P<flags>[-+# 0]*)(?:\[(?P<i1>\d+)\])?(?P<width>\*|\d+)?"
    r"(?:(?P<dot>\.)(?:\[(?P<i2>\d+)\])?(?P<precision>\*|\d+)?)?(?:\[(?P<i3>\d+)\])?(?P<verb>.)?",
    re.DOTALL,
)
_MAX_WIDTH = 1_000_000  # as in Go


def go_print(*args: object) -> str:
    """Print: %v of each, with a space between two operands of which neither is a string."""
    out = ""
    for i, arg in enumerate(args):
        if i and not isinstance(arg, str) and not isinstance(args[i - 1], str):
            out += " "
        out += show(arg)
    return out


def go_println(*args: object) -> str:
    """Println: %v of each, spaces between, a newline at the end."""
    return " ".join(show(arg) for arg in args) + "\n"


def show(value: object) -> str:
    """`value` as %v."""
    if is_nil(value):
        return "<nil>"
    return _each(value, show_scalar)


def show_scalar(value: object) -> str:
    """A string, number, boolean or time as %v."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Time):
        return value.go_string()
    if isinstance(value, float):
        return shortest(value, -4, 6)
    return str(value)


def _each(value: object, scalar: Callable[[object], str], plus: bool = False) -> str:
    """Go's frame of composite values around `scalar` of what is in them."""
    if isinstance(value, Struct):
        parts = (_each(item, scalar, plus) for item in value.values())
        if plus:
            parts = (f"{name}:{part}" for name, part in zip(value, parts, strict=True))
        return "{" + " ".join(parts) + "}"
    if isinstance(value, dict):
        items = sorted(value.items())
        return "map[" + " ".join(
            f"{scalar(key)}:{_each(item, scalar, plus)}" for key, item in items
        ) + "]"  # fmt: skip
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(_each(item, scalar, plus) for item in value) + "]"
    return "<nil>" if is_nil(value) else scalar(value)


def go_syntax(value: object) -> str:
    """`value` as %#v."""
    if value is None or value is MISSING or value is NIL_POINTER:
        return "<nil>" if value is not NIL_POINTER else "(*interface {})(nil)"
    name = type_name(value)
    wrapped = name.endswith("interface {}")

    def inner(item: object) -> str:
        return "interface {}(nil)" if wrapped and is_nil(item) else go_syntax(item)

    if isinstance(value, Struct):
        return f"{name}{{" + ", ".join(f"{k}:{go_syntax(v)}" for k, v in value.items()) + "}"
    if isinstance(value, dict):
        items = (f"{quote(k)}:{inner(v)}" for k, v in sorted(value.items()))
        return f"{name}{{" + ", ".join(items) + "}"
    if isinstance(value, (list, tuple)):
        return f"{name}{{" + ", ".join(inner(item) for item in value) + "}"
    return quote(value) if isinstance(value, str) else show_scalar(value)


def shortest(value: float, low: int, high: int) -> str:
    """The fewest digits that give `value` again; in e-notation below 10^low and from 10^high."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    texts = (f"{value:.{precision}e}" for precision in range(18))
    mantissa, _, power = next(text for text in texts if float(text) == value).partition("e")
    exponent = int(power)
    if value and not low <= exponent < high:
        return f"{mantissa}e{power[0]}{abs(exponent):02d}"
    digits = len(mantissa.lstrip("-").replace(".", ""))
    return f"{value:.{max(0, digits - 1 - exponent)}f}"


def go_printf(pattern: str, *args: object) -> str:
    """Printf of `pattern`; mistakes show in the result, as in Go, and raise nothing."""
    out: list[str] = []
    at = index = 0
    reordered = False
    for found in _VERB.finditer(pattern):
        out.append(pattern[at : found.start()])
        at = found.end()
        verb = found["verb"]
        if verb is None:
            out.append("%!(NOVERB)")
            continue
        if found["i1"]:
            index, reordered = int(found["i1"]) - 1, True
        flags, width, precision = found["flags"], found["width"], found["precision"]
        wide: int | None = int(width) if width and width != "*" else None
        exact = int(precision or 0) if found["dot"] and precision != "*" else None
        if width == "*":
            wide, index = _star(args, index, out, "%!(BADWIDTH)")
            if wide is not None and wide < 0:
                flags, wide = flags + "-", -wide
        if found["i2"]:
            index, reordered = int(found["i2"]) - 1, True
        if precision == "*":
            exact, index = _star(args, index, out, "%!(BADPREC)")
        if found["i3"]:
            index, reordered = int(found["i3"]) - 1, True
        if verb == "%":
            out.append("%")
            continue
        if max(wide or 0, exact or 0) > _MAX_WIDTH:
            raise TemplateError(f"printf: width or precision is above {_MAX_WIDTH}")
        if not 0 <= index < len(args):
            out.append(f"%!{verb}({'BADINDEX' if reordered else 'MISSING'})")
            continue
        out.append(_verb(verb, flags, wide, exact, args[index]))
        index += 1
    out.append(pattern[at:])
    if not reordered and index < len(args):
        extra = ", ".join(
            "<nil>" if is_nil(arg) else f"{type_name(arg)}={show(arg)}" for arg in args[index:]
        )
        out.append(f"%!(EXTRA {extra})")
    return "".join(out)


def _star(args: tuple[object, ...], index: int, out: list[str], bad: str) -> tuple[int | None, int]:
    value = args[index] if 0 <= index < len(args) else None
    if isinstance(value, int) and not isinstance(value, bool):
        return value, index + 1
    out.append(bad)
    return None, index + 1


def _verb(verb: str, flags: str, width: int | None, exact: int | None, value: object) -> str:
    if verb == "T":
        return _pad("<nil>" if is_nil(value) else type_name(value), flags, width)
    if is_nil(value):
        return (
            _pad("<nil>", flags, width)
            if verb == "v" or value is NIL_POINTER
            else f"%!{verb}(<nil>)"
        )
    if verb == "v" and "#" in flags:
        return _pad(go_syntax(value), flags, width)

    plain = flags.replace("+", "") if verb == "v" else flags

    def scalar(item: object) -> str:
        text = _scalar(verb, plain, exact, item)
        # Go pads an integer that has a precision, or is shown as U+..., with spaces.
        spaces = is_int(item) and (exact is not None or verb == "U")
        return _pad(text, plain.replace("0", "") if spaces else plain, width, is_number(item))

    return _each(value, scalar, plus=verb == "v" and "+" in flags)


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _pad(text: str, flags: str, width: int | None, number: bool = False) -> str:
    if width is None or len(text) >= width:
        return text
    if "-" in flags:
        return text.ljust(width)
    if "0" in flags:
        return text.zfill(width) if number else text.rjust(width, "0")
    return text.rjust(width)


def _scalar(verb: str, flags: str, exact: int | None, value: object) -> str:
    text: str | None = None
    if isinstance(value, bool):
        text = show_scalar(value) if verb in "vt" else None
    elif isinstance(value, int):
        text = _int(verb, flags, exact, value)
    elif isinstance(value, float):
        text = _float(verb, flags, exact, value)
    else:
        text = _str(verb, flags, exact, show_scalar(value))
    return text if text is not None else f"%!{verb}({type_name(value)}={show(value)})"


def _str(verb: str, flags: str, exact: int | None, text: str) -> str | None:
    if verb in "vs":
        return text if exact is None else text[:exact]
    if verb == "q":
        text = text if exact is None else text[:exact]
        if "#" in flags and "`" not in text and all(c == "\t" or c.isprintable() for c in text):
            return f"`{text}`"
        return quote(text, ascii_only="+" in flags)
    if verb in "xX":
        data = text.encode("utf-8", "surrogateescape")[:exact]
        mark = "0x" if "#" in flags and data else ""
        digits = mark + (data.hex(" ").replace(" ", f" {mark}") if " " in flags else data.hex())
        return digits if verb == "x" else digits.upper()
    return None


def _int(verb: str, flags: str, exact: int | None, value: int) -> str | None:
    sign = "-" if value < 0 else "+" if "+" in flags else " " if " " in flags else ""
    size = abs(value)
    if verb in "vdxXobO":
        if exact == 0 and size == 0:
            return ""
        kind = {"v": "d", "O": "o"}.get(verb, verb)
        digits = f"{size:{kind}}".zfill(exact or 0)
        prefix = {"x": "0x", "X": "0X", "o": "0", "b": "0b"}.get(verb, "") if "#" in flags else ""
        if verb == "o" and digits.startswith("0"):
            prefix = ""
        return f"{sign}{'0o' if verb == 'O' else prefix}{digits}"
    if verb == "U":
        shown = f"U+{size:04X}"
        return f"{shown} '{_rune(value)}'" if "#" in flags else shown
    if verb == "c":
        return _rune(value)
    return quote(_rune(value), mark="'") if verb == "q" else None


def _rune(code: int) -> str:
    valid = 0 <= code <= 0x10FFFF and not 0xD800 <= code < 0xE000
    return chr(code) if valid else "\ufffd"


def _float(verb: str, flags: str, exact: int | None, value: float) -> str | None:
    if verb not in "vgGeEfF":
        return None
    if verb in "vgG" and exact is None:
        text = shortest(value, -4, 6)
        text = text.upper() if verb == "G" else text
    else:
        kind = {"v": "g", "F": "f"}.get(verb, verb)
        text = f"{value:.{6 if exact is None else exact}{kind}}"
    if value >= 0 and not text.startswith("+"):
        text = ("+" if "+" in flags else " " if " " in flags else "") + text
    return text
