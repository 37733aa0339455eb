"""The ten builds: what each is, and how it is asked for.

The contexts are beside this file. Each ends with a command that looks at what it made, so that a
build that succeeds has been checked even where no other program builds beside ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CONTEXTS = Path(__file__).parent / "contexts"
PARENT = "localhost/real/parent:latest"
"""The name of the image with ONBUILD, which stays in the store."""
SECRET = "s3cret-value"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A build. In `options`, {secret} is the file with the secret and {agent} the agent's socket;
    `parent` is a Containerfile that is built first; `subdirectory` is the context in a repository
    of the files, fetched by git; `newer` says why an old buildah may fail to build it."""

    name: str
    what: str
    options: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    parent: str = ""
    subdirectory: str = ""
    newer: str = ""


CASES = (
    Case(name="apt", what="a tool installed by apt"),
    Case(name="pip", what="a Python project: venv, two stages, a user"),
    Case(name="npm", what="a Node project: cache mount, ignore file"),
    Case(name="static", what="C, linked statically, FROM scratch"),
    Case(name="git", what="a subdirectory of a git repository", subdirectory="sub"),
    Case(name="heredocs", what="here-documents", newer="buildah has them since 1.33"),
    Case(
        name="mounts",
        what="RUN --mount of all types",
        options=("--secret", "id=token,src={secret}", "--ssh", "default={agent}"),
    ),
    Case(
        name="platforms",
        what="an index of three platforms",
        platforms=("linux/amd64", "linux/arm64", "linux/arm/v7"),
    ),
    Case(
        name="onbuild",
        what="child of an image with ONBUILD, docker format",
        options=("--format", "docker", "--pull=never", "--build-arg", "V=7"),
        parent="Containerfile.parent",
    ),
    Case(name="squash", what="--squash of owners, modes and removals", options=("--squash",)),
)
