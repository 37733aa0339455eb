"""`imgtools list-tags`: list the tags of a repository, or of an archive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.command import verb
from imgtools.cli.options import registry_flags, registry_options
from imgtools.cli.output import flush, warn, write_text
from imgtools.cli.retrying import retry_flags, retrying
from imgtools.cli.state import Cli
from imgtools.errors import InvalidInput, InvalidReference, Unsupported
from imgtools.spec.reference import Reference
from imgtools.transport.table import TRANSPORTS, Transports

if TYPE_CHECKING:
    from imgtools.transport.options import RegistryOptions

_SUPPORTED = "docker, docker-archive"


@verb("list-tags", short_help="List the tags of a repository.")
@click.argument("source", metavar="REPOSITORY-NAME")
@registry_flags()
@retry_flags
@click.pass_obj
def command(cli: Cli, /, source: str, **kwargs: Any) -> None:
    """Print the tags of REPOSITORY-NAME as JSON.

    REPOSITORY-NAME is docker://REGISTRY/REPOSITORY, without tag or digest, or
    docker-archive:PATH.
    """
    retry = retrying(cli, kwargs)
    options = registry_options(cli, "", kwargs)
    transport, colon, rest = source.partition(":")
    if not colon or transport not in TRANSPORTS:
        raise InvalidInput(f'Invalid "{source}": does not specify a transport')
    if transport == "docker":
        reference = _repository(source, rest)
        tags = retry(lambda: _registry_tags(cli, reference, options))
        value = {"Repository": reference.name, "Tags": list(tags)}
    elif transport == "docker-archive":
        value = {"Tags": list(_archive_tags(rest, cli.tmpdir))}
    else:
        raise Unsupported(
            f"Unsupported transport '{transport}' for tag listing. Only supported: {_SUPPORTED}"
        )
    from imgtools.inspect.text import json_text

    write_text(json_text(value) + "\n")
    flush()


def _repository(source: str, rest: str) -> Reference:
    if not rest.startswith("//"):
        raise InvalidReference(source, "docker: names begin with //")
    reference = Reference.parse(rest[2:], default_tag="")
    if reference.tag or reference.digest is not None:
        raise InvalidInput("No tag or digest allowed in reference")
    return reference


def _registry_tags(cli: Cli, reference: Reference, options: RegistryOptions) -> Sequence[str]:
    with Transports(cli.cancel, warn=warn) as transports:
        return transports.list_tags(reference, options)


def _archive_tags(rest: str, tmpdir: str) -> Sequence[str]:
    """The names in an archive, each once; @N stands for an image that has none."""
    from imgtools.transport.docker_archive import DockerArchiveSource

    with DockerArchiveSource.open(rest, tmpdir=tmpdir) as source:
        named = [tags or (f"@{position}",) for position, tags in enumerate(source.tags)]
    return tuple(dict.fromkeys(tag for tags in named for tag in tags))
