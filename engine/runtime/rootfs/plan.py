"""The decision what the container's file system is made of, from config.json and facts."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.rootfs.model import RootfsFacts, RootfsPlan
    from engine.runtime.spec.model import Config


def plan_rootfs(config: Config, facts: RootfsFacts) -> RootfsPlan:
    """The plan of `config`; pure. Raises InvalidConfig or Unsupported."""
    raise NotImplementedError
