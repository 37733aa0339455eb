"""The files by which a docker archive can be loaded by Docker before 1.10.

Pure: one directory per layer with `VERSION`, `json` and a link to the layer, and
`repositories`. Names and bytes are those of containers/image, for whom a layer's id is the
digest of its `json` with the chain_id added.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from imgtools.errors import InvalidJSON
from imgtools.frozen import dataclass
from imgtools.spec import strict_json
from imgtools.spec.digest import Digest
from imgtools.spec.identity import chain_ids
from imgtools.spec.reference import Reference

_FROM_CONFIG = (
    "architecture",
    "config",
    "container",
    "container_config",
    "created",
    "docker_version",
    "os",
)
_SPACE = re.compile(r'("(?:[^"\\]|\\.)*")|[ \t\r\n]+')
# What Go's encoder escapes even in members it is given as they are.
_ESCAPED = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})
_GAP = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class LegacyLayer:
    """A directory `id` for the layer whose uncompressed digest is `layer`."""

    id: str
    layer: Digest
    json: bytes


def legacy_layers(config: bytes, layers: Sequence[Digest]) -> list[LegacyLayer]:
    """The directories of an image, lowest layer first; raises InvalidJSON."""
    found: list[LegacyLayer] = []
    chain = chain_ids(layers)
    for number, layer in enumerate(layers):
        values: dict[str, str] = {}
        if found:
            values["parent"] = _text(found[-1].id)
        if number == len(layers) - 1:
            top = raw_members(config)
            values.update({key: top.get(key, "null") for key in _FROM_CONFIG})
        identity = Digest.of(_object({**values, "layer_id": _text(str(chain[number]))}))
        content = _object({**values, "id": _text(identity.hex)})
        found.append(LegacyLayer(id=identity.hex, layer=layer, json=content))
    return found


def repositories(tags: Iterable[Reference], layer_id: str) -> bytes:
    """The file `repositories`: the top layer's id by repository and tag."""
    found: dict[str, dict[str, str]] = {}
    if layer_id:
        for tag in tags:
            found.setdefault(tag.name, {})[tag.tag] = layer_id
    ordered = {name: dict(sorted(found[name].items())) for name in sorted(found)}
    return strict_json.dumps(ordered)


def raw_members(document: bytes) -> dict[str, str]:
    """The members of a JSON object as they are written, without space between tokens.

    Numbers and escapes keep their spelling, as Go's RawMessage does. Raises InvalidJSON.
    """
    strict_json.loads_object(document, "image config")
    text = document.decode("utf-8")
    scanner = json.JSONDecoder()
    at = _skip(text, text.index("{") + 1)
    members: dict[str, str] = {}
    while text[at] != "}":
        try:
            key, at = scanner.raw_decode(text, at)
            start = _skip(text, _skip(text, at) + 1)
            _value, at = scanner.raw_decode(text, start)
        except (ValueError, RecursionError) as e:
            raise InvalidJSON(f"image config is not valid JSON: {e}") from e
        members[key] = _SPACE.sub(lambda found: found[1] or "", text[start:at])
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return members


def _skip(text: str, at: int) -> int:
    found = _GAP.match(text, at)
    return found.end() if found else at


def _text(value: str) -> str:
    return strict_json.dumps(value).decode()


def _object(values: Mapping[str, str]) -> bytes:
    """An object of members already written, sorted by key as Go sorts maps."""
    inner = ",".join(f'"{key}":{values[key]}' for key in sorted(values))
    return ("{" + inner + "}").translate(_ESCAPED).encode()
