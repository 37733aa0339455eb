"""Where one registry may lead us, decided on the addresses that are about to be connected to.

The rules are guard.py's; here is what they are applied to: the address the registry itself was
reached at, the addresses a name has now, and what the user allows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from imgtools.frozen import dataclass
from imgtools.transport.options import RegistryOptions
from imgtools.transport.registry.wire.connect import Address, Check, Resolve, resolve
from imgtools.transport.registry.wire.exchange import ExchangeFailed
from imgtools.transport.registry.wire.network import failed
from imgtools.transport.registry.wire.url import Origin

if TYPE_CHECKING:
    from imgtools.transport.registry.wire.guard import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What tells names and kinds of addresses; tests put a world of their own here.

    `classify` is guard.classify, which is loaded when somebody leads us elsewhere.
    """

    resolve: Resolve = resolve
    classify: Callable[[str], Kind] | None = None


class Admission:
    """The say of one registry over where we connect; used from any number of threads."""

    def __init__(
        self,
        options: RegistryOptions,
        *,
        registry: str,
        home: Origin | None,
        network: Network,
        proxied: Callable[[Origin], bool],
    ) -> None:
        """`home` is the registry's own origin, None when nobody leads us anywhere;
        `proxied` tells whether an origin is reached through a proxy."""
        self._options = options
        self._registry = registry
        self._home = home
        self._network = network
        self._proxied = proxied
        self._address = ""
        self._reached: Origin | None = None

    def reached(self, origin: Origin, address: str) -> None:
        """Take note of the address that `origin` was reached at, which counts for the registry."""
        if not self._address and self.is_home(origin):
            self._address, self._reached = address, origin

    def is_home(self, origin: Origin) -> bool:
        """Whether `origin` is the registry's own, by the scheme that it was reached by."""
        if self._home is None or origin.authority != self._home.authority:
            return False
        return self._reached is None or origin == self._reached

    def admitted(
        self, origin: Origin, addresses: list[Address], seconds: float, check: Check
    ) -> list[Address]:
        """The addresses of `origin` that the registry may lead us to; its own are all, until
        it was reached at one: then its name may not come to mean what is further inside.

        Raises ExchangeFailed when there is none among them, and what `check` raises.
        """
        if self._home is None or (self.is_home(origin) and not self._address):
            return addresses
        from imgtools.transport.registry.wire import guard

        classify = self._network.classify or guard.classify
        kinds = [classify(address.ip) for address in addresses]
        if all(kind == "public" for kind in kinds):
            return addresses
        own = self._home_kind(seconds, check)
        allowed = self._options.private_hosts
        admitted = [
            address
            for address, kind in zip(addresses, kinds, strict=True)
            if guard.may_lead(own, kind)
            or guard.is_allowed(origin.host, origin.authority, address.ip, allowed)
        ]
        if admitted:
            return admitted
        raise self._led_astray(origin, kinds[0], addresses[0].ip)

    def check_proxied(self, origin: Origin, seconds: float, check: Check) -> None:
        """Refuse what is an address, which no proxy resolves, and not for the registry to name."""
        if self._home is None or self.is_home(origin):
            return
        from imgtools.transport.registry.wire import guard

        address = guard.literal(origin.host)
        if address is None:
            return
        kind = (self._network.classify or guard.classify)(address)
        if kind == "public" or guard.may_lead(self._home_kind(seconds, check), kind):
            return
        if not guard.is_allowed(
            origin.host, origin.authority, address, self._options.private_hosts
        ):
            raise self._led_astray(origin, kind, address)

    def _home_kind(self, seconds: float, check: Check) -> Kind:
        """The kind of address the registry is at; public where a proxy resolves its name."""
        from imgtools.transport.registry.wire import guard

        classify = self._network.classify or guard.classify
        if self._address:
            return classify(self._address)
        if self._home is None:
            return "public"
        if self._proxied(self._home):
            address = guard.literal(self._home.host)
            return classify(address) if address is not None else "public"
        # What an earlier run remembered can lead elsewhere before the registry is asked.
        try:
            found = self._network.resolve(self._home.host, self._home.port, seconds, check)
        except (OSError, ValueError):
            return "public"
        return guard.common_kind(classify(address.ip) for address in found)

    def _led_astray(self, origin: Origin, kind: Kind, address: str) -> ExchangeFailed:
        where = f"{address}, which is a {kind} address"
        return failed(
            f"{self._registry or 'the registry'} may not lead to {where}",
            origin,
            "connect",
            final=True,
            hint=(
                f"if this is meant to be, allow it with --allow-private {origin.host}"
                if kind in ("private", "loopback")
                else None
            ),
        )
