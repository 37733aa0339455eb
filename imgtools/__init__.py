"""imgtools moves, inspects, builds and signs container images without a daemon or root.

The names below are the library's public face. They are imported when they are first used,
so that `import imgtools` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from imgtools.copy import CopyOptions, CopyPlan, CopyResult, Selection
    from imgtools.copy import copy_by_name as copy_image
    from imgtools.errors import Error
    from imgtools.image.model import Image
    from imgtools.inspect.survey import read_image
    from imgtools.spec.config import Config
    from imgtools.spec.descriptor import Descriptor
    from imgtools.spec.digest import Digest
    from imgtools.spec.manifest import Index, Manifest, RawManifest
    from imgtools.spec.manifest import parse as parse_manifest
    from imgtools.spec.platform import Platform
    from imgtools.spec.reference import Reference
    from imgtools.task import CancelToken, Task
    from imgtools.transport.base import Destination, Source
    from imgtools.transport.options import (
        Credentials,
        DestinationOptions,
        RegistryOptions,
        SourceOptions,
    )
    from imgtools.transport.table import Transports

_PUBLIC = {
    "CancelToken": "imgtools.task",
    "Config": "imgtools.spec.config",
    "CopyOptions": "imgtools.copy",
    "CopyPlan": "imgtools.copy",
    "CopyResult": "imgtools.copy",
    "Credentials": "imgtools.transport.options",
    "Descriptor": "imgtools.spec.descriptor",
    "Destination": "imgtools.transport.base",
    "DestinationOptions": "imgtools.transport.options",
    "Digest": "imgtools.spec.digest",
    "Error": "imgtools.errors",
    "Image": "imgtools.image.model",
    "Index": "imgtools.spec.manifest",
    "Manifest": "imgtools.spec.manifest",
    "Platform": "imgtools.spec.platform",
    "RawManifest": "imgtools.spec.manifest",
    "Reference": "imgtools.spec.reference",
    "RegistryOptions": "imgtools.transport.options",
    "Selection": "imgtools.copy",
    "Source": "imgtools.transport.base",
    "SourceOptions": "imgtools.transport.options",
    "Task": "imgtools.task",
    "Transports": "imgtools.transport.table",
    "copy_image": "imgtools.copy:copy_by_name",
    "parse_manifest": "imgtools.spec.manifest:parse",
    "read_image": "imgtools.inspect.survey",
}

__all__ = [
    "CancelToken",
    "Config",
    "CopyOptions",
    "CopyPlan",
    "CopyResult",
    "Credentials",
    "Descriptor",
    "Destination",
    "DestinationOptions",
    "Digest",
    "Error",
    "Image",
    "Index",
    "Manifest",
    "Platform",
    "RawManifest",
    "Reference",
    "RegistryOptions",
    "Selection",
    "Source",
    "SourceOptions",
    "Task",
    "Transports",
    "__version__",
    "copy_image",
    "parse_manifest",
    "read_image",
]


def __getattr__(name: str) -> Any:
    """A public name, imported now (PEP 562)."""
    where = _PUBLIC.get(name)
    if where is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module, _, attribute = where.partition(":")
    return getattr(importlib.import_module(module), attribute or name)
