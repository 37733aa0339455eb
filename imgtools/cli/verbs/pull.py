"""`imgtools pull`: get an image into the store."""

from __future__ import annotations

from typing import Any, Literal, get_args

import click

from imgtools.cli.build_flags import text, together
from imgtools.cli.build_values import platforms
from imgtools.cli.command import go_bool
from imgtools.cli.options import registry_options
from imgtools.cli.output import flush, warn, write_text
from imgtools.cli.state import Cli
from imgtools.cli.store_options import StoreAccess, store_flags
from imgtools.cli.working_command import working_verb
from imgtools.cli.working_flags import Puller, one_platform, pull_flags, refuse
from imgtools.errors import InvalidInput
from imgtools.spec.reference import Reference
from imgtools.transport.options import RegistryOptions

Policy = Literal["missing", "always", "never", "newer"]


def _flags(function: Any) -> Any:
    return together((
        go_bool("--all-tags", "-a", help="Pull all tags of the repository."),
        text("--policy", metavar="POLICY", help="missing (default), always, newer or never."),
        go_bool("--quiet", "-q", help="Show no progress."),
        go_bool("--remove-signatures", hidden=True, help="There are none in the store anyway."),
        click.option("--platform", multiple=True, metavar="OS/ARCH[/VARIANT]",
                     help="Which image of an index is meant."),
        text("--os", metavar="OS", help="The same by its parts."),
        text("--arch", metavar="ARCH", help="The same by its parts."),
        text("--variant", metavar="VARIANT", help="The same by its parts."),
    ))(function)  # fmt: skip


@working_verb("pull", short_help="Pull an image into the store.")
@click.argument("image", metavar="IMAGE")
@_flags
@pull_flags
@store_flags
@click.pass_obj
def command(cli: Cli, /, image: str, **kwargs: Any) -> None:
    """Get IMAGE, a name or transport:reference, into the store, and print its id."""
    refuse(kwargs)
    access = StoreAccess(cli, kwargs)
    registry = registry_options(cli, "", kwargs)
    puller = Puller(cli, access, registry, kwargs)
    platform = one_platform(platforms(
        kwargs["platform"], os_name=kwargs["os"], arch=kwargs["arch"], variant=kwargs["variant"],
        host=cli.platform(),
    ))  # fmt: skip
    policy = _policy(kwargs["policy"])
    with access.open() as store:
        names = [image]
        if kwargs["all_tags"]:
            # As buildah: what is asked for with all tags is asked for anew.
            names, policy = _all_tags(access, image, registry), "always"
        for name in names:
            found = puller(store, name, policy=policy, platform=platform, quiet=kwargs["quiet"])
            write_text(f"{found.id}\n")
            flush()


def _policy(value: str) -> Policy:
    found = {"ifmissing": "missing", "ifnewer": "newer"}.get(value.lower(), value.lower())
    for policy in get_args(Policy):
        if found == policy:
            known: Policy = policy
            return known
    if not value:
        return "missing"
    raise InvalidInput(f"--policy {value}: expected missing, always, newer or never")


def _all_tags(access: StoreAccess, image: str, registry: RegistryOptions) -> list[str]:
    """The image with every tag that its repository has."""
    transport, _, rest = image.partition("://")
    bare = rest if transport == "docker" else image
    if "@" in bare or ":" in bare.rpartition("/")[2]:
        raise InvalidInput(f"--all-tags: {image} has a tag or digest already")
    reference = Reference.parse(bare)
    with access.transports(warn=warn) as transports:
        tags = transports.list_tags(reference, registry)
    return [f"docker://{reference.name}:{tag}" for tag in tags]
