"""The images of stages whose steps are done, their layers in the store: that of the target, and
with --save-stages those of all others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from imgtools import __version__
from imgtools.build.execute.crew import Crew
from imgtools.build.execute.environment import BuildResult
from imgtools.build.execute.facts import build_facts
from imgtools.build.execute.finish import Lineage, document_of, image_of, lineage
from imgtools.build.execute.progress import StageRun
from imgtools.build.execute.survey import Survey
from imgtools.build.language.model import Containerfile
from imgtools.build.outputs.manifests import stored_documents
from imgtools.build.outputs.model import BuiltImage
from imgtools.build.planning.keys import image_key
from imgtools.build.planning.model import StageRef
from imgtools.build.protocols import CacheRecord
from imgtools.spec.identity import chain_ids
from imgtools.task import Task

# What scripts that look for stages ask buildah's store for.
STAGE_NAME, STAGE_BASE = "io.buildah.stage.name", "io.buildah.stage.base"


def finished_build(
    crew: Crew,
    survey: Survey,
    target: int,
    file: Containerfile,
    started: float,
    *,
    task: Task,
) -> BuildResult:
    """One platform's image of the stage `target`, with what is known of its build, which was
    `started` (in seconds since the epoch), and the images of other stages that are to be saved.
    Raises what obtaining layers does."""
    runs, options = crew.sources.runs, crew.options
    saved: dict[int, BuiltImage] = {}
    for index, run in runs.items() if options.save_stages else ():
        if index != target:
            labels = _labels(crew, run, saved)
            saved[index] = finished_image(crew, run, lineage(run), labels, task=task)
    run = runs[target]
    line = lineage(run)
    image = finished_image(crew, run, line, _labels(crew, run, saved), task=task)
    facts = build_facts(crew, survey, file, line, started=started, version=__version__, task=task)
    return BuildResult(images=(image,), facts=(facts,), stages=tuple(saved.values()))


def merged_results(results: Iterable[BuildResult]) -> BuildResult:
    """The results of several platforms as one."""
    found = tuple(results)
    return BuildResult(
        images=tuple(image for each in found for image in each.images),
        facts=tuple(facts for each in found for facts in each.facts),
        stages=tuple(image for each in found for image in each.stages),
    )


def _labels(
    crew: Crew, run: StageRun, saved: Mapping[int, BuiltImage]
) -> tuple[tuple[str, str], ...]:
    """What --stage-labels says of a stage: its name, and the name of its base, or the id of the
    image of the stage that it stands on."""
    if not crew.options.stage_labels:
        return ()
    stage, source = run.plan.standing.stage, run.plan.standing.source
    base = stage.base
    if isinstance(source, StageRef) and source.index in saved:
        documents = stored_documents(saved[source.index], crew.options.format)
        base = documents.config_descriptor.digest.hex
    return ((STAGE_NAME, stage.title), (STAGE_BASE, base))


def finished_image(
    crew: Crew, run: StageRun, line: Lineage, labels: Sequence[tuple[str, str]] = (), *, task: Task
) -> BuiltImage:
    """The image of a stage, with `labels` besides its own. One that was made before, of the same
    steps and with the same config, keeps the times that it got then. Raises what obtaining
    layers does."""
    run.make_available(crew.sources.obtain_image, task)
    fixed = crew.options.stamps.created is not None
    edits = crew.options.edits
    if edits.identity_label is None:
        # With a fixed time images are meant to be equal whatever made them.
        edits = replace(edits, identity_label=not fixed)
    edits = replace(edits, labels=(*labels, *edits.labels))
    platform = run.plan.standing.platform
    document = document_of(line, platform, edits, __version__)
    created = crew.created()
    texts = tuple(
        f"{result.created_by} {result.layer or ''} {int(result.created)}" for result in line.results
    )
    base = str(line.base.manifest.digest) if line.base is not None else "scratch"
    key = image_key({**document, "base": base}, texts)
    # A time that was asked for is not that of another build.
    before = None if fixed else crew.memory.find(key, task)
    if before is not None:
        created = int(before.created)
    elif not fixed:
        record = CacheRecord(
            key=key, parent=None, chain_id=None, diff_id=None, created=float(created)
        )
        crew.memory.remember(record, key, task)
    store = crew.environment.store
    base_ids = line.base.config.diff_ids if line.base is not None else ()
    sizes = {chain: store.layer_size(chain) for chain in chain_ids(base_ids)}
    return image_of(line, document, platform, crew.options, created, sizes)
