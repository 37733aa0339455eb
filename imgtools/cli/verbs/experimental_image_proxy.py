"""`imgtools experimental-image-proxy`: images for other programs, over a socket.

The protocol is that of skopeo's command of the same name, which ostree and bootc speak.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.command import verb
from imgtools.cli.options import registry_flags, registry_options, source_options
from imgtools.cli.output import notes
from imgtools.cli.state import Cli
from imgtools.cli.store_options import StoreAccess, store_flags
from imgtools.cli.trust import Trust
from imgtools.task import CancelToken
from imgtools.transport.table import Transports, parse_name

if TYPE_CHECKING:
    from imgtools.image.model import Image
    from imgtools.transport.base import Source


@verb("experimental-image-proxy", short_help="Serve images to another program over a socket.")
@registry_flags()
@store_flags
@click.option(
    "--shared-blob-dir",
    type=click.Path(),
    metavar="DIR",
    help="Directory of blobs that several OCI layouts share.",
)
@click.option(
    "--sockfd",
    type=click.IntRange(0, 1 << 20),
    default=0,
    show_default=True,
    metavar="FD",
    help="The open socket to serve, one end of a SOCK_SEQPACKET pair.",
)
@click.pass_obj
def command(cli: Cli, /, shared_blob_dir: str | None, sockfd: int, **kwargs: Any) -> None:
    """Serve manifests, configs and blobs of images to the program at the other end of a
    socket, until it closes the socket or says Shutdown.

    The protocol is version 0.2.8 of skopeo-experimental-image-proxy(1).
    """
    from imgtools.imageproxy import Services, serve
    from imgtools.imageproxy.server import adopt_socket

    store = StoreAccess(cli, kwargs)
    registry = registry_options(cli, "", kwargs)
    options = source_options(cli, registry, shared_blob_dir=shared_blob_dir)
    platform = cli.platform()

    # Of the client's own: its going away ends what is done for it, and is no error.
    task = replace(cli.task(notes), cancel=CancelToken(cli.cancel))
    with Transports(
        task.cancel, warn=task.warn, more={"containers-storage": store.opener}
    ) as transports:
        trust = Trust(cli, transports, options)

        def open_source(text: str) -> Source:
            name = parse_name(text)
            admit = trust.check_name(name)
            with ExitStack() as undo:
                source = undo.enter_context(transports.open_source(name, options))
                if admit is not None:
                    admit(source.top())
                undo.pop_all()
            return source

        def read_image(source: Source) -> Image:
            from imgtools.inspect.survey import read_image

            return read_image(source, platform, config=False)

        services = Services(open_source=open_source, read_image=read_image, oci_config=_oci_config)
        with adopt_socket(sockfd) as sock:
            serve(sock, services, task=task)


def _oci_config(source: Source, image: Image) -> dict[str, Any]:
    from imgtools.inspect.oci_config import oci_config
    from imgtools.inspect.survey import read_config
    from imgtools.spec.config import Config
    from imgtools.spec.manifest import Manifest

    if isinstance(image.manifest, Manifest) and not image.is_artifact:
        content = read_config(source, image.manifest.config)
        image = replace(image, config=Config.parse(content), config_bytes=content)
    return oci_config(image)
