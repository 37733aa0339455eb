"""A stage that is done as an image: its config with rootfs and history, its layers, and what
the command line changes at the end. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from imgtools.build.execute.progress import StageRun, StepResult
from imgtools.build.options import BuildOptions, ConfigEdits
from imgtools.build.outputs.manifests import image_annotations
from imgtools.build.outputs.model import BuiltImage, BuiltLayer
from imgtools.build.planning import config_state as settings_of
from imgtools.build.planning.model import StageState
from imgtools.build.protocols import BaseImage
from imgtools.frozen import dataclass
from imgtools.spec.config import Config, History
from imgtools.spec.digest import Digest
from imgtools.spec.identity import chain_ids
from imgtools.spec.platform import Platform

IDENTITY = "io.imgtools.version"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """All that a stage is made of, from the base image on: `authors` belong to `results`."""

    base: BaseImage | None
    results: tuple[StepResult, ...]
    authors: tuple[str, ...]
    state: StageState


def lineage(run: StageRun) -> Lineage:
    """Of a stage that is done, the stages below it included."""
    runs = run.from_base()
    return Lineage(
        base=runs[0].base,
        results=tuple(result for each in runs for result in each.results),
        authors=tuple(step.author for each in runs for step in each.plan.steps),
        state=run.plan.end,
    )


def document_of(
    line: Lineage, platform: Platform, edits: ConfigEdits, version: str
) -> dict[str, Any]:
    """The config without rootfs, history and times. Fields of the base that nobody knows are
    carried on; what is about the base itself is not."""
    base = line.base
    document = dict(base.config.document) if base is not None else {}
    for key in ("created", "rootfs", "history", "container", "container_config", "id", "parent",
                "docker_version", "comment"):  # fmt: skip
        document.pop(key, None)
    document["architecture"] = platform.architecture
    document["os"] = platform.os
    _put(document, "variant", platform.variant)
    os_version = edits.os_version or platform.os_version or document.get("os.version")
    _put(document, "os.version", "" if os_version == "-" else os_version)
    features = platform.os_features or document.get("os.features") or ()
    _put(document, "os.features", settings_of.with_os_features(features, edits.os_features))
    _put(document, "author", line.state.author)
    document["config"] = _edited(line, edits, version)
    return document


def _put(document: dict[str, Any], key: str, value: Any) -> None:
    if value:
        document[key] = value
    else:
        document.pop(key, None)


def _edited(line: Lineage, edits: ConfigEdits, version: str) -> Mapping[str, Any]:
    settings: Mapping[str, Any] = line.state.settings
    if not edits.inherit_labels:
        inherited = _base_labels(line.base)
        own = settings.get("Labels") or {}
        same = [name for name, value in inherited.items() if own.get(name) == value]
        settings = settings_of.without_labels(settings, same)
    settings = settings_of.without_labels(settings, edits.unset_labels)
    labels = list(edits.labels)
    if edits.identity_label:
        labels.insert(0, (IDENTITY, version))
    settings = settings_of.with_labels(settings, labels)
    return settings_of.without_env(settings, edits.unset_env)


def _base_labels(base: BaseImage | None) -> Mapping[str, str]:
    return base.config.labels if base is not None else {}


def image_of(
    line: Lineage,
    document: Mapping[str, Any],
    platform: Platform,
    options: BuildOptions,
    created: int,
    sizes: Mapping[Digest, int],
) -> BuiltImage:
    """The image; `created` is its own time and that of steps without one, in seconds since the
    epoch. `sizes` are the bytes of the tars of the base's layers, by chain_id."""
    base = line.base
    base_ids = base.config.diff_ids if base is not None else ()
    history = _history(line, options, created)
    diff_ids = (*base_ids, *(r.layer for r in line.results if r.layer is not None))
    config = Config.from_json({**document, "created": stamp(created)}).with_rootfs(
        diff_ids, history
    )
    if options.edits.omit_history:
        config = _without_history(config)
    return BuiltImage(
        platform=platform,
        config=config,
        layers=_layers(base_ids, line.results, sizes),
        base=base,
        annotations=image_annotations(base, {}, options.edits, config.created),
    )


def _history(line: Lineage, options: BuildOptions, created: int) -> tuple[History, ...]:
    fixed = options.stamps.created
    found = list(line.base.config.history) if line.base is not None else []
    for result, author in zip(line.results, line.authors, strict=True):
        when = int(result.created) if result.created and fixed is None else created
        found.append(
            History(
                created=stamp(when),
                created_by=result.created_by,
                author=author,
                empty_layer=result.layer is None,
            )
        )
    return tuple(found)


def _without_history(config: Config) -> Config:
    document = {k: v for k, v in config.document.items() if k != "history"}
    return replace(config, history=(), document=MappingProxyType(document))


def _layers(
    base: Sequence[Digest], results: Sequence[StepResult], sizes: Mapping[Digest, int]
) -> tuple[BuiltLayer, ...]:
    found = [
        BuiltLayer(diff_id=diff_id, chain_id=chain, size=sizes[chain])
        for diff_id, chain in zip(base, chain_ids(base), strict=True)
    ]
    for number, result in enumerate(results):
        if result.layer is not None and result.chain_id is not None:
            found.append(
                BuiltLayer(
                    diff_id=result.layer, chain_id=result.chain_id, size=result.size, step=number
                )
            )
    return tuple(found)


def stamp(seconds: int) -> str:
    """RFC 3339, as configs have times."""
    when = datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC)
    return f"{when.replace(tzinfo=None).isoformat()}Z"
