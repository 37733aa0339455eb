"""The databases of package managers, as text or bytes in, packages out.

Pure. They are an image's, so anybody's: what does not parse is left out, and nothing is
believed but names and versions. dpkg's status file, apk's `installed`, and the headers of
rpm's SQLite database (rpm-format, "Header Structure").
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping

from imgtools.build.outputs.sbom.model import Distribution, Package

_HEADER_ENTRY = struct.Struct(">4I")
_MAX_ENTRIES = 0x10000
_RPM_TEXT = (6, 8, 9)
_NAME, _VERSION, _RELEASE, _EPOCH, _LICENSE, _ARCH, _SOURCE = (
    1000,
    1001,
    1002,
    1003,
    1014,
    1022,
    1044,
)
_ASSIGNMENT = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)")


def parse_os_release(text: str) -> Distribution:
    """os-release(5); quotes are taken off."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        found = _ASSIGNMENT.fullmatch(line.strip())
        if found:
            value = found[2].strip()
            if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
                value = value[1:-1]
            fields[found[1]] = value
    return Distribution(fields=fields)


def parse_dpkg(text: str, system: Distribution, found: str) -> Iterator[Package]:
    """The installed packages of a status file (deb-control(5)); a file of status.d, which
    says nothing of the status, has one package."""
    for fields in _paragraphs(text, ": "):
        status = fields.get("Status", "install ok installed").split()
        if status[-1:] != ["installed"] or not fields.get("Package"):
            continue
        source = fields.get("Source", "").partition(" ")[0]
        yield Package(
            kind="deb",
            namespace=system.id,
            name=fields["Package"],
            version=fields.get("Version", ""),
            qualifiers=(
                ("arch", fields.get("Architecture", "")),
                ("distro", system.name),
                ("upstream", source),
            ),
            found=found,
        )


def parse_apk(text: str, system: Distribution, found: str) -> Iterator[Package]:
    """The packages of apk's `installed` (apk-package(5): one-letter fields)."""
    for fields in _paragraphs(text, ":"):
        if not fields.get("P"):
            continue
        origin = fields.get("o", "")
        yield Package(
            kind="apk",
            namespace=system.id,
            name=fields["P"],
            version=fields.get("V", ""),
            qualifiers=(
                ("arch", fields.get("A", "")),
                ("distro", system.name),
                ("upstream", origin if origin != fields["P"] else ""),
            ),
            license=fields.get("L", ""),
            found=found,
        )


def _paragraphs(text: str, separator: str) -> Iterator[dict[str, str]]:
    fields: dict[str, str] = {}
    for line in (*text.split("\n"), ""):
        if not line.strip():
            if fields:
                yield fields
            fields = {}
        elif line[0] not in " \t":
            key, _, value = line.partition(separator)
            fields.setdefault(key, value.strip())


def parse_rpm_header(blob: bytes, system: Distribution, found: str) -> Package | None:
    """The package of one header, None for what is none (a public key, or not a header)."""
    if len(blob) < 8:
        return None
    count, size = struct.unpack_from(">II", blob)
    start = 8 + count * _HEADER_ENTRY.size
    if count > _MAX_ENTRIES or start > len(blob):
        return None
    store = blob[start : start + size]
    values: dict[int, str] = {}
    for number in range(count):
        tag, kind, offset, items = _HEADER_ENTRY.unpack_from(blob, 8 + 16 * number)
        if kind in _RPM_TEXT and offset < len(store):
            values[tag] = store[offset:].split(b"\0", 1)[0].decode("utf-8", "replace")
        elif kind == 4 and items and offset + 4 <= len(store):
            values[tag] = str(struct.unpack_from(">I", store, offset)[0])
    return _rpm(values, system, found)


def _rpm(values: Mapping[int, str], system: Distribution, found: str) -> Package | None:
    name = values.get(_NAME, "")
    if not name or name == "gpg-pubkey":
        return None
    version = values.get(_VERSION, "")
    if values.get(_RELEASE):
        version += f"-{values[_RELEASE]}"
    return Package(
        kind="rpm",
        namespace=system.id,
        name=name,
        version=version,
        qualifiers=(
            ("arch", values.get(_ARCH, "")),
            ("distro", system.name),
            ("epoch", values.get(_EPOCH, "")),
            ("upstream", values.get(_SOURCE, "")),
        ),
        license=values.get(_LICENSE, ""),
        found=found,
    )


def parse_python(text: str, found: str) -> Package | None:
    """The package of METADATA or PKG-INFO (core metadata: headers up to an empty line)."""
    fields: dict[str, str] = {}
    for line in text.split("\n"):
        if not line.strip():
            break
        key, colon, value = line.partition(":")
        if colon and not line[0].isspace():
            fields.setdefault(key.strip().lower(), value.strip())
    name = fields.get("name", "")
    if not name:
        return None
    return Package(
        kind="pypi",
        name=re.sub(r"[-_.]+", "-", name).lower(),
        version=fields.get("version", ""),
        license=fields.get("license-expression", fields.get("license", "")),
        found=found,
    )


def parse_npm(value: object, found: str) -> Package | None:
    """The package of a package.json."""
    if not isinstance(value, dict):
        return None
    name, version, text = value.get("name"), value.get("version"), value.get("license")
    if not isinstance(name, str) or not name or not isinstance(version, str):
        return None
    scope, slash, rest = name.partition("/")
    return Package(
        kind="npm",
        namespace=scope if slash else "",
        name=rest if slash else name,
        version=version,
        license=text if isinstance(text, str) else "",
        found=found,
    )
