"""Reads the file of --tls-details, as containers-tls-details.yaml(5) describes it.

A YAML mapping of minVersion ("1.2", "1.3"), cipherSuites and namedGroups (lists of IANA's
names). A key or a name that is not known is an error, because what is asked for there is
security.
"""

from __future__ import annotations

from typing import Any

from imgtools.errors import InvalidInput, LimitExceeded, NotFound, StorageError
from imgtools.transport.options import TlsDetails

_FILE_LIMIT = 64 * 1024
_KEYS = ("minVersion", "cipherSuites", "namedGroups")
_NULLS = ("", "~", "null", "Null", "NULL")


def read_tls_details(path: str) -> TlsDetails:
    """The details in the file at `path`.

    Raises NotFound, StorageError, LimitExceeded, and InvalidInput for what is not in the
    form of containers-tls-details.yaml(5). What our TLS library cannot do is told when a
    connection needs it.
    """
    from imgtools.transport.registry.wire.tls_names import (
        GROUPS,
        TLS12_SUITES,
        TLS13_SUITES,
        VERSIONS,
    )

    document = _load(path)
    unknown = [key for key in document if key not in _KEYS]
    if unknown:
        raise InvalidInput(f"TLS details {path}: unknown key {unknown[0]!r}")
    version = document.get("minVersion", "")
    version = "" if version in _NULLS else version
    if version and version not in VERSIONS:
        raise InvalidInput(f"TLS details {path}: unknown TLS version {version!r}")
    suites = _names(path, document, "cipherSuites", {*TLS12_SUITES, *TLS13_SUITES})
    groups = _names(path, document, "namedGroups", set(GROUPS))
    return TlsDetails(min_version=version, cipher_suites=suites, named_groups=groups)


def _load(path: str) -> dict[Any, Any]:
    import yaml

    try:
        with open(path, "rb") as file:
            content = file.read(_FILE_LIMIT + 1)
    except FileNotFoundError as e:
        raise NotFound(f"TLS details {path}: the file does not exist") from e
    except OSError as e:
        raise StorageError(f"TLS details {path}: {e.strerror}", path=path) from e
    if len(content) > _FILE_LIMIT:
        raise LimitExceeded(f"TLS details {path}", _FILE_LIMIT)
    try:
        # Every scalar is text: 1.3 is a version, not a number.
        root = yaml.compose(content, Loader=yaml.SafeLoader)
        if isinstance(root, yaml.MappingNode):
            keys = [key.value for key, _ in root.value if isinstance(key, yaml.ScalarNode)]
            repeated = [key for key in keys if keys.count(key) > 1]
            if repeated:
                raise InvalidInput(f"TLS details {path}: {repeated[0]!r} is given twice")
        document = yaml.load(content, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as e:
        detail = str(getattr(e, "problem", None) or type(e).__name__)
        raise InvalidInput(f"TLS details {path}: not a YAML document: {detail}") from e
    if not isinstance(document, dict):
        raise InvalidInput(
            f"TLS details {path}: expected a mapping of {', '.join(_KEYS)}",
            hint="an empty mapping, {}, changes nothing",
        )
    return document


def _names(path: str, document: dict[Any, Any], key: str, known: set[str]) -> tuple[str, ...]:
    """The list at `key`; not given, or null, is empty, but an empty list allows nothing."""
    value = document.get(key, "")
    if value in _NULLS:
        return ()
    if not isinstance(value, list):
        raise InvalidInput(f"TLS details {path}: {key} has to be a list of names")
    if not value:
        raise InvalidInput(f"TLS details {path}: {key} is empty, which allows nothing")
    for name in value:
        if not isinstance(name, str) or name not in known:
            raise InvalidInput(f"TLS details {path}: {key} has an unknown name {name!r}")
    return tuple(value)
