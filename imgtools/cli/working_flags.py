"""Options that several verbs of working containers and stored images share with buildah: trying
again, what is refused, whether history is written, and images that are pulled for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from imgtools.cli.build_flags import Decorator, many, together
from imgtools.cli.command import Duration, go_bool
from imgtools.cli.options import registry_flags
from imgtools.cli.output import warn
from imgtools.cli.retrying import retrying
from imgtools.cli.state import Cli
from imgtools.cli.trust import Trust
from imgtools.errors import InvalidInput, Unsupported

if TYPE_CHECKING:
    from engine.storage.images import StoredImage
    from engine.storage.pull import PullPolicy
    from engine.storage.store import Store
    from imgtools.blob.placing import Placing
    from imgtools.cli.store_options import StoreAccess
    from imgtools.spec.platform import Platform
    from imgtools.transport.options import RegistryOptions

T = TypeVar("T")
HISTORY, ISOLATION = "BUILDAH_HISTORY", "BUILDAH_ISOLATION"
KINDS = ("root", "userns", "ranges", "single", "chroot", "none")
RETRIES = 3
_SIGNING = "nothing is signed here; sign what was pushed with imgtools sign"
_CRYPT = "encrypted layers are not supported"
_RUNTIME = "commands are run by imgtools' own runtime"
_IDS = "ids come from /etc/subuid and /etc/subgid"
WHY: Mapping[str, str] = MappingProxyType({
    "--blob-cache": "the store has the blobs",
    "--cdi-config-dir": "devices are named by their path",
    "--cgroup-parent": "each command has a cgroup of its own, below ours",
    "--cw": "no images for confidential workloads are made",
    "--decryption-key": _CRYPT,
    "--encrypt-layer": _CRYPT,
    "--encryption-key": _CRYPT,
    "--runtime": _RUNTIME,
    "--runtime-flag": _RUNTIME,
    "--sbom": "an image is scanned once it is made, by a scanner of your choice",
    "--sbom-image-output": "see --sbom",
    "--sbom-image-purl-output": "see --sbom",
    "--sbom-merge-strategy": "see --sbom",
    "--sbom-output": "see --sbom",
    "--sbom-purl-output": "see --sbom",
    "--sbom-scanner-command": "see --sbom",
    "--sbom-scanner-image": "see --sbom",
    "--sign-by": _SIGNING,
    "--userns-gid-map": _IDS,
    "--userns-gid-map-group": _IDS,
    "--userns-uid-map": _IDS,
    "--userns-uid-map-user": _IDS,
})  # fmt: skip
"""Options of buildah that are refused, with the reason."""


def refused_flags(*names: str) -> Decorator:
    """A decorator that adds options of `WHY`, hidden, to be refused by `refuse`."""
    return together([many(name, _key(name), help="", metavar="X", hidden=True) for name in names])


def refuse(kwargs: dict[str, Any]) -> None:
    """Take the values of `refused_flags` out of `kwargs`; raises Unsupported for one that was
    given."""
    for name, why in WHY.items():
        if kwargs.pop(_key(name), ()):
            raise Unsupported(f"{name} is not supported", hint=why)


def _key(name: str) -> str:
    return "refused_" + name[2:].replace("-", "_")


def retry_flags(function: Any) -> Any:
    """A decorator that adds buildah's --retry and --retry-delay."""
    return together((
        click.option("--retry", "retry_times", type=click.IntRange(0), default=RETRIES, metavar="N",
                     help="How often to try again when a registry is in trouble (default 3)."),
        click.option("--retry-delay", type=Duration(), metavar="DURATION",
                     help="Time between tries (default: doubling from one second)."),
    ))(function)  # fmt: skip


def history_flag(function: Any) -> Any:
    """A decorator that adds --add-history."""
    return go_bool("--add-history", default=None,
                   help="Note it in the image's history (default: as BUILDAH_HISTORY says).",
                   )(function)  # fmt: skip


def wants_history(kwargs: dict[str, Any]) -> bool:
    """Take the value of `history_flag` out of `kwargs`: whether history is written."""
    given: bool | None = kwargs.pop("add_history")
    if given is not None:
        return given
    return os.environ.get(HISTORY, "").lower() in ("1", "true", "t")


def pull_flags(function: Any) -> Any:
    """A decorator for verbs that may pull an image: access to registries and trying again."""
    decorators = (registry_flags(), retry_flags, refused_flags("--decryption-key", "--blob-cache"))
    return together(decorators)(function)


def asked_isolation(isolation: str, userns: str = "") -> str:
    """The kind of isolation that is asked for, "" for the strongest that works. Raises
    InvalidInput for one that there is not, Unsupported."""
    from imgtools.cli.build_host import isolation_kind

    kind = isolation_kind(isolation or os.environ.get(ISOLATION, ""), userns) or ""
    if kind and kind not in KINDS:
        raise InvalidInput(f"unrecognized isolation type {kind!r}", hint=f"use {', '.join(KINDS)}")
    return kind


class Puller:
    """Gets images into the store, with what `pull_flags` say."""

    def __init__(
        self, cli: Cli, access: StoreAccess, registry: RegistryOptions, kwargs: dict[str, Any]
    ) -> None:
        """Takes the options of trying again out of `kwargs`."""
        self._cli = cli
        self._access = access
        self._registry = registry
        self._retry: Callable[[Callable[[], StoredImage]], StoredImage] = retrying(cli, kwargs)

    def __call__(
        self,
        store: Store,
        text: str,
        *,
        policy: PullPolicy,
        platform: Platform | None = None,
        quiet: bool = False,
    ) -> StoredImage:
        """The image that people mean by `text`, pulled as `policy` says. Raises as
        `engine.storage.pull.pull_image`."""
        from engine.storage.pull import PullOptions, pull_image
        from imgtools.cli.progress import listener
        from imgtools.transport.options import SourceOptions

        source = SourceOptions(registry=self._registry, tmpdir=self._cli.tmpdir)

        def pull() -> StoredImage:
            with (
                listener(quiet=quiet, as_json=False) as progress,
                self._access.transports(warn=warn) as transports,
            ):
                options = PullOptions(
                    policy=policy,
                    platform=platform,
                    source=source,
                    check_name=Trust(self._cli, transports, source).check_name,
                )
                task = self._cli.task(progress)
                return pull_image(store, text, options, transports=transports, task=task)

        return self._retry(pull)


def one_platform(platforms: tuple[Platform, ...], option: str = "--platform") -> Platform | None:
    """The platform that was asked for, None for this machine's; raises InvalidInput for
    several."""
    if len(platforms) > 1:
        raise InvalidInput(f"{option}: only one platform can be given here")
    return platforms[0] if platforms else None


def write_id(path: str, text: str, placing: Placing) -> None:
    """Write what was made into the file that an option names; raises StorageError."""
    from imgtools.build.outputs.files import write_text

    write_text(path, text, placing)
