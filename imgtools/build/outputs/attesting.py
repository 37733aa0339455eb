"""Says of finished images how they were built and what is installed in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imgtools.build.outputs.attest import SPDX, Predicate, statement
from imgtools.build.outputs.attest_options import AttestOptions
from imgtools.build.outputs.model import BuiltImage
from imgtools.build.outputs.provenance import BuildFacts, provenance
from imgtools.build.protocols import SnapshotStore
from imgtools.spec.digest import Digest
from imgtools.task import Task

SBOM_NAME = "sbom.spdx.json"
METADATA_KEY = "buildx.build.provenance"
_FURTHER_SCANS = ("BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE")


def predicates_of(
    images: Sequence[BuiltImage],
    facts: Sequence[BuildFacts],
    options: AttestOptions,
    store: SnapshotStore,
    *,
    names: Sequence[str],
    version: str,
    task: Task,
) -> tuple[tuple[Predicate, ...], ...]:
    """What is said of each image, or nothing at all; `names` are those that the images go by,
    `version` is ours. The layers of the images are in the store. Raises what scanning does."""
    if not options.wanted:
        return ()
    _warn(options, facts, task)
    found: list[tuple[Predicate, ...]] = []
    for image, known in zip(images, facts, strict=True):
        said: list[Predicate] = []
        if options.sbom:
            from imgtools.build.outputs.sbom.spdx import sbom

            with store.tree(image.layers[-1].chain_id if image.layers else None) as tree:
                said.append(
                    sbom(
                        tree,
                        name=next(iter(names), "image"),
                        created=image.config.created,
                        version=version,
                        task=task,
                    )
                )
        if options.provenance is not None:
            said.append(provenance(options.provenance, known))
        found.append(tuple(said))
    return tuple(found)


def _warn(options: AttestOptions, facts: Sequence[BuildFacts], task: Task) -> None:
    named = {name for known in facts for name in known.args}
    for name in _FURTHER_SCANS:
        if options.sbom and name in named:
            task.warn(f"{name} has no effect: the final image is scanned, nothing else")


def tree_files(
    said: Sequence[Predicate], options: AttestOptions, names: Sequence[str], digest: Digest
) -> Mapping[str, bytes]:
    """The files that an export of an image's tree gets: statements about the image, whose
    manifest has `digest`."""
    found: dict[str, bytes] = {}
    for predicate in said:
        name = SBOM_NAME
        if predicate.type != SPDX:
            if options.provenance is None or options.provenance.inline_only:
                continue
            name = options.provenance.filename
        found[name] = statement(predicate, names, digest)
    return found


def metadata_entries(
    images: Sequence[BuiltImage], said: Sequence[Sequence[Predicate]]
) -> dict[str, Any]:
    """What --metadata-file has of provenance, under buildx's keys: with the platform in it
    where there are several."""
    found: dict[str, Any] = {}
    for image, predicates in zip(images, said, strict=False):
        key = f"{METADATA_KEY}/{image.platform}" if len(images) > 1 else METADATA_KEY
        for predicate in predicates:
            if predicate.type != SPDX:
                found[key] = dict(predicate.body)
    return found


def document_of(said: Sequence[Predicate]) -> Mapping[str, Any]:
    """The SPDX document; there is one."""
    return next(each.body for each in said if each.type == SPDX)


def package_urls(said: Sequence[Predicate]) -> dict[str, Any]:
    """The package URLs of the SPDX document, in the form of buildah's --sbom-purl-output."""
    found = {
        reference["referenceLocator"]
        for package in document_of(said)["packages"]
        for reference in package.get("externalRefs", ())
    }
    return {"image_contents": {"dependencies": sorted(found)}}
