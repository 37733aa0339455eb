"""Go's literals: interpreted strings, runes and numbers as Python values, and quoting."""

from __future__ import annotations

import re

_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\'\"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.?))",
    re.DOTALL,
)
_NAMED = {char: "\\" + name for name, char in _SIMPLE.items()}


def unquote(body: str) -> str | None:
    """The text between the quotes of an interpreted literal, or None when it is malformed."""
    ok = True

    def value(found: re.Match[str]) -> str:
        nonlocal ok
        simple, byte, short, long, octal, bad = found.groups()
        if simple:
            return _SIMPLE.get(simple, simple)
        code = int(byte or short or long or octal or "110000", 8 if octal else 16)
        if bad is not None or code > 0x10FFFF or 0xD800 <= code < 0xE000:
            ok = False
            return ""
        return chr(code)

    text = _ESCAPE.sub(value, body)
    return text if ok else None


def number(source: str) -> int | float | None:
    """The value of a Go number, or None when it is malformed or out of range."""
    sign, digits = (source[0], source[1:]) if source[0] in "+-" else ("", source)
    if re.fullmatch(r"0_?[0-7]+(_[0-7]+)*", digits):
        digits = "0o" + digits[1:].lstrip("_")
    try:
        value = int(sign + digits, 0)
        return value if -(1 << 63) <= value < 1 << 63 else None
    except ValueError:
        pass
    try:
        if re.match(r"0[xX]", digits):
            return float.fromhex(sign + digits) if re.search(r"[pP]", digits) else None
        real = float(sign + digits)
    except (ValueError, OverflowError):
        return None
    if real in (float("inf"), float("-inf")) or real != real:
        return None
    return real


def number_fault(source: str) -> str:
    """Why `number` refuses `source`, in Go's words."""
    if re.fullmatch(r"[+-]?\d+", source):
        return f"integer overflow: {quote(source)}"
    well_formed = re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", source)
    return f"{'illegal' if well_formed else 'bad'} number syntax: {quote(source)}"


def quote(text: str, *, ascii_only: bool = False, mark: str = '"') -> str:
    """`text` as Go's strconv.Quote writes it."""
    out = [mark]
    for char in text:
        code = ord(char)
        if char in (mark, "\\"):
            out.append("\\" + char)
        elif char in _NAMED:
            out.append(_NAMED[char])
        elif char.isprintable() and (code < 0x7F or not ascii_only):
            out.append(char)
        elif code < 0x80:
            out.append(f"\\x{code:02x}")
        else:
            out.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return "".join([*out, mark])
