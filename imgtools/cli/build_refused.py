"""Options of `buildah build` that have no meaning here, and those that this version refuses.

Every option of buildah is in one of these two tables, or works; a test goes through them all.
An option without meaning changes nothing about the image or how it is built with us, so scripts
that give it go on working; a refused one would change something, so saying nothing would be wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import click

from imgtools.cli.build_flags import Decorator, together
from imgtools.cli.command import GoBool
from imgtools.errors import Unsupported
from imgtools.frozen import dataclass

_RUNTIME = "steps are run by imgtools' own runtime"
_SCANNERS = "scanners' images are not run; --sbom true reads the image"
_IN_IMAGE = "an image does not contain its own SBOM; see --sbom-output"
_IDS = "ids come from /etc/subuid and /etc/subgid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """An option that does nothing or is refused: `why`, whether it is a boolean, and other names
    that it has."""

    why: str
    boolean: bool = False
    names: tuple[str, ...] = ()


MEANINGLESS: Mapping[str, Odd] = MappingProxyType({
    "--compress": Odd(why="the context is read where it is, not sent", boolean=True),
    "--disable-content-trust": Odd(why="an option of docker's own", boolean=True),
    "--disable-compression": Odd(
        why="layers are never compressed in the store and always where they leave it",
        boolean=True,
        names=("-D",),
    ),
    "--rm": Odd(why="steps leave no containers behind", boolean=True),
    "--force-rm": Odd(why="steps leave no containers behind", boolean=True),
    "--blob-cache": Odd(why="the store has the blobs"),
    "--layer-label": Odd(why="there are no intermediate images, only layers"),
    "--loglevel": Odd(why="it has no effect in buildah either"),
})  # fmt: skip

REFUSED: Mapping[str, Odd] = MappingProxyType({
    "--cdi-config-dir": Odd(why="devices are named by their path"),
    "--cgroup-parent": Odd(why="each step has a cgroup of its own, below ours"),
    "--cw": Odd(why="no images for confidential workloads are made"),
    "--decryption-key": Odd(why="encrypted layers cannot be read"),
    "--hooks-dir": Odd(why="hooks are not run for steps"),
    "--log-rusage": Odd(why="--progress json has the time of each step", boolean=True),
    "--rusage-logfile": Odd(why="--progress json has the time of each step"),
    "--runtime": Odd(why=_RUNTIME),
    "--runtime-flag": Odd(why=_RUNTIME),
    "--sbom-scanner-image": Odd(why=_SCANNERS),
    "--sbom-scanner-command": Odd(why=_SCANNERS),
    "--sbom-merge-strategy": Odd(why=_SCANNERS),
    "--sbom-image-output": Odd(why=_IN_IMAGE),
    "--sbom-image-purl-output": Odd(why=_IN_IMAGE),
    "--userns-uid-map": Odd(why=_IDS),
    "--userns-gid-map": Odd(why=_IDS),
    "--userns-uid-map-user": Odd(why=_IDS),
    "--userns-gid-map-group": Odd(why=_IDS),
})  # fmt: skip


def odd_flags(function: Any) -> Any:
    """A decorator that adds all of them, hidden from --help."""
    return together([_option(name, odd) for name, odd in _all().items()])(function)


def refuse_odd(kwargs: dict[str, Any]) -> None:
    """Take the values of `odd_flags` out of `kwargs`; raises Unsupported for a refused one.

    A boolean that is refused may be given as false, which asks for nothing.
    """
    for name, odd in _all().items():
        value = kwargs.pop(_key(name))
        if value and name in REFUSED:
            raise Unsupported(f"{name} is not supported", hint=odd.why)


def _all() -> dict[str, Odd]:
    return {**MEANINGLESS, **REFUSED}


def _key(name: str) -> str:
    return "odd_" + name.removeprefix("--").replace("-", "_")


def _option(name: str, odd: Odd) -> Decorator:
    names = (name, *odd.names, _key(name))
    if odd.boolean:
        return click.option(*names, cls=GoBool, type=bool, default=None, hidden=True)
    return click.option(*names, multiple=True, hidden=True)
