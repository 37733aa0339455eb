"""`imgtools manifest`: put indexes of images together in the store, and push them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.build_flags import many, text, together
from imgtools.cli.build_values import words
from imgtools.cli.command import go_bool
from imgtools.cli.family import Family
from imgtools.cli.options import registry_flags, registry_options
from imgtools.cli.output import flush, write_text
from imgtools.cli.state import Cli
from imgtools.cli.store_options import StoreAccess, store_flags
from imgtools.cli.verbs.push import push_flags
from imgtools.cli.working_command import for_each, working_verb
from imgtools.cli.working_flags import refuse
from imgtools.cli.working_lists import named_values, opened, with_image
from imgtools.errors import InvalidInput
from imgtools.spec.platform import Platform

if TYPE_CHECKING:
    from engine.storage.store import Store
    from engine.working.list_entries import ArtifactOptions, EntryEdit
    from engine.working.lists import ImageList
    from imgtools.spec.digest import Digest
    from imgtools.transport.options import RegistryOptions

command = Family("manifest", help="Make, change and push indexes of images.")
_ARTIFACT = ("artifact_type", "artifact_config", "artifact_config_type", "artifact_layer_type",
             "artifact_subject", "artifact_exclude_titles", "artifact_annotation")  # fmt: skip


def _entry_flags(function: Any) -> Any:
    return together((
        text("--os", metavar="OS", help="Operating system of the entry."),
        text("--arch", metavar="ARCH", help="Architecture of the entry."),
        text("--variant", metavar="VARIANT", help="Variant of the architecture."),
        text("--os-version", metavar="VERSION", help="Version of the operating system."),
        many("--os-features", metavar="FEATURE", help="What the operating system has to have."),
        many("--features", metavar="FEATURE", help="What the processor has to have."),
        many("--annotation", metavar="NAME=VALUE", help="Annotation of the entry."),
    ))(function)  # fmt: skip


class _Place:
    """The store and the access to registries that one command line names."""

    def __init__(self, cli: Cli, kwargs: dict[str, Any]) -> None:
        self.cli = cli
        if kwargs.pop("insecure", None):
            kwargs["tls_verify"] = False
        self.access = StoreAccess(cli, kwargs)
        self.registry: RegistryOptions = registry_options(cli, "", kwargs)


def _place_flags(function: Any) -> Any:
    flag = go_bool("--insecure", help="The same as --tls-verify=false.", hidden=True)
    return together((registry_flags(), flag, store_flags))(function)


def _said(image_list: ImageList, digest: Digest | None = None) -> None:
    """Print what an index is now, and which entry was meant."""
    entry = f": {digest}" if digest is not None else ""
    write_text(f"{image_list.raw.digest.hex}{entry}\n")
    flush()


@working_verb("create", short_help="Make an index.")
@click.argument("words_", nargs=-1, required=True, metavar="INDEX [IMAGE...]")
@go_bool("--all", "everything", help="Of IMAGEs that are indexes add all images.")
@go_bool("--amend", help="Change INDEX if it is there.")
@go_bool("--replace", help="Replace INDEX if it is there.")
@many("--annotation", metavar="NAME=VALUE", help="Annotation of the index.")
@text("--os", metavar="OS", help="Which image of an index is added.", hidden=True)
@text("--arch", metavar="ARCH", help="Which image of an index is added.", hidden=True)
@_place_flags
@click.pass_obj
def create(
    cli: Cli,
    /,
    words_: tuple[str, ...],
    everything: bool,
    amend: bool,
    replace: bool,
    **kwargs: Any,
) -> None:
    """Make the index INDEX in the store, with every IMAGE: of the store, of a registry, or
    transport:reference. Its digest is printed."""
    if amend and replace:
        raise InvalidInput("amend and replace are mutually exclusive")
    place = _Place(cli, kwargs)
    notes = named_values(words(kwargs["annotation"]))
    existing = "amend" if amend else "replace" if replace else "refuse"
    wanted = _wanted(cli, kwargs)
    from engine.working.lists import ImageLists

    with place.access.open() as store:
        lists = ImageLists(store)
        made = lists.create(words_[0], notes, existing=existing)
        fresh = not made.index.manifests
        try:
            for image in words_[1:]:
                made, _ = _added(place, store, words_[0], image, wanted, everything, None)
        except BaseException:
            if fresh and existing == "refuse":
                lists.remove(words_[0])
            raise
    _said(made)


def _wanted(cli: Cli, kwargs: dict[str, Any]) -> Platform:
    """The platform whose image of an index is meant."""
    host = cli.platform()
    arch = kwargs["arch"]
    return Platform(
        os=kwargs["os"] or host.os,
        architecture=arch or host.architecture,
        variant=kwargs.get("variant") or ("" if arch else host.variant),
    ).normalised()


def _added(
    place: _Place,
    store: Store,
    name: str,
    image: str,
    wanted: Platform,
    everything: bool,
    edit: EntryEdit | None,
) -> tuple[ImageList, Digest | None]:
    """Add an image to an index; the index, and the digest of the entry."""
    from engine.working.lists import ImageLists, ListNotKnown

    lists = ImageLists(store)
    try:
        known = lists.find(image).sources
    except ListNotKnown:
        known = {}
    source_of = opened(place.cli, place.access, store, image, place.registry, everything=everything)
    with source_of as (source, where), lists.changing(name) as change:
        new, digest = with_image(
            change.before, source, where, wanted=wanted, everything=everything, edit=edit,
            known=known,
        )  # fmt: skip
        change.put(new)
    return new, digest


@working_verb("add", short_help="Add an image to an index.")
@click.argument("words_", nargs=-1, metavar="INDEX IMAGE|FILE...")
@go_bool("--all", "everything", help="Of an IMAGE that is an index add all images.")
@_entry_flags
@go_bool("--artifact", help="Add files as an artifact.")
@text("--artifact-type", metavar="TYPE", help="Media type of the artifact.")
@text("--artifact-config-type", metavar="TYPE", help="Media type of its config.")
@text("--artifact-config", metavar="FILE", help="Its config.")
@text("--artifact-layer-type", metavar="TYPE", help="Media type of its files.")
@go_bool("--artifact-exclude-titles", help="Do not write down what files are called.")
@text("--artifact-subject", metavar="IMAGE", help="What it is about.")
@many("--artifact-annotation", metavar="NAME=VALUE", help="Annotation of the artifact.")
@_place_flags
@click.pass_obj
def add(cli: Cli, /, words_: tuple[str, ...], everything: bool, **kwargs: Any) -> None:
    """Add IMAGE, of the store, a registry, or transport:reference, or an artifact of files, to
    INDEX of the store. The digests of the index and the entry are printed."""
    if len(words_) < 2:
        raise InvalidInput(
            "at least a list image and an image or artifact to add must be specified"
        )
    artifact = kwargs.pop("artifact")
    if not artifact:
        given = [f"--{key.replace('_', '-')}" for key in _ARTIFACT if kwargs[key]]
        if given:
            raise InvalidInput(f"{'/'.join(given)} needs --artifact")
        if len(words_) > 2:
            raise InvalidInput("too many arguments: expected list and image add to list")
    place = _Place(cli, kwargs)
    with place.access.open() as store:
        edit = _edit(kwargs)
        digest: Digest | None
        if artifact:
            new, digest = _artifact(place, store, words_, kwargs, edit)
        else:
            wanted = _wanted(cli, kwargs)
            new, digest = _added(place, store, words_[0], words_[1], wanted, everything, edit)
    _said(new, digest)


def _edit(kwargs: dict[str, Any]) -> EntryEdit:
    from engine.working.list_entries import EntryEdit

    return EntryEdit(
        os=kwargs["os"],
        architecture=kwargs["arch"],
        variant=kwargs["variant"],
        os_version=kwargs["os_version"],
        os_features=words(kwargs["os_features"]),
        features=words(kwargs["features"]),
        annotations=named_values(words(kwargs["annotation"])),
    )


def _artifact(
    place: _Place, store: Store, words_: tuple[str, ...], kwargs: dict[str, Any], edit: EntryEdit
) -> tuple[ImageList, Digest]:
    from engine.working.list_entries import with_artifact, with_edit
    from engine.working.lists import ImageLists

    options = _artifact_options(place, store, kwargs)
    with ImageLists(store).changing(words_[0]) as change:
        paths = [os.path.abspath(path) for path in words_[1:]]
        new, digest = with_artifact(change.before, paths, options)
        new = with_edit(new, digest, edit)
        change.put(new)
    return new, digest


def _artifact_options(place: _Place, store: Store, kwargs: dict[str, Any]) -> ArtifactOptions:
    from engine.working.list_entries import ArtifactOptions
    from imgtools.cli.build_values import read_text
    from imgtools.spec import media_type as mt

    config, subject = kwargs["artifact_config"], None
    if kwargs["artifact_subject"]:
        about = kwargs["artifact_subject"]
        with opened(place.cli, place.access, store, about, place.registry) as (source, _):
            subject = source.top().descriptor()
    usual = mt.OCI_CONFIG if config else mt.OCI_EMPTY
    return ArtifactOptions(
        type=kwargs["artifact_type"],
        config_type=kwargs["artifact_config_type"] or usual,
        config=read_text(config, "--artifact-config").encode("utf-8", "surrogateescape")
        if config
        else None,
        layer_type=kwargs["artifact_layer_type"],
        titles=not kwargs["artifact_exclude_titles"],
        subject=subject,
        annotations=named_values(words(kwargs["artifact_annotation"])),
    )


@working_verb("annotate", short_help="Change what an index says of an entry.")
@click.argument("words_", nargs=-1, metavar="INDEX [ENTRY]")
@_entry_flags
@go_bool("--index", help="Change the index itself.")
@text("--subject", metavar="IMAGE", help="What the index is about.")
@_place_flags
@click.pass_obj
def annotate(cli: Cli, /, words_: tuple[str, ...], index: bool, **kwargs: Any) -> None:
    """Change what INDEX of the store says of ENTRY, a digest, an image or an artifact's file."""
    whole = index or bool(kwargs["subject"])
    if len(words_) != (1 if whole else 2):
        raise InvalidInput("expected INDEX with --index or --subject, else INDEX ENTRY")
    taken = ("os", "arch", "variant", "os_version", "os_features", "features")
    if whole and (given := [key for key in taken if kwargs[key]]):
        raise InvalidInput(f"--index is not compatible with --{given[0].replace('_', '-')}")
    place = _Place(cli, kwargs)
    from engine.working.list_entries import with_edit
    from engine.working.lists import ImageLists

    with place.access.open() as store:
        edit = _edit(kwargs)
        digest = None if whole else _entry(place, store, words_[0], words_[1])
        subject = None
        if kwargs["subject"]:
            about = kwargs["subject"]
            with opened(cli, place.access, store, about, place.registry) as (source, _):
                subject = source.top().descriptor()
        with ImageLists(store).changing(words_[0]) as change:
            new = (
                with_edit(change.before, digest, edit)
                if digest is not None
                else change.before.with_properties(edit.annotations, subject)
            )
            change.put(new)
    _said(new, digest)


def _entry(place: _Place, store: Store, name: str, word: str) -> Digest:
    """The entry that people mean: by digest, by a file, or by an image with that manifest."""
    from engine.working.list_entries import digest_of
    from engine.working.lists import ImageLists
    from imgtools.errors import ImageNotFound, InvalidDigest
    from imgtools.spec.digest import Digest

    found = ImageLists(store).find(name)
    digest = digest_of(found, word)
    if digest is not None:
        return digest
    try:
        wanted = Digest.parse(word)
    except InvalidDigest:
        with opened(place.cli, place.access, store, word, place.registry) as (source, _):
            wanted = source.resolve().digest
    if all(each.digest != wanted for each in found.index.manifests):
        raise ImageNotFound(f"no instance {wanted} in the index {found.name}")
    return wanted


@working_verb("remove", short_help="Remove an entry of an index.")
@click.argument("name", metavar="INDEX")
@click.argument("entry", metavar="ENTRY")
@_place_flags
@click.pass_obj
def remove(cli: Cli, /, name: str, entry: str, **kwargs: Any) -> None:
    """Remove ENTRY, a digest, an image or an artifact's file, from INDEX of the store."""
    place = _Place(cli, kwargs)
    from engine.working.lists import ImageLists

    with place.access.open() as store:
        digest = _entry(place, store, name, entry)
        with ImageLists(store).changing(name) as change:
            new = change.before.without_entry(digest)
            change.put(new)
    _said(new, digest)


@working_verb("inspect", short_help="Show an index.")
@click.argument("name", metavar="INDEX")
@_place_flags
@click.pass_obj
def inspect(cli: Cli, /, name: str, **kwargs: Any) -> None:
    """Print INDEX, of the store, of a registry, or transport:reference."""
    place = _Place(cli, kwargs)
    from imgtools.inspect.text import json_text
    from imgtools.spec import strict_json

    with (
        place.access.open() as store,
        opened(cli, place.access, store, name, place.registry) as (source, _),
    ):
        value = strict_json.loads_object(source.top().content, "manifest")
    write_text(json_text(value) + "\n")
    flush()


@working_verb("exists", short_help="Tell whether an index is in the store.")
@click.argument("name", metavar="INDEX")
@store_flags
@click.pass_obj
def exists(cli: Cli, /, name: str, **kwargs: Any) -> int:
    """Exit with 0 if INDEX is in the store, else with 1."""
    from engine.working.lists import ImageLists, ListNotKnown

    with StoreAccess(cli, kwargs).look() as store:
        try:
            ImageLists(store).find(name)
        except ListNotKnown:
            return 1
    return 0


@working_verb("rm", short_help="Remove indexes.")
@click.argument("names", nargs=-1, required=True, metavar="INDEX...")
@store_flags
@click.pass_obj
def rm(cli: Cli, /, names: tuple[str, ...], **kwargs: Any) -> int:
    """Remove every INDEX from the store; the images in it stay."""
    from engine.working.lists import ImageLists

    with StoreAccess(cli, kwargs).look() as store:

        def forget(name: str) -> None:
            gone = ImageLists(store).remove(name)
            write_text(f"untagged: {gone.name}\n{gone.raw.digest.hex}\n")
            flush()

        return for_each(names, forget)


@working_verb("push", short_help="Push an index with its images.")
@click.argument("words_", nargs=-1, metavar="INDEX [DESTINATION]")
@go_bool("--all", help="Push the images too (the default).", default=True)
@go_bool("--insecure", help="The same as --tls-verify=false.", hidden=True)
@push_flags
@store_flags
@click.pass_obj
def push(cli: Cli, /, words_: tuple[str, ...], **kwargs: Any) -> None:
    """Copy INDEX of the store, with all of its images, to DESTINATION: transport:reference, or
    the name of a place in a registry. Without it the name of INDEX says where."""
    if not 1 <= len(words_) <= 2:
        raise InvalidInput("expected INDEX [DESTINATION]")
    refuse(kwargs)
    place = _Place(cli, kwargs)
    target = words_[1] if len(words_) == 2 else ""
    from imgtools.cli.working_push import push_image

    push_image(cli, place.access, place.registry, words_[0], target, kwargs, lists_only=True)


for _verb in (create, add, annotate, remove, inspect, exists, rm, push):
    command.add_command(_verb)
