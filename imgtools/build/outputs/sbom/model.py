"""A package that was found, and its package URL (purl-spec)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from urllib.parse import quote

from imgtools.frozen import dataclass


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Package:
    """`kind` is purl's type (deb, apk, rpm, pypi, npm), `found` the path of what says so."""

    kind: str
    name: str
    version: str
    namespace: str = ""
    qualifiers: tuple[tuple[str, str], ...] = ()
    license: str = ""
    found: str = ""

    @property
    def purl(self) -> str:
        """The package URL, qualifiers sorted."""
        parts = [part for part in (*self.namespace.split("/"), self.name) if part]
        purl = f"pkg:{self.kind}/" + "/".join(quote(part, safe="") for part in parts)
        if self.version:
            purl += f"@{quote(self.version, safe=':')}"
        pairs = [f"{k}={quote(v, safe=':')}" for k, v in sorted(self.qualifiers) if v]
        return purl + (f"?{'&'.join(pairs)}" if pairs else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """What /etc/os-release says."""

    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Such as debian."""
        return self.fields.get("ID", "")

    @property
    def name(self) -> str:
        """ID and version, such as debian-12; "" when unknown."""
        version = self.fields.get("VERSION_ID", "")
        return f"{self.id}-{version}" if self.id and version else self.id
