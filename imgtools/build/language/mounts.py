"""The value of RUN --mount: comma-separated fields, whose values may be quoted and expanded.

Which keys there are, and for which kinds of mounts, is that of the Dockerfile reference ("RUN
--mount") and of BuildKit's instructions package. The last of equal keys wins.
"""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Callable, Iterator

from imgtools.build.language.errors import brief
from imgtools.build.language.model import Mount
from imgtools.errors import InvalidInput

KINDS = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARING = ("shared", "private", "locked")

_NAMES = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "ro": "readonly",
    "rw": "readwrite",
}
_ONLY = {
    "mode": ("cache", "secret", "ssh"),
    "uid": ("cache", "secret", "ssh"),
    "gid": ("cache", "secret", "ssh"),
    "sharing": ("cache",),
    "size": ("tmpfs",),
    "required": ("secret", "ssh"),
    "env": ("secret",),
}
_KEYS = ("type", "from", "source", "target", "id", "readonly", "readwrite", *_ONLY)
_BARE = ("readonly", "readwrite", "required")
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
_FIELD = re.compile(r'"((?:[^"]|"")*+)"(?=,|\Z)|([^",]*+)(?=,|\Z)')
_SIZE = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+) ?(?:b|([kmgtp])(?:i?b)?)?", re.IGNORECASE)
_UNITS = "kmgtp"


def check_mount(text: str) -> None:
    """Refuses what no variable can mend, before anything is expanded: fields that cannot be
    told apart, and a variable in `from`, which has to be known before anything is evaluated.
    Raises InvalidInput."""
    for field in _fields(text):
        key, _, value = field.partition("=")
        if key.lower() == "from" and "$" in value[:-1]:
            raise InvalidInput(
                f"--mount: from={brief(value)} has a variable",
                hint="name a stage FROM the variable, and mount from that stage",
            )


def mount_from(text: str) -> str:
    """What `from` says in a value of --mount, "" without it. Raises InvalidInput as
    `check_mount`."""
    named = ""
    for field in _fields(text):
        key, _, value = field.partition("=")
        if key.lower() == "from":
            named = value
    return named


def mount_words(text: str, expand: Callable[[str], str]) -> str:
    """The value of --mount with the value of each key but `from` given to `expand`. Raises
    InvalidInput as `parse_mount`, and what `expand` raises."""
    fields = []
    for field in _fields(text):
        key, equals, value = field.partition("=")
        if equals and key.lower() != "from":
            field = f"{key}={expand(value)}"
        fields.append(_quoted(field))
    return ",".join(fields)


def parse_mount(text: str) -> Mount:
    """An expanded value of --mount. Raises InvalidInput for keys that do not exist or do not
    fit the kind, and for values that are malformed."""
    values: dict[str, str] = {}
    for key, value in _pairs(text):
        values.pop(key, None)  # so that the order is that of the last ones
        values[key] = value
    kind = values.get("type", "bind").lower()
    if kind not in KINDS:
        raise _wrong(f"type={brief(kind)} does not exist", _meant(kind, KINDS))
    for key in values:
        if kind not in _ONLY.get(key, KINDS):
            raise _wrong(f"{key} is not for mounts of type {kind}")
    sharing = values.get("sharing", "shared").lower()
    if sharing not in SHARING:
        raise _wrong(f"sharing={brief(sharing)} does not exist", _meant(sharing, SHARING))
    if kind == "cache" and values.get("source", "/").strip("/.") and not values.get("from"):
        raise _wrong("source of a cache is a path in what from names", "give it a from")
    identity = values.get("id", "")
    if kind == "secret":
        identity = _secret_id(values)
    env = values.get("env", "")
    return Mount(
        kind=kind,
        target=values.get("target", ""),
        source=values.get("source", ""),
        from_=values.get("from", ""),
        id=identity,
        read_only=_read_only(values),
        sharing=sharing,
        mode=_number(values, "mode", 8),
        uid=_number(values, "uid", 10) or 0,
        gid=_number(values, "gid", 10) or 0,
        size=_size(values),
        env=identity if "env" in values and not env else env,
        required=_switch(values, "required") or False,
    )


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for field in _fields(text):
        written, equals, value = field.partition("=")
        key = _NAMES.get(written.lower(), written.lower())
        if key not in _KEYS:
            raise _wrong(f"there is no {brief(written)}", _meant(key, (*_KEYS, *_NAMES)))
        if not equals and key not in _BARE:
            raise _wrong(f"{brief(written)} has no value", f"write {brief(written)}=value")
        yield key, value if equals else "true"


def _fields(text: str) -> Iterator[str]:
    """The fields of a line of CSV (RFC 4180), quotes taken away."""
    if not text:
        raise InvalidInput("--mount is empty", hint="write --mount=type=bind,target=/path")
    at = 0
    while True:
        found = _FIELD.match(text, at)
        if not found:
            raise _wrong(f"a quote is in the wrong place: {brief(text[at:])}")
        yield found[2] if found[1] is None else found[1].replace('""', '"')
        at = found.end() + 1
        if at > len(text):
            return


def _quoted(field: str) -> str:
    return '"' + field.replace('"', '""') + '"' if "," in field or '"' in field else field


def _wrong(reason: str, hint: str | None = None) -> InvalidInput:
    return InvalidInput(f"--mount: {reason}", hint=hint)


def _meant(word: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word[:40], known, 1)
    return f"did you mean {close[0]}?" if close else f"expected {', '.join(known)}"


def _read_only(values: dict[str, str]) -> bool | None:
    """Of `readonly` and `readwrite` the last one counts."""
    found = None
    for key in values:
        if key == "readonly":
            found = _switch(values, key)
        elif key == "readwrite":
            found = not _switch(values, key)
    return found


def _switch(values: dict[str, str], key: str) -> bool | None:
    if key not in values:
        return None
    if values[key] not in _TRUE + _FALSE:
        raise _wrong(f"{key}={brief(values[key])}: expected true or false")
    return values[key] in _TRUE


def _number(values: dict[str, str], key: str, base: int) -> int | None:
    if key not in values:
        return None
    digits = "01234567" if base == 8 else "0123456789"
    text = values[key]
    if not text or text.strip(digits) or len(text) > 20 or int(text, base) >= 2**32:
        kind = "octal digits" if base == 8 else "a number"
        raise _wrong(f"{key}={brief(text)}: expected {kind} below 2^32")
    return int(text, base)


def _size(values: dict[str, str]) -> int | None:
    if "size" not in values:
        return None
    found = _SIZE.fullmatch(values["size"])
    size = 0.0
    if found and len(found[1]) <= 40:
        size = float(found[1]) * 1024 ** (_UNITS.index(found[2].lower()) + 1 if found[2] else 0)
    if not found or not size < 2**63:
        raise _wrong(f"size={brief(values['size'])}: expected bytes, or a size such as 64m")
    return int(size)


def _secret_id(values: dict[str, str]) -> str:
    """What secret is meant: `id`, else `source`, else the last part of `target`."""
    if "from" in values:
        raise _wrong("a secret is from nowhere", "take from away")
    source, identity = values.get("source", ""), values.get("id", "")
    if source and identity:
        raise _wrong("a secret has id or source, not both")
    found = identity or source or posixpath.basename(values.get("target", "").rstrip("/"))
    if not found:
        raise _wrong("a secret needs an id, a source or a target")
    return found
