"""The images that a file's FROM names, asked before there is a plan: for which platforms they
are (--all-platforms), and what they are like (--check)."""

from __future__ import annotations

from imgtools.build.execute.admitting import admitted_image
from imgtools.build.execute.environment import BuildEnvironment
from imgtools.build.execute.survey import image_of
from imgtools.build.language.errors import ContainerfileError
from imgtools.build.language.model import Containerfile, Location
from imgtools.build.options import BuildOptions
from imgtools.build.planning.arguments import Arguments, global_arguments, platform_arguments
from imgtools.build.planning.model import ContextRef, ImageRef
from imgtools.build.planning.stages import base_of, leading_args, split_stages, target_name
from imgtools.build.protocols import BaseImage
from imgtools.errors import Cancelled, Error, InvalidInput, Rejected
from imgtools.spec.platform import Platform
from imgtools.task import Task


def all_platforms(
    options: BuildOptions, environment: BuildEnvironment, file: Containerfile, *, task: Task
) -> tuple[Platform, ...]:
    """The platforms that the images of all FROM have in common, in the order of the first.

    A FROM with a --platform of its own has no say. Raises InvalidInput where there is no image to
    ask, or no such platform, ContainerfileError, and what looking up images raises.
    """
    found: list[Platform] | None = None
    for name in dict.fromkeys(_images(options, environment, file)):
        named = admitted_image(options.source_policy, name)
        known = environment.store.platforms(named, options.pull, task=task)
        found = list(known) if found is None else [each for each in found if each in known]
    if found is None:
        raise InvalidInput(
            "--all-platforms: no FROM names an image that could say which there are",
            hint="name them: --platform linux/amd64,linux/arm64",
        )
    if not found:
        raise InvalidInput("--all-platforms: the base images have no platform in common")
    return tuple(found)


def known_images(
    options: BuildOptions,
    environment: BuildEnvironment,
    file: Containerfile,
    platform: Platform,
    *,
    task: Task,
) -> dict[str, BaseImage]:
    """The base images of all stages by the name in FROM, as far as they can be had; a warning
    for each of the others. Raises ContainerfileError, Rejected, Cancelled."""
    arguments = arguments_of(options, environment.host, platform, file)
    stages = split_stages(file, arguments, first=options.from_)
    contexts = {context.name: context.value for context in options.contexts}
    found: dict[str, BaseImage] = {}
    tried: set[str] = set()
    for stage in stages:
        source = base_of(stage, stages, contexts)
        if not isinstance(source, ImageRef) or source.name in tried:
            continue
        tried.add(source.name)
        wanted = Platform.parse(stage.platform, environment.host) if stage.platform else platform
        name = admitted_image(options.source_policy, source.name)
        try:
            image = environment.store.look_up(name, wanted, options.pull, task=task)
        except (Cancelled, Rejected):
            raise
        except Error as e:
            task.warn(f"variables of {source.name} are not known: {e.message}")
        else:
            found[stage.base] = image
    return found


def arguments_of(
    options: BuildOptions, host: Platform, platform: Platform, file: Containerfile
) -> Arguments:
    """What FROM may use in the build for one platform. Raises ContainerfileError."""

    def refuse(error: Exception, at: Location) -> Exception:
        reason = error.message if isinstance(error, Error) else str(error)
        return ContainerfileError(reason, at, excerpt=file.lines[at.first - 1])

    return global_arguments(
        leading_args(file),
        {name: value for name, value in options.build_args.items() if value is not None},
        platform_arguments(host, platform, target_name(file, options.target)),
        escape=file.directives.escape,
        refuse=refuse,
    )


def _images(options: BuildOptions, environment: BuildEnvironment, file: Containerfile) -> list[str]:
    host = environment.host
    stages = split_stages(file, arguments_of(options, host, host, file), first=options.from_)
    contexts = {context.name: context.value for context in options.contexts}
    names: list[str] = []
    for stage in stages:
        if stage.platform:
            continue
        source = base_of(stage, stages, contexts)
        if isinstance(source, ImageRef):
            names.append(source.name)
        elif isinstance(source, ContextRef) and image_of(contexts[source.name]):
            names.append(image_of(contexts[source.name]))
    return names
