"""Short names: what `name` means where no registry is given.

Aliases come first, those that tools recorded before those of the configuration; then every
registry of `unqualified-search-registries` is a candidate. Pure: whether somebody is asked
to choose among candidates is the caller's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from imgtools.errors import InvalidInput, InvalidReference, NotFound
from imgtools.frozen import dataclass
from imgtools.spec.reference import Reference, check_repository
from imgtools.transport.registries.model import Alias, RegistriesConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What a name may mean.

    `candidates` are tried in order. `reason` is "full" for a name that is not short, else
    what resolved it; `file` is where that stands. `ambiguous` says that the configuration
    wants a person to choose: "prefer" if there is one, "require" always.
    """

    candidates: tuple[Reference, ...]
    reason: Literal["full", "alias", "search"]
    file: str = ""
    ambiguous: Literal["", "prefer", "require"] = ""


def is_short(text: str) -> bool:
    """Whether `text` names no registry."""
    first, slash, _ = text.partition("/")
    return not (slash and _is_registry(first))


def resolve(
    text: str, config: RegistriesConfig, recorded: Mapping[str, Alias] | None = None
) -> Resolved:
    """What the name `text` (without transport) may mean.

    `recorded` are the aliases of the file that tools keep, which win over those of `config`.
    Raises InvalidReference, and NotFound when nothing is configured that could resolve it.
    """
    reference = Reference.parse(text)
    if not is_short(text):
        return Resolved(candidates=(reference,), reason="full")
    bare = Reference.parse(text, default_tag="")
    name = text.partition("@")[0]
    if bare.tag:
        name = name[: -len(bare.tag) - 1]
    suffix = str(reference)[len(reference.name) :]
    alias = (recorded or {}).get(name) or config.aliases.get(name)
    if alias is not None and alias.target:
        return Resolved(
            candidates=(Reference.parse(alias.target + suffix),), reason="alias", file=alias.file
        )
    if not config.search:
        where = config.search_file or ", ".join(config.files)
        raise NotFound(
            f"short name {text!r}: no alias, and no unqualified-search-registries"
            + (f" in {where}" if where else ""),
            hint=f"give the registry, for example docker.io/{text}",
        )
    candidates = tuple(Reference.parse(f"{registry}/{name}{suffix}") for registry in config.search)
    ambiguous: Literal["", "prefer", "require"] = ""
    if len(candidates) > 1 and config.short_name_mode != "disabled":
        ambiguous = "require" if config.short_name_mode == "enforcing" else "prefer"
    return Resolved(
        candidates=candidates, reason="search", file=config.search_file, ambiguous=ambiguous
    )


def parse_alias(name: str, target: str, file: str) -> Alias:
    """The alias `name = target` of `file`, checked; an empty target takes an alias away.

    Raises InvalidInput.
    """
    where = f"{file}: [aliases] {name!r}"
    try:
        if not is_short(name):
            raise InvalidInput(f"{where}: a short name has no registry")
        check_repository(name, name)
        if not target:
            return Alias(name=name, target="", file=file)
        if is_short(target):
            raise InvalidInput(f"{where}: {target!r} has no registry")
        reference = Reference.parse(target, default_tag="")
    except InvalidReference as e:
        raise InvalidInput(f"{where}: {e.message}") from e
    if reference.tag or reference.digest is not None:
        raise InvalidInput(f"{where}: {target!r} has a tag or a digest")
    return Alias(name=name, target=reference.name, file=file)


def _is_registry(component: str) -> bool:
    return "." in component or ":" in component or component == "localhost"
