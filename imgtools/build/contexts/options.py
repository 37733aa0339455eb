"""What opening contexts and fetching sources is given, as frozen data.

Nothing is read from the environment: programs get the variables that stand here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import BinaryIO

from imgtools.frozen import dataclass
from imgtools.transport.options import RegistryOptions


def no_secret(name: str) -> bytes | None:
    """Where there are no secrets."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class GitOptions:
    """How the program `git` is run.

    `environment` is where its PATH, HOME and the variables of ssh and proxies are taken from;
    nothing else of it is passed on. `protocols` are the schemes that may be spoken, for
    submodules too. `ssh_socket` is an agent's. `keep_git_dir` keeps .git in the tree,
    `submodules` fetches those, where the repository's URL does not say otherwise.
    """

    program: str = "git"
    environment: Mapping[str, str] = field(default_factory=dict)
    protocols: tuple[str, ...] = ("http", "https", "git", "ssh")
    ssh_socket: str = ""
    keep_git_dir: bool = False
    submodules: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions:
    """How sources are fetched.

    `registry` has proxies, TLS and time-outs; its credentials are not used. `secret` gives the
    content of the secret of a name, for HTTP_AUTH_TOKEN_<host>, HTTP_AUTH_HEADER_<host>,
    GIT_AUTH_TOKEN and GIT_AUTH_HEADER (also with `.<host>`). `limit` is the most bytes of one
    file. `memory` is a directory that remembers what URLs had, "" remembers nothing.
    """

    registry: RegistryOptions = field(default_factory=RegistryOptions)
    git: GitOptions = field(default_factory=GitOptions)
    secret: Callable[[str], bytes | None] = no_secret
    limit: int = 1 << 38
    memory: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextOptions:
    """How a context is opened.

    `scratch` is a directory where what has to be unpacked or fetched is put, each context in
    a directory of its own that goes when the context is closed. `directory` is what relative
    names are relative to. `cpp_flags` are given to cpp for Containerfiles that end in .in.
    """

    scratch: str
    directory: str = "."
    stdin: BinaryIO | None = None
    cpp_flags: tuple[str, ...] = ()
    fetch: FetchOptions = field(default_factory=FetchOptions)
