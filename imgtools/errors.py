"""The one exception tree of imgtools.

Fields drive behaviour, text is for people: `message` says what failed and what was
expected, lower case and without a final stop; `hint` says what to do about it. No secret
ever enters either. A command line turns any of these into one line and an exit code.

    Error
    ├── InvalidInput          what was given is malformed
    │   ├── InvalidReference      an image name
    │   ├── InvalidDigest         a digest
    │   ├── InvalidJSON           a document: duplicate keys, NaN, nesting, encoding
    │   ├── InvalidManifest       a manifest, index or config that breaks its specification
    │   ├── InvalidArchive        a tar, layer or archive that is malformed
    │   ├── InvalidKey            a key, certificate or key ring that cannot be used
    │   └── UnsafePath            a name that would leave its root
    ├── LimitExceeded         something larger than we agree to read
    ├── NotFound              a tag, manifest, blob or file is not there
    │   ├── ImageNotFound         the image that was asked for (exit code 2)
    │   └── BlobNotFound          a blob that a manifest names
    ├── Denied                credentials are missing, wrong or not enough
    ├── RegistryError         a registry answered with an error status
    ├── ConnectionFailed      no usable answer: DNS, TCP, TLS, time-out, cut
    ├── DigestMismatch        bytes do not have the digest that names them
    ├── SizeMismatch          fewer or more bytes than announced
    ├── Unverified            a verified stream was left before its end
    ├── DigestWouldChange     a change was needed and digests had to be preserved
    ├── Rejected              policy does not admit the image
    │   └── NotSigned             a signature was required, and there is none
    ├── InvalidSignature      a signature, or what came to prove it, does not hold
    ├── Unsupported           a valid request that this version does not do
    ├── Conflict              somebody else holds, or has changed, what we need
    │   └── TagImmutable          a tag that the registry does not let be moved
    ├── StorageError          the local file system refused (no space, no permission)
    ├── SeveralErrors         more than one of the above, from parallel work
    └── Cancelled             the user or a first error stopped the work
"""

from __future__ import annotations

from collections.abc import Sequence


class Error(Exception):
    """Root of every error imgtools raises on purpose.

    `message` is one line; `hint` is an optional second sentence saying what to do. `again`
    says that the same call, made once more, goes another way: a blob was wrong at a mirror,
    or put together of pieces that did not belong together.
    """

    again = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def with_context(self, context: str) -> Error:
        """The same error, its message prefixed with `context` (outermost first)."""
        self.message = f"{context}: {self.message}"
        self.args = (self.message,)
        return self


class InvalidInput(Error):
    """What was given is malformed."""


class InvalidReference(InvalidInput):
    """An image name that breaks its grammar."""

    def __init__(self, text: str, reason: str, *, hint: str | None = None) -> None:
        super().__init__(f"invalid reference {text!r}: {reason}", hint=hint)
        self.text = text
        self.reason = reason


class InvalidDigest(InvalidInput):
    """A digest that breaks the OCI descriptor grammar."""


class InvalidJSON(InvalidInput):
    """A JSON document we refuse to interpret."""


class InvalidManifest(InvalidInput):
    """A manifest, index or config that breaks its specification."""


class InvalidArchive(InvalidInput):
    """A tar, layer or archive that is malformed."""


class InvalidKey(InvalidInput):
    """A key, certificate or key ring that is malformed, or too weak to be used."""


class UnsafePath(InvalidInput):
    """A name in an archive or layout that would leave its root."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"unsafe path {path!r}: {reason}")
        self.path = path
        self.reason = reason


class LimitExceeded(Error):
    """Something is larger than we agree to read; `limit` is in bytes unless `unit` differs."""

    def __init__(self, what: str, limit: int, *, unit: str = "bytes") -> None:
        super().__init__(f"{what} is larger than the limit of {limit} {unit}")
        self.what = what
        self.limit = limit


class NotFound(Error):
    """A tag, manifest, blob or file is not there."""


class ImageNotFound(NotFound):
    """The image that was asked for does not exist (exit code 2, as in skopeo)."""


class BlobNotFound(NotFound):
    """A blob that a manifest names does not exist."""


class Denied(Error):
    """Credentials are missing, wrong or not enough; `host` is the registry."""

    def __init__(self, message: str, *, host: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.host = host


class RegistryError(Error):
    """A registry answered with an error status.

    `code` is the registry's own error code (distribution-spec "Error Codes") or "".
    """

    def __init__(
        self,
        *,
        method: str,
        url: str,
        status: int,
        code: str = "",
        detail: str = "",
        hint: str | None = None,
    ) -> None:
        tail = " ".join(part for part in (code, detail) if part)
        super().__init__(f"{method} {url}: {status}" + (f" {tail}" if tail else ""), hint=hint)
        self.method = method
        self.url = url
        self.status = status
        self.code = code
        self.detail = detail


class ConnectionFailed(Error):
    """No usable answer from `host`: DNS, TCP, TLS, time-out or a cut connection."""

    def __init__(self, message: str, *, host: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.host = host


class DigestMismatch(Error):
    """Bytes do not have the digest that names them."""

    def __init__(self, what: str, *, expected: str, actual: str) -> None:
        super().__init__(f"{what}: digest mismatch: expected {expected}, got {actual}")
        self.expected = expected
        self.actual = actual


class SizeMismatch(Error):
    """Fewer or more bytes than announced; sizes in bytes."""

    def __init__(self, what: str, *, expected: int, actual: int) -> None:
        more = "at least " if actual > expected else ""
        super().__init__(f"{what}: size mismatch: expected {expected} bytes, got {more}{actual}")
        self.expected = expected
        self.actual = actual


class Unverified(Error):
    """A verified stream was left before its end, so its digest was never checked."""


class DigestWouldChange(Error):
    """A change of the manifest was needed, and digests had to be preserved."""


class Rejected(Error):
    """Policy does not admit the image; `requirement` is what refused it."""

    def __init__(self, message: str, *, requirement: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.requirement = requirement


class NotSigned(Rejected):
    """A signature was required, and there is none: every place was read, and held none."""


class InvalidSignature(Error):
    """A signature, or the payload, certificate or log entry that belongs to it, does not hold.

    It is never raised for what could not be read: that is an error of its own kind.
    """


class Unsupported(Error):
    """A valid request that this version does not do."""


class Conflict(Error):
    """Somebody else holds, or has changed, what we need."""


class TagImmutable(Conflict):
    """The tag `name` stays at the manifest `present`, so it cannot be given to `wanted`."""

    def __init__(self, name: str, *, present: str, wanted: str, said: str = "") -> None:
        super().__init__(
            f"{name} is immutable: it is {present} and cannot become {wanted}"
            + (f" ({said})" if said else ""),
            hint="push under another tag, or delete this one first",
        )
        self.name = name
        self.present = present
        self.wanted = wanted


class StorageError(Error):
    """The local file system refused; `path` is what could not be read or written."""

    def __init__(self, message: str, *, path: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path


class SeveralErrors(Error):
    """More than one error from parallel work, first one first."""

    def __init__(self, errors: Sequence[Error]) -> None:
        first, rest = errors[0], len(errors) - 1
        super().__init__(f"{first.message} (and {rest} more)", hint=first.hint)
        self.errors = tuple(errors)


class Cancelled(Error):
    """The user or a first error stopped the work."""

    def __init__(self, message: str = "cancelled") -> None:
        super().__init__(message)
