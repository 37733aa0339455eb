"""`imgtools commit`: make an image of a working container."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.build_flags import many, text, together
from imgtools.cli.build_values import words
from imgtools.cli.command import go_bool
from imgtools.cli.options import destination_options, registry_flags, registry_options
from imgtools.cli.output import flush, notes, warn, write_text
from imgtools.cli.retrying import retrying
from imgtools.cli.sign_copy import signing_of
from imgtools.cli.sign_flags import SignRequest, make_signers, sign_flags, sign_request
from imgtools.cli.state import Cli
from imgtools.cli.store_options import StoreAccess, store_flags
from imgtools.cli.working_choice import has_transport
from imgtools.cli.working_command import working_verb
from imgtools.cli.working_flags import refuse, refused_flags, retry_flags, write_id
from imgtools.errors import InvalidInput, Unsupported

if TYPE_CHECKING:
    from engine.storage.store import Store
    from engine.working.commit import CommitOptions, CommittedImage
    from engine.working.model import WorkingContainer
    from imgtools.sign.protocols import ImageSigner
    from imgtools.transport.options import DestinationOptions

EPOCH = "SOURCE_DATE_EPOCH"


def _flags(function: Any) -> Any:
    return together((
        text("--format", "-f", metavar="FORMAT", help="oci or docker (default: the container's)."),
        go_bool("--squash", help="Make one layer of all, those of the base included."),
        go_bool("--rm", help="Remove the container afterwards."),
        go_bool("--quiet", "-q", help="Show no progress."),
        click.option("--iidfile", type=click.Path(), metavar="FILE",
                     help="Write the id of the image to FILE."),
        text("--manifest", metavar="LIST", help="Add the image to LIST, made if need be."),
        many("--change", "-c", metavar="INSTRUCTION", help="CMD, ENV, LABEL and their like."),
        click.option("--config", "config_file", type=click.Path(), metavar="FILE",
                     help="Put the fields of a JSON config over the container's."),
        many("--add-file", metavar="SOURCE[:DESTINATION]", help="Add a file of the host."),
        many("--annotation", metavar="NAME=VALUE", help="Annotation of the image."),
        many("--unsetannotation", metavar="NAME", help="Annotation to leave out."),
        many("--unsetenv", metavar="NAME", help="Variable to leave out."),
        go_bool("--omit-history", help="Write no history."),
        go_bool("--identity-label", default=True, help="Add our version as a label (default)."),
        go_bool("--created-annotation", default=None,
                help="Add the time as an annotation too (default: not)."),
        click.option("--timestamp", type=int, metavar="SECONDS",
                     help="Time of the image, and of all files of the new layer."),
        text("--source-date-epoch", metavar="SECONDS", help="Time of the image."),
        go_bool("--rewrite-timestamp", help="With the latter: no file is newer."),
        click.option("--omit-timestamp", is_flag=True, hidden=True),
        text("--compression-format", metavar="FORMAT", help="gzip or zstd, outside of the store."),
        click.option("--compression-level", type=int, metavar="N", help="How hard is tried."),
        go_bool("--force-compression", help="Compress layers of the base anew."),
        go_bool("--disable-compression", "-D", default=True,
                help="Compress only where the destination asks for it (default)."),
    ))(function)  # fmt: skip


_REFUSED = ("--encrypt-layer", "--encryption-key", "--cw", "--sbom", "--blob-cache",
            "--sbom-scanner-image", "--sbom-scanner-command", "--sbom-merge-strategy",
            "--sbom-output", "--sbom-image-output", "--sbom-purl-output",
            "--sbom-image-purl-output")  # fmt: skip


@working_verb("commit", program=True, short_help="Make an image of a working container.")
@click.argument("words_", nargs=-1, metavar="CONTAINER [IMAGE]")
@_flags
@registry_flags()
@retry_flags
@sign_flags
@refused_flags(*_REFUSED)
@store_flags
@click.pass_obj
def command(cli: Cli, /, words_: tuple[str, ...], **kwargs: Any) -> None:
    """Make an image of the working CONTAINER: what was changed becomes a layer on top of its
    base's. Without changes of files there is no new layer.

    IMAGE is a name in the store, or transport:reference for somewhere else; without it the
    image has no name. Its id is printed.
    """
    if not words_:
        raise InvalidInput("container ID must be specified")
    if len(words_) > 2:
        raise InvalidInput("too many arguments specified")
    refuse(kwargs)
    access = StoreAccess(cli, kwargs)
    registry = registry_options(cli, "", kwargs)
    retry = retrying(cli, kwargs)
    target = words_[1] if len(words_) == 2 else ""
    signing = sign_request(kwargs)
    if signing.wanted and not has_transport(target):
        raise Unsupported(
            "images of the store are not signed", hint="name a place: docker://HOST/NAME:TAG"
        )
    signed = signing, make_signers(cli, signing)
    from engine.working.commit import committed
    from engine.working.create import remove_container
    from engine.working.registry import WorkingContainers

    options = _options(kwargs)
    destination = destination_options(cli, registry)
    with access.placing() as placing, access.open() as store:
        with WorkingContainers(store).held(words_[0], task=cli.task(notes)) as held:
            held.container = _changed(cli, held.container, kwargs, options)
            with committed(store, held, options, task=cli.task(notes)) as image:
                retry(
                    lambda: _write(cli, access, store, image, target, destination, signed, kwargs)
                )
                image_id = image.image_id
        if kwargs["manifest"]:
            from imgtools.cli.working_lists import add_committed

            add_committed(cli, store, kwargs["manifest"], image_id)
        if kwargs["iidfile"]:
            write_id(kwargs["iidfile"], f"sha256:{image_id}", placing)
        if kwargs["rm"]:
            remove_container(store, held.container.id, task=cli.task(notes))
    write_text(f"{image_id}\n")
    flush()


def _options(kwargs: dict[str, Any]) -> CommitOptions:
    from engine.working.commit import CommitOptions
    from engine.working.commit_document import IDENTITY_LABEL
    from engine.working.commit_layer import AddedFile
    from imgtools import __version__
    from imgtools.cli.build_values import seconds

    form = kwargs["format"]
    if form not in ("", "oci", "docker", "v2s2"):
        raise InvalidInput(f"--format {form}: expected oci or docker")
    stamp = 0 if kwargs["omit_timestamp"] else kwargs["timestamp"]
    text = kwargs["source_date_epoch"] or os.environ.get(EPOCH, "")
    epoch = seconds(text, "--source-date-epoch") if text else None
    if stamp is not None and kwargs["source_date_epoch"]:
        raise InvalidInput("--timestamp and --source-date-epoch cannot be given together")
    if kwargs["rewrite_timestamp"] and epoch is None:
        raise InvalidInput("--rewrite-timestamp needs --source-date-epoch")
    added = []
    for each in kwargs["add_file"]:
        source, _, path = each.partition(":")
        added.append(AddedFile(source=os.path.abspath(source), path=path or source))
    exact = stamp is not None or epoch is not None
    labels = {IDENTITY_LABEL: __version__} if kwargs["identity_label"] and not exact else {}
    return CommitOptions(
        squash=kwargs["squash"],
        format=None if not form else "oci" if form == "oci" else "docker",
        created=stamp if stamp is not None else epoch,
        mtime=stamp,
        mtime_clamp=epoch if kwargs["rewrite_timestamp"] else None,
        omit_history=kwargs["omit_history"],
        labels=labels,
        added=tuple(added),
    )


def _changed(
    cli: Cli, container: WorkingContainer, kwargs: dict[str, Any], options: CommitOptions
) -> WorkingContainer:
    """The container as this one image shall see it."""
    import time

    from engine.working.edits import ConfigEdit, edited
    from engine.working.times import SECOND, rfc3339
    from imgtools.build.planning.changes import with_changes

    now = options.created * SECOND if options.created is not None else time.time_ns()
    if kwargs["config_file"]:
        container = _overlaid(container, kwargs["config_file"])
    if changes := kwargs["change"]:
        document = with_changes(container.document, changes, cli.settings.host)
        container = replace(container, document=document)
    annotations = tuple(kwargs["annotation"])
    if kwargs["created_annotation"]:
        annotations = (f"org.opencontainers.image.created={rfc3339(now)}", *annotations)
    edit = ConfigEdit(
        annotations=annotations,
        unset_annotations=words(kwargs["unsetannotation"]),
        env=tuple(f"{name}-" for name in words(kwargs["unsetenv"])),
    )
    return edited(container, edit, now=rfc3339(now), warn=warn)


def _overlaid(container: WorkingContainer, path: str) -> WorkingContainer:
    """The container with what the config in a file says; rootfs and history are not its."""
    from imgtools.cli.build_values import read_text
    from imgtools.spec import strict_json
    from imgtools.spec.config import Config

    found = strict_json.loads_object(read_text(path, "--config").encode(), path)
    settings = found.pop("config", None)
    Config.from_json({"config": settings or {}})
    taken = {k: v for k, v in found.items() if k not in ("rootfs", "history")}
    merged = {**container.run_config, **(settings if isinstance(settings, dict) else {})}
    return replace(container, document={**container.document, **taken, "config": merged})


def _compression(kwargs: dict[str, Any]) -> Any:
    """What layers are compressed with: "" for what the destination asks for."""
    given = kwargs["compression_format"]
    if given not in ("", "gzip", "zstd"):
        raise InvalidInput(f"--compression-format {given}: expected gzip or zstd")
    return given or ("" if kwargs["disable_compression"] else "gzip")


def _write(
    cli: Cli,
    access: StoreAccess,
    store: Store,
    image: CommittedImage,
    target: str,
    destination: DestinationOptions,
    signed: tuple[SignRequest, tuple[ImageSigner, ...]],
    kwargs: dict[str, Any],
) -> None:
    from engine.storage.names import StorageName, normalised
    from imgtools.cli.progress import listener
    from imgtools.copy import CopyOptions, copy_image
    from imgtools.transport.table import parse_name

    elsewhere = has_transport(target)
    copy = CopyOptions(
        accept_uncompressed=not elsewhere,
        compression=_compression(kwargs) if elsewhere else "",
        compression_level=kwargs["compression_level"] if elsewhere else None,
        force_compression=bool(elsewhere and kwargs["force_compression"]),
        entire=bool(signed[1]),
        tmpdir=cli.tmpdir,
    )
    with listener(quiet=kwargs["quiet"], as_json=False) as progress:
        task = cli.task(progress)
        if not elsewhere:
            name = StorageName(text=normalised(target) if target else "")
            with store.destination(name) as own:
                copy_image(image, own, copy, task=task)
            return
        with (
            access.transports(warn=warn) as transports,
            transports.open_destination(parse_name(target), destination) as there,
        ):
            sign = signing_of(cli, transports, destination.registry, signed[1], signed[0])
            attaching = sign(parse_name(target), task) if signed[1] else None
            copy_image(image, there, copy, attaching=attaching, task=task)
