"""Parses one file of containers-registries.conf(5), in its second or its first version.

The rules are those of containers/image, so that one configuration serves all tools: unknown
keys are passed over with a debug message, everything else that is wrong is InvalidInput with
the file and the key. The first version is converted; drop-ins must be of the second.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from imgtools.errors import InvalidInput, InvalidReference
from imgtools.spec.reference import check_registry
from imgtools.transport.registries.model import (
    Layer,
    Mirror,
    PullFromMirror,
    Registry,
    ShortNameMode,
)
from imgtools.transport.registries.short_names import parse_alias

log = logging.getLogger(__name__)

_FIRST_VERSION = ("search", "insecure", "block")


def parse(content: bytes, file: str, *, drop_in: bool = False) -> Layer:
    """What `content`, read from `file`, says; raises InvalidInput."""
    top = _Table(_decode(content, file), file)
    first = _first_version(top)
    layer = _second_version(top)
    top.report_unknown()
    if first is None:
        return layer
    if drop_in:
        raise InvalidInput(
            f"{file}: [registries] is of the first version of the format, "
            "which drop-ins may not have"
        )
    if layer != Layer(file=file):
        raise InvalidInput(f"{file}: the first version of the format is mixed with the second")
    return first


def _decode(content: bytes, file: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(content.decode("utf-8"))
    # RecursionError comes of nesting without end, ValueError of everything else.
    except (ValueError, RecursionError) as e:
        reason = "nested too deeply" if isinstance(e, RecursionError) else str(e)
        raise InvalidInput(f"{file} is not valid TOML: {reason[:1].lower()}{reason[1:]}") from e


@dataclass(slots=True)
class _Table:
    """A TOML table, its values taken by key and kind; what is never taken is unknown.

    Keys are found whatever their case, as the reference implementation does.
    """

    values: Mapping[str, Any]
    where: str
    taken: set[str] = field(default_factory=set)

    def text(self, key: str) -> str:
        """A string, "" without."""
        value = self._take(key)
        return str(self._checked(key, value, str, "a string")) if value is not None else ""

    def flag(self, key: str) -> bool:
        """A boolean, false without."""
        value = self._take(key)
        return value is not None and bool(self._checked(key, value, bool, "a boolean"))

    def texts(self, key: str) -> tuple[str, ...] | None:
        """An array of strings, None without."""
        value = self._take(key)
        if value is None:
            return None
        for item in self._checked(key, value, list, "an array of strings"):
            self._checked(key, item, str, "an array of strings")
        return tuple(value)

    def table(self, key: str) -> _Table | None:
        """A table, None without."""
        value = self._take(key)
        if value is None:
            return None
        return _Table(self._checked(key, value, dict, "a table"), f"{self.where}: [{key}]")

    def tables(self, key: str, name: str) -> Iterable[_Table]:
        """An array of tables, empty without; `name` is how messages call it."""
        value = self._take(key)
        for number, item in enumerate(
            self._checked(key, value if value is not None else [], list, "an array of tables"), 1
        ):
            where = f"{self.where}: [[{name}]] number {number}"
            yield _Table(self._checked(key, item, dict, "an array of tables"), where)

    def report_unknown(self) -> None:
        """Say on the debug log which keys nobody asked for."""
        for key in self.values:
            if key not in self.taken:
                log.debug("%s: unknown key %r is not used", self.where, key)

    def _take(self, key: str) -> Any:
        if key not in self.values:
            key = next((name for name in self.values if name.lower() == key), key)
        self.taken.add(key)
        return self.values.get(key)

    def _checked(self, key: str, value: Any, kind: type, expected: str) -> Any:
        if not isinstance(value, kind):
            raise InvalidInput(f"{self.where}: {key} is not {expected}")
        return value


def _second_version(top: _Table) -> Layer:
    mode = top.text("short-name-mode")
    if mode and mode not in get_args(ShortNameMode):
        raise InvalidInput(f"{top.where}: short-name-mode {mode!r} is not one of "
                           f"{', '.join(get_args(ShortNameMode))}")  # fmt: skip
    if top.text("additional-layer-store-auth-helper"):
        log.debug("%s: additional-layer-store-auth-helper is not used", top.where)
    return Layer(
        file=top.where,
        registries=_registries(top),
        search=_search(top.texts("unqualified-search-registries"), top.where),
        credential_helpers=top.texts("credential-helpers"),
        short_name_mode=_short_name_mode(mode),
        aliases=_aliases(top),
    )


def _short_name_mode(text: str) -> ShortNameMode | None:
    modes: tuple[ShortNameMode, ...] = get_args(ShortNameMode)
    return next((mode for mode in modes if mode == text), None)


def _search(entries: tuple[str, ...] | None, where: str) -> tuple[str, ...] | None:
    if entries is None:
        return None
    found = []
    for entry in entries:
        key = f"{where}: unqualified-search-registries"
        registry = _location(entry, key)
        try:
            check_registry(registry, registry)
        except InvalidReference as e:
            raise InvalidInput(f"{key}: {entry!r} is not a host[:port]") from e
        found.append(registry)
    return tuple(found)


def _aliases(top: _Table) -> tuple[Any, ...]:
    table = top.table("aliases")
    if table is None:
        return ()
    found = []
    for name, target in table.values.items():
        if not isinstance(target, str):
            raise InvalidInput(f"{table.where}: {name} is not a string")
        found.append(parse_alias(name, target, top.where))
    return tuple(found)


def _registries(top: _Table) -> tuple[Registry, ...]:
    """Every prefix once, the first one being the one that counts."""
    found = [_registry(table, top.where) for table in top.tables("registry", "registry")]
    _check_conflicts(found)
    unique: dict[str, Registry] = {}
    for registry in found:
        if unique.setdefault(registry.prefix, registry) is not registry:
            log.debug("%s: the table is there twice, the second one is not used", registry.where)
    return tuple(unique[prefix] for prefix in sorted(unique))


def _registry(table: _Table, file: str) -> Registry:
    location = _location(table.text("location"), f"{table.where}: location")
    prefix = _location(table.text("prefix"), f"{table.where}: prefix")
    wildcard = prefix.startswith("*.")
    if not prefix and not location:
        raise InvalidInput(f"{table.where}: both location and prefix are missing")
    if prefix and not wildcard and not location:
        raise InvalidInput(
            f"{table.where}: location is missing, and the prefix {prefix!r} does not have the "
            "form *.example.com"
        )
    prefix = prefix or location
    if prefix.startswith("*.") and any(character in prefix for character in "/@:"):
        raise InvalidInput(
            f"{table.where}: prefix {prefix!r}: a prefix with a wildcard has the form *.example.com"
        )
    if table.text("pull-from-mirror"):
        raise InvalidInput(
            f"{table.where}: pull-from-mirror is for mirrors, not for the registry {prefix!r}"
        )
    by_digest = table.flag("mirror-by-digest-only")
    registry = Registry(
        prefix=prefix,
        location=location,
        file=file,
        insecure=table.flag("insecure"),
        blocked=table.flag("blocked"),
        mirror_by_digest_only=by_digest,
        mirrors=tuple(
            _mirror(mirror, by_digest) for mirror in table.tables("mirror", "registry.mirror")
        ),
    )
    table.report_unknown()
    return registry


def _mirror(table: _Table, by_digest: bool) -> Mirror:
    location = _location(table.text("location"), f"{table.where}: location")
    if not location:
        raise InvalidInput(f"{table.where}: location is missing")
    pull = table.text("pull-from-mirror")
    modes: tuple[PullFromMirror, ...] = get_args(PullFromMirror)
    if pull and by_digest:
        raise InvalidInput(
            f"{table.where}: pull-from-mirror of {location!r} and mirror-by-digest-only of its "
            "registry cannot both be set"
        )
    if pull and pull not in modes:
        raise InvalidInput(
            f"{table.where}: pull-from-mirror {pull!r} of {location!r} is not one of "
            f"{', '.join(modes)}"
        )
    mirror = Mirror(
        location=location,
        insecure=table.flag("insecure"),
        pull=next((mode for mode in modes if mode == pull), "all"),
    )
    table.report_unknown()
    return mirror


def _location(text: str, where: str) -> str:
    if text.startswith(("http://", "https://")):
        raise InvalidInput(
            f"{where}: {text!r}: a location has no scheme",
            hint=f"write {text.partition('://')[2]!r}; insecure = true allows http",
        )
    return text.rstrip("/")


def _check_conflicts(registries: Iterable[Registry]) -> None:
    """One location may be there under several prefixes, but only with the same security."""
    first: dict[str, Registry] = {}
    for registry in registries:
        location = registry.location or registry.prefix
        other = first.setdefault(location, registry)
        key = ""
        if other.insecure != registry.insecure:
            key = "insecure"
        elif other.blocked != registry.blocked:
            key = "blocked"
        if key:
            raise InvalidInput(
                f"{registry.file}: {location!r} is there more than once, with different values "
                f"of {key!r}"
            )


def _first_version(top: _Table) -> Layer | None:
    """The first version's `[registries.search]`, `insecure` and `block`, None without."""
    table = top.table("registries")
    if table is None:
        return None
    lists: dict[str, tuple[str, ...]] = {}
    for name in _FIRST_VERSION:
        section = table.table(name)
        entries = section.texts("registries") if section is not None else None
        if entries is not None:
            lists[name] = entries
    table.report_unknown()
    if not lists:
        return None
    found: dict[str, Registry] = {}
    _mark(found, lists, "block", top.where)
    _mark(found, lists, "insecure", top.where)
    return Layer(
        file=top.where,
        registries=tuple(found[prefix] for prefix in sorted(found)),
        search=_search(lists.get("search"), top.where),
    )


def _mark(
    found: dict[str, Registry],
    lists: Mapping[str, tuple[str, ...]],
    name: Literal["block", "insecure"],
    file: str,
) -> None:
    for entry in lists.get(name, ()):
        location = _location(entry, f"{file}: [registries.{name}]")
        if not location:
            raise InvalidInput(f"{file}: [registries.{name}]: an entry is empty")
        known = found.get(location) or Registry(prefix=location, location=location, file=file)
        found[location] = (
            replace(known, blocked=True) if name == "block" else replace(known, insecure=True)
        )
