"""Tables of instances and layers, for people and for machines. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from imgtools.image.model import Layer
from imgtools.inspect.instances import Instance
from imgtools.inspect.text import human_size, table


def instance_table(instances: Iterable[Instance]) -> Iterator[str]:
    """`inspect --platforms` for people."""
    return table(
        ("PLATFORM", "KIND", "DIGEST", "SIZE", "LAYERS", "CONFIG"),
        (
            (
                _platform(instance),
                instance.kind + (f" ({instance.type})" if instance.type else ""),
                str(instance.digest),
                human_size(instance.size),
                "-" if instance.layers is None else str(instance.layers),
                "-" if instance.config is None else str(instance.config),
            )
            for instance in instances
        ),
    )


def _platform(instance: Instance) -> str:
    platform = instance.platform
    if platform is None:
        return "-"
    return str(platform) + (f" ({platform.os_version})" if platform.os_version else "")


def layer_rows(layers: Iterable[Layer]) -> list[dict[str, Any]]:
    """`inspect --layers` for machines."""
    return [
        {
            "Number": layer.number,
            "Digest": str(layer.digest),
            "MediaType": layer.descriptor.media_type,
            "Size": layer.descriptor.size if layer.descriptor.size >= 0 else None,
            "DiffID": None if layer.diff_id is None else str(layer.diff_id),
            "Created": None if layer.step is None else layer.step.created or None,
            "CreatedBy": None if layer.step is None else layer.step.created_by,
            "Annotations": dict(layer.descriptor.annotations) or None,
        }
        for layer in layers
    ]


def layer_table(layers: Iterable[Layer]) -> Iterator[str]:
    """`inspect --layers` for people; the command comes last, for it may be long."""
    return table(
        ("NUMBER", "DIGEST", "SIZE", "MEDIA TYPE", "DIFF ID", "CREATED BY"),
        (
            (
                str(layer.number),
                str(layer.digest),
                human_size(layer.descriptor.size),
                layer.descriptor.media_type,
                "-" if layer.diff_id is None else str(layer.diff_id),
                "-" if layer.step is None else layer.step.created_by,
            )
            for layer in layers
        ),
    )
