"""The actions of a copy plan: frozen, one class for each thing that can happen.

Blob actions are independent of one another; manifest actions come children before parents,
and the one that the destination's name shall point at comes last.
"""

from __future__ import annotations

from collections.abc import Mapping

from imgtools.copy.options import Target
from imgtools.copy.rewrite import Draft
from imgtools.frozen import dataclass
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.transport.base import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobAction:
    """What all blob actions have: the blob, what it is, and which instances use it."""

    blob: Descriptor
    role: str
    users: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reuse(BlobAction):
    """The destination has the blob."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount(BlobAction):
    """The destination's registry has the blob in `source`; moved only if mounting fails."""

    source: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(BlobAction):
    """The blob is moved. `certain` is False when the destination was not asked for it.

    `measure` spools it first: "size" because a schema 1 manifest does not say it, "diff_id"
    because the manifest is going to be converted too.
    """

    certain: bool = True
    measure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recompress(BlobAction):
    """The layer is moved in another compression; its new digest is known afterwards."""

    was: str
    target: Target
    level: int | None = None
    diff_id: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decompress(BlobAction):
    """The layer is moved uncompressed; its new digest is its diff_id."""

    was: str
    diff_id: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip(BlobAction):
    """The blob is left where it is, for `reason`."""

    reason: str


AnyBlobAction = Reuse | Mount | Transfer | Recompress | Decompress | Skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestAction:
    """What all manifest actions have.

    `old` is the manifest at the source; `platform` says for people which one it is; `level`
    is 0 for what has no children and one more than its highest child for an index.
    """

    old: Descriptor
    platform: str = ""
    level: int = 0
    top: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReuseManifest(ManifestAction):
    """The destination has the manifest, and so everything it names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PutManifest(ManifestAction):
    """A manifest is put: `raw`, or where layers are changed on the way, `draft` filled in.

    `changes` says what differs from the source; empty means the bytes received.
    """

    raw: RawManifest | None
    draft: Draft | None = None
    changes: tuple[str, ...] = ()
    referrer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PutIndex(ManifestAction):
    """An index is put, after all its children that are copied; fields as of PutManifest."""

    raw: RawManifest | None
    draft: Draft | None = None
    changes: tuple[str, ...] = ()
    referrer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag(ManifestAction):
    """The destination's name is made to point at a manifest that is there already."""

    raw: RawManifest


AnyManifestAction = ReuseManifest | PutManifest | PutIndex | Tag


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyPlan:
    """Everything a copy is going to do; `render` and `to_json` show it.

    `blobs` are in the order in which they are started, `manifests` children first and the
    top one last. `held` is the content of blobs that the survey has read. `up_to_date` says
    that the destination is as the copy would leave it; `root` is what it then holds.
    `images` are the manifests of the image itself, as they are at the source, where they
    were read.
    """

    source: Origin
    destination: Origin
    root: Descriptor
    blobs: tuple[AnyBlobAction, ...] = ()
    manifests: tuple[AnyManifestAction, ...] = ()
    held: Mapping[Digest, bytes]
    warnings: tuple[str, ...] = ()
    up_to_date: bool = False
    images: tuple[Descriptor, ...] = ()
    tmpdir: str | None = None
