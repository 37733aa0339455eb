"""What the tests of local transports share: writing a sample, reading one back, tar archives."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

from imgtools.testing.contract_kit import check_same, put
from imgtools.testing.images import Sample
from imgtools.transport.options import DestinationOptions, SourceOptions
from imgtools.transport.table import Transports

ACCEPT = DestinationOptions(accept_uncompressed=True)


def write(name: str, sample: Sample, options: DestinationOptions = ACCEPT) -> None:
    """Write `sample` to a transport name."""
    with Transports() as transports, transports.open_destination(name, options) as destination:
        put(destination, sample)
        destination.commit()


def same(name: str, sample: Sample, options: SourceOptions | None = None) -> None:
    """Assert that a transport name holds `sample`."""
    with Transports() as transports:
        check_same(transports.open_source(name, options or SourceOptions()), sample)


def top_of(name: str, options: SourceOptions | None = None) -> bytes:
    """The top manifest under a transport name."""
    with (
        Transports() as transports,
        transports.open_source(name, options or SourceOptions()) as source,
    ):
        return source.top().content


def tree(directory: Path) -> dict[str, bytes]:
    """Every file below a directory with its content."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def tar(path: Path, members: Iterable[tuple[str, bytes | tuple[bytes, str]]]) -> None:
    """Write an archive; a member is bytes, or a link as (type, target)."""
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                info.type, info.linkname = content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
