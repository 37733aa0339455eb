"""`imgtools inspect`: look at an image where it is.

Prints what `skopeo inspect` prints; further options show what else can be seen without
pulling. Each of them imports only what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.command import go_bool
from imgtools.cli.options import registry_flags, registry_options, source_options
from imgtools.cli.output import flush, notes, warn, write_bytes, write_lines, write_text
from imgtools.cli.retrying import retry_flags, retrying
from imgtools.cli.state import Cli
from imgtools.cli.store_options import StoreAccess, store_flags
from imgtools.cli.working_choice import EitherCommand
from imgtools.errors import InvalidInput
from imgtools.spec.reference import ImageName
from imgtools.task import Task
from imgtools.transport.base import Source
from imgtools.transport.table import Transports, parse_name, registry_reference

if TYPE_CHECKING:
    from imgtools.inspect.survey_tags import TagLister
    from imgtools.transport.options import SourceOptions

_VIEWS = ("raw", "config", "platforms", "layers", "files", "cat", "referrers")


class _InspectCommand(EitherCommand):
    """Looks at images, and by a name without transport at what the store has."""

    other = "working_inspect:command"
    images = True


@click.command(
    "inspect",
    cls=_InspectCommand,
    short_help="Look at an image where it is.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("image", metavar="IMAGE-NAME")
@go_bool("--raw", help="Print the manifest, or with --config the config, byte for byte.")
@go_bool("--config", help="Print the config in OCI's form.")
@click.option(
    "--format", "-f", "template", metavar="TEMPLATE", help="A Go template for the output."
)
@go_bool("--no-tags", "-n", help="Do not list the tags of the repository.")
@click.option(
    "--manifest-digest",
    "algorithm",
    type=click.Choice(["sha256", "sha384", "sha512"]),
    help="Algorithm of the digest (default: that of the image's config).",
)
@go_bool("--platforms", help="Show every instance of an index as a table.")
@go_bool("--layers", help="Show the layers as a table.")
@go_bool("--files", help="List the files of the image, all layers merged.")
@click.option("--path", metavar="PATH", help="With --files: only PATH and what is below it.")
@click.option("--cat", metavar="PATH", help="Print the content of the file PATH of the image.")
@go_bool(
    "--unverified",
    help="With --files and --cat: stop reading as early as possible, digests unchecked.",
)
@go_bool("--referrers", help="Show what is attached to the image, such as signatures.")
@go_bool("--json", help="Print tables and lists as JSON.")
@click.option(
    "--shared-blob-dir", type=click.Path(), metavar="DIR", help="Blobs shared by OCI layouts."
)
@registry_flags()
@store_flags
@retry_flags
@click.pass_obj
def command(cli: Cli, /, **kwargs: Any) -> None:
    """Print what is known about the image IMAGE-NAME, read from where it is.

    --cat and --files check the digest of every layer that they read, for which an ordinary
    layer has to be read to its end, before anything of it is printed. Layers in the formats
    zstd:chunked and eStargz are read by their table of contents, which the manifest vouches
    for: only the table and what is asked for is transferred.

    A name without transport is that of a working container, else of an image of the store: what
    is recorded of it is shown as buildah does, with --type container or image, and --format.
    """
    _check(kwargs)
    store = StoreAccess(cli, kwargs)
    retry = retrying(cli, kwargs)
    registry = registry_options(cli, "", kwargs)
    options = source_options(
        cli,
        registry,
        shared_blob_dir=kwargs.pop("shared_blob_dir"),
        as_received=not kwargs["files"] and kwargs["cat"] is None,
    )
    name = parse_name(kwargs.pop("image"))
    if kwargs["cat"] is not None and kwargs["unverified"]:
        # What is printed while it is read must not be printed twice.
        _look(cli, store, name, options, kwargs)()
    else:
        retry(lambda: _look(cli, store, name, options, kwargs))()
    flush()


Show = Callable[[], None]
"""Prints what was read; nothing is printed before, so that trying again prints nothing twice."""


def _look(
    cli: Cli, store: StoreAccess, name: ImageName, options: SourceOptions, kwargs: dict[str, Any]
) -> Show:
    task = cli.task(notes)
    with (
        store.transports(warn=warn) as transports,
        transports.open_source(name, options) as source,
    ):
        if kwargs["cat"] is not None:
            return _cat(cli, source, task, kwargs)
        if kwargs["files"]:
            return _files(cli, source, task, kwargs)
        if kwargs["platforms"]:
            return _platforms(source, task, kwargs)
        if kwargs["referrers"]:
            return _referrers(cli, transports, name, options, source, task, kwargs)
        if kwargs["layers"]:
            return _layers(cli, source, kwargs)
        if kwargs["config"]:
            return _config(cli, source, kwargs)
        if kwargs["raw"]:
            content = source.top().content
            return lambda: write_bytes(content)
        tags = None if kwargs["no_tags"] else _tag_lister(transports, name, options)
        return _summary(cli, name, source, tags, task, kwargs)


def _check(kwargs: Mapping[str, Any]) -> None:
    """Raise InvalidInput for options that contradict each other."""
    views = [view for view in _VIEWS if kwargs[view] not in (None, False)]
    if len(views) > 1 and views != ["raw", "config"]:
        raise InvalidInput(f"--{views[0]} and --{views[1]} cannot be given together")
    if kwargs["template"] is not None and any(view != "config" for view in views):
        raise InvalidInput(f"{views[0]} output does not support format option")
    if kwargs["path"] is not None and not kwargs["files"]:
        raise InvalidInput("--path is for --files")
    if kwargs["unverified"] and not kwargs["files"] and kwargs["cat"] is None:
        raise InvalidInput("--unverified is for --files and --cat")
    if kwargs["json"] and views and views[0] in ("raw", "cat"):
        raise InvalidInput(f"--json and --{views[0]} cannot be given together")


def _tag_lister(
    transports: Transports, name: ImageName, options: SourceOptions
) -> TagLister | None:
    if name.transport != "docker":
        return None
    reference = registry_reference(name)
    return lambda: transports.list_tags(reference, options.registry)


def _repository_name(name: ImageName) -> str:
    """What skopeo calls Name: the repository, where a name has one."""
    from imgtools.spec.reference import Reference

    if name.transport == "docker":
        return registry_reference(name).name
    if name.transport == "containers-storage":
        from engine.storage.names import repository_name

        return repository_name(name.rest)
    reference = name.rest.partition(":")[2]
    if name.transport == "docker-archive" and reference and not reference.startswith("@"):
        return Reference.parse(reference).name
    return ""


def _summary(
    cli: Cli,
    name: ImageName,
    source: Source,
    tags: TagLister | None,
    task: Task,
    kwargs: Mapping[str, Any],
) -> Show:
    from imgtools.inspect.survey_tags import survey

    found = survey(source, cli.platform(), task=task, list_tags=tags)
    from imgtools.inspect.summary import odd_created, summary

    value = summary(
        found.image,
        name=_repository_name(name),
        tags=found.tags,
        algorithm=kwargs["algorithm"],
    )
    if odd := odd_created(found.image):
        task.warn(f"the config's time of creation {odd!r} is no time, so Created is null")
    return _document(value, kwargs["template"], artifact=found.image.is_artifact)


def _config(cli: Cli, source: Source, kwargs: Mapping[str, Any]) -> Show:
    from imgtools.inspect.survey import read_config, read_image
    from imgtools.spec.manifest import Manifest

    if kwargs["raw"]:
        image = read_image(source, cli.platform(), config=False)
        if not isinstance(image.manifest, Manifest):
            return lambda: None
        content = read_config(source, image.manifest.config)
        return lambda: write_bytes(content)
    from imgtools.inspect.oci_config import oci_config

    value = oci_config(read_image(source, cli.platform()))
    if kwargs["template"] is None:
        return _document(value, None)
    from imgtools.cli.inspect_templates import config_struct

    return _document(config_struct(value), kwargs["template"])


def _document(value: dict[str, Any], template: str | None, *, artifact: bool = False) -> Show:
    """Show a document: as JSON, or through a template."""
    if template:
        from imgtools.cli.gotemplate import is_json, render_report

        if not is_json(template):
            from imgtools.cli.inspect_templates import output_struct

            data = output_struct(value, artifact=artifact)
            text = render_report(template, data, name="skopeo inspect")
            return lambda: write_text(text)
    from imgtools.inspect.text import json_text

    return lambda: write_text(json_text(value) + "\n")


def _platforms(source: Source, task: Task, kwargs: Mapping[str, Any]) -> Show:
    from imgtools.inspect.instances import read_instances
    from imgtools.inspect.tables import instance_table
    from imgtools.inspect.text import json_text

    instances = read_instances(source, task=task)
    if kwargs["json"]:
        return lambda: write_text(json_text([i.to_json() for i in instances]) + "\n")
    return lambda: write_lines(instance_table(instances))


def _layers(cli: Cli, source: Source, kwargs: Mapping[str, Any]) -> Show:
    from imgtools.inspect.survey import read_image
    from imgtools.inspect.tables import layer_rows, layer_table
    from imgtools.inspect.text import json_text

    layers = read_image(source, cli.platform()).layers
    if kwargs["json"]:
        return lambda: write_text(json_text(layer_rows(layers)) + "\n")
    return lambda: write_lines(layer_table(layers))


def _referrers(
    cli: Cli,
    transports: Transports,
    name: ImageName,
    options: SourceOptions,
    source: Source,
    task: Task,
    kwargs: Mapping[str, Any],
) -> Show:
    from imgtools.cli.inspect_attached import listing
    from imgtools.inspect.referrers import read_referrers, referrer_lines
    from imgtools.inspect.text import json_text

    listed = listing(cli, transports, name, options, source)
    trees = read_referrers(source, listed=listed, task=task)
    if kwargs["json"]:
        return lambda: write_text(json_text([tree.to_json() for tree in trees]) + "\n")
    return lambda: write_lines(referrer_lines(trees))


def _files(cli: Cli, source: Source, task: Task, kwargs: Mapping[str, Any]) -> Show:
    from imgtools.inspect.contents import list_files
    from imgtools.inspect.listing import file_json, file_lines

    root, files = list_files(
        source,
        cli.platform(),
        kwargs["path"],
        task=task,
        verify=not kwargs["unverified"],
    )
    show = file_json if kwargs["json"] else file_lines
    return lambda: write_lines(show(root, files))


def _cat(cli: Cli, source: Source, task: Task, kwargs: Mapping[str, Any]) -> Show:
    from imgtools.inspect.contents import copy_file

    # The content goes out while the source is open: it may be larger than memory. Nothing
    # is written before it is verified, so trouble worth another try comes before.
    copy_file(
        source,
        cli.platform(),
        kwargs["cat"],
        write_bytes,
        task=task,
        verify=not kwargs["unverified"],
        tmpdir=cli.tmpdir,
    )
    return lambda: None
