"""Lookaside storage: simple signatures in files beside the registry, by manifest digest.

The form is containers/image's: `BASE/REPOSITORY@ALGORITHM=HEX/signature-N`, N from 1 without
a gap. It is read from directories and from web servers, and written to directories.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from urllib.parse import unquote, urlsplit

from imgtools.blob.files import storage_errors
from imgtools.errors import InvalidInput, LimitExceeded, NotFound, StorageError, Unsupported
from imgtools.frozen import dataclass
from imgtools.sign.model import (
    PAYLOAD_LIMIT,
    SIGNATURES_LIMIT,
    TOTAL_LIMIT,
    Format,
    Signature,
    SimpleSignature,
)
from imgtools.sign.openpgp.blob import decode_blob
from imgtools.sign.registries_d import StorePlaces
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.reference import Reference
from imgtools.transport.folder import Folder
from imgtools.transport.lock import locked
from imgtools.transport.options import RegistryOptions

FILE_LIMIT = 2 * PAYLOAD_LIMIT
"""Bytes of a file: other formats than simple signing are a third longer in it."""

_NUMBERED = re.compile(r"signature-([1-9][0-9]{0,9})")
_HINT = "the lookaside URLs are those of registries.d"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    """A base URL: `directory` for file:, else "" and `url` is of a web server."""

    url: str
    directory: str = ""


class Lookaside:
    """Reads and writes the simple signatures of the images of one repository."""

    def __init__(
        self, places: StorePlaces, reference: Reference, options: RegistryOptions | None = None
    ) -> None:
        """`reference` is the image by its own name, not by a mirror's; `options` are how web
        servers are reached, with credentials for none of them. Raises InvalidInput for a
        URL that cannot be one of lookaside storage."""
        self._read = _parse_base(places.lookaside_read)
        self._write = _parse_base(places.lookaside_write)
        self._repository = reference.repository
        self._options = options or RegistryOptions()

    @property
    def holds(self) -> frozenset[Format]:
        """Simple signatures; sigstore's belong into the registry."""
        return frozenset(("simple",))

    def signatures(self, digest: Digest) -> tuple[Signature, ...]:
        """See SignatureReader; 404, or a file that is not there, ends the list.

        Raises RegistryError and Denied for any other answer of a web server, UnsafePath for a
        symbolic link below the base, InvalidSignature when one of them is no signature.
        """
        contents = (
            self._from_directory(self._read.directory, digest)
            if self._read.directory
            else self._from_web(digest)
        )
        place = f"{self._read.url}/{self._folder_name(digest)}"
        return tuple(
            decode_blob(content, f"{place}/signature-{number}")
            for number, content in enumerate(contents, 1)
        )

    def preflight(self) -> None:
        """Raise Unsupported or StorageError where nothing can be written."""
        directory = self._write_directory()
        while not os.path.lexists(directory):
            directory = os.path.dirname(directory)
        if not os.path.isdir(directory) or not os.access(directory, os.W_OK | os.X_OK):
            raise StorageError(
                f"signatures cannot be written to {self._write.url}: {directory} is not a"
                " directory that we may write to",
                path=directory,
                hint=f"set lookaside-staging to another file: URL; {_HINT}",
            )

    def put(self, subject: Descriptor, signatures: Sequence[Signature]) -> int:
        """See SignatureWriter. Files behind a gap, which nobody reads, are removed.

        Raises Unsupported for other formats and where nothing can be written, LimitExceeded
        for more than SIGNATURES_LIMIT, StorageError, UnsafePath.
        """
        blobs = list(dict.fromkeys(_blob(signature) for signature in signatures))
        if not blobs:
            return 0
        with ExitStack() as stack:
            folder = self._made(self._write_directory(), subject.digest, stack)
            stack.enter_context(locked(folder))
            present = _numbered(folder)
            new = [blob for blob in blobs if blob not in present]
            if len(present) + len(new) > SIGNATURES_LIMIT:
                raise LimitExceeded(f"{folder.path}: it", SIGNATURES_LIMIT, unit="signatures")
            if not new:
                return 0
            for name in folder.names():
                found = _NUMBERED.fullmatch(name)
                if found and int(found[1]) > len(present):
                    folder.remove(name)
            for number, blob in enumerate(new, len(present) + 1):
                folder.write(f"signature-{number}", blob)
            folder.sync()
        return len(new)

    def _write_directory(self) -> str:
        if not self._write.directory:
            raise Unsupported(
                f"signatures cannot be written to {self._write.url}: only file: URLs can be"
                " written to",
                hint=f"set lookaside-staging to a file: URL; {_HINT}",
            )
        return self._write.directory

    def _folder_name(self, digest: Digest) -> str:
        """The directory of a manifest's signatures below the base; both parts were parsed, so
        that neither can lead out of it."""
        return f"{self._repository}@{digest.algorithm}={digest.hex}"

    def _from_directory(self, base: str, digest: Digest) -> list[bytes]:
        try:
            folder = Folder.open(base)
            for component in self._folder_name(digest).split("/"):
                with folder:
                    folder = folder.folder(component)
        except NotFound:
            return []
        with folder:
            return _numbered(folder)

    def _from_web(self, digest: Digest) -> list[bytes]:
        from imgtools.sign.stores.lookaside_web import read_numbered

        return read_numbered(
            self._read.url, f"{self._folder_name(digest)}/signature-", self._options
        )

    def _made(self, base: str, digest: Digest, stack: ExitStack) -> Folder:
        """The directory of a manifest's signatures, made if need be and open in `stack`."""
        with storage_errors(base):
            os.makedirs(base, mode=0o755, exist_ok=True)
        folder = stack.enter_context(Folder.open(base))
        for component in self._folder_name(digest).split("/"):
            made, _ = folder.make(component)
            folder = stack.enter_context(made)
        return folder


def _parse_base(url: str) -> _Base:
    """A base URL of registries.d; raises InvalidInput."""
    try:
        parts = urlsplit(url)
    except ValueError as e:
        raise InvalidInput(f"the lookaside URL {url!r} is malformed", hint=_HINT) from e
    match parts.scheme:
        case "file":
            path = unquote(parts.path)
            if parts.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path:
                raise InvalidInput(
                    f"the lookaside URL {url!r} names no absolute path: expected file:///PATH",
                    hint=_HINT,
                )
            return _Base(url=url.rstrip("/"), directory=os.path.normpath(path))
        case "http" | "https" if parts.netloc:
            if "@" in parts.netloc:
                raise InvalidInput(
                    "a lookaside URL has user information, which is not supported", hint=_HINT
                )
            return _Base(url=url.rstrip("/"))
    raise InvalidInput(
        f"the lookaside URL {url!r} is of no kind that is known: expected file:, http: or https:",
        hint=_HINT,
    )


def _blob(signature: Signature) -> bytes:
    if not isinstance(signature, SimpleSignature):
        raise Unsupported(f"lookaside storage keeps no {signature.format} signatures")
    return signature.blob


def _numbered(folder: Folder) -> list[bytes]:
    """signature-1 and on, to the first that is not there; raises LimitExceeded."""
    found: list[bytes] = []
    total = 0
    while (content := folder.read_if_there(f"signature-{len(found) + 1}", FILE_LIMIT)) is not None:
        found.append(content)
        total += len(content)
        if total > TOTAL_LIMIT:
            raise LimitExceeded(f"{folder.path}: all of it together", TOTAL_LIMIT)
        if len(found) > SIGNATURES_LIMIT:
            raise LimitExceeded(f"{folder.path}: it", SIGNATURES_LIMIT, unit="signatures")
    return found
