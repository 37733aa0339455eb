"""The policy in force for one command: from options and settings to a gate for images.

Nothing is read before the first image is named; a command that is not asked about signatures
never imports what verifies them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from imgtools.cli.state import Cli
from imgtools.errors import NotSigned
from imgtools.spec.reference import ImageName
from imgtools.transport.options import SourceOptions
from imgtools.transport.table import Transports

if TYPE_CHECKING:
    from imgtools.copy.survey import Admit
    from imgtools.sign.gate import Gate
    from imgtools.sign.policies.files import PolicyFiles
    from imgtools.sign.registries_d import RegistriesD

log = logging.getLogger(__name__)


class Trust:
    """The gate of one command, made when it is first needed; for several threads."""

    def __init__(self, cli: Cli, transports: Transports, options: SourceOptions) -> None:
        """`options` are how the images that are judged, and so their signatures, are read."""
        self._cli, self._transports, self._options = cli, transports, options
        self._gate: Gate | None = None
        self._places: RegistriesD | None = None

    def check_name(self, name: ImageName) -> Callable[..., object] | None:
        """Who has to admit the manifests of the image `name`, None for nobody.

        Raises Rejected for a name that policy never admits, NotSigned where options ask for
        signatures and for no policy; NotFound, InvalidInput and
        InvalidJSON for a policy that is missing or wrong.
        """
        if self._cli.values.get("insecure_policy"):
            if self._cli.values.get("require_signed"):
                raise NotSigned(
                    f"{name} is admitted by --insecure-policy, and --require-signed asks for a "
                    "signature",
                    hint="leave out one of the two options",
                )
            return None
        found: Admit | None = self.gate.check_name(name)
        return found

    @property
    def asks(self) -> bool:
        """Whether the policy in force may ask for a signature of any image."""
        return not self._cli.values.get("insecure_policy") and self.gate.asks

    @property
    def gate(self) -> Gate:
        """The gate; raises as `check_name` does."""
        if self._gate is None:
            from imgtools.sign.gate import Gate
            from imgtools.sign.image_places import image_places
            from imgtools.sign.policies.files import load

            policies = load(policy_files(self._cli))
            if policies.policy.default is None:
                raise AssertionError("policy.json has a default")
            log.debug("policy: %s", policies.policy.origin)
            self._gate = Gate(
                policies,
                lambda name: image_places(
                    name, self._transports, self._options, self.signature_places
                ),
                require_signed=bool(self._cli.values.get("require_signed")),
                report=lambda text: log.debug("%s", text),
            )
        return self._gate

    def signature_places(self) -> RegistriesD:
        """The configuration of registries.d, read once."""
        if self._places is None:
            self._places = self._cli.signature_places()
        return self._places


def policy_files(cli: Cli) -> PolicyFiles:
    """Where policy.json and its companion are looked for: the usual places, or what --policy
    and --policy-companion name. A policy that is named has no companion but a named one, so
    that nothing beside it has a say that nobody asked for."""
    from imgtools.sign.policies.files import COMPANION_NAME, PolicyFiles

    chosen, companion = cli.values.get("policy"), cli.values.get("policy_companion")
    usual = cli.settings.policy_files
    beside = tuple(os.path.join(os.path.dirname(path), COMPANION_NAME) for path in usual)
    return PolicyFiles(
        policies=(chosen,) if chosen else usual,
        companions=(companion,) if companion else (() if chosen else beside),
        required=bool(chosen or cli.values.get("require_policy")),
        companion_required=bool(companion),
    )
