"""`imgtools from`: make a working container of an image, or of nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
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
from imgtools.errors import (
    ImageNotFound,
    InvalidInput,
    InvalidReference,
    NotFound,
    Unsupported,
)

if TYPE_CHECKING:
    from engine.containers.engine import Engine
    from engine.probe.model import Report
    from engine.storage.images import StoredImage
    from engine.storage.store import Store
    from engine.working.create import CreateOptions
    from imgtools.cli.working_onbuild import Means
    from imgtools.task import Task

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
    from imgtools.cli.working_onbuild import Means

    with ExitStack() as undo:
        placing = undo.enter_context(access.placing())
        isolation = options.isolation or None
        report = (
            None if _lacks_triggers(access, words[0], kwargs) else _report(cli, access, isolation)
        )
        store = undo.enter_context(access.open())
        image, name = _image(cli, store, puller, words[0], kwargs)
        made = create_container(store, image, name, options, task=cli.task(notes))
        try:
            if kwargs["cidfile"]:
                write_id(kwargs["cidfile"], made.id, placing)
            means = Means(
                store=store,
                engine=partial(_engine, cli, access, store, report),
                registry=registry,
                host=cli.settings.host,
                quiet=kwargs["quiet"],
            )
            _triggers(made.id, means, cli.task(notes))
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


def _triggers(container_id: str, means: Means, task: Task) -> None:
    """Do what the ONBUILD of the image asks of its children."""
    from engine.working.registry import WorkingContainers
    from imgtools.cli.working_onbuild import carry_out

    with WorkingContainers(means.store).held(container_id, task=task) as held:
        carry_out(held, means, task=task)


def _report(cli: Cli, access: StoreAccess, isolation: str | None) -> Report | Unsupported:
    """What this host can do, or why not what is asked for: the image may need nothing of it."""
    from imgtools.cli.working_run import probed

    try:
        return probed(cli, access, isolation)
    except Unsupported as e:
        return e


@contextmanager
def _engine(
    cli: Cli, access: StoreAccess, store: Store, report: Report | Unsupported | None
) -> Iterator[Engine]:
    """What runs commands, for the block; `report` is None for an image that has got triggers
    since we looked. Raises Unsupported."""
    from imgtools.cli.working_run import engine_on, probed

    if report is None:
        report = probed(cli, access, None)
    if isinstance(report, Unsupported):
        raise report
    with engine_on(cli, access, store, report) as engine:
        yield engine


def _lacks_triggers(access: StoreAccess, word: str, kwargs: dict[str, Any]) -> bool:
    """Whether the image has no triggers, as far as can be told before it is pulled."""
    from engine.storage.layout import Layout

    if word == SCRATCH:
        return True
    pulled = kwargs["pull_always"] or kwargs["pull"] not in (None, "missing", "never")
    # To look into a store that is not there would make it, with the ids that it is to have.
    if pulled or not os.path.exists(Layout(access.location.root).store_file):
        return False
    with access.look() as store:
        try:
            config = store.config(store.find(word)[0]).document.get("config")
        except (NotFound, InvalidReference):
            return False
    return not isinstance(config, dict) or not config.get("OnBuild")
