"""The values of --provenance, --sbom and --attest: what is said of finished images, and where.

Pure. The grammar is that of `docker buildx build`; buildah's --sbom names scanners to be run,
which are refused: what is installed is found out by reading the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from imgtools.build.outputs.outgoing import AttestationStyle
from imgtools.build.outputs.provenance import ProvenanceOptions, parse_provenance
from imgtools.errors import InvalidInput, Unsupported
from imgtools.frozen import dataclass

_STYLES = ("referrer", "index")
_SCANNERS = ("syft", "trivy")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestOptions:
    """`provenance` None for none; `sbom` whether there is one. With `style` "index" they also
    stand in an index with the image, as buildx has it; else they are its referrers alone.
    `sbom_file` gets the SPDX document, `purl_file` the package URLs, "" for none."""

    provenance: ProvenanceOptions | None = None
    sbom: bool = False
    style: AttestationStyle = "referrer"
    sbom_file: str = ""
    purl_file: str = ""

    @property
    def wanted(self) -> bool:
        """Whether anything is said of images."""
        return self.provenance is not None or self.sbom


def parse_attestations(
    values: Sequence[str], *, provenance: str = "", sbom: str = "", style: str = ""
) -> AttestOptions:
    """What the `values` of --attest, and the two short forms of it, ask for; `style` is where.

    A short form that is given counts instead of --attest of its type. Raises InvalidInput,
    Unsupported.
    """
    given: dict[str, str] = {}
    for value in values:
        kind, rest = _split(value)
        if kind in given:
            raise InvalidInput(f"--attest {value!r}: type={kind} is given twice")
        given[kind] = rest
    given |= {name: text for name, text in (("provenance", provenance), ("sbom", sbom)) if text}
    found = AttestOptions()
    if "provenance" in given:
        found = replace(found, provenance=parse_provenance(given["provenance"]))
    if "sbom" in given:
        found = replace(found, sbom=_sbom(given["sbom"]))
    if style and style not in _STYLES:
        raise InvalidInput(f"--attest-style {style}: expected {' or '.join(_STYLES)}")
    return replace(found, style=cast("AttestationStyle", style)) if style else found


def _split(value: str) -> tuple[str, str]:
    """The type that a value of --attest names, and the rest of it."""
    fields = [text.strip() for text in value.split(",")]
    kinds = [text.removeprefix("type=") for text in fields if text.startswith("type=")]
    if len(kinds) != 1 or kinds[0] not in ("provenance", "sbom"):
        raise InvalidInput(f"--attest {value!r}: expected type=provenance or type=sbom")
    return kinds[0], ",".join(text for text in fields if not text.startswith("type="))


def _sbom(value: str) -> bool:
    word = value.lower()
    if word in ("", "true", "1", "spdx", "spdx-json"):
        return True
    if word in ("false", "0"):
        return False
    key, _, rest = value.partition("=")
    if key == "disabled" and rest.lower() in ("", "true", "1", "false", "0"):
        return rest.lower() in ("false", "0")
    if key == "generator" or word.split("-")[0] in _SCANNERS:
        raise Unsupported(
            f"--sbom {value}: scanners' images are not run",
            hint="--sbom true finds packages by reading the image",
        )
    raise InvalidInput(f"--sbom {value!r}: expected true, false or spdx")
