"""Build checks of a file that is being built: told as warnings, or refused where the file wants
that. Variables of base images are known, as far as the target needs the images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from imgtools.build.checks.model import CheckOptions, CheckWarning
from imgtools.build.checks.run import refuse, run_checks
from imgtools.build.events import BuildNote
from imgtools.build.execute.survey import Survey
from imgtools.build.ignore.matcher import Matcher
from imgtools.build.language.model import Containerfile
from imgtools.build.options import BuildOptions
from imgtools.build.protocols import BaseImage
from imgtools.spec.platform import Platform


def check_options(
    options: BuildOptions,
    patterns: Collection[str],
    *,
    host: Platform,
    target: Platform,
    images: Mapping[str, BaseImage] | None,
    platforms: Mapping[int, tuple[Platform, Platform]] | None = None,
) -> CheckOptions:
    """What checks know of one platform's build: `patterns` are those of the context's ignore
    file, `images` the base images by the name in FROM; what is not there is not known.
    `platforms` are those that `base_platforms` finds."""
    environments = None
    if images is not None:
        environments = {name: environment_of(image) for name, image in images.items()}
    return CheckOptions(
        build_args={k: v for k, v in options.build_args.items() if v is not None},
        ignore=Matcher(tuple(patterns)) if patterns else None,
        target=options.target,
        build_platform=host,
        target_platform=target,
        environments=environments,
        contexts=frozenset(context.name for context in options.contexts),
        platforms=platforms or {},
    )


def environment_of(image: BaseImage) -> dict[str, str]:
    """The variables that an image sets."""
    settings = image.config.document.get("config") or {}
    return dict(text.partition("=")[::2] for text in settings.get("Env") or ())


def base_images(survey: Survey) -> dict[str, BaseImage]:
    """The images that were looked up, by the name in FROM."""
    return {
        standing.stage.base: standing.image
        for standing in survey.stages.values()
        if standing.image is not None
    }


def base_platforms(survey: Survey) -> dict[int, tuple[Platform, Platform]]:
    """Of each stage that stands on an image, by its index: the platform that was asked for, and
    the one that the image's config names."""
    return {
        index: (standing.platform.normalised(), standing.image.config.platform.normalised())
        for index, standing in survey.stages.items()
        if standing.image is not None
    }


def tell_checks(
    file: Containerfile, asked: Sequence[CheckOptions], report: Callable[[BuildNote], object]
) -> None:
    """Check `file` for each platform and report what is found, each finding once. Raises
    ContainerfileError if findings are to be errors, InvalidInput for malformed settings."""
    found = [(options, run_checks(file, options)) for options in asked]
    for note in notes_on(file, [warning for _, warnings in found for warning in warnings]):
        report(note)
    for options, warnings in found:
        refuse(file, options, warnings)


def notes_on(file: Containerfile, found: Iterable[CheckWarning]) -> tuple[BuildNote, ...]:
    """Each finding once, in the order of the file, with what else the parser has to say: empty
    lines are what a check is about."""
    places = {
        (warning.location.first, f"{warning.rule}: {warning.text}", warning.location.file)
        for warning in found
    }
    places |= {(line, text, file.name) for line, text in file.notes if file.lines[line - 1].strip()}
    return tuple(
        BuildNote(level="warning", text=text, place=f"{name}:{line}")
        for line, text, name in sorted(places)
    )
