"""What a build was made of and how, collected while it goes on: for provenance."""

from __future__ import annotations

import time
from collections.abc import Iterable

from imgtools.build.execute.crew import Crew
from imgtools.build.execute.finish import Lineage
from imgtools.build.execute.materials import Materials
from imgtools.build.execute.survey import Survey
from imgtools.build.language.model import Containerfile
from imgtools.build.outputs.provenance import BuildFacts, base_dependency, steps_of
from imgtools.build.planning.model import ContextRef, RunWork, Step
from imgtools.task import Task


def build_facts(
    crew: Crew,
    survey: Survey,
    file: Containerfile,
    line: Lineage,
    *,
    started: float,
    version: str,
    task: Task,
) -> BuildFacts:
    """The facts about the image of `line`, which was `started` (in seconds since the epoch) and
    is finished now; `version` is ours."""
    options = crew.options
    main = Materials()
    context = crew.sources.context(ContextRef(), task)
    if context is not None:
        main.context(options.context, context)
    for value, named in crew.sources.named_contexts().items():
        crew.materials.context(value, named)
    images = [standing.image for standing in survey.stages.values()] + [*survey.images.values()]
    bases = {base_dependency(image) for image in images if image is not None}
    steps = [step for run in crew.sources.runs.values() for step in run.plan.steps]
    return BuildFacts(
        platform=crew.platform,
        path=file.name,
        context=options.context if context is not None and context.remote else "",
        context_digest=next(iter(main.found()), None),
        args={name: text for name, text in options.build_args.items() if text is not None},
        labels=dict(options.edits.labels),
        target=options.target,
        secrets=tuple(secret.id for secret in options.secrets),
        ssh=tuple(source.id for source in options.ssh),
        dependencies=(*bases, *crew.materials.found()),
        steps=steps_of([result.created_by for result in line.results]),
        source="".join(f"{text}\n" for text in file.lines),
        network=_reaches_network(steps, options.host.network),
        started=started,
        finished=time.time(),
        tool_version=version,
    )


def _reaches_network(steps: Iterable[Step], default: str) -> bool:
    return any((s.work.network or default) != "none" for s in steps if isinstance(s.work, RunWork))
