"""How images of the store are shown: rows for each name, podman's columns and JSON, filters.

Pure but for the time of day that callers give.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from imgtools.cli.gotemplate.values import Time
from imgtools.errors import ImageNotFound, InvalidInput
from imgtools.frozen import dataclass

if TYPE_CHECKING:
    from engine.storage.images import StoredImage, StoredName

NONE = "<none>"
HEADERS: Mapping[str, str] = {
    "ID": "IMAGE ID", "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST",
    "Created": "CREATED", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT",
    "CreatedTime": "CREATED TIME", "CreatedAtRaw": "CREATED AT",
    "Size": "SIZE", "SharedSize": "SHARED SIZE",
    "VirtualSize": "VIRTUAL SIZE", "Labels": "LABELS", "Names": "NAMES", "History": "HISTORY",
    "ReadOnly": "READ ONLY", "Containers": "CONTAINERS", "ParentID": "PARENT ID",
    "RepoDigests": "REPO DIGESTS", "RepoTags": "REPO TAGS",
}  # fmt: skip
_FILTERS = ("after", "before", "dangling", "id", "intermediate", "label", "label!", "manifest",
            "reference", "since", "until")  # fmt: skip
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An image by one of its names; `name` is "" for one that has none.

    `index` says that it is an index, of which `image` has the digest and size. `intermediate`
    is an image without a name that another one was made from.
    """

    image: StoredImage
    name: str
    names: tuple[str, ...]
    containers: int = 0
    index: bool = False
    intermediate: bool = False

    @property
    def repository(self) -> str:
        """The repository of the name, or <none>."""
        return (self.name.partition("@")[0] if "@" in self.name
                else self.name.rpartition(":")[0]) or NONE  # fmt: skip

    @property
    def tag(self) -> str:
        """The tag of the name, or <none>."""
        return NONE if "@" in self.name or not self.name else self.name.rpartition(":")[2]


def rows_of(
    images: Iterable[StoredImage],
    names: Iterable[StoredName],
    users: Mapping[str, int],
) -> list[Row]:
    """A row for each name, one for an image without; newest images first."""
    by_image: dict[str, list[str]] = {}
    for name in names:
        by_image.setdefault(name.image_id, []).append(name.name)
    found = []
    for image in sorted(images, key=lambda i: (-created(i), i.id)):
        own = tuple(sorted(by_image.get(image.id, ())))
        for each in own or ("",):
            count = users.get(image.id, 0)
            found.append(Row(image=image, name=each, names=own, containers=count))
    return found


def created(image: StoredImage) -> float:
    """When an image was made, in seconds since the epoch; 0 where it does not say."""
    return seconds(image.created) or 0.0


def seconds(text: str) -> float | None:
    """An RFC 3339 time in seconds since the epoch, None for what is none."""
    from imgtools.inspect.gotime import go_time

    written = go_time(text)
    if written is None:
        return None
    whole, dot, rest = written.partition(".")
    digits = re.match(r"\d*", rest)
    fraction = digits[0] if dot and digits else ""
    zone = rest[len(fraction) :] if dot else ""
    moment = datetime.fromisoformat((whole + zone).replace("Z", "+00:00"))
    return moment.timestamp() + (float(f"0.{fraction}") if fraction else 0.0)


def human_since(then: float, now: float) -> str:
    """How long ago, as go-units says it: "2 years ago"."""
    past = max(0, int(now - then))
    if past < 1:
        return "Less than a second ago"
    minutes, hours = past // 60, (past + 1800) // 3600
    if past < 60:
        return f"{past} second{'s' if past > 1 else ''} ago"
    if minutes < 60:
        return "About a minute ago" if minutes == 1 else f"{minutes} minutes ago"
    if hours < 48:
        return "About an hour ago" if hours == 1 else f"{hours} hours ago"
    for limit, divisor, unit in (
        (24 * 7 * 2, 24, "days"),
        (24 * 30 * 2, 24 * 7, "weeks"),
        (24 * 365 * 2, 24 * 30, "months"),
    ):
        if hours < limit:
            return f"{hours // divisor} {unit} ago"
    return f"{hours // (24 * 365)} years ago"


def human_bytes(size: float) -> str:
    """Bytes as podman prints them: three digits, powers of 1000, "6.64 kB"."""
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if size < 1000 or unit == "PB":
            break
        size /= 1000
    return f"{size:.3g} {unit}"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table as podman's: columns 12 wide at least, two spaces between."""
    widths = [max(12, *(len(cell) + 2 for cell in column)) for column in zip(*rows, strict=True)]
    return [
        "".join(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)) + row[-1]
        for row in rows
    ]


def document(row: Row) -> dict[str, Any]:
    """podman's JSON of an image, with the names that it leaves out of RepoTags."""
    image = row.image
    more = {"IsManifestList": True} if row.index else {}
    return {
        "Id": image.id,
        "ParentId": "",
        "RepoTags": list(row.names),
        "RepoDigests": repo_digests(row),
        "Size": image.size,
        "SharedSize": 0,
        "VirtualSize": image.size,
        "Labels": dict(image.labels) or None,
        "Containers": row.containers,
        "Names": list(row.names),
        "Digest": str(image.manifest.digest),
        "History": list(row.names),
        "Created": int(created(image)),
        "CreatedAt": _at(image, "%Y-%m-%dT%H:%M:%SZ"),
        **more,
    }


def repo_digests(row: Row) -> list[str]:
    """`repository@digest` for every repository of the names, and what it was pulled by."""
    digest = row.image.manifest.digest
    own = [f"{name.partition('@')[0] if '@' in name else name.rpartition(':')[0]}@{digest}"
           for name in row.names]  # fmt: skip
    return sorted({*own, *row.image.repo_digests})


def fields(row: Row, now: float, *, full: bool) -> dict[str, Any]:
    """What a template sees of a row."""
    image = row.image
    since = human_since(created(image), now)
    size = human_bytes(image.size)
    return {
        "ID": f"sha256:{image.id}" if full else image.id[:12],
        "Repository": row.repository,
        "Tag": row.tag,
        "Digest": str(image.manifest.digest),
        "Created": since,
        "CreatedSince": since,
        "CreatedAt": _at(image, "%Y-%m-%d %H:%M:%S +0000 UTC"),
        "CreatedTime": _at(image, "%Y-%m-%d %H:%M:%S +0000 UTC"),
        "CreatedAtRaw": Time(image.created),
        "Size": size,
        "SharedSize": "0 B",
        "VirtualSize": size,
        "Labels": dict(image.labels),
        "Names": list(row.names),
        "History": ", ".join(row.names),
        "ReadOnly": False,
        "Containers": row.containers,
        "ParentID": "",
        "RepoDigests": repo_digests(row),
        "RepoTags": list(row.names),
    }


def _at(image: StoredImage, form: str) -> str:
    try:
        return datetime.fromtimestamp(int(created(image)), UTC).strftime(form)
    except (OverflowError, ValueError, OSError):
        return ""


def sorted_rows(rows: list[Row], key: str) -> list[Row]:
    """Rows by created (newest first), id, repository, size or tag; raises InvalidInput."""
    keys: dict[str, Callable[[Row], Any]] = {
        "created": lambda r: -created(r.image),
        "id": lambda r: r.image.id,
        "repository": lambda r: (r.repository, r.tag),
        "size": lambda r: r.image.size,
        "tag": lambda r: r.tag,
    }
    if key not in keys:
        raise InvalidInput(f'"{key}" is not a valid field for sorting. Choose from: '
                           f"{', '.join(sorted(keys))}")  # fmt: skip
    return sorted(rows, key=keys[key])


def filtered(
    rows: list[Row],
    filters: Sequence[str],
    *,
    find: Callable[[str], tuple[StoredImage, str]],
    now: float,
) -> list[Row]:
    """The rows that pass `filters` ("key=value"): several references are alternatives, all
    else has to hold. Raises InvalidInput, and ImageNotFound for before= and since=."""
    references = []
    for text in filters:
        key, equal, value = text.partition("=")
        if not equal:
            raise InvalidInput(f"invalid image filter {text!r}: must be in the form key=value")
        if key not in _FILTERS:
            raise InvalidInput(f'unsupported image filter "{key}"')
        if key == "reference":
            references.append(value)
        else:
            test = _test(key, value, find, now)
            rows = [row for row in rows if test(row)]
    if references:
        tests = [_reference_test(reference, find) for reference in references]
        rows = [row for row in rows if any(test(row) for test in tests)]
    return rows


def _test(
    key: str, value: str, find: Callable[[str], tuple[StoredImage, str]], now: float
) -> Callable[[Row], bool]:
    """What a filter other than reference= asks of a row."""
    if key in ("dangling", "intermediate", "manifest"):
        wanted = _BOOLEANS.get(value)
        if wanted is None:
            raise InvalidInput(f"non-boolean value {value!r} for {key} filter")
        return lambda row: _state(row, key) == wanted
    if key in ("label", "label!"):
        return lambda row: _has_label(row, value) != (key == "label!")
    if key == "id":
        start = value.removeprefix("sha256:")
        return lambda row: row.image.id.startswith(start)
    if key == "until":
        moment = until(value, now)
        return lambda row: created(row.image) < moment
    other = created(find(value)[0])
    if key == "before":
        return lambda row: created(row.image) < other
    return lambda row: created(row.image) > other


def _state(row: Row, key: str) -> bool:
    return {"dangling": not row.name, "intermediate": row.intermediate, "manifest": row.index}[key]


def _has_label(row: Row, text: str) -> bool:
    name, equal, wanted = text.partition("=")
    labels = dict(row.image.labels)
    return name in labels and (not equal or labels[name] == wanted)


def until(text: str, now: float) -> float:
    """The moment that `until=` means: a duration before now, or a time; InvalidInput."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    found = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    if found and "".join(n + u for n, u in found) == text:
        units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
        return now - sum(float(number) * units[unit] for number, unit in found)
    moment = seconds(text)
    if moment is None:
        for form in ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d"):
            try:
                return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()
            except ValueError:
                continue
        raise InvalidInput(f"{text!r} is neither a time nor a duration such as 24h")
    return moment


def _reference_test(
    pattern: str, find: Callable[[str], tuple[StoredImage, str]]
) -> Callable[[Row], bool]:
    """Whether a row is the image that `pattern` names, or has a name that it matches, in full
    or without registry, path or tag."""
    try:
        image, name = find(pattern)
    except (ImageNotFound, InvalidInput):  # several may match where none is named
        try:
            regex = re.compile(_glob(pattern))
        except re.error as e:
            raise InvalidInput(f"invalid pattern {pattern!r}: {e}") from e
        return lambda row: any(regex.fullmatch(form) for form in _forms(row))
    return lambda row: row.image.id == image.id and name in ("", row.name)


def _forms(row: Row) -> set[str]:
    if not row.name:
        return set()
    _, _, path = row.repository.partition("/")
    short = row.repository.rpartition("/")[2]
    bare = (row.repository, path, short)
    return {*bare, *(f"{form}:{row.tag}" for form in bare)}


def _glob(pattern: str) -> str:
    """A shell pattern as Go's path.Match has it: * and ? do not match a slash."""
    out = ""
    for part in re.findall(r"\*+|\?|\[\^?[^\]]+\]|.", pattern, re.DOTALL):
        if part.startswith("*"):
            out += "[^/]*"
        elif part == "?":
            out += "[^/]"
        elif part.startswith("[") and len(part) > 2:
            out += part
        else:
            out += re.escape(part)
    return out
