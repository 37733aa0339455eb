"""Which services make a signature keyless, as a signing configuration or a user names them.

The document is SigningConfig 0.2 of sigstore's protobuf-specs, alone or within a
ClientTrustConfig, which has the trusted root as well. Of several services those count that
are in use now, the newest ones first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import UTC, datetime
from typing import Any, Literal

from imgtools.errors import InvalidInput, InvalidJSON, LimitExceeded, Unsupported
from imgtools.frozen import dataclass
from imgtools.spec import strict_json

CONFIG_LIMIT = 8 * 1024 * 1024

_SIGNING_CONFIG = "application/vnd.dev.sigstore.signingconfig.v0.2+json"
_CLIENT_CONFIG = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogService:
    """A Rekor of the first or second version."""

    url: str
    version: Literal[1, 2] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """`authority` is Fulcio, `logs` are in order of preference, `timestamps` are all asked.

    `root` is the trusted_root.json that what they send is held against; without it only what
    needs no trust is checked.
    """

    authority: str = ""
    logs: tuple[LogService, ...] = ()
    timestamps: tuple[str, ...] = ()
    root: bytes | None = field(default=None, repr=False)

    def promising_log(self) -> LogService:
        """The log for attachments: one that promises, which is Rekor's first version.

        Raises Unsupported.
        """
        for log in self.logs:
            if log.version == 1:
                return log
        raise Unsupported(
            "attachments need a log of Rekor's first version, and none is configured",
            hint="sign with --format bundle, or name such a log with --rekor-url",
        )

    def bundle_log(self) -> LogService:
        """The log for bundles. Raises Unsupported, and InvalidInput for one that gives no
        times where there is no timestamp authority either."""
        if not self.logs:
            raise Unsupported(
                "no log is configured", hint="name one with --rekor-url or --trust-config"
            )
        log = self.logs[0]
        if log.version == 2 and not self.timestamps:
            raise InvalidInput(
                f"{log.url} vouches for no time, and no timestamp authority is configured",
                hint="name one with --timestamp-url",
            )
        return log


def read_trust_config(content: bytes, what: str, *, now: datetime | None = None) -> Services:
    """The services and the root of a ClientTrustConfig; `what` names it in errors.

    Raises InvalidInput, and Unsupported for more logs than one bundle can have entries.
    """
    config = _document(content, what)
    _check_type(config, _CLIENT_CONFIG, what)
    root = _object(config.get("trustedRoot"), f"{what}: trustedRoot")
    signing = _object(config.get("signingConfig"), f"{what}: signingConfig")
    return _services(signing, strict_json.dumps(root), what, now or datetime.now(UTC))


def read_signing_config(
    content: bytes, root: bytes, what: str, *, now: datetime | None = None
) -> Services:
    """The services of a SigningConfig, with the root that belongs to it; raises like
    `read_trust_config`."""
    return _services(_document(content, what), root, what, now or datetime.now(UTC))


def _services(config: Mapping[str, Any], root: bytes, what: str, now: datetime) -> Services:
    _check_type(config, _SIGNING_CONFIG, what)
    authorities = _in_use(config, "caUrls", (1,), what, now)
    if not authorities:
        raise InvalidInput(f"{what} names no certificate authority (caUrls) that is in use now")
    logs = _in_use(config, "rekorTlogUrls", (2, 1), what, now)
    if _wanted(config, "rekorTlogConfig", [version for _, version in logs], what) > 1:
        raise Unsupported(f"{what} asks for entries in several logs: bundles have one")
    stamps = _in_use(config, "tsaUrls", (1,), what, now)
    count = _wanted(config, "tsaConfig", [version for _, version in stamps], what)
    if count > len(stamps):
        raise InvalidInput(f"{what} asks for {count} timestamps and names {len(stamps)} services")
    return Services(
        authority=authorities[0][0],
        logs=tuple(LogService(url=url, version=2 if v == 2 else 1) for url, v in logs),
        timestamps=tuple(url for url, _ in stamps[:count]),
        root=root,
    )


def _in_use(
    config: Mapping[str, Any], name: str, versions: tuple[int, ...], what: str, now: datetime
) -> list[tuple[str, int]]:
    """URLs and API versions of the services that are valid now, the newest ones first."""
    found = []
    entries = config.get(name)
    if not isinstance(entries if entries is not None else [], list):
        raise InvalidInput(f"{what}: {name} is not a list")
    for entry in entries or ():
        value = _object(entry, f"{what}: {name}")
        url, version = value.get("url"), value.get("majorApiVersion")
        if not isinstance(url, str):
            raise InvalidInput(f"{what}: an entry of {name} has no url")
        period = _object(value.get("validFor") or {}, f"{what}: validFor")
        start, end = (_time(period.get(key), what) for key in ("start", "end"))
        if version in versions and (start is None or start <= now) and (end is None or now <= end):
            found.append((-version, -(start.timestamp() if start else 0.0), url))
    return [(url, -version) for version, _, url in sorted(found)]


def _wanted(config: Mapping[str, Any], name: str, versions: list[int], what: str) -> int:
    """How many services a ServiceSelector asks for; ALL means all of the newest version."""
    value = _object(config.get(name) or {}, f"{what}: {name}")
    match value.get("selector"):
        case None | "SERVICE_SELECTOR_UNDEFINED" | "ANY":
            return min(1, len(versions))
        case "ALL":
            return versions.count(max(versions, default=1))
        case "EXACT":
            count = value.get("count")
            if isinstance(count, int) and not isinstance(count, bool) and count > 0:
                return count
    raise InvalidInput(f"{what}: {name} has an unknown selector")


def _document(content: bytes, what: str) -> dict[str, Any]:
    try:
        return strict_json.loads_object(content, what, limit=CONFIG_LIMIT)
    except (InvalidJSON, LimitExceeded) as e:
        raise InvalidInput(e.message) from e


def _check_type(config: Mapping[str, Any], wanted: str, what: str) -> None:
    found = config.get("mediaType")
    if found != wanted:
        raise InvalidInput(f"{what} has the media type {ascii(found)[:100]}: expected {wanted}")


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(f"{what} is not an object")
    return value


def _time(value: object, what: str) -> datetime | None:
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError as e:
        raise InvalidInput(f"{what} has a time that is not RFC 3339") from e
    if found.tzinfo is None:
        raise InvalidInput(f"{what} has a time without a zone")
    return found
