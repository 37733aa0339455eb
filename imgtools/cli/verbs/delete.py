"""`imgtools delete`: delete an image from a registry, an OCI layout or the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.command import go_bool, verb
from imgtools.cli.options import registry_flags, registry_options
from imgtools.cli.output import flush, notes, warn, write_text
from imgtools.cli.retrying import retry_flags, retrying
from imgtools.cli.state import Cli
from imgtools.cli.store_options import StoreAccess, store_flags
from imgtools.cli.text import escaped
from imgtools.errors import Error, Unsupported
from imgtools.spec.reference import ImageName
from imgtools.task import Note
from imgtools.transport.table import Transports, parse_name, registry_reference

if TYPE_CHECKING:
    from imgtools.transport.options import RegistryOptions
    from imgtools.transport.registry.removal.delete_plan import DeleteOptions


@verb("delete", short_help="Delete an image.")
@click.argument("image", metavar="IMAGE-NAME")
@registry_flags()
@store_flags
@retry_flags
@click.option(
    "--shared-blob-dir",
    type=click.Path(),
    metavar="DIR",
    help="Directory of blobs that several OCI layouts share; none of them is deleted.",
)
@go_bool("--all-tags", help="Let other tags of the same manifest go with it.")
@go_bool("--replace-tag", help="Where a tag cannot be deleted, delete a placeholder in its place.")
@go_bool("--referrers", help="Delete signatures and all else that is attached to the image too.")
@go_bool("--dry-run", help="Only print what would be done.")
@click.pass_obj
def command(
    cli: Cli,
    /,
    image: str,
    shared_blob_dir: str | None,
    all_tags: bool,
    replace_tag: bool,
    referrers: bool,
    dry_run: bool,
    **kwargs: Any,
) -> None:
    """Delete IMAGE-NAME, docker://REPOSITORY:TAG, docker://REPOSITORY@DIGEST,
    oci:PATH[:REFERENCE] or containers-storage:NAME.

    A tag is deleted alone. A registry that can only delete manifests by digest would delete
    every other tag of the manifest too: then nothing is deleted, and the error names them,
    unless --all-tags or --replace-tag is given. A digest is deleted with all its tags.

    In an OCI layout the reference goes, and the blobs that no other image there needs; so it
    is in the store, where an image that a container uses stays.
    """  # fmt: skip
    store = StoreAccess(cli, kwargs)
    retry = retrying(cli, kwargs)
    registry = registry_options(cli, "", kwargs)
    name = parse_name(image)
    if name.transport == "docker":
        from imgtools.transport.registry.removal.delete_plan import DeleteOptions

        options = DeleteOptions(all_tags=all_tags, replace_tag=replace_tag, referrers=referrers)
        retry(lambda: _in_registry(cli, name, registry, options, dry_run=dry_run))
    elif name.transport == "oci":
        if replace_tag:
            raise Unsupported("--replace-tag is for registries: a layout's reference goes alone")
        from imgtools.transport.oci_layout_delete import LayoutDeleteOptions, delete_from_layout

        removal = delete_from_layout(
            name.rest,
            LayoutDeleteOptions(
                all_names=all_tags, referrers=referrers, shared_blob_dir=shared_blob_dir
            ),
            task=cli.task(notes),
            dry_run=dry_run,
        )
        if dry_run:
            names = [f"delete reference {n}" for n in removal.names]
            _print([*(names or ["delete an entry without a reference"])])
            _print([f"delete blob {digest}" for digest in removal.blobs])
    elif name.transport == "containers-storage":
        if replace_tag or referrers:
            raise Unsupported("--replace-tag and --referrers are for registries")
        _in_store(cli, name, store, all_names=all_tags, dry_run=dry_run)
    else:
        raise Unsupported(f"Deleting images not implemented for {name.transport}: images")
    flush()


def _in_store(
    cli: Cli, name: ImageName, store: StoreAccess, *, all_names: bool, dry_run: bool
) -> None:
    from engine.storage.delete import delete_from_store

    gone = delete_from_store(
        name.rest,
        store.location,
        store.open,
        all_names=all_names,
        task=cli.task(notes),
        dry_run=dry_run,
    )
    if dry_run:
        _print([f"delete reference {n}" for n in gone.names])
        _print([f"delete image {i}" for i in gone.images])
        _print([f"delete layer {layer}" for layer in gone.layers])


def _in_registry(
    cli: Cli,
    name: ImageName,
    registry: RegistryOptions,
    options: DeleteOptions,
    *,
    dry_run: bool,
) -> None:
    from imgtools.transport.registry.removal.delete import delete_image, preview_deletion
    from imgtools.transport.registry.removal.delete_plan import tags_text

    reference = registry_reference(name)
    task = cli.task(notes)
    with Transports(cli.cancel, warn=warn) as transports:
        repository = transports.repository(reference, registry, push=True)
        if not dry_run:
            plan = delete_image(repository, reference, options, task=task)
            if plan.lost_tags:
                notes(Note("info", f"deleted with its tags {tags_text(plan.lost_tags)}"))
            return
        first, *others = preview_deletion(repository, reference, options, task=task)
    if isinstance(first, Error):
        raise first
    _print([step.text for step in first.steps])
    if first.lost_tags:
        _print([f"which deletes its tags {tags_text(first.lost_tags)}"])
    for other in others:
        if isinstance(other, Error):
            _print([f"or, if the registry cannot delete a tag alone, refuse: {other.message}"])
        else:
            steps = ", ".join(step.text for step in other.steps)
            _print([f"or, if the registry cannot delete a tag alone, {steps}"])


def _print(lines: list[str]) -> None:
    for line in lines:
        write_text(escaped(line) + "\n")
