"""The trusted root of a sigstore (trusted_root.json, sigstore_trustroot.proto), over time.

Authorities and logs are trusted for periods: one that was replaced, perhaps because its key
was lost, must not vouch for anything after that. sigstore-python leaves most of these periods
to others, so it is given only what was valid at the times that a bundle proves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime
from typing import Any

from imgtools.errors import InvalidJSON, InvalidKey, LimitExceeded
from imgtools.frozen import dataclass
from imgtools.sign.bundles.fields import decoded
from imgtools.spec import strict_json

TRUSTED_ROOT_LIMIT = 4 * 1024 * 1024
_MEDIA_TYPE = "application/vnd.dev.sigstore.trustedroot"
_WHAT = "the trusted root"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Who issues certificates, or vouches for times: the certificates (DER) from its own up to
    the root, trusted from `start` to `end` (None for no bound)."""

    chain: tuple[bytes, ...] = field(repr=False)
    start: datetime | None
    end: datetime | None

    def covers(self, time: datetime) -> bool:
        """Whether it is trusted at that time."""
        return _within(time, self.start, self.end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A transparency log: its public key (SPKI, DER), trusted from `start` to `end`."""

    spki: bytes = field(repr=False)
    start: datetime | None
    end: datetime | None

    def covers(self, times: Sequence[datetime]) -> bool:
        """Whether it is trusted at all of these times."""
        return _covers((self.start, self.end), times)


class TrustedRoot:
    """A trusted root as it was parsed; sigstore-python checks its keys and certificates."""

    def __init__(self, content: bytes) -> None:
        """Raises InvalidKey for what is no trusted root."""
        try:
            self._value = strict_json.loads_object(content, _WHAT, limit=TRUSTED_ROOT_LIMIT)
        except (InvalidJSON, LimitExceeded) as e:
            raise InvalidKey(e.message) from e
        media_type = self._value.get("mediaType")
        if not isinstance(media_type, str) or not media_type.startswith(_MEDIA_TYPE):
            raise InvalidKey(
                f"{_WHAT} has the media type {ascii(media_type)[:100]}: expected {_MEDIA_TYPE}",
                hint="it is the file trusted_root.json of a sigstore",
            )

    @property
    def timestamp_authorities(self) -> tuple[Authority, ...]:
        """Those that have a chain; raises InvalidKey."""
        # A chain of one would be its own root: nobody vouches for it.
        found = self._authorities("timestampAuthorities")
        return tuple(authority for authority in found if len(authority.chain) > 1)

    @property
    def certificate_authorities(self) -> tuple[Authority, ...]:
        """Fulcio, at present and before; raises InvalidKey."""
        return self._authorities("certificateAuthorities")

    @property
    def logs(self) -> tuple[Log, ...]:
        """The transparency logs of signatures; raises InvalidKey."""
        return self._logs("tlogs")

    @property
    def certificate_logs(self) -> tuple[Log, ...]:
        """The transparency logs of certificates; raises InvalidKey."""
        return self._logs("ctlogs")

    def at(self, times: Sequence[datetime], certified: datetime) -> bytes:
        """The root with only the authorities and logs that are trusted at all of `times`, and
        only the certificate logs that were at `certified`; raises InvalidKey."""
        value = dict(self._value)
        value["certificateAuthorities"] = [
            entry
            for entry in self._entries("certificateAuthorities")
            if _covers(_period(entry), times) and all(map(_may_sign_code, _chain(entry)))
        ]
        value["tlogs"] = [
            entry for entry in self._entries("tlogs") if _covers(_key_period(entry), times)
        ]
        value["ctlogs"] = [
            entry for entry in self._entries("ctlogs") if _covers(_key_period(entry), [certified])
        ]
        return strict_json.dumps(value)

    def _authorities(self, name: str) -> tuple[Authority, ...]:
        found = []
        for entry in self._entries(name):
            start, end = _period(entry)
            found.append(Authority(chain=_chain(entry), start=start, end=end))
        return tuple(found)

    def _logs(self, name: str) -> tuple[Log, ...]:
        found = []
        for entry in self._entries(name):
            start, end = _key_period(entry)
            spki = _der(_object(entry.get("publicKey"), "publicKey"))
            found.append(Log(spki=spki, start=start, end=end))
        return tuple(found)

    def _entries(self, name: str) -> list[dict[str, Any]]:
        found = self._value.get(name)
        if found is None:
            return []
        if not isinstance(found, list):
            raise InvalidKey(f"{_WHAT}: {name} is not a list")
        return [_object(entry, name) for entry in found]


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidKey(f"{_WHAT}: {what} is not an object")
    return value


def _chain(entry: Mapping[str, Any]) -> tuple[bytes, ...]:
    found = _object(entry.get("certChain"), "certChain").get("certificates")
    items = found if isinstance(found, list) else []
    return tuple(_der(_object(item, "certificate")) for item in items)


def _may_sign_code(der: bytes) -> bool:
    """Whether a certificate is for code signing, as far as it says what it is for: an authority
    that is constrained to other purposes vouches for no signer, and nobody else looks."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID as Purpose

    try:
        found = x509.load_der_x509_certificate(der).extensions
        usages = list(found.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return True
    except (ValueError, x509.DuplicateExtension) as e:
        raise InvalidKey(f"{_WHAT} has a malformed certificate") from e
    return Purpose.CODE_SIGNING in usages or Purpose.ANY_EXTENDED_KEY_USAGE in usages


def _der(value: Mapping[str, Any]) -> bytes:
    text = value.get("rawBytes")
    try:
        return decoded(text if isinstance(text, str) else "?")
    except ValueError as e:
        raise InvalidKey(f"{_WHAT} has a certificate or key that is not base64") from e


def _key_period(entry: Mapping[str, Any]) -> tuple[datetime | None, datetime | None]:
    return _period(_object(entry.get("publicKey"), "publicKey"))


def _period(entry: Mapping[str, Any]) -> tuple[datetime | None, datetime | None]:
    found = entry.get("validFor")
    value = {} if found is None else _object(found, "validFor")
    return _time(value.get("start")), _time(value.get("end"))


def _time(value: object) -> datetime | None:
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError as e:
        raise InvalidKey(f"{_WHAT} has a time that is not RFC 3339") from e
    if found.tzinfo is None:
        raise InvalidKey(f"{_WHAT} has a time without a zone")
    return found


def _covers(period: tuple[datetime | None, datetime | None], times: Sequence[datetime]) -> bool:
    return all(_within(time, *period) for time in times)


def _within(time: datetime, start: datetime | None, end: datetime | None) -> bool:
    return (start is None or start <= time) and (end is None or time <= end)
