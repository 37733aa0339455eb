"""What `run --mount` shows a command in a working container.

Of binds and tmpfs the options are buildah's; caches, secrets and agents are those of a build's RUN,
and have its options.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from imgtools.cli.build_values import secrets, ssh_sources, words
from imgtools.errors import InvalidInput, Unsupported
from imgtools.frozen import dataclass

if TYPE_CHECKING:
    from engine.containers.options import Tmpfs, Volume
    from engine.storage.store import Store
    from engine.working.model import WorkingContainer
    from imgtools.build.protocols import StepMount
    from imgtools.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkingMounts:
    """The mounts of one command, and the variables (NAME=VALUE) that belong to them."""

    volumes: tuple[Volume, ...] = ()
    tmpfs: tuple[Tmpfs, ...] = ()
    steps: tuple[StepMount, ...] = ()
    env: tuple[str, ...] = ()


@contextmanager
def working_mounts(
    container: WorkingContainer,
    kwargs: dict[str, Any],
    environ: Mapping[str, str],
    store: Store,
    task: Task,
) -> Iterator[WorkingMounts]:
    """The mounts that --mount, --contextdir, --secret and --ssh ask for. Agents that are started
    for keys run for the block. Raises InvalidInput, NotFound, Unsupported."""
    with ExitStack() as undo:
        volumes: list[Volume] = []
        tmpfs: list[Tmpfs] = []
        steps = _Steps(container, kwargs, environ)
        for given in kwargs["mounts"]:
            values = _attributes(given)
            kind = values.pop("type", "bind").lower()
            if kind in ("cache", "secret", "ssh"):
                steps.add(given, store, undo, task)
            elif kind == "bind":
                volumes.append(_bind(given, values, _target(given, values), kwargs["contextdir"]))
            elif kind == "tmpfs":
                tmpfs.append(_tmpfs(given, values, _target(given, values)))
            else:
                raise InvalidInput(
                    f"--mount type={kind}: expected bind, tmpfs, cache, secret or ssh"
                )
        yield WorkingMounts(
            volumes=tuple(volumes),
            tmpfs=tuple(tmpfs),
            steps=tuple(steps.found),
            env=tuple(f"{name}={value}" for name, value in steps.env),
        )


class _Steps:
    """Caches, secrets and agents, collected."""

    def __init__(
        self, container: WorkingContainer, kwargs: dict[str, Any], environ: Mapping[str, str]
    ) -> None:
        self._settings = container.run_config
        self._secrets = secrets(kwargs["secret"], environ)
        self._agents = ssh_sources(kwargs["ssh"], environ)
        self._number = 0
        self.found: list[StepMount] = []
        self.env: list[tuple[str, str]] = []

    def add(self, given: str, store: Store, undo: ExitStack, task: Task) -> None:
        """One value of --mount."""
        from imgtools.build.execute.mounts import add_agent, add_secret, agent_source, cache_mount
        from imgtools.build.execute.ssh import agent_socket
        from imgtools.build.language.mounts import parse_mount
        from imgtools.build.planning.runs import placed_mount

        mount = placed_mount(parse_mount(given), self._settings)
        if mount.from_:
            raise Unsupported(
                f"--mount {given}: from is not supported for working containers",
                hint="copy from the image instead: imgtools copy --from",
            )
        if mount.kind == "cache":
            self.found.append(cache_mount(mount))
        elif mount.kind == "secret":
            add_secret(mount, self._secrets, self.found, self.env)
        else:
            source = agent_source(mount, self._agents)
            if source is not None:
                place = undo.enter_context(store.layers.disk.workspace.directory())
                socket = undo.enter_context(agent_socket(source, place, task=task))
                add_agent(mount, self._number, socket, self.found, self.env)
        self._number += 1


def _target(given: str, values: dict[str, str]) -> str:
    found = [values.pop(key, "") for key in ("target", "dst", "destination")]
    target = next((text for text in found if text), "")
    if not target.startswith("/"):
        raise InvalidInput(f"--mount {given}: expected target=/...")
    return target


def _tmpfs(given: str, values: dict[str, str], target: str) -> Tmpfs:
    from engine.containers.options import Tmpfs

    known = {"tmpfs-size": "size", "size": "size", "tmpfs-mode": "mode", "mode": "mode"}
    if set(values) - set(known):
        raise InvalidInput(f"--mount {given}: unknown option {min(set(values) - set(known))!r}")
    options = tuple(f"{known[key]}={value}" for key, value in values.items())
    return Tmpfs(destination=target, options=options)


def _attributes(given: str) -> dict[str, str]:
    found = {}
    for word in words([given]):
        key, sign, value = word.partition("=")
        found[key] = value if sign else "true"
    return found


def _bind(given: str, values: dict[str, str], target: str, directory: str) -> Volume:
    from engine.containers.options import Volume

    source = values.pop("source", "") or values.pop("src", "")
    if not source:
        raise InvalidInput(f"--mount {given}: expected source=DIRECTORY")
    options = []
    for key, value in values.items():
        if key in ("ro", "readonly", "rw", "readwrite") and value in ("true", "false"):
            options.append("ro" if (key in ("ro", "readonly")) == (value == "true") else "rw")
        elif key == "bind-propagation":
            options.append(value)
        elif key not in ("z", "Z", "relabel"):
            raise InvalidInput(f"--mount {given}: unknown option {key!r}")
    path = os.path.abspath(os.path.join(directory or ".", source))
    return Volume(source=path, destination=target, options=tuple(options))
