"""What URLs had when they were last fetched, so that a server can say that it still holds.

One small JSON file for each URL, named by a hash of it: URLs may hold secrets. A file that is
damaged, or was written by somebody else, is as good as none.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os

from imgtools.blob.files import write_file
from imgtools.errors import Error
from imgtools.frozen import dataclass
from imgtools.spec import strict_json
from imgtools.spec.digest import Digest

log = logging.getLogger(__name__)

_LIMIT = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What a URL had: the digest of its content and the server's own words for it; `mtime` in
    seconds since the epoch."""

    digest: Digest
    etag: str = ""
    last_modified: str = ""
    mtime: int | None = None


class UrlMemory:
    """The memory in `directory`, "" for none."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def get(self, url: str) -> Remembered | None:
        """What is remembered of `url`, None for nothing."""
        if not self._directory:
            return None
        try:
            with open(self._path(url), "rb") as file:
                found = strict_json.loads(file.read(_LIMIT), limit=_LIMIT)
            return Remembered(
                digest=Digest.parse(found["digest"]),
                etag=_header(found["etag"]),
                last_modified=_header(found["last_modified"]),
                mtime=found["mtime"] if isinstance(found["mtime"], int) else None,
            )
        except FileNotFoundError:
            return None
        except (OSError, Error, TypeError, KeyError, ValueError, AttributeError) as e:
            log.debug("what is remembered of a URL is of no use: %s", e)
            return None

    def put(self, url: str, remembered: Remembered) -> None:
        """Remember; where that is impossible nothing is lost but time."""
        if not self._directory:
            return
        document = {
            "digest": str(remembered.digest),
            "etag": remembered.etag,
            "last_modified": remembered.last_modified,
            "mtime": remembered.mtime,
        }
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            write_file(self._path(url), json.dumps(document).encode(), mode=0o600)
        except (OSError, Error) as e:
            log.debug("cannot remember a URL: %s", e)

    def _path(self, url: str) -> str:
        return os.path.join(self._directory, hashlib.sha256(url.encode()).hexdigest() + ".json")


def _header(value: object) -> str:
    """A header's value that was written by us, and by nobody into another header."""
    if not isinstance(value, str) or not value.isprintable() or not value.isascii():
        raise ValueError("no value of a header")
    return value
