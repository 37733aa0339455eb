"""Mounts of RUN that need nothing but what the command line gives: caches, secrets and agents, as
the engine is asked for them.

Working containers have the same ones, so a cache is one cache for both.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from imgtools.build.language.model import Mount
from imgtools.build.options import SecretSource, SshSource
from imgtools.build.protocols import MountSource, StepMount
from imgtools.errors import InvalidInput, NotFound

MAX_SECRET = 500 * 1024
SECRET_MODE = 0o400
CACHE_MODE = 0o755
SOCKET_MODE = 0o600


def cache_mount(
    mount: Mount, space: str = "", first: MountSource | None = None, shown: str = ""
) -> StepMount:
    """A cache of the namespace `space`. What it begins with (`first`, of which `shown` is the
    digest) is part of its name, as in BuildKit: two that begin with other files, or are of
    another owner, are two caches whatever their id."""
    begins = [shown] if first is not None else []
    if mount.uid or mount.gid or mount.mode not in (None, CACHE_MODE):
        mode = CACHE_MODE if mount.mode is None else mount.mode
        begins.append(f"{mount.uid}:{mount.gid}:{mode:o}")
    return StepMount(
        kind="cache",
        target=mount.target,
        source=first,
        read_only=bool(mount.read_only),
        cache=" ".join((f"{space}/{mount.id or mount.target}", *begins)),
        sharing=mount.sharing,
        mode=mount.mode,
        uid=mount.uid,
        gid=mount.gid,
    )


def add_secret(
    mount: Mount,
    secrets: Sequence[SecretSource],
    found: list[StepMount],
    env: list[tuple[str, str]],
) -> None:
    """Add what a secret becomes, nothing where it was not given and is not required. Raises
    NotFound, InvalidInput."""
    secret_id = mount.id or os.path.basename(mount.target)
    secret = next((s for s in secrets if s.id == secret_id), None)
    if secret is None:
        if mount.required:
            raise NotFound(
                f"secret {secret_id!r} is required and was not given",
                hint=f"give it with --secret id={secret_id},src=FILE",
            )
        return
    content = secret_content(secret)
    if mount.env:
        env.append((mount.env, content.decode("utf-8", "surrogateescape")))
    if mount.target:
        mode = SECRET_MODE if mount.mode is None else mount.mode
        found.append(
            StepMount(
                kind="secret",
                target=mount.target,
                content=content,
                read_only=True,
                mode=mode,
                uid=mount.uid,
                gid=mount.gid,
            )
        )


def secret_content(secret: SecretSource) -> bytes:
    """The bytes of a secret; raises InvalidInput where its file cannot be read."""
    if secret.value is not None:
        return secret.value
    try:
        with open(secret.file, "rb") as file:
            content = file.read(MAX_SECRET + 1)
    except OSError as e:
        raise InvalidInput(f"secret {secret.id!r}: {secret.file}: {e.strerror}") from e
    if len(content) > MAX_SECRET:
        raise InvalidInput(f"secret {secret.id!r} is larger than {MAX_SECRET} bytes")
    return content


def agent_source(mount: Mount, sources: Sequence[SshSource]) -> SshSource | None:
    """Which agent a mount means, None where it was not given and is not required. Raises
    NotFound."""
    agent_id = mount.id or "default"
    source = next((s for s in sources if s.id == agent_id), None)
    if source is None and mount.required:
        raise NotFound(
            f"ssh agent {agent_id!r} is required and was not given",
            hint=f"give it with --ssh {agent_id}",
        )
    return source


def add_agent(
    mount: Mount,
    number: int,
    socket: str,
    found: list[StepMount],
    env: list[tuple[str, str]],
) -> None:
    """Add the mount of an agent, the `number`th of its step, and the variable that names it."""
    target = mount.target or f"/run/buildkit/ssh_agent.{number}"
    mode = SOCKET_MODE if mount.mode is None else mount.mode
    found.append(
        StepMount(kind="ssh", target=target, socket=socket, mode=mode, uid=mount.uid, gid=mount.gid)
    )
    env.append(("SSH_AUTH_SOCK", target))
