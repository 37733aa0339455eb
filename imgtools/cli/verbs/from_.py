"""`imgtools from`: make a working container of an image, or of nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.build_flags import text, together
from imgtools.cli.build_flags_steps import step_flags
from imgtools.cli.command import go_bool
from imgtools.cli.options import registry_options
from imgtools.cli.output import flush, notes, write_text
from imgtools.cli.state import Cli
from imgtools.cli.store_options import StoreAccess, store_flags
from imgtools.cli.working_command import working_verb
from imgtools.cli.working_flags import (
    Puller,
    asked_isolation,
    one_platform,
    pull_flags,
    refuse,
    refused_flags,
    write_id,
)
from imgtools.errors import ImageNotFound, InvalidInput, InvalidReference, Unsupported

if TYPE_CHECKING:
    from engine.storage.images import StoredImage
    from engine.storage.store import Store
    from engine.working.create import CreateOptions

SCRATCH = "scratch"


def _flags(function: Any) -> Any:
    return together((
        text("--name", metavar="NAME", help="Name of the container (default: IMAGE's)."),
        click.option("--cidfile", type=click.Path(), metavar="FILE",
                     help="Write the id of the container to FILE."),
        text("--format", "-f", metavar="FORMAT",
             help="Format of images that are committed: oci (default) or docker."),
        click.option("--pull", metavar="POLICY", help="always, missing (default), newer, never."),
        go_bool("--pull-always", help="The same as --pull always.", hidden=True),
        go_bool("--pull-never", help="The same as --pull never.", hidden=True),
        go_bool("--quiet", "-q", help="Show no progress."),
        click.option("--platform", multiple=True, metavar="OS/ARCH[/VARIANT]",
                     help="Which image of an index is meant."),
        text("--os", metavar="OS", help="The same by its parts."),
        text("--arch", metavar="ARCH", help="The same by its parts."),
        text("--variant", metavar="VARIANT", help="The same by its parts."),
    ))(function)  # fmt: skip


@working_verb("from", program=True, short_help="Make a working container.")
@click.argument("words", nargs=-1, metavar="IMAGE")
@_flags
@step_flags
@pull_flags
@refused_flags("--cgroup-parent", "--cdi-config-dir", "--userns-uid-map", "--userns-gid-map",
               "--userns-uid-map-user", "--userns-gid-map-group")  # fmt: skip
@store_flags
@click.pass_obj
def command(cli: Cli, /, words: tuple[str, ...], **kwargs: Any) -> None:
    """Make a working container of IMAGE, which is pulled if need be, or with `scratch` an empty
    one, and print its name.

    Options about running commands are kept for `imgtools run` in the container.
    """
    if len(words) != 1:
        raise InvalidInput(
            "too many arguments specified" if words
            else 'an image name (or "scratch") must be specified'
        )  # fmt: skip
    refuse(kwargs)
    access = StoreAccess(cli, kwargs)
    registry = registry_options(cli, "", kwargs)
    puller = Puller(cli, access, registry, kwargs)
    options = _options(cli, kwargs)
    from engine.working.create import create_container, remove_container

    with access.placing() as placing, access.open() as store:
        image, name = _image(cli, store, puller, words[0], kwargs)
        made = create_container(store, image, name, options, task=cli.task(notes))
        try:
            if kwargs["cidfile"]:
                write_id(kwargs["cidfile"], made.id, placing)
            _triggers(store, made.id, cli)
        except BaseException:
            remove_container(store, made.id, task=cli.task(notes))
            raise
        write_text(f"{made.name}\n")
        flush()


def _options(cli: Cli, kwargs: dict[str, Any]) -> CreateOptions:
    from engine.working.create import CreateOptions
    from imgtools.cli.build_host import host_settings
    from imgtools.cli.build_values import platforms

    if kwargs.pop("mounts"):
        raise Unsupported("--mount is an option of imgtools run")
    form = kwargs["format"] or os.environ.get("BUILDAH_FORMAT", "") or "oci"
    if form not in ("oci", "docker", "v2s2"):
        raise InvalidInput(f"--format {form}: expected oci or docker")
    isolation = asked_isolation(kwargs["isolation"], kwargs["userns"])
    found = platforms(
        kwargs["platform"],
        os_name=kwargs["os"],
        arch=kwargs["arch"],
        variant=kwargs["variant"],
        host=cli.platform(),
    )
    kwargs["wanted"] = one_platform(found)
    return CreateOptions(
        name=kwargs["name"],
        platform=kwargs["wanted"],
        settings=host_settings(kwargs),
        proxies=kwargs.pop("http_proxy"),
        isolation=isolation,
        format="oci" if form == "oci" else "docker",
    )


def _image(
    cli: Cli, store: Store, puller: Puller, word: str, kwargs: dict[str, Any]
) -> tuple[StoredImage | None, str]:
    """The image, None for scratch, and what it is called."""
    if word == SCRATCH:
        return None, ""
    from imgtools.cli.build_values import pull_policy

    policy = pull_policy(kwargs["pull"], always=kwargs["pull_always"], never=kwargs["pull_never"])
    image = puller(store, word, policy=policy, platform=kwargs["wanted"], quiet=kwargs["quiet"])
    names = sorted(n.name for n in store.names().values() if n.image_id == image.id)
    try:
        found, name = store.find(word)
    except (ImageNotFound, InvalidReference):
        return image, names[0] if names else ""
    return image, name if found.id == image.id and name else (names[0] if names else "")


def _triggers(store: Store, container_id: str, cli: Cli) -> None:
    """Do what the ONBUILD of the image asks of its children, as far as it is about the config."""
    from dataclasses import replace

    from engine.working.registry import WorkingContainers
    from imgtools.build.planning.changes import without_triggers

    with WorkingContainers(store).held(container_id, task=cli.task(notes)) as held:
        container = held.container
        if container.run_config.get("OnBuild"):
            document = without_triggers(container.document, container.image, cli.settings.host)
            held.change(replace(container, document=document))
