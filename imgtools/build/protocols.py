"""What a build asks of an engine: somewhere to keep layers and trees, somewhere to run steps.

`imgtools.build` never imports the engine; the command line joins the two. All methods may be
called from several threads. Layers are named by chain_id as in the OCI image-spec (config.md,
"Layer ChainID"), None being the empty tree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import field
from typing import Protocol

from imgtools.blob.reader import BlobReader, Readable
from imgtools.build.tree import Tree
from imgtools.frozen import dataclass
from imgtools.spec.config import Config
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.spec.platform import Platform
from imgtools.task import Task

Output = Callable[[int, bytes], object]
"""Gets 1 or 2 for standard output or error, and a line as it was written, with its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseImage:
    """An image to start from, looked up but not necessarily pulled.

    `name` is what was asked for, `pinned` the same by digest (`repo@sha256:...`; "" if it has
    none), `index` the digest of the index that led to the manifest, if one did. `layers` are
    diff_ids. `token` is the engine's own note of where the image is.
    """

    name: str
    pinned: str
    platform: Platform
    manifest: RawManifest
    config: Config
    index: Digest | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    token: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLayer:
    """A layer that was made: `size` is the bytes of its uncompressed tar; `empty` says that
    the tar has no member."""

    diff_id: Digest
    chain_id: Digest
    size: int
    empty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Working:
    """A tree that a step writes in, made from the layer `chain_id`; `token` is the engine's."""

    id: str
    chain_id: Digest | None
    token: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitOptions:
    """How a step's changes become a layer; times in whole seconds since the epoch. `mtime`
    replaces all times, `mtime_clamp` those that are later. `exclude` are paths (bytes,
    relative) that are left out with all below them."""

    mtime: int | None = None
    mtime_clamp: int | None = None
    exclude: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRecord:
    """What a step gave when it was last executed, by its key.

    `diff_id` None: the step made no layer. `chain_id` is that of the layer, `parent` the one
    below. `content` is the digest by which COPY finds the result again from another stage, ""
    where none was computed. `created` in seconds since the epoch. `note` is text for people.
    """

    key: str
    parent: Digest | None
    chain_id: Digest | None
    diff_id: Digest | None
    size: int = 0
    created: float = 0.0
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MountSource:
    """Where a mount's content comes from: a directory of the host, or the tree of a layer
    (with `directory` "" ), and a path inside. What of `directory` is outside the context is
    not reachable: paths are resolved within it."""

    directory: str = ""
    chain_id: Digest | None = None
    path: str = ""
    ignored: Callable[[str], bool] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMount:
    """One mount of a step.

    `kind` is bind, cache, tmpfs, secret, file (a file with `content`) or ssh. `target` is
    absolute. A bind without `read_only` takes writes and forgets them after the step. `cache`
    is the name of a cache directory, unique in the store, with `sharing` (shared, private,
    locked) and, where it is new, `source` as its first content. `content` are the bytes of a
    secret or file, `socket` is the agent's socket for ssh.
    """

    kind: str
    target: str
    source: MountSource | None = None
    read_only: bool = False
    cache: str = ""
    sharing: str = "shared"
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    size: int | None = None
    content: bytes = b""
    socket: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """What every RUN of a build is given by the command line, as buildah's options say it.

    `network` "" is the best there is. `ulimits` are (RLIMIT_ name, soft, hard); `volumes` are
    texts as --volume takes them, `devices` as --device. Sizes in bytes. `stdin` says that
    commands read the caller's standard input.
    """

    network: str = ""
    add_hosts: tuple[str, ...] = ()
    no_hosts: bool = False
    no_hostname: bool = False
    dns: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()
    ulimits: tuple[tuple[str, int, int], ...] = ()
    memory: int | None = None
    memory_swap: int | None = None
    cpu_shares: int | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    shm_size: int = 64 << 20
    volumes: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    group_add: tuple[str, ...] = ()
    hostname: str = ""
    stdin: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One RUN, resolved: `args` are executed (looked up on the PATH of `env`, NAME=VALUE), as
    `user` (as in USER, looked up in the image), in `workdir`, which is made if it is missing.
    `insecure` is --security=insecure. `volumes` are paths that VOLUME has declared."""

    args: tuple[str, ...]
    env: tuple[str, ...]
    workdir: str = "/"
    user: str = ""
    mounts: tuple[StepMount, ...] = ()
    network: str = ""
    insecure: bool = False
    settings: HostSettings = field(default_factory=HostSettings)
    platform: Platform | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """How steps are run here: `kind` as in the engine's own table, `reason` one line for
    people, `runs` false where RUN is impossible; then `reason` says why and what to change."""

    kind: str
    reason: str
    runs: bool = True


class SnapshotStore(Protocol):
    """Layers, the trees they make, base images, and what is remembered of earlier builds."""

    def look_up(self, name: str, platform: Platform | None, pull: str, *, task: Task) -> BaseImage:
        """The image that FROM or --from names (a name, or `transport:reference`) without
        pulling its layers. `platform` None is the host's; `pull` is always, missing, newer or
        never. Policy is enforced. Raises ImageNotFound, Rejected, and what transports raise."""
        ...

    def platforms(self, name: str, pull: str, *, task: Task) -> tuple[Platform, ...]:
        """The platforms for which there is an image that FROM names, in the order of its index;
        one for an image without an index. Raises as `look_up` does."""
        ...

    def obtain(self, base: BaseImage, *, task: Task) -> None:
        """Have all layers of `base` here; quick where they are."""
        ...

    def has(self, chain_id: Digest) -> bool:
        """Whether a layer, with all below it, is here."""
        ...

    def apply(
        self, parent: Digest | None, diff_id: Digest, tar: Readable, size: int, *, task: Task
    ) -> NewLayer:
        """Make a layer of an uncompressed tar, which is verified against `diff_id`."""
        ...

    def tree(self, chain_id: Digest | None) -> AbstractContextManager[Tree]:
        """The tree of a layer, read-only, for the block; needs no mount that others see."""
        ...

    def open_layer(self, chain_id: Digest) -> BlobReader:
        """The uncompressed tar of a layer, byte for byte as it was made."""
        ...

    def layer_size(self, chain_id: Digest) -> int:
        """The bytes of that tar; quick. Raises BlobNotFound."""
        ...

    def prepare(self, chain_id: Digest | None, *, task: Task) -> Working:
        """A tree to write in."""
        ...

    def commit(self, working: Working, options: CommitOptions, *, task: Task) -> NewLayer:
        """Make a layer of what was changed in `working`, which may not be used any more."""
        ...

    def discard(self, working: Working) -> None:
        """Throw a tree away; one that is gone is no error."""
        ...

    def find_cached(self, key: str) -> CacheRecord | None:
        """What is remembered of a step, if its layer is still here."""
        ...

    def remember(self, record: CacheRecord) -> None:
        """Remember a step; its layer is kept as long as the record is."""
        ...

    def scratch(self) -> AbstractContextManager[str]:
        """An empty directory on the store's disk, removed after the block."""
        ...

    def keep_image(
        self, manifest: RawManifest, config: bytes, names: Sequence[str], *, task: Task
    ) -> str:
        """Make an image of layers that are here, known by `names`; its id. The manifest
        names layers by their uncompressed digest (diff_id)."""
        ...


class Executor(Protocol):
    """Runs steps."""

    @property
    def isolation(self) -> Isolation:
        """How."""
        ...

    def run(self, working: Working, spec: RunSpec, *, output: Output, task: Task) -> int:
        """Run one step in `working`; the exit code, 128 and the signal's number if one ended
        it. Raises Error with an attribute `code` (126, 127) where it could not be started."""
        ...
