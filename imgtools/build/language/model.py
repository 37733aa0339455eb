"""What a Containerfile says, as frozen data: one record per instruction, words as written.

Variables are not expanded here and quotes are still there wherever an instruction expands its
words when it is evaluated (ADD, COPY, ENV, EXPOSE, FROM, LABEL, ONBUILD, STOPSIGNAL, USER,
VOLUME, WORKDIR and the values of flags). The grammar is the Dockerfile reference of BuildKit.
"""

from __future__ import annotations

from dataclasses import field

from imgtools.frozen import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where something is written: the name of the file, first and last line, counted from 1."""

    file: str
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Heredoc:
    """A here-document. `content` ends with a newline unless it is empty; `expand` is false for
    a quoted delimiter; `strip_tabs` is that of `<<-` (done already in `content`); `descriptor`
    is the number in front of `<<`, 0 without one."""

    name: str
    content: str
    expand: bool = True
    strip_tabs: bool = False
    descriptor: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What RUN, CMD, ENTRYPOINT and HEALTHCHECK execute.

    Exec form: `words`, `shell` false. Shell form: `shell` true and one word, the line as joined
    from its continuations; `heredocs` are the documents that follow the line.
    """

    words: tuple[str, ...]
    shell: bool
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """What every instruction has: its keyword in upper case and as written, its place, `text`,
    and `comments`, the lines of comment above it without their `#` (not the directives).

    `text` is what logs and history show: the keyword in upper case, one blank, and the rest as
    joined from its continuations, with flags and without bodies of here-documents. BuildKit
    names its steps so; buildah keeps the keyword as written, which nothing depends on.
    """

    keyword: str
    written: str
    text: str
    location: Location
    comments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class From(Instruction):
    """FROM: `name` is the stage's, in lower case, "" for none."""

    image: str
    platform: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Instruction):
    """RUN: `mounts` are the values of --mount as written, expanded and parsed when the step is
    evaluated (`mounts.parse_mount`); `network` and `security` "" for the default."""

    command: Command
    mounts: tuple[str, ...] = ()
    network: str = ""
    security: str = ""
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Instruction):
    """COPY: `heredocs` are sources given in the file itself, in their place among `sources`
    as words `<<NAME`. `chown` and `chmod` as written; `exclude` are patterns. `json` is
    whether the words were given in JSON form (then they are not quoted)."""

    sources: tuple[str, ...]
    destination: str
    heredocs: tuple[Heredoc, ...] = ()
    from_: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Instruction):
    """ADD: as COPY; `keep_git_dir` and `unpack` None where the flag is not given."""

    sources: tuple[str, ...]
    destination: str
    heredocs: tuple[Heredoc, ...] = ()
    chown: str = ""
    chmod: str = ""
    link: bool = False
    exclude: tuple[str, ...] = ()
    checksum: str = ""
    keep_git_dir: bool | None = None
    unpack: bool | None = None
    json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Instruction):
    """ENV: names and values, quotes and escapes as written; `legacy` for `ENV name value`."""

    pairs: tuple[tuple[str, str], ...]
    legacy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Instruction):
    """LABEL: as ENV; names may have quotes too."""

    pairs: tuple[tuple[str, str], ...]
    legacy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Instruction):
    """ARG: names and defaults (None without one), quotes as written."""

    pairs: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmd(Instruction):
    """CMD."""

    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint(Instruction):
    """ENTRYPOINT."""

    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell(Instruction):
    """SHELL, always in JSON form."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose(Instruction):
    """EXPOSE: words such as `80`, `80/tcp`, `8000-8010/udp`."""

    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(Instruction):
    """VOLUME: paths."""

    paths: tuple[str, ...]
    json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Instruction):
    """USER: the whole rest of the line."""

    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir(Instruction):
    """WORKDIR: the whole rest of the line."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSignal(Instruction):
    """STOPSIGNAL: the whole rest of the line."""

    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck(Instruction):
    """HEALTHCHECK: `command` None for NONE; durations and count as written, "" if not given."""

    command: Command | None
    interval: str = ""
    timeout: str = ""
    start_period: str = ""
    start_interval: str = ""
    retries: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnBuild(Instruction):
    """ONBUILD: the inner instruction, and its text as it goes into the config (here-documents
    with their bodies)."""

    inner: Instruction
    trigger: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintainer(Instruction):
    """MAINTAINER (deprecated)."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Directives:
    """Parser directives: `escape` is one character; `syntax` and `check` are values up to the
    first blank, "" for none."""

    syntax: str = ""
    escape: str = "\\"
    check: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Containerfile:
    """A whole file: its instructions in order, its directives and, for messages, its lines.
    `notes` are what the parser has to say without refusing (an empty continuation line)."""

    name: str
    instructions: tuple[Instruction, ...]
    directives: Directives = field(default_factory=Directives)
    lines: tuple[str, ...] = ()
    notes: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One --mount of RUN, parsed and expanded (Dockerfile reference, "RUN --mount").

    `kind` is bind, cache, tmpfs, secret or ssh. `source` is a path in `from_` ("" is the build
    context; for cache an empty tree). `id` is that of a secret, however it was given; for cache
    and ssh "" where not given. `read_only` None is the kind's default (true for bind, secret,
    ssh). `mode` None, `uid` and `gid` 0 where not given; `size` in bytes. `env` is the variable
    of a secret. `sharing` is shared, private or locked.
    """

    kind: str
    target: str = ""
    source: str = ""
    from_: str = ""
    id: str = ""
    read_only: bool | None = None
    sharing: str = "shared"
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    size: int | None = None
    env: str = ""
    required: bool = False
