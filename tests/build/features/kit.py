"""Real builds for tests of the Containerfile language: written texts in, trees and configs out.

One store per module, steps run in this process's own engine. A build's tree is put together
from its layers' tars as any other reader of the image would do it.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from engine.builds.bases import BaseOptions
from engine.builds.host import BuildHost, build_engine
from engine.builds.store import BuildStore
from engine.ids.model import IdOptions
from engine.ids.session import enter_user_namespace
from engine.probe.model import ProbeOptions
from engine.probe.survey import probe_host
from engine.storage.options import StoreLocation
from engine.storage.store import Store
from imgtools.build.contexts.options import FetchOptions, GitOptions
from imgtools.build.events import BuildEvent, BuildNote, StepFinished, StepOutput
from imgtools.build.execute.api import build
from imgtools.build.execute.environment import BuildEnvironment
from imgtools.build.options import BuildOptions, ConfigEdits, NamedContext
from imgtools.build.outputs.manifests import config_bytes, stored_documents
from imgtools.build.outputs.model import BuiltImage
from imgtools.build.protocols import HostSettings
from imgtools.errors import Error
from imgtools.spec.platform import Platform
from imgtools.spec.strict_json import loads
from imgtools.task import Task
from imgtools.transport.table import Transports
from tests.build.git_rig import environment as git_environment
from tests.engine.run_rig import IMAGE, fill, make_image

HOST = Platform(os="linux", architecture="amd64")
BASE = "localhost/base:latest"
_FROM = re.compile(rb"^(\xef\xbb\xbf)?[ \t]*from[ \t]", re.IGNORECASE | re.MULTILINE)
_BASE = f"""\
FROM {IMAGE}
RUN /bin/busybox --install -s /bin
ENV PATH=/bin INHERITED=base
LABEL from=base
CMD ["base-command"]
"""


@dataclass(frozen=True)
class Node:
    """What is at one path of a tree: `kind` is file, dir, link, fifo, char or block."""

    kind: str
    mode: int
    owner: tuple[int, int]
    text: str = ""
    mtime: float = 0
    raw: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, str] = field(default_factory=dict)

    @property
    def octal(self) -> str:
        """The mode as people write it."""
        return f"{self.mode:o}"


_KINDS = {
    tarfile.REGTYPE: "file", tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "link",
    tarfile.LNKTYPE: "file", tarfile.FIFOTYPE: "fifo", tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
}  # fmt: skip


@dataclass
class Built:
    """The images of a build that went well; what is asked of one is of the first."""

    images: tuple[BuiltImage, ...]
    tars: list[bytes]
    events: list[BuildEvent]
    _tree: dict[str, Node] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """The settings of the config."""
        found = self.document.get("config", {})
        assert isinstance(found, dict)
        return found

    @property
    def document(self) -> dict[str, Any]:
        """The whole config."""
        found = loads(config_bytes(self.images[0].config, "oci"))
        assert isinstance(found, dict)
        return found

    @property
    def env(self) -> dict[str, str]:
        """The variables of the config."""
        return dict(item.partition("=")[::2] for item in self.config.get("Env", []))

    @property
    def tree(self) -> dict[str, Node]:
        """What is in the image, by path without a leading slash."""
        if not self._tree:
            for tar in self.tars:
                _apply(self._tree, tar)
        return self._tree

    def __getitem__(self, path: str) -> str:
        """The text of a file, without blanks around."""
        return self.tree[path].text.strip()

    def lines(self, path: str) -> list[str]:
        """The lines of a file."""
        return self.tree[path].text.splitlines()

    @property
    def last(self) -> list[str]:
        """The paths in the last layer."""
        with tarfile.open(fileobj=io.BytesIO(self.tars[-1])) as tar:
            return sorted(tar.getnames())

    @property
    def out(self) -> str:
        """What steps wrote."""
        return _output(self.events)

    @property
    def warnings(self) -> str:
        """What people are told, a line each."""
        return "\n".join(e.text for e in self.events if isinstance(e, BuildNote))

    @property
    def cached(self) -> list[bool]:
        """For every step, as they ended, whether it was not executed."""
        return [e.cached for e in self.events if isinstance(e, StepFinished)]

    @property
    def history(self) -> list[str]:
        """What the history says that every layer was made by."""
        return [str(entry.get("created_by", "")) for entry in self.document["history"]]


def _output(events: list[BuildEvent]) -> str:
    return b"".join(e.data for e in events if isinstance(e, StepOutput)).decode()


def _apply(tree: dict[str, Node], tar: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(tar)) as found:
        for member in found:
            parent, _, name = member.name.rpartition("/")
            prefix = f"{parent}/" if parent else ""
            if name == ".wh..wh..opq":
                _remove(tree, prefix)
            elif name.startswith(".wh."):
                gone = prefix + name.removeprefix(".wh.")
                tree.pop(gone, None)
                _remove(tree, f"{gone}/")
            else:
                node = _node(found, member, tree)
                if node.kind != "dir":
                    _remove(tree, f"{member.name}/")
                tree[member.name] = node


def _remove(tree: dict[str, Node], prefix: str) -> None:
    for path in [path for path in tree if path.startswith(prefix)]:
        del tree[path]


def _node(found: tarfile.TarFile, member: tarfile.TarInfo, tree: Mapping[str, Node]) -> Node:
    if member.type == tarfile.LNKTYPE:
        return tree[member.linkname]
    content = b""
    if member.isreg():
        reader = found.extractfile(member)
        assert reader is not None
        content = reader.read()
    text = member.linkname if member.issym() else content.decode(errors="replace")
    return Node(
        kind=_KINDS[member.type], mode=member.mode, owner=(member.uid, member.gid), text=text,
        mtime=member.mtime, raw=content, device=(member.devmajor, member.devminor),
        xattrs={k: v for k, v in member.pax_headers.items() if k.startswith("SCHILY")},
    )  # fmt: skip


@dataclass
class Failed(Exception):
    """How a build ended that was to fail: what was said, and what its steps had written."""

    text: str
    out: str

    def __str__(self) -> str:
        return self.text + self.out


class Kit:
    """Builds on one store, each in a context of its own. A text without FROM, unless it is
    `whole`, goes on from BASE."""

    def __init__(self, directory: Path, host: BuildHost, transports: Transports) -> None:
        self.directory = directory
        self.transports = transports
        self.host = host
        self._count = 0

    def context(self, files: Mapping[str, Any] | None = None) -> Path:
        """A new directory with these files: text or bytes, None for a directory, `->TARGET`
        for a link; a name's end `*` is an executable."""
        self._count += 1
        top = self.directory / f"context-{self._count}"
        top.mkdir()
        for name, content in (files or {}).items():
            path = top / name.removesuffix("*")
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.mkdir(exist_ok=True)
            elif isinstance(content, str) and content.startswith("->"):
                path.symlink_to(content[2:])
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)
                path.chmod(0o755 if name.endswith("*") else 0o644)
        return top

    def __call__(
        self,
        text: str | bytes,
        files: Mapping[str, Any] | None = None,
        *,
        context: str | Path | None = None,
        stdin: BinaryIO | None = None,
        contexts: Mapping[str, str | Path] | None = None,
        whole: bool = False,
        named: tuple[str, ...] | None = None,
        name: str = "",
        **options: Any,
    ) -> Built:
        """Build; keep the image as `name`. `named` are the files of the options, where `text`
        is none. Raises Failed."""
        where = self.context(files) if context is None else context
        events: list[BuildEvent] = []
        content = text.encode() if isinstance(text, str) else text
        if not whole and not _FROM.search(content):
            content = f"FROM {BASE}\n".encode() + content
        containerfile = self.directory / f"Containerfile-{self._count}"
        containerfile.write_bytes(content)
        options.setdefault("host", HostSettings(network="none"))
        asked = BuildOptions(
            context=str(where),
            files=(str(containerfile),) if named is None else named,
            contexts=tuple(
                NamedContext(name=key, value=str(v)) for key, v in (contexts or {}).items()
            ),
            **options,
        )
        with BuildStore(self.host.store.store, self.transports) as store:
            environment = BuildEnvironment(
                store=store,
                executor=lambda: self.host.executor,
                host=HOST,
                directory=str(self.directory),
                fetch=FetchOptions(git=GitOptions(environment=git_environment())),
                stdin=stdin,
                report=events.append,
            )
            try:
                result = build(asked, environment, task=Task())
            except Error as e:
                hint = f"\n{e.hint}" if e.hint else ""
                raise Failed(f"{e}{hint}", _output(events)) from None
            if name:
                documents = stored_documents(result.images[0], "oci")
                store.keep_image(documents.manifest, documents.config, (name,), task=Task())
            return Built(result.images, _tars(store, result.images[0]), events)

    def fails(self, text: str | bytes, files: Mapping[str, Any] | None = None, **more: Any) -> str:
        """What a build says that has to fail."""
        with pytest.raises(Failed) as caught:
            self(text, files, **more)
        return caught.value.text

    def echo(self, text: str, *words: str, **more: Any) -> list[str]:
        """What these words are, said by LABEL (so expanded by the build) after a text."""
        labels = "\n".join(f"LABEL said{n}={word}" for n, word in enumerate(words))
        labels = self(f"{text}\n{labels}\n", **more).config["Labels"]
        return [labels[f"said{n}"] for n in range(len(words))]


def _tars(store: BuildStore, image: BuiltImage) -> list[bytes]:
    found = []
    for layer in image.layers:
        with store.open_layer(layer.chain_id) as reader:
            found.append(reader.read())
    return found


@contextmanager
def kit_in(directory: Path) -> Iterator[Kit]:
    """Builds in a new store below `directory`."""
    location = StoreLocation(root=str(directory / "store"), runroot=str(directory / "run"))
    report = probe_host(ProbeOptions(storage=location.root))
    session = enter_user_namespace(IdOptions())
    with Store.open(location) as store:
        fill(store, make_image(directory))
    with ExitStack() as undo:
        store = undo.enter_context(Store.open(location))
        transports = undo.enter_context(Transports())
        host = undo.enter_context(
            build_engine(
                store,
                transports,
                report=report,
                session=session,
                options=BaseOptions(),
                path=("/usr/bin", "/usr/sbin", "/bin", "/sbin"),
                seccomp_cache=str(directory / "seccomp"),
                warn=lambda text: None,
            )
        )
        kit = Kit(directory, host, transports)
        kit(_BASE, name=BASE, edits=ConfigEdits(identity_label=False))
        yield kit
