"""`linux.netDevices`: interfaces of the host that move into the container's network namespace
(runtime-spec config-linux.md "Network Devices"), with the addresses they have.

The runtime notes the addresses and moves the interface, which loses them; the container's init
adds them again. When the namespace ends, the kernel gives physical devices back.
"""

from __future__ import annotations

import _socket
import errno
import os

from engine.runtime.errors import KernelRefused, refused
from engine.runtime.kernel.netlink import (
    ADDRESS,
    IFA_ADDRESS,
    IFA_BROADCAST,
    IFA_LOCAL,
    Netlink,
    attribute,
    attributes,
)
from engine.runtime.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.spec.model import NetDevice

_KEPT = (IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST)


class Moving(Record):
    """An interface on its way: its number, its name in the container, and its addresses that are
    of global scope, as messages."""

    index: int
    host_name: str
    name: str
    addresses: tuple[bytes, ...]


def survey_devices(devices: tuple[NetDevice, ...]) -> tuple[Moving, ...]:
    """The interfaces as they are now; raises KernelRefused."""
    found = []
    for device in devices:
        what = f"linux.netDevices {device.host_name!r}"
        try:
            index = _socket.if_nametoindex(device.host_name)
        except OSError as e:
            raise KernelRefused(f"{what}: no such device", errno=errno.ENODEV) from e
        try:
            with Netlink() as netlink:
                messages = [_plain(one) for one in netlink.addresses() if _is_global(one, index)]
        except OSError as e:
            raise refused(what, e) from e
        name = device.name or device.host_name
        found.append(
            Moving(index=index, host_name=device.host_name, name=name, addresses=tuple(messages))
        )
    return tuple(found)


def _is_global(message: bytes, index: int) -> bool:
    _, _, _, scope, number = ADDRESS.unpack_from(message)
    return bool(number == index and scope == 0)


def _plain(message: bytes) -> bytes:
    """An address without what the kernel adds to it."""
    family, prefix, *_ = ADDRESS.unpack_from(message)
    kept = [
        attribute(kind, value)
        for kind, value in attributes(message[ADDRESS.size :])
        if kind in _KEPT
    ]
    return bytes(ADDRESS.pack(family, prefix, 0, 0, 0)) + b"".join(kept)


def move_devices(devices: tuple[Moving, ...], pid: int) -> None:
    """In the runtime: give the interfaces to the network namespace of process `pid`. Raises
    KernelRefused."""
    try:
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise refused("open the container's network namespace", e) from e
    try:
        with Netlink() as netlink:
            for device in devices:
                try:
                    netlink.move_link(device.index, namespace, device.name)
                except OSError as e:
                    raise refused(f"move the interface {device.host_name}", e) from e
    finally:
        os.close(namespace)


def take_devices(devices: tuple[Moving, ...]) -> None:
    """In the container's network namespace: give the interfaces their addresses, and raise
    them. Raises KernelRefused."""
    for device in devices:
        try:
            index = _socket.if_nametoindex(device.name)
            with Netlink() as netlink:
                for message in device.addresses:
                    family, prefix, *_ = ADDRESS.unpack_from(message)
                    header = ADDRESS.pack(family, prefix, 0, 0, index)
                    netlink.add_address(header + message[ADDRESS.size :])
                netlink.raise_link(index)
        except OSError as e:
            raise KernelRefused(
                f"set up the interface {device.name}: {os.strerror(e.errno or 0).lower()}",
                errno=e.errno or 0,
            ) from e
