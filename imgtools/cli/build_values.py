"""The values of `build`'s options: what the texts mean that buildah, docker and podman take.

Where a value is that of a file or a variable it is looked up here, so that a mistake is an
error before anything is built.
"""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Mapping, Sequence

from imgtools.build.options import NamedContext, PullPolicy, SecretSource, SshSource
from imgtools.build.source_policy import SourcePolicy, parse_policy
from imgtools.errors import InvalidInput, StorageError
from imgtools.spec.platform import Platform

MAX_ARG_FILE = 1 << 20
FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_799
"""Of the years 1 and 9999."""
PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
_POLICIES: tuple[tuple[PullPolicy, tuple[str, ...]], ...] = (
    ("always", ("true", "always")),
    ("missing", ("", "missing", "ifmissing", "notpresent")),
    ("newer", ("newer", "ifnewer")),
    ("never", ("false", "never")),
)


def words(values: Sequence[str]) -> tuple[str, ...]:
    """Values given one by one or with commas, quoted as in CSV, as cobra reads them. Raises
    InvalidInput for an open quote."""
    try:
        rows = [row for value in values for row in csv.reader([value], strict=True)]
    except csv.Error as e:
        raise InvalidInput(f"invalid list {','.join(values)!r}: {e}") from e
    return tuple(word for row in rows for word in row if word)


def attributes(option: str, value: str, names: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE,NAME=VALUE with the given names; raises InvalidInput."""
    found: dict[str, str] = {}
    for word in words([value]):
        name, sign, rest = word.partition("=")
        if not sign or name not in names:
            expected = ", ".join(f"{name}=" for name in names)
            raise InvalidInput(f"{option} {value}: unexpected {word!r}, expected {expected}")
        found[name] = rest
    return found


def pull_policy(value: str | None, *, always: bool, never: bool) -> PullPolicy:
    """When base images are pulled: `value` of --pull, and its two old forms. Raises
    InvalidInput."""
    if (value is not None) + always + never > 1:
        raise InvalidInput("only one of --pull, --pull-always and --pull-never can be given")
    if always or never:
        return "always" if always else "never"
    for policy, names in _POLICIES:
        if (value or "").lower() in names:
            return policy
    raise InvalidInput(f"--pull {value}: expected always, missing, newer or never")


def build_args(
    files: Sequence[str], values: Sequence[str], env: Mapping[str, str]
) -> dict[str, str | None]:
    """Arguments of files, then those of the command line. One without = has the value that
    `env` has, and where that has none it is as if it were not given at all."""
    found: dict[str, str | None] = {}
    lines = [line for file in files for line in _arg_lines(file)]
    for text in (*lines, *values):
        name, sign, value = text.partition("=")
        if not name:
            raise InvalidInput(f"build argument {text!r} has no name: expected NAME=VALUE")
        if sign:
            found[name] = value
        elif name in env:
            found[name] = env[name]
        else:
            found.pop(name, None)
    return found


def _arg_lines(path: str) -> list[str]:
    content = read_text(path, "--build-arg-file")
    return [line for line in content.split("\n") if line and not line.startswith("#")]


def read_text(path: str, option: str, limit: int = MAX_ARG_FILE) -> str:
    """The text of a file of at most `limit` bytes; raises StorageError, InvalidInput."""
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except OSError as e:
        raise StorageError(f"{option} {path}: {(e.strerror or '').lower()}", path=path) from e
    if len(data) > limit:
        raise InvalidInput(f"{option} {path} is larger than {limit} bytes")
    return data.decode("utf-8", "surrogateescape")


def pairs(values: Sequence[str], option: str) -> tuple[tuple[str, str], ...]:
    """NAME[=VALUE] each, a missing value being empty; the last of a name counts."""
    found: dict[str, str] = {}
    for text in values:
        name, _, value = text.partition("=")
        if not name:
            raise InvalidInput(f"{option} {text!r} has no name: expected NAME[=VALUE]")
        found[name] = value
    return tuple(found.items())


def environment(values: Sequence[str], env: Mapping[str, str]) -> tuple[str, ...]:
    """NAME=VALUE as given; NAME has the value of `env`, NAME* stands for all that begin so;
    what `env` does not have is left out, as buildah does."""
    found: list[str] = []
    for text in values:
        if "=" in text:
            found.append(text)
        elif text.endswith("*"):
            start = text[:-1]
            found += [f"{name}={value}" for name, value in env.items() if name.startswith(start)]
        elif text in env:
            found.append(f"{text}={env[text]}")
    return tuple(found)


def proxies(env: Mapping[str, str]) -> dict[str, str]:
    """The variables of proxies that `env` has, in both spellings."""
    names = [spelt for name in PROXIES for spelt in (name, name.upper())]
    return {name: env[name] for name in names if env.get(name)}


def contexts(values: Sequence[str]) -> tuple[NamedContext, ...]:
    """NAME=PLACE each; buildah's container-image:// and docker:// are docker-image://."""
    found: dict[str, NamedContext] = {}
    for text in values:
        name, _, place = text.partition("=")
        if not name or not place:
            raise InvalidInput(f"--build-context {text!r}: expected NAME=PLACE")
        for prefix in ("container-image://", "docker://"):
            if place.startswith(prefix):
                place = "docker-image://" + place.removeprefix(prefix)
        found[name] = NamedContext(name=name, value=place)
    return tuple(found.values())


def secrets(values: Sequence[str], env: Mapping[str, str]) -> tuple[SecretSource, ...]:
    """id=ID[,src=FILE][,env=NAME][,type=file|env] each. With neither src nor env the secret is
    the variable ID, else the file ID; the last of an id counts. Raises InvalidInput."""
    found = {}
    for text in values:
        secret = _secret(text, env)
        found[secret.id] = secret
    return tuple(found.values())


def _secret(text: str, env: Mapping[str, str]) -> SecretSource:
    given = attributes("--secret", text, ("id", "src", "source", "env", "type"))
    name, kind = given.get("id", ""), given.get("type", "")
    if not name:
        raise InvalidInput(f"--secret {text}: there is no id=")
    if kind not in ("", "file", "env"):
        raise InvalidInput(f"--secret {text}: type is file or env")
    source = given.get("src") or given.get("source") or ""
    if given.get("env"):
        if source or kind == "file":
            raise InvalidInput(f"--secret {text}: either a file or a variable")
        source, kind = given["env"], "env"
    if not kind:
        kind = "env" if not source and name in env else "file"
    source = source or name
    if kind == "env":
        if source not in env:
            raise InvalidInput(f"secret {name}: the variable {source} is not set")
        return SecretSource(id=name, value=os.fsencode(env[source]))
    path = os.path.abspath(source)
    if not os.path.isfile(path):
        raise InvalidInput(f"secret {name}: {source} is not a file that is there")
    return SecretSource(id=name, file=path)


def ssh_sources(values: Sequence[str], env: Mapping[str, str]) -> tuple[SshSource, ...]:
    """default, ID or ID=SOCKET|KEY[,KEY] each; without a path it is the agent of SSH_AUTH_SOCK.
    The last of an id counts. Raises InvalidInput."""
    found = {}
    for text in values:
        name, _, rest = text.partition("=")
        if not name:
            raise InvalidInput(f"--ssh {text!r}: expected default, or ID[=SOCKET|KEY[,KEY]]")
        paths = [os.path.abspath(path) for path in rest.split(",") if path]
        if not paths:
            agent = env.get("SSH_AUTH_SOCK", "")
            if not agent:
                raise InvalidInput(
                    f"--ssh {text}: SSH_AUTH_SOCK is not set",
                    hint="start an agent, or name a socket or keys: --ssh default=PATH",
                )
            paths = [os.path.abspath(agent)]
        sockets = [path for path in paths if _is_socket(path)]
        if sockets and len(paths) > 1:
            raise InvalidInput(f"--ssh {text}: either one socket, or keys")
        found[name] = (
            SshSource(id=name, socket=sockets[0])
            if sockets
            else SshSource(id=name, keys=tuple(paths))
        )
    return tuple(found.values())


def _is_socket(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError as e:
        raise InvalidInput(f"--ssh: {path}: {(e.strerror or '').lower()}") from e
    if stat.S_ISSOCK(mode):
        return True
    if not stat.S_ISREG(mode):
        raise InvalidInput(f"--ssh: {path} is neither a socket nor a key")
    return False


def platforms(
    values: Sequence[str], *, os_name: str, arch: str, variant: str, host: Platform
) -> tuple[Platform, ...]:
    """The platforms of --platform, or the one that --os, --arch and --variant make of `host`;
    empty where none of them is given. `local` is the host's. Raises InvalidInput."""
    single = any((os_name, arch, variant))
    if values and single:
        raise InvalidInput("--platform cannot be given with --os, --arch or --variant")
    if single:
        kept = "" if arch else host.variant
        one = Platform(
            os=os_name or host.os,
            architecture=arch or host.architecture,
            variant=variant or kept,
        )
        return (one.normalised(),)
    return tuple(dict.fromkeys(_platform(text, host) for text in words(values)))


def _platform(text: str, host: Platform) -> Platform:
    if text == "local":
        return host
    os_name, slash, architecture = text.partition("/")
    if slash and bool(os_name) != bool(architecture):
        # buildah fills what is empty from the host: windows/, /arm64.
        text = f"{os_name or host.os}/{architecture or host.architecture}"
    return Platform.parse(text, host)


def seconds(text: str, option: str) -> int:
    """Whole seconds since 1970; raises InvalidInput."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 12:
        raise InvalidInput(f"{option} {text!r}: expected whole seconds since 1970")
    found = int(text)
    if not FIRST_SECOND <= found <= LAST_SECOND:
        raise InvalidInput(f"{option} {text}: only times in the years 1 to 9999 can be written")
    return found


def source_policy(path: str, env: Mapping[str, str]) -> SourcePolicy | None:
    """The policy of a file, that of --source-policy-file or of buildx's variable; None without.
    Raises StorageError, InvalidInput."""
    path = path or env.get("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY", "")
    return parse_policy(read_text(path, "--source-policy-file"), path) if path else None
