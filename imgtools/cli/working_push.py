"""Copying an image or an index of the store to somewhere else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from imgtools.cli.options import destination_options, source_options
from imgtools.cli.output import Warnings
from imgtools.cli.retrying import retrying
from imgtools.cli.sign_copy import signing_of
from imgtools.cli.sign_flags import SignRequest, make_signers, sign_request
from imgtools.cli.state import Cli
from imgtools.cli.store_options import StoreAccess
from imgtools.cli.working_choice import has_transport
from imgtools.cli.working_flags import write_id
from imgtools.errors import InvalidInput, Unsupported

if TYPE_CHECKING:
    from engine.storage.store import Store
    from engine.working.lists import ImageList
    from imgtools.copy import CopyOptions, CopyResult
    from imgtools.sign.protocols import ImageSigner
    from imgtools.transport.base import Source
    from imgtools.transport.options import RegistryOptions
    from imgtools.transport.table import Transports


def push_image(
    cli: Cli,
    access: StoreAccess,
    registry: RegistryOptions,
    text: str,
    destination: str,
    kwargs: dict[str, Any],
    *,
    lists_only: bool = False,
) -> None:
    """Copy what `text` names in the store to `destination`, "" for where its name says; takes
    the values of `push_flags` from `kwargs`. Raises what copies raise."""
    if kwargs["add_compression"]:
        raise Unsupported("--add-compression is not supported", hint="push once for each format")
    retry = retrying(cli, kwargs)
    request = sign_request(kwargs)
    signers = make_signers(cli, request)
    with access.placing() as placing, access.open() as store:
        found, name = _found(store, text, lists_only=lists_only)
        target = _target(destination, name)
        whole = found is not None and kwargs["all"] is not False
        options = _options(cli, kwargs, whole=whole, signed=bool(signers))
        source = _opener(cli, registry, store, found, text)
        done = retry(
            lambda: _copied(
                cli, access, registry, source, target, options, signers, request, kwargs
            )
        )
        if kwargs["digestfile"]:
            write_id(kwargs["digestfile"], str(done.top.digest), placing)
        if kwargs["remove"] and found is not None:
            from engine.working.lists import ImageLists

            ImageLists(store).remove(found.name)


def _found(store: Store, text: str, *, lists_only: bool) -> tuple[ImageList | None, str]:
    """The index of that name, or None for an image; and the name that it has."""
    from engine.working.lists import ImageLists, ListNotKnown

    try:
        found = ImageLists(store).find(text)
        return found, found.name
    except ListNotKnown:
        if lists_only:
            raise
    image, name = store.find(text)
    if not name:
        own = (n.name for n in store.names().values() if n.image_id == image.id)
        name = next(iter(sorted(own)), "")
    return None, name


def _target(destination: str, name: str) -> str:
    if has_transport(destination):
        return destination
    if not destination and not name:
        raise InvalidInput("the image has no name: say where it shall go")
    return f"docker://{destination or name}"


def _options(cli: Cli, kwargs: dict[str, Any], *, whole: bool, signed: bool) -> CopyOptions:
    from imgtools.copy import CopyOptions, Selection

    form = {"docker": "v2s2"}.get(kwargs["format"], kwargs["format"])
    if form not in ("", "oci", "v2s2", "v2s1"):
        raise InvalidInput(f"--format {form}: expected oci or v2s2")
    compression = kwargs["compression_format"]
    if compression not in ("", "gzip", "zstd"):
        raise InvalidInput(f"--compression-format {compression}: expected gzip or zstd")
    if kwargs["all"] is False:
        selection = Selection(mode="index-only")
    else:
        selection = Selection(mode="all" if whole else "system")
    return CopyOptions(
        selection=selection,
        format=form,
        compression=compression,
        compression_level=kwargs["compression_level"],
        force_compression=bool(kwargs["force_compression"] and compression),
        accept_uncompressed=bool(kwargs.get("disable_compression")),
        remove_signatures=kwargs["remove_signatures"],
        entire=signed,
        tmpdir=cli.tmpdir,
    )


def _opener(
    cli: Cli, registry: RegistryOptions, store: Store, found: ImageList | None, text: str
) -> Callable[[Transports], Source]:
    """Opens what is copied."""
    if found is None:
        from engine.storage.names import StorageName

        image = store.find(text)[0]
        name = StorageName(image_id=image.id)
        return lambda transports: store.source(name, task=cli.task())
    from engine.working.list_source import ListSource

    options = source_options(cli, registry)
    return lambda transports: ListSource(found, lambda t: transports.open_source(t, options))


def _copied(
    cli: Cli,
    access: StoreAccess,
    registry: RegistryOptions,
    open_source: Callable[[Transports], Source],
    target: str,
    options: CopyOptions,
    signers: tuple[ImageSigner, ...],
    request: SignRequest,
    kwargs: dict[str, Any],
) -> CopyResult:
    from imgtools.cli.progress import listener
    from imgtools.copy import copy_image
    from imgtools.transport.table import parse_name

    warnings = Warnings()
    with ExitStack() as undo:
        transports = undo.enter_context(access.transports(warn=warnings))
        source = undo.enter_context(open_source(transports))
        ends = destination_options(cli, registry, accept_uncompressed=options.accept_uncompressed)
        there = undo.enter_context(transports.open_destination(parse_name(target), ends))
        show = undo.enter_context(listener(quiet=kwargs["quiet"], as_json=False))
        undo.enter_context(warnings.shown_by(show))
        task = cli.task(show)
        sign = signing_of(cli, transports, registry, signers, request) if signers else None
        attaching = sign(parse_name(target), task) if sign is not None else None
        return copy_image(source, there, options, attaching=attaching, task=task)
