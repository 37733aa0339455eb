"""Images to build from: looked up by manifest and config alone, pulled when layers are needed.

Pull policies are buildah's. An image is asked for once, however many stages name it, and what
is pulled later is the manifest that was looked up, whatever its tag means by then.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import field, replace
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from engine.storage.images import StoredImage
from engine.storage.names import parse_storage_name
from engine.storage.pull import NEXT, PullOptions, candidates
from engine.storage.store import Store
from imgtools.build.protocols import BaseImage
from imgtools.errors import (
    Cancelled,
    Error,
    ImageNotFound,
    InvalidInput,
    InvalidManifest,
    InvalidReference,
    LimitExceeded,
    Unsupported,
)
from imgtools.frozen import dataclass
from imgtools.image.select import choose_instance
from imgtools.spec.config import Config
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Index, Manifest, RawManifest, parse
from imgtools.spec.platform import Platform, choose, from_machine
from imgtools.spec.reference import ImageName, Reference
from imgtools.spec.strict_json import MANIFEST_LIMIT
from imgtools.task import Task
from imgtools.transport.base import Source
from imgtools.transport.options import SourceOptions
from imgtools.transport.table import TRANSPORTS, Transports

if TYPE_CHECKING:
    from imgtools.copy.survey import Admit

log = logging.getLogger(__name__)

POLICIES = ("always", "missing", "newer", "never")
STORAGE = "containers-storage"
UNKNOWN = "unknown"
"""The os of what is in an index but is no image: attestations."""
MAX_DEPTH = 8
"""Levels of indexes in indexes."""
K = TypeVar("K")
T = TypeVar("T")


class Retry(Protocol):
    """Calls an action, and again after trouble that may pass; raises what the last try did."""

    def __call__(self, action: Callable[[], T], /) -> T:
        """What the action returned."""
        ...


def once(action: Callable[[], T], /) -> T:
    """The Retry that does not."""
    return action()


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseOptions:
    """How base images are found: `source` how registries are reached, `check_name` policy,
    which raises Rejected for a name and says who has to admit the manifests; `host` is the
    platform of this machine. `retry` is how often a registry in trouble is asked again."""

    retry: Retry = once
    source: SourceOptions = field(default_factory=SourceOptions)
    check_name: Callable[[ImageName], Admit | None] | None = None
    host: Platform | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a base image is: `stored` in the store, or to be copied from `source`, as it was
    chosen, under the name `name` ("" for none); `digests` are those it is known by. `admit` is
    who admitted its manifest, and has to once more when it is copied."""

    stored: StoredImage | None = None
    source: ImageName | None = None
    name: str = ""
    digests: tuple[str, ...] = ()
    admit: Admit | None = None


class Bases:
    """Looks images up in one store and where they are published; for several threads."""

    def __init__(self, store: Store, transports: Transports, options: BaseOptions) -> None:
        self._store = store
        self._transports = transports
        self._options = options
        self._found = Once[tuple[str, Platform | None, str], BaseImage]()
        self._opening = threading.Lock()

    def look_up(self, text: str, platform: Platform | None, pull: str, *, task: Task) -> BaseImage:
        """The image that FROM names. Raises ImageNotFound, NotFound (no such platform),
        Rejected, InvalidReference, and what transports raise."""
        if pull not in POLICIES:
            raise InvalidInput(f"unknown pull policy {pull!r}: expected one of {POLICIES}")
        return self._found.get(
            (text, platform, pull), lambda: self._look_up(text, platform, pull, task)
        )

    def open(self, name: ImageName) -> Source:
        """A source; openers are made by one thread."""
        with self._opening:
            return self._transports.open_source(name, self._options.source)

    @property
    def retry(self) -> Retry:
        """How often a registry in trouble is asked again."""
        return self._options.retry

    def admit(self, name: ImageName) -> Admit | None:
        """Policy about the image `name`: who has to admit its manifest; raises Rejected."""
        return self._options.check_name(name) if self._options.check_name is not None else None

    def _look_up(self, text: str, platform: Platform | None, pull: str, task: Task) -> BaseImage:
        transport, colon, _ = text.partition(":")
        if colon and transport in TRANSPORTS:
            name = ImageName.parse(text, TRANSPORTS)
            return self.retry(lambda: self._named(text, name, platform, task))
        stored = self._stored(text, platform)
        if pull == "never" or (pull == "missing" and stored is not None):
            if stored is None:
                raise ImageNotFound(f"{text}: image not known", hint="let it be pulled")
            return self._from_store(text, stored)
        try:
            # Where there is another one to take, nobody has to wait for a registry.
            retry = once if stored is not None and pull == "newer" else self.retry
            found = retry(lambda: self._published(text, platform, task))
        except Error as e:
            if stored is None or pull != "newer" or isinstance(e, Cancelled):
                raise
            task.warn(f"{text}: the stored image is used: {e.message}")
            return self._from_store(text, stored)
        if stored is not None and stored.config.digest == _config_digest(found.manifest):
            return self._from_store(text, stored, found)
        return found

    def platforms(self, text: str, pull: str, *, task: Task) -> tuple[Platform, ...]:
        """The platforms that the index of an image names; that of the image where there is no
        index, or where only the store may be asked. Raises as `look_up` does."""
        transport, colon, _ = text.partition(":")
        if pull == "never" or (colon and transport == STORAGE):
            return (self.look_up(text, None, pull, task=task).platform,)
        if colon and transport in TRANSPORTS:
            found = self._platforms(ImageName.parse(text, TRANSPORTS), task)
        else:
            found = self.retry(lambda: self._first(text, lambda n: self._platforms(n, task), task))
        return found or (self.look_up(text, None, pull, task=task).platform,)

    def _platforms(self, name: ImageName, task: Task) -> tuple[Platform, ...]:
        """Those of an index, without what no machine runs; none for a single image."""
        self.admit(name)
        task.cancel.check()
        with self.open(name) as source:
            view = parse(source.top())
        if not isinstance(view, Index):
            return ()
        found = (entry.platform for entry in view.manifests if not entry.artifact_type)
        known = (platform for platform in found if platform is not None and platform.os != UNKNOWN)
        return tuple(dict.fromkeys(platform.normalised() for platform in known))

    def _stored(self, text: str, platform: Platform | None) -> StoredImage | None:
        try:
            image, _ = self._store.find(text)
        except ImageNotFound:
            return None
        if platform is None or not image.platform:
            return image
        return image if choose([Platform.parse(image.platform)], platform) is not None else None

    def _from_store(
        self, text: str, image: StoredImage, published: BaseImage | None = None
    ) -> BaseImage:
        """An image of the store; what `published` says of its digests is newer."""
        manifest = self._store.manifest(image)
        view = parse(manifest)
        config = self._store.config(image)
        return BaseImage(
            name=text,
            pinned=published.pinned if published is not None else _pinned(text, image),
            platform=config.platform,
            manifest=manifest,
            config=config,
            index=published.index if published is not None else None,
            annotations=dict(view.annotations) if isinstance(view, Manifest) else {},
            token=Place(stored=image),
        )

    def _published(self, text: str, platform: Platform | None, task: Task) -> BaseImage:
        """From the first of the registries that `text` may mean which has it."""
        return self._first(text, lambda name: self._named(text, name, platform, task), task)

    def _first(self, text: str, ask: Callable[[ImageName], T], task: Task) -> T:
        """What the first of the registries that `text` may mean answers."""
        found = candidates(text, PullOptions(source=self._options.source))
        for number, reference in enumerate(found):
            task.cancel.check()
            try:
                return ask(ImageName(transport="docker", rest=f"//{reference}"))
            except NEXT as e:
                if number == len(found) - 1:
                    raise
                log.debug("%s: %s", reference, e.message)
        raise ImageNotFound(f"{text}: no registry is configured that may have it")

    def _named(
        self, text: str, name: ImageName, platform: Platform | None, task: Task
    ) -> BaseImage:
        """Exactly the image `name`: manifest and config are read, no layer."""
        admit = self.admit(name)
        if name.transport == STORAGE:
            stored = parse_storage_name(name.rest)
            if stored.spec is None:
                return self._from_store(text, self._store.named(stored))
        task.cancel.check()
        with self.open(name) as source:
            top = source.top()
            if admit is not None and not top.is_index:
                admit(top)
            raw = _instance(source, top, platform or self._options.host or _host())
            if admit is not None and top.is_index:
                admit(raw)
            config = _config(source, raw)
        return _base(text, Place(source=name, admit=admit), top, raw, config)


def _base(text: str, place: Place, top: RawManifest, raw: RawManifest, config: Config) -> BaseImage:
    view = parse(raw)
    pinned, name = "", place.source
    if name is not None and name.transport == "docker":
        reference = Reference.parse(name.rest[2:])
        pinned = f"{reference.name}@{top.digest}"
        # Its tag may mean another image when the layers are wanted.
        chosen = ImageName(transport="docker", rest=f"//{reference.with_digest(raw.digest)}")
        place = replace(place, source=chosen, name=str(reference), digests=(pinned,))
    return BaseImage(
        name=text,
        pinned=pinned,
        platform=config.platform,
        manifest=raw,
        config=config,
        index=top.digest if top is not raw else None,
        annotations=dict(view.annotations) if isinstance(view, Manifest) else {},
        token=place,
    )


def _instance(source: Source, top: RawManifest, platform: Platform) -> RawManifest:
    """The manifest of one image; an index may be in an index."""
    raw = top
    for _ in range(MAX_DEPTH):
        view = parse(raw)
        if not isinstance(view, Index):
            return raw
        raw = source.manifest(choose_instance(view, platform))
    raise LimitExceeded(f"the index {top.digest}", MAX_DEPTH, unit="levels")


def _config(source: Source, raw: RawManifest) -> Config:
    view = parse(raw)
    if not isinstance(view, Manifest):
        raise Unsupported(
            f"{source.origin.name}: its manifest is of Docker's first schema, which names no "
            "config",
            hint="copy it to another place with --format oci, and build from there",
        )
    if view.is_artifact and not view.is_docker:
        raise InvalidManifest(f"{source.origin.name} is no image but {view.config.media_type}")
    if view.config.size > MANIFEST_LIMIT:
        raise LimitExceeded(f"image config {view.config.digest}", MANIFEST_LIMIT)
    with source.open_blob(view.config) as reader:
        config = Config.parse(reader.read())
    if len(config.diff_ids) != len(view.layers):
        raise InvalidManifest(
            f"{source.origin.name}: the config has {len(config.diff_ids)} layers and its "
            f"manifest {len(view.layers)}"
        )
    return config


def _config_digest(raw: RawManifest) -> Digest | None:
    view = parse(raw)
    return view.config.digest if isinstance(view, Manifest) else None


def _pinned(text: str, image: StoredImage) -> str:
    """The digest by which a stored image is known, best in the repository of `text`."""
    try:
        name = Reference.parse(text).name
    except InvalidReference:
        name = ""
    own = [known for known in image.repo_digests if known.partition("@")[0] == name]
    return next(iter(own or image.repo_digests), "")


def _host() -> Platform:
    return from_machine("linux", os.uname().machine)


class Once(Generic[K, T]):
    """Values by key that one thread makes while others wait; an error is nobody else's."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._busy: dict[K, threading.Lock] = {}
        self._values: dict[K, T] = {}

    def get(self, key: K, make: Callable[[], T]) -> T:
        """The value, made by `make` if there is none; raises what that raises."""
        with self._mutex:
            lock = self._busy.setdefault(key, threading.Lock())
        with lock:
            if key not in self._values:
                self._values[key] = make()
            return self._values[key]
