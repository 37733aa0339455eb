"""Copies finished images to where their names say: registries, layouts, archives, stores.

What a destination wants decides the form: registries and layouts get compressed layers,
archives of docker's and stores plain ones. The copy itself is `imgtools.copy`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, replace
from typing import TYPE_CHECKING

from imgtools.build.outputs.base_blobs import BaseBlobs, OpenBase
from imgtools.build.outputs.layer_blobs import LayerBlobs
from imgtools.build.outputs.model import Family, Form
from imgtools.build.outputs.mounting import MountingDestination
from imgtools.build.outputs.outgoing import Maker, Outgoing, Wanted
from imgtools.errors import Cancelled, Error
from imgtools.frozen import dataclass
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.reference import ImageName
from imgtools.task import Task
from imgtools.transport.base import Destination
from imgtools.transport.options import DestinationOptions
from imgtools.transport.table import Transports

if TYPE_CHECKING:
    from imgtools.copy.attaching import Attaching

_PLAIN = ("docker-archive", "containers-storage", "docker-daemon")
"""Transports that have layers uncompressed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedOut:
    """What is at `name` now: its descriptor as stored there, and what went out."""

    name: str
    top: Descriptor
    outgoing: Outgoing


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """How places are reached. `open_base` gives the layers of bases where they are; without
    it all layers are written anew. `attaching` says what goes with the images at a place,
    such as signatures, and None for nothing."""

    transports: Transports
    layers: LayerBlobs
    form: Form = field(default_factory=Form)
    family: Family = "oci"
    options: DestinationOptions = field(default_factory=DestinationOptions)
    open_base: OpenBase | None = None
    attaching: Callable[[ImageName, Task], Attaching | None] | None = None

    def copy(self, wanted: Wanted, name: ImageName, *, task: Task) -> CopiedOut:
        """Write `wanted` to `name`.

        Layers of bases that cannot be had where they are said to be are written anew, with a
        warning. Raises what a copy does: Denied, ConnectionFailed, RegistryError,
        StorageError, Unsupported, Cancelled, ...
        """
        form, family = self.form_for(name), family_for(name, self.family)
        if self.open_base is None or form.compression == "none":
            return self._once(wanted, name, Maker(self.layers, None, form, family), task)
        with BaseBlobs(self.open_base) as bases:
            try:
                return self._once(wanted, name, Maker(self.layers, bases, form, family), task)
            except Cancelled:
                raise
            except Error:
                if bases.failed is None:
                    raise
                task.warn(
                    f"layers of a base image are compressed anew, which changes digests: "
                    f"{bases.failed.message}"
                )
        return self._once(wanted, name, Maker(self.layers, None, form, family), task)

    def form_for(self, name: ImageName) -> Form:
        """In which form layers go to `name`."""
        return form_for(name, self.form)

    def _once(self, wanted: Wanted, name: ImageName, maker: Maker, task: Task) -> CopiedOut:
        outgoing = maker.make(wanted, task=task)
        attaching = self.attaching(name, task) if self.attaching is not None else None
        with self.transports.open_destination(name, self._options(name)) as destination:
            return copy_outgoing(outgoing, destination, attaching=attaching, task=task)

    def _options(self, name: ImageName) -> DestinationOptions:
        plain = self.form_for(name).compression == "none"
        return replace(self.options, accept_uncompressed=True) if plain else self.options


def form_for(name: ImageName, form: Form) -> Form:
    """In which form layers go to `name`: plain where nothing else is possible, or where
    nobody asked for more (dir:), else as asked, gzip by default."""
    if name.transport in _PLAIN or (name.transport == "dir" and not form.compression):
        return Form(compression="none")
    return form


def family_for(name: ImageName, family: Family) -> Family:
    """Which documents `name` can have: layouts are OCI's, docker's archives docker's."""
    fixed: dict[str, Family] = {
        "oci": "oci",
        "oci-archive": "oci",
        "docker-archive": "docker",
        "docker-daemon": "docker",
    }
    return fixed.get(name.transport, family)


def copy_outgoing(
    outgoing: Outgoing,
    destination: Destination,
    *,
    attaching: Attaching | None = None,
    task: Task,
) -> CopiedOut:
    """Copy all of `outgoing`, attestations included where the destination can hold them, and
    what `attaching` has for it."""
    from imgtools.copy import CopyOptions, Selection, copy_image

    capabilities = destination.capabilities
    options = CopyOptions(
        selection=Selection(mode="all"),
        referrers=bool(outgoing.referrers) and capabilities.referrers,
        accept_uncompressed=True,
        entire=attaching is not None,
    )
    if outgoing.referrers and not capabilities.referrers:
        task.warn(f"{destination.origin.transport}: cannot hold attestations, they are left out")
    target = MountingDestination(destination, outgoing.mounts) if capabilities.remote else None
    with outgoing.source() as source:
        place = target or destination
        result = copy_image(source, place, options, attaching=attaching, task=task)
    return CopiedOut(name=destination.origin.name, top=result.top, outgoing=outgoing)
