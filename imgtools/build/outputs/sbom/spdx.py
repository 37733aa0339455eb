"""Packages as an SPDX 2.3 document in JSON (spdx.github.io/spdx-spec/v2.3).

Pure; equal packages give equal bytes, the time and the namespace included.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from typing import Any

from imgtools.build.outputs.attest import SPDX, Predicate
from imgtools.build.outputs.sbom.model import Distribution, Package
from imgtools.build.outputs.sbom.scan import Scan
from imgtools.build.tree import Tree
from imgtools.spec import strict_json
from imgtools.spec.digest import Digest
from imgtools.task import Task

NOTHING = "NOASSERTION"
_ROOT = "SPDXRef-Image"
_DOCUMENT = "SPDXRef-DOCUMENT"
_CREATED = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")


def sbom(tree: Tree, *, name: str, created: str, version: str, task: Task) -> Predicate:
    """What is installed in `tree`, of the image `name` that was made at `created` (RFC 3339);
    `version` is ours. What could not be read is warned of. Raises as `Scan.packages` does."""
    scan = Scan(tree, task)
    packages = scan.packages()
    for note in scan.notes:
        task.warn(f"sbom: {note}")
    body = document(packages, scan.distribution(), name=name, created=created, version=version)
    return Predicate(type=SPDX, body=body)


def document(
    packages: Sequence[Package],
    system: Distribution,
    *,
    name: str,
    created: str,
    version: str,
) -> dict[str, Any]:
    """The SPDX document of an image with `packages`."""
    found = _CREATED.match(created)
    entries = [_package(package) for package in packages]
    root: dict[str, Any] = {
        **_entry(_ROOT, name, ""),
        "primaryPackagePurpose": "CONTAINER",
    }
    if system.fields.get("PRETTY_NAME"):
        root["summary"] = system.fields["PRETTY_NAME"]
    content = strict_json.dumps([root, *entries])
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": _DOCUMENT,
        "name": name,
        "documentNamespace": f"urn:uuid:{uuid.UUID(bytes=_sixteen(content))}",
        "creationInfo": {
            "created": f"{found[0]}Z" if found else "1970-01-01T00:00:00Z",
            "creators": [f"Tool: imgtools-{version}"],
        },
        "packages": [root, *entries],
        "relationships": [
            _relation(_DOCUMENT, "DESCRIBES", _ROOT),
            *(_relation(_ROOT, "CONTAINS", entry["SPDXID"]) for entry in entries),
        ],
    }


def _package(package: Package) -> dict[str, Any]:
    identity = Digest.of(f"{package.purl} {package.found}".encode("utf-8", "replace")).hex[:16]
    safe = re.sub(r"[^A-Za-z0-9.-]+", "-", package.name)[:80]
    entry = _entry(f"SPDXRef-Package-{package.kind}-{safe}-{identity}", package.name, "")
    if package.version:
        entry["versionInfo"] = package.version
    entry["sourceInfo"] = f"found in {package.found}"
    if package.license:
        # What a package says of itself need not be an expression of SPDX's.
        entry["licenseComments"] = package.license[:2000]
    entry["externalRefs"] = [
        {
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": package.purl,
        }
    ]
    return entry


def _entry(identity: str, name: str, supplier: str) -> dict[str, Any]:
    return {
        "SPDXID": identity,
        "name": name,
        "downloadLocation": NOTHING,
        "filesAnalyzed": False,
        "supplier": supplier or NOTHING,
        "licenseConcluded": NOTHING,
        "licenseDeclared": NOTHING,
        "copyrightText": NOTHING,
    }


def _relation(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}


def _sixteen(content: bytes) -> bytes:
    return bytes.fromhex(Digest.of(content).hex[:32])
