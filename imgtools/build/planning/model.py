"""A plan as frozen data: stages with what they stand on, and steps with everything resolved.

Nothing here has been executed, so that a plan can be printed and tested by tables. What only a
tree can say (the user that a name means, whether a directory is there) is left as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from imgtools.build.language.model import From, Heredoc, Instruction, Mount
from imgtools.build.protocols import BaseImage
from imgtools.frozen import dataclass
from imgtools.spec.platform import Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRef:
    """Another stage of the file, by its index."""

    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRef:
    """An image by its name."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextRef:
    """A build context by its name; "" is the main one."""

    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScratchRef:
    """No image at all."""


SourceRef = StageRef | ImageRef | ContextRef | ScratchRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage as written: `name` in lower case, "" for none; `base` and `platform` are
    expanded; `instructions` come after its FROM."""

    index: int
    name: str
    head: From
    base: str
    platform: str
    instructions: tuple[Instruction, ...]

    @property
    def text(self) -> str:
        """FROM as people are told: with what its variables and --from made of it."""
        if (self.base, self.platform) == (self.head.image, self.head.platform):
            return self.head.text
        platform = (f"--platform={self.platform}",) if self.platform else ()
        name = ("AS", self.name) if self.name else ()
        return " ".join(("FROM", *platform, self.base, *name))

    @property
    def title(self) -> str:
        """What people know the stage by: its name, else its number."""
        return self.name or str(self.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingStage:
    """A stage and what it stands on.

    `source` is what FROM means; `image` the image looked up, for an ImageRef or a context that
    is one. `triggers` are ONBUILD instructions of the base, executed first. `needs` are all
    other sources that its instructions read from.
    """

    stage: Stage
    source: SourceRef
    platform: Platform
    image: BaseImage | None = None
    triggers: tuple[Instruction, ...] = ()
    needs: tuple[SourceRef, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StageState:
    """What instructions up to here have made: `settings` of the config, `variables` for
    expansion and RUN in the order of their definition, `arguments` that ARG has declared
    (value None: none is known). `command_set` says that CMD was in this file."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, str | None] = field(default_factory=dict)
    author: str = ""
    command_set: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MountWork:
    """A mount of RUN with its source found: `mount.target` is absolute."""

    mount: Mount
    source: SourceRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A here-document that is executed itself, because it starts with #!."""

    target: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWork:
    """RUN: `env` are the variables it gets, in order; `hidden` are those of proxies, which
    decide nothing and are kept nowhere."""

    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    hidden: tuple[tuple[str, str], ...]
    user: str
    workdir: str
    mounts: tuple[MountWork, ...]
    script: Script | None
    network: str
    insecure: bool
    volumes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PathsFrom:
    """Paths to copy out of a tree, patterns as written and expanded."""

    source: SourceRef
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlFrom:
    """A URL of ADD."""

    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GitFrom:
    """A repository of ADD, with its fragment or query."""

    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineFrom:
    """A here-document as a source, its variables expanded."""

    document: Heredoc


CopyFrom = PathsFrom | UrlFrom | GitFrom | InlineFrom


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyWork:
    """COPY or ADD: `destination` is absolute and ends with a slash where it was written with
    one (or as `.`)."""

    sources: tuple[CopyFrom, ...]
    destination: str
    add: bool
    from_stage: bool
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    checksum: str = ""
    keep_git_dir: bool | None = None
    unpack: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkdirWork:
    """WORKDIR: the directory is made, with parents, for `user`, where it is not there."""

    path: str
    user: str


Work = RunWork | CopyWork | WorkdirWork


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An instruction with everything resolved: `work` None changes the config alone. `author`
    is the image's after it. `text` is what logs show, `created_by` what history says; for COPY
    and ADD the digest of what was copied goes where `{}` is."""

    instruction: Instruction
    text: str
    created_by: str
    author: str = ""
    work: Work | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """The steps of a stage, and its state at start and end. Those in between are not kept: a
    file can have thousands of variables, and thousands of steps that have them all."""

    standing: StandingStage
    start: StageState
    steps: tuple[Step, ...]
    end: StageState
