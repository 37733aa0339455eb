"""Files that URLs name: their names, the credentials that go with them, and fetching them.

Rules of names and secrets are those of ADD in BuildKit (Dockerfile reference, "Adding files
from a URL").
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from imgtools.blob.files import storage_errors
from imgtools.build.contexts.options import FetchOptions
from imgtools.errors import DigestMismatch, InvalidInput
from imgtools.frozen import dataclass
from imgtools.spec.digest import Digest
from imgtools.task import Task
from imgtools.transport.registry.wire.url import Origin, redact, without_user

_UNNAMED = "__unnamed__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A file that is at `path` now; `modified` false means that nothing was written, because
    what is remembered still holds. `mtime` in seconds since the epoch, None for none."""

    path: str
    digest: Digest | None
    mtime: int | None
    etag: str
    last_modified: str = ""
    modified: bool = True


def shown(url: str) -> str:
    """`url` for messages."""
    return redact(url)


def file_name(url: str) -> str:
    """The name of the file at `url`: the last part of its path, whatever a server says, and
    BuildKit's stand-in where the path has none (dockerfile2llb/convert_copy.go).

    Raises InvalidInput for a name that no file can have.
    """
    try:
        path = unquote(urlsplit(url).path, errors="surrogateescape")
    except ValueError as e:
        raise InvalidInput(f"malformed URL {redact(url)}") from e
    name = path.rstrip("/").rpartition("/")[2]
    if name == ".." or "\0" in name:
        raise InvalidInput(f"{redact(url)}: the URL's path ends in what is no name of a file")
    return _UNNAMED if name in ("", ".") else name


def modified_time(header: str) -> int | None:
    """Seconds since the epoch of a Last-Modified header, None where it says nothing."""
    if not header:
        return None
    from email.utils import parsedate_to_datetime

    try:
        return int(parsedate_to_datetime(header).timestamp())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def authorization(url: str, options: FetchOptions) -> str | None:
    """The Authorization for the origin of `url`: a secret for its host, else what the URL
    itself has. Raises InvalidInput for a secret that no header can hold."""
    origin = Origin.of(url)
    for host in dict.fromkeys((origin.authority, origin.host)):
        header = options.secret(f"HTTP_AUTH_HEADER_{host}")
        if header is not None:
            return _header_value(header, f"HTTP_AUTH_HEADER_{host}")
        token = options.secret(f"HTTP_AUTH_TOKEN_{host}")
        if token is not None:
            return "Bearer " + _header_value(token, f"HTTP_AUTH_TOKEN_{host}")
    parts = urlsplit(url)
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def fetch_to(
    url: str,
    path: str,
    options: FetchOptions,
    *,
    task: Task,
    checksum: str = "",
    headers: Mapping[str, str] | None = None,
) -> Fetched:
    """Write what is at `url` to the new file `path`, which is removed if that fails.

    Raises InvalidInput, DigestMismatch (it has not the digest `checksum`), and what
    `web.download` raises.
    """
    from imgtools.transport.registry.web import download

    expected = Digest.parse(checksum) if checksum else None
    with storage_errors(path), open(path, "x+b", buffering=0) as file:
        try:
            answer = download(
                without_user(url).partition("#")[0],
                file,
                options.registry,
                task=task,
                headers=headers,
                authorization=authorization(url, options),
                limit=options.limit,
            )
            digest = None
            if answer.modified:
                file.seek(0)
                algorithm = expected.algorithm if expected is not None else "sha256"
                hexadecimal = hashlib.file_digest(file, algorithm).hexdigest()
                digest = Digest(algorithm, hexadecimal)
                if expected is not None and digest != expected:
                    raise DigestMismatch(redact(url), expected=str(expected), actual=str(digest))
        except BaseException:
            os.unlink(path)
            raise
    return Fetched(
        path=path,
        digest=digest,
        mtime=modified_time(answer.last_modified),
        etag=answer.etag,
        last_modified=answer.last_modified,
        modified=answer.modified,
    )


def _header_value(secret: bytes, name: str) -> str:
    try:
        text = secret.decode("ascii").strip()
    except UnicodeDecodeError as e:
        raise InvalidInput(f"secret {name} is no value of an HTTP header") from e
    if not text.isprintable():
        raise InvalidInput(f"secret {name} is no value of an HTTP header")
    return text
