"""What a container is made of: read, checked before it is used, and completed."""

from __future__ import annotations

import os

from engine.runtime import jsontext
from engine.runtime.container.state import CONFIG, StateDir
from engine.runtime.errors import InvalidConfig, refused
from engine.runtime.spec.parse import parse_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.spec.model import Config, Hook

MAX_CONFIG = 16 << 20


def load_config(bundle: str, config_path: str = "") -> Config:
    """The config.json of a bundle, or the file `config_path`; raises InvalidConfig."""
    path = config_path or os.path.join(bundle, CONFIG)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as e:
        raise InvalidConfig(f"JSON specification file {path} not found") from e
    except OSError as e:
        raise refused(f"open {path}", e) from e
    with os.fdopen(fd, "rb") as file:
        try:
            content = file.read(MAX_CONFIG + 1)
        except OSError as e:
            raise refused(f"read {path}", e) from e
    if len(content) > MAX_CONFIG:
        raise InvalidConfig(f"{path} is larger than {MAX_CONFIG} bytes")
    return parse_config(jsontext.parse(content, path))


def saved_config(directory: StateDir) -> Config:
    """The configuration as it was when the container was made; changes since do not count."""
    return parse_config(jsontext.parse(directory.read(CONFIG), f"{directory.path}/{CONFIG}"))


def check_descriptors(count: int) -> None:
    """Raise InvalidConfig unless the first `count` descriptors from 3 on are open."""
    for fd in range(3, 3 + count):
        try:
            os.fstat(fd)
        except OSError as e:
            raise InvalidConfig(f"--preserve-fds {count}: descriptor {fd} is not open") from e


def with_environment(config: Config, environment: tuple[str, ...]) -> Config:
    """`config` with `environment` for the hooks that say nothing of theirs, as runc and crun
    have it; the specification leaves it open."""
    hooks = config.hooks

    def completed(found: tuple[Hook, ...]) -> tuple[Hook, ...]:
        return tuple(h.with_values(env=environment) if h.env is None else h for h in found)

    kinds = {kind: getattr(hooks, kind) for kind in hooks._fields}
    if not any(kinds.values()):
        return config
    values = {kind: completed(found) for kind, found in kinds.items()}
    return config.with_values(hooks=hooks.with_values(**values))
