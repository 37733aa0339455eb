"""`imgtools rmi`: remove images, or names of them, from the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.command import go_bool, verb
from imgtools.cli.output import complain, flush, notes, write_text
from imgtools.cli.state import Cli
from imgtools.cli.store_options import open_store, store_flags
from imgtools.errors import Cancelled, Error, ImageNotFound, InvalidInput

if TYPE_CHECKING:
    from engine.storage.collect import ImageInUse, Removal
    from engine.storage.store import Store
    from imgtools.task import Task

NOT_FOUND, IN_USE = 1, 2


@verb("rmi", short_help="Remove images from the store.")
@click.argument("images", nargs=-1, metavar="IMAGE...")
@go_bool("--all", "-a", "every", help="Remove all images.")
@go_bool(
    "--force",
    "-f",
    help="Remove images with several names by id, and working containers of images that go.",
)
@go_bool("--ignore", "-i", help="Do not mind images that are not there.")
@go_bool("--no-prune", help="Keep images without a name (they are kept anyway).")
@go_bool("--prune", help="Remove all images that have no name.")
@store_flags
@click.pass_obj
def command(
    cli: Cli,
    /,
    images: tuple[str, ...],
    every: bool,
    force: bool,
    ignore: bool,
    no_prune: bool,
    prune: bool,
    **kwargs: Any,
) -> int:
    """Remove every IMAGE or index (a name, an id or the start of one) from the store.

    An image with several names only loses the one that is given; with its last one it goes,
    and so do layers that no other image has. An image that a container uses stays, unless
    --force removes its working containers too and takes it away from under running ones, with
    whose end its layers go. The exit code is 1 when an image was not found and 2 when one is in
    use.
    """
    if not images and not every and not prune:
        raise InvalidInput("image name or ID must be specified")
    if images and every:
        raise InvalidInput("when using the --all switch, you may not pass any images names or IDs")
    if prune and (no_prune or images or every):
        raise InvalidInput("--prune is for itself")
    from engine.working.lists import ImageLists

    task = cli.task(notes)
    with open_store(cli, kwargs) as store:
        if every:
            # By id, so that one that comes meanwhile under an old name is not among them.
            images = (*store.images(), *(each.name for each in ImageLists(store).all()))
            force_names = True
        elif prune:
            named = {name.image_id for name in store.names().values()}
            images = tuple(image for image in store.images() if image not in named)
            force_names = False
        else:
            force_names = force
        errors = 0
        for image in images:
            code = _remove(store, image, force, force_names, ignore or every or prune, task)
            errors = max(errors, code)
    flush()
    return errors


def _remove(
    store: Store, image: str, force: bool, force_names: bool, ignore: bool, task: Task
) -> int:
    """Remove one image and say so; the exit code that follows."""
    from engine.storage.collect import ImageInUse

    try:
        if force:
            _remove_containers(store, image, force_names, task)
        removal = store.remove(image, force=force, names=force_names, task=task)
    except ImageNotFound as e:
        if _removed_index(store, image) or ignore:
            return 0
        complain(e.message)
        return NOT_FOUND
    except ImageInUse as e:
        complain(_in_use(store, e))
        return IN_USE
    except Cancelled:
        raise
    except Error as e:
        complain(e.message + (f" ({e.hint})" if e.hint else ""))
        return 1
    show(removal)
    return 0


def _removed_index(store: Store, text: str) -> bool:
    """Remove an index and say so, if there is one of that name or id."""
    from engine.working.lists import ImageLists, ListNotKnown

    try:
        gone = ImageLists(store).remove(text)
    except ListNotKnown:
        return False
    write_text(f"Untagged: {gone.name}\nDeleted: {gone.raw.digest.hex}\n")
    return True


def _remove_containers(store: Store, text: str, force_names: bool, task: Task) -> None:
    """Remove the working containers of an image, if it is the image that goes and not one of
    its names."""
    from engine.working.create import remove_containers_of

    image, name = store.find(text)
    several = len(store.contents().names_of(image.id)) > 1
    if not several or (not name and force_names):
        remove_containers_of(store, image.id, task=task)


def _in_use(store: Store, error: ImageInUse) -> str:
    """What is said of an image that stays, with the names of its working containers."""
    from engine.working.registry import WorkingContainers

    containers = WorkingContainers(store)
    found = [containers.get(user) for user in error.users]
    names = [
        each.name if each is not None else user[:64]
        for each, user in zip(found, error.users, strict=True)
    ]
    text = f"image used by {', '.join(names)}: image is in use by a container"
    return f"{text}: {error.hint}"


def show(removal: Removal) -> None:
    """Say what went, as podman does."""
    for name in removal.names:
        write_text(f"Untagged: {name}\n")
    for image in removal.images:
        write_text(f"Deleted: {image}\n")
