"""The decision: a survey and options in, a printable plan out. Pure: no file, no socket,
no clock.

Manifests are planned children first, each once by digest. What a manifest becomes is known
here unless it waits for recompressed layers; then it is a draft that execution fills in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NoReturn

from imgtools.copy.actions import (
    AnyManifestAction,
    CopyPlan,
    PutIndex,
    PutManifest,
    Reuse,
    ReuseManifest,
    Skip,
    Tag,
)
from imgtools.copy.changes import FAMILY_NAMES, foreseen, image_changes, index_changes, label_of
from imgtools.copy.decide import (
    Family,
    Rules,
    compression_target,
    corrects_types,
    family,
    is_left,
    layer_target,
)
from imgtools.copy.needs import UNKNOWN_SIZE, Needs
from imgtools.copy.options import CopyOptions
from imgtools.copy.rewrite import (
    IndexDraft,
    ManifestDraft,
    Schema1Draft,
    converted,
    fill_index,
    fill_manifest,
    honest,
    recompressed,
)
from imgtools.copy.survey import Survey
from imgtools.copy.walk import Node
from imgtools.errors import DigestWouldChange, InvalidManifest, Unsupported
from imgtools.image.select import is_manifest_entry
from imgtools.spec import media_type as mt
from imgtools.spec.config import Config
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Index, Manifest
from imgtools.spec.schema1 import Schema1


def plan_copy(survey: Survey, options: CopyOptions) -> CopyPlan:
    """What a copy has to do.

    Raises Unsupported when the destination cannot hold what was asked for, InvalidManifest,
    and DigestWouldChange when a manifest would change and digests are to be preserved.
    """
    return _Planner(survey, options).plan()


class _Planner:
    def __init__(self, survey: Survey, options: CopyOptions) -> None:
        self.survey, self.options = survey, options
        self.rules = Rules(
            source=survey.source,
            destination=survey.destination,
            capabilities=survey.capabilities,
            options=options,
        )
        self.needs = Needs(survey, self.rules)
        self.done: dict[Digest, AnyManifestAction] = {}
        self.warnings: list[str] = []

    def plan(self) -> CopyPlan:
        """The plan; see `plan_copy`."""
        self._warn_about_options()
        top = self._top()
        image = [a for a in self.done.values() if top is None or a.old.digest != top.old.digest]
        self._check_preserved([*image, *([top] if top else [])])
        self._check_pinned(top)
        if top is not None and self._is_current(top):
            top, image = None, []
            self.needs = Needs(self.survey, self.rules)
        manifests = (*image, *self._referrers(), *([top] if top else []))
        blobs = self.needs.actions()
        return CopyPlan(
            source=self.survey.source,
            destination=self.survey.destination,
            root=self._root_after(top),
            blobs=blobs,
            manifests=manifests,
            held=self.survey.configs,
            warnings=tuple(self.warnings),
            up_to_date=all(isinstance(a, ReuseManifest) for a in manifests)
            and all(isinstance(b, Reuse | Skip) for b in blobs),
            images=tuple(self.survey.nodes[d].raw.descriptor() for d in self.survey.images),
            tmpdir=self.options.tmpdir,
        )

    def _warn_about_options(self) -> None:
        if self.rules.destination.transport == "dir":
            return
        for name, given in (
            ("compress", self.options.compress),
            ("decompress", self.options.decompress),
        ):
            if given:
                self.warnings.append(
                    f"--dest-{name} has an effect on dir: destinations only and was ignored"
                )

    def _top(self) -> AnyManifestAction | None:
        root, raw = self.survey.root, self.survey.raw
        if self.survey.complete:
            if raw is None or (self.survey.named and not self.options.additional_tags):
                return None
            return Tag(old=root, platform=label_of(root), top=True, raw=raw)
        return replace(self._manifest(root, label_of(root)), top=True)

    def _is_current(self, top: AnyManifestAction) -> bool:
        """Whether the destination's name points at what `top` would put, made alike before."""
        current = self.survey.current
        if isinstance(top, Tag | ReuseManifest) or top.raw is None or self.options.additional_tags:
            return False
        if current is None or current.digest != top.raw.digest:
            return False
        if self.rules.capabilities.remote:
            return not self.options.selection.sparse
        return isinstance(top, PutManifest) and all(
            isinstance(action, Reuse | Skip) for action in self.needs.actions()
        )

    def _root_after(self, top: AnyManifestAction | None) -> Descriptor:
        """What the destination's name points at afterwards, as far as it is known."""
        if top is None and self.survey.current is not None:
            return replace(self.survey.current, platform=self.survey.root.platform)
        return self.survey.root

    def _check_preserved(self, manifests: list[AnyManifestAction]) -> None:
        changed = [m for m in manifests if isinstance(m, PutManifest | PutIndex) and m.changes]
        if not self.options.preserve_digests or not changed:
            return
        first, more = changed[0], len(changed) - 1
        tail = f", and {more} more" if more else ""
        raise DigestWouldChange(
            f"digests cannot be preserved: {first.old.digest} would change "
            f"({'; '.join(first.changes)}){tail}",
            hint="copy without --preserve-digests, or without what asks for the change",
        )

    def _check_pinned(self, top: AnyManifestAction | None) -> None:
        """Refuse early what a destination named by digest would refuse in the end."""
        name, at, digest = self.survey.destination.name.rpartition("@")
        if self.survey.destination.transport != "docker" or not at or top is None:
            return
        raw = None if isinstance(top, ReuseManifest) else top.raw
        found = str(raw.digest) if raw is not None else "a digest known only after recompression"
        if (found != digest and found.partition(":")[0] == digest.partition(":")[0]) or raw is None:
            raise DigestWouldChange(
                f"{name} is to be put as {digest}, but what is to be copied is {found}",
                hint="for an index use --all; name the destination by tag if it may change",
            )

    def _manifest(
        self, descriptor: Descriptor, label: str, *, frozen: bool = False
    ) -> AnyManifestAction:
        """The action for a manifest and, before it, all it needs; `frozen` allows no change."""
        digest = descriptor.digest
        if digest in self.done:
            return self.done[digest]
        node = self.survey.nodes[digest]
        present = digest in self.survey.manifests
        old = replace(node.raw.descriptor(), platform=descriptor.platform)
        action: AnyManifestAction
        if present and self.rules.capabilities.remote:
            action = ReuseManifest(old=old, platform=label)
        else:
            action = self._planned(node, old, label, frozen)
            if present and isinstance(action, PutManifest | PutIndex) and not action.changes:
                action = ReuseManifest(old=old, platform=label, level=action.level)
        self.done[digest] = action
        return action

    def _planned(self, node: Node, old: Descriptor, label: str, frozen: bool) -> AnyManifestAction:
        view = node.view
        if isinstance(view, Index):
            return self._index(node, view, old, label, frozen)
        if isinstance(view, Schema1):
            return self._schema1(node, view, old, label, frozen)
        return self._image(node, view, old, label, frozen)

    def _image(
        self, node: Node, manifest: Manifest, old: Descriptor, label: str, frozen: bool
    ) -> PutManifest:
        if manifest.is_artifact and not self.rules.capabilities.artifacts:
            raise Unsupported(
                f"{self.rules.destination.transport}: cannot hold an artifact "
                f"(config type {manifest.config.media_type or 'unknown'})"
            )
        said, diff_ids = manifest, self._diff_ids(manifest)
        if self.rules.source.synthesised and not frozen:
            manifest = honest(manifest, diff_ids)
        targets = {} if frozen else self._targets(manifest)
        if targets and not diff_ids:
            self._refuse_diff_ids(manifest)
        becomes = None if frozen else self._family(manifest, targets)
        changes = image_changes(manifest, targets, becomes)
        if corrects_types(self.rules) and any(
            new != old and new.digest not in targets
            for new, old in zip(manifest.layers, said.layers, strict=True)
        ):
            changes += ("layer types corrected",)
        draft = ManifestDraft(
            manifest=manifest,
            family=becomes,
            targets=MappingProxyType(targets),
            algorithm=old.digest.algorithm,
        )
        # Also where the outcome has to wait: a form that does not exist is an error now.
        layers = tuple(
            recompressed(x, targets[x.digest]) if x.digest in targets else x
            for x in manifest.layers
        )
        converted(replace(manifest, layers=layers), becomes)
        self.needs.add(manifest.config, "config", label)
        for layer in manifest.layers:
            self.needs.add(
                layer,
                "layer",
                label,
                target=targets.get(layer.digest, ""),
                diff_id=diff_ids.get(layer.digest),
            )
        raw = None if targets else (fill_manifest(draft, {}) if changes else node.raw)
        return PutManifest(
            old=old, platform=label, raw=raw, draft=draft if changes else None, changes=changes,
            referrer=frozen,
        )  # fmt: skip

    def _targets(self, manifest: Manifest) -> dict[Digest, str]:
        """The layers to be recompressed, by digest."""
        found: dict[Digest, str] = {}
        if manifest.is_artifact:
            return found
        for layer in manifest.layers:
            if is_left(self.rules, layer):
                continue
            present = self.survey.blobs.get(layer.digest, False) or self.rules.same_repository
            target = layer_target(self.rules, layer, present=present)
            if target is not None:
                found[layer.digest] = target
        return found

    def _family(self, manifest: Manifest, targets: Mapping[Digest, str]) -> Family | None:
        becomes = family(self.rules, manifest.media_type)
        docker = manifest.is_docker if becomes is None else becomes == "docker"
        if not docker or "zstd" not in targets.values():
            return becomes
        # Docker's registry types have no zstd that other tools would read.
        if self.options.format or not self.rules.takes(mt.OCI_MANIFEST):
            raise Unsupported("zstd layers need an OCI manifest", hint="use --format oci, or gzip")
        return "oci" if manifest.is_docker else None

    def _diff_ids(self, manifest: Manifest) -> dict[Digest, Digest]:
        """The diff_id of each layer; nothing where the config was not needed or does not fit.

        Raises InvalidManifest or InvalidJSON for a config that is malformed.
        """
        content = self.survey.configs.get(manifest.config.digest)
        if content is None:
            return {}
        config = Config.parse(content)
        if len(config.diff_ids) != len(manifest.layers):
            return {}
        return {
            layer.digest: diff_id
            for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
        }

    def _refuse_diff_ids(self, manifest: Manifest) -> NoReturn:
        config = Config.parse(self.survey.configs[manifest.config.digest])
        raise InvalidManifest(
            f"config {manifest.config.digest} has {len(config.diff_ids)} diff_ids "
            f"for {len(manifest.layers)} layers, so they cannot be recompressed"
        )

    def _schema1(
        self, node: Node, manifest: Schema1, old: Descriptor, label: str, frozen: bool
    ) -> PutManifest:
        becomes = None if frozen else family(self.rules, node.raw.media_type)
        if becomes is None:
            if self.options.touches_layers and not frozen:
                raise Unsupported(
                    "layers of a schema 1 image cannot be recompressed without converting it",
                    hint="use --format v2s2 or oci",
                )
            for digest in dict.fromkeys(manifest.layers):
                self.needs.add(_schema1_layer(digest), "layer", label, measure="size")
            return PutManifest(old=old, platform=label, raw=node.raw, referrer=frozen)
        targets: dict[Digest, str] = {}
        for digest in dict.fromkeys(manifest.real_layers()):
            target = compression_target(self.rules, "gzip", present=False, what=str(digest))
            if target is not None:
                targets[digest] = target
            self.needs.add(
                _schema1_layer(digest),
                "layer",
                label,
                target=target or "",
                measure="" if target else "diff_id",
            )
        if becomes == "docker" and "zstd" in targets.values():
            raise Unsupported("zstd layers need an OCI manifest", hint="use --format oci")
        draft = Schema1Draft(
            manifest=manifest,
            family=becomes,
            targets=MappingProxyType(targets),
            algorithm=old.digest.algorithm,
        )
        changes = (f"v2s1 -> {FAMILY_NAMES[becomes]}",)
        return PutManifest(old=old, platform=label, raw=None, draft=draft, changes=changes)

    def _index(
        self, node: Node, index: Index, old: Descriptor, label: str, frozen: bool
    ) -> PutIndex:
        if not self.rules.capabilities.indexes:
            raise Unsupported(
                f"{self.rules.destination.transport}: cannot hold several images under one name",
                hint="copy one of them: --multi-arch system, or --platform",
            )
        children: list[AnyManifestAction] = []
        for entry in node.kept:
            if is_manifest_entry(entry):
                children.append(self._manifest(entry, label_of(entry) or label, frozen=frozen))
            else:
                self.needs.add(entry, "blob", label)
        level = 1 + max((child.level for child in children), default=-1)
        changed = [c for c in children if isinstance(c, PutManifest | PutIndex) and c.changes]
        becomes = None if frozen else self._index_family(index, changed)
        filtered = self._is_filtered(index, node)
        changes = index_changes(index, node, becomes, filtered, bool(changed))
        if not changes:
            return PutIndex(old=old, platform=label, level=level, raw=node.raw, referrer=frozen)
        kept = replace(index, manifests=node.kept) if filtered else index
        draft = IndexDraft(index=kept, family=becomes, algorithm=old.digest.algorithm)
        raw = fill_index(draft, {c.old.digest: foreseen(c) for c in changed})
        known = all(c.raw is not None for c in changed)
        return PutIndex(
            old=old,
            platform=label,
            level=level,
            raw=raw if known else None,
            draft=draft,
            changes=changes,
        )

    def _index_family(self, index: Index, changed: list[PutManifest | PutIndex]) -> Family | None:
        becomes = family(self.rules, index.media_type)
        # A Docker list has no place for OCI manifests, so it follows its instances.
        follows = any(not mt.is_docker(foreseen(child).media_type) for child in changed)
        return "oci" if becomes is None and index.is_docker and follows else becomes

    def _is_filtered(self, index: Index, node: Node) -> bool:
        selection = self.options.selection
        return (
            selection.mode == "platforms"
            and not selection.sparse
            and node.raw.digest == self.survey.root.digest
            and node.kept != index.manifests
        )

    def _referrers(self) -> list[AnyManifestAction]:
        """What refers to the copied manifests, as it is; referring to what changes is moot."""
        before = set(self.done)
        for subject, descriptors in self.survey.referrers.items():
            action = self.done.get(subject)
            if not descriptors or (action is None and not self.survey.complete):
                continue
            if isinstance(action, PutManifest | PutIndex) and action.changes:
                self.warnings.append(
                    f"{len(descriptors)} referrers of {subject} are not copied, "
                    "because that manifest changes"
                )
                continue
            for descriptor in descriptors:
                self._manifest(descriptor, descriptor.artifact_type or "referrer", frozen=True)
        return [action for digest, action in self.done.items() if digest not in before]


def _schema1_layer(digest: Digest) -> Descriptor:
    return Descriptor(media_type=mt.DOCKER_LAYER_GZIP, digest=digest, size=UNKNOWN_SIZE)
