"""The program `git`, run so that nothing but what is said here has a say: no configuration of
the machine or of a clone, no hooks, no prompts, no protocol that was not allowed.

Credentials go into a configuration file in a private directory, never into arguments.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from imgtools.blob.files import write_file
from imgtools.build.contexts.git_source import GitSource
from imgtools.build.contexts.options import FetchOptions
from imgtools.errors import Error, InvalidInput, LimitExceeded, NotFound, Unsupported
from imgtools.task import Task
from imgtools.transport.registry.wire.url import clean

_OUTPUT_LIMIT = 64 << 20
_TAIL = 64
"""Lines of what git says that are kept."""
_PASSED = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "SSH_AUTH_SOCK", "GIT_SSH_COMMAND")
_SSH = (
    "ssh -o BatchMode=yes -o ForwardAgent=no -o ForwardX11=no -o ConnectTimeout=30"
    # A connection that is kept for others would hold our pipes open.
    " -o ControlMaster=no -o ControlPath=none"
)
_SLOW_SECONDS = 120

_SETTINGS = """\
[core]
hooksPath = /dev/null
attributesFile = /dev/null
excludesFile = /dev/null
fsmonitor = false
autocrlf = false
symlinks = true
logAllRefUpdates = false
[init]
templateDir =
defaultBranch = main
[safe]
directory = *
[credential]
helper =
[advice]
detachedHead = false
[gc]
auto = 0
[maintenance]
auto = false
[fetch]
recurseSubmodules = false
[http]
lowSpeedLimit = 1
"""


class GitFailed(Error):
    """git ended with an error; `said` is what it wrote, for deciding what to try next."""

    def __init__(self, message: str, said: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.said = said


class Git:
    """git for one repository; `home` is a private directory that holds its configuration."""

    def __init__(self, source: GitSource, options: FetchOptions, home: str, *, task: Task) -> None:
        """Raises Unsupported (a protocol that is not allowed, no git), StorageError."""
        git = options.git
        if source.scheme not in git.protocols:
            raise Unsupported(
                f"{source.name}: repositories are not fetched by {source.scheme}",
                hint=f"use one of {', '.join(git.protocols)}",
            )
        path = git.environment.get("PATH", os.defpath)
        program = shutil.which(git.program, path=path)
        if program is None:
            raise Unsupported(
                f"{source.name}: the program {git.program} is needed to fetch repositories",
                hint="install git, or give the files as a directory or an archive",
            )
        self._program = program
        self._source = source
        self._task = task
        config = os.path.join(home, "config")
        write_file(config, _settings(source, options).encode(), mode=0o600)
        self._environment = _environment(options, config)

    def run(self, *arguments: str, directory: str | None = None) -> bytes:
        """What git writes, given `arguments`, in `directory`; raises GitFailed, Cancelled."""
        self._task.cancel.check()
        process = subprocess.Popen(
            [self._program, *arguments],
            cwd=directory or "/",
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            umask=0o022,
            start_new_session=True,
        )

        def end() -> None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        tail: deque[bytes] = deque(maxlen=_TAIL)
        with process, self._task.cancel.calls(end):
            assert process.stdout is not None
            assert process.stderr is not None
            heard = (process.stderr, tail)
            listener = threading.Thread(target=_listen, args=heard, daemon=True)
            listener.start()
            try:
                output = process.stdout.read(_OUTPUT_LIMIT + 1)
                if len(output) > _OUTPUT_LIMIT:
                    raise LimitExceeded(f"what git {arguments[0]} says", _OUTPUT_LIMIT)
                code = process.wait()
            except BaseException:
                end()
                raise
            finally:
                listener.join()
        self._task.cancel.check()
        if code:
            raise self._failed(arguments, b"".join(tail).decode("utf-8", "replace"))
        return output

    def _failed(self, arguments: Sequence[str], said: str) -> GitFailed:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        telling = [line for line in lines if line.startswith(("fatal:", "error:", "remote:"))]
        reason = clean("; ".join(dict.fromkeys(telling or lines[-2:]))) or "it failed"
        command = next((word for word in arguments if not word.startswith("-")), "")
        return GitFailed(
            f"{self._source.name}: git {command}: {reason}", said, hint=_hint(said, self._source)
        )


def _listen(stream: IO[bytes], tail: deque[bytes]) -> None:
    while line := stream.readline(4096):
        tail.append(line)


def _hint(said: str, source: GitSource) -> str | None:
    if "could not read Username" in said or "Authentication failed" in said:
        return "a secret GIT_AUTH_TOKEN gives a token, GIT_AUTH_HEADER a whole header"
    if "returned error: 30" in said:
        return "it has moved, and credentials do not follow: name the URL that it has now"
    if "Host key verification failed" in said:
        return "add the host's key to known_hosts: there is nobody to ask whether to trust it"
    if "Permission denied (publickey" in said:
        return "an agent with the key is needed: --ssh, or SSH_AUTH_SOCK"
    if "transport" in said and "not allowed" in said:
        return "a submodule names a protocol that is not allowed"
    return None


def _environment(options: FetchOptions, config: str) -> dict[str, str]:
    git, proxies = options.git, options.registry.proxies
    given = {name: git.environment[name] for name in _PASSED if name in git.environment}
    fixed = {
        "GIT_CONFIG_GLOBAL": config,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": ":".join(git.protocols),
        "GIT_TEMPLATE_DIR": "",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "LC_ALL": "C",
    }
    environment = {"PATH": os.defpath, "GIT_SSH_COMMAND": _SSH} | given | fixed
    if git.ssh_socket:
        environment["SSH_AUTH_SOCK"] = git.ssh_socket
    if proxies.http:
        environment["http_proxy"] = proxies.http
    if proxies.https:
        environment["https_proxy"] = proxies.https
    if proxies.no_proxy:
        environment["no_proxy"] = ",".join(proxies.no_proxy)
    return environment


def _settings(source: GitSource, options: FetchOptions) -> str:
    """The only configuration that git reads, besides the clone's own, which we make."""
    registry = options.registry
    lines = [_SETTINGS, f"lowSpeedTime = {_SLOW_SECONDS}"]
    if not registry.tls_verify:
        lines.append("sslVerify = false")
    if registry.ca_file:
        lines.append(f"sslCAInfo = {_quoted(registry.ca_file)}")
    header = _authorization(source, options)
    if header:
        origin = source.remote.split("/", 3)
        lines.append(f"[http {_quoted('/'.join(origin[:3]) + '/')}]")
        lines.append(f"extraHeader = {_quoted('Authorization: ' + header)}")
        # git would send the header along to wherever it is redirected, another host's too.
        lines.append("followRedirects = false")
    return "\n".join(lines) + "\n"


def _authorization(source: GitSource, options: FetchOptions) -> str:
    """The header for the repository's own origin: of the secrets, or of its URL; "" for none."""
    import base64

    if source.scheme not in ("http", "https"):
        return ""
    host = source.remote.split("/", 3)[2]
    for suffix in (f".{host}", ""):
        header = options.secret(f"GIT_AUTH_HEADER{suffix}")
        if header is not None:
            return header.decode("utf-8", "strict").strip()
        token = options.secret(f"GIT_AUTH_TOKEN{suffix}")
        if token is not None:
            pair = b"x-access-token:" + token.strip()
            return "basic " + base64.b64encode(pair).decode()
    return source.authorization


def _quoted(value: str) -> str:
    """`value` as a configuration file has it; raises InvalidInput for control characters."""
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in value):
        raise InvalidInput("a value for git's configuration has a control character in it")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def missing(source: GitSource, what: str, hint: str | None = None) -> NotFound:
    """The error for something that a repository does not have."""
    return NotFound(f"{source.name}: {what}", hint=hint)
