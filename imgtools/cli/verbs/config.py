"""`imgtools config`: explain the configuration that is in force, without any request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.command import GoBool, go_bool, verb
from imgtools.cli.family import Family
from imgtools.cli.options import registry_flags, registry_options
from imgtools.cli.output import flush, write_lines, write_text
from imgtools.cli.state import Cli
from imgtools.errors import Error, Unsupported
from imgtools.frozen import dataclass
from imgtools.spec.reference import ImageName
from imgtools.transport.table import TRANSPORTS, registry_reference

if TYPE_CHECKING:
    from imgtools.transport.registries.model import RegistriesConfig
    from imgtools.transport.registries.short_names import Resolved
    from imgtools.transport.registry.explain import Explanation, Place


class _Config(Family):
    """Explains our own configuration; everything else is about that of a working container."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """The context of this command, or of that of working containers."""
        if args and not self._is_ours(args):
            from imgtools.cli.working_config import command as other

            return other.make_context(info_name, args, parent)
        return super().make_context(info_name, args, parent, **extra)

    def _is_ours(self, args: list[str]) -> bool:
        """Whether one of our verbs is named, maybe after global options."""
        known = {name: p for p in self.params for name in p.opts}
        position = 0
        while position < len(args) and args[position].startswith("-"):
            word = args[position]
            option = known.get(word.partition("=")[0])
            if word in ("-h", "--help"):
                return True
            if option is None:
                return False
            takes = not isinstance(option, GoBool) and "=" not in word
            position += 2 if takes else 1
        return position < len(args) and args[position] in self.commands


command = _Config(
    "config",
    help="Explain the configuration that is in force, or (config [OPTIONS] CONTAINER) change "
    "that of a working container.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Policy:
    """What policy.json says of a name."""

    file: str
    scope: str
    requirements: tuple[str, ...]


@verb("show", short_help="Show how a reference is reached, and why.")
@click.argument("image", metavar="REFERENCE")
@registry_flags()
@go_bool("--json", help="Print JSON.")
@click.pass_obj
def show(cli: Cli, /, image: str, **kwargs: Any) -> None:
    """Show how REFERENCE would be reached, and which file decided what.

    REFERENCE is docker://NAME, or NAME alone, whose registry may be missing and is then found
    as short names are. Mirrors, credentials, certificates, proxy and policy are shown; nothing
    is sent to anybody, and no secret is shown.
    """
    from imgtools.transport.registries.files import load, load_recorded
    from imgtools.transport.registries.short_names import resolve
    from imgtools.transport.registry.explain import explain

    options = registry_options(cli, "", kwargs)
    config = load(options.registries, aliases=True)
    resolved = None
    if _has_transport(image):
        references = [registry_reference(_docker_name(image))]
    else:
        resolved = resolve(image, config, load_recorded(options.registries))
        references = list(resolved.candidates)
    found = [explain(config, reference, options) for reference in references]
    policies = [_policy(cli, explanation.reference) for explanation in found]
    if kwargs["json"]:
        from imgtools.inspect.text import json_text

        write_text(json_text(_document(config, resolved, found, policies)) + "\n")
        flush()
    else:
        from imgtools.inspect.text import printable

        write_lines(printable(line) for line in _lines(config, resolved, found, policies))


command.add_command(show)


def _has_transport(image: str) -> bool:
    transport, colon, rest = image.partition(":")
    return bool(colon) and (transport in TRANSPORTS or rest.startswith("//"))


def _docker_name(image: str) -> ImageName:
    name = ImageName.parse(image, TRANSPORTS)
    if name.transport != "docker":
        raise Unsupported(f"{image}: only docker:// names have a configuration to show")
    return name


def _policy(cli: Cli, reference: str) -> _Policy | str:
    """What the policy says of a reference, or why it cannot be told."""
    from imgtools.cli.trust import policy_files
    from imgtools.sign.policies.files import load
    from imgtools.sign.policies.model import NAMES
    from imgtools.sign.policies.scopes import choose

    if cli.values.get("insecure_policy"):
        return "not asked, because of --insecure-policy"
    try:
        policies = load(policy_files(cli))
        name = ImageName(transport="docker", rest=f"//{reference}")
        found = choose(policies.policy, name, policies.companion)
    except Error as e:
        return e.message
    kinds = tuple(NAMES[type(requirement)] for requirement in found.requirements)
    return _Policy(file=found.origin, scope=found.scope, requirements=kinds)


def _document(
    config: RegistriesConfig,
    resolved: Resolved | None,
    found: list[Explanation],
    policies: list[_Policy | str],
) -> dict[str, Any]:
    value: dict[str, Any] = {"files": list(config.files)}
    if resolved is not None and resolved.reason != "full":
        value["shortName"] = {
            "resolvedBy": resolved.reason,
            "file": resolved.file,
            "ambiguous": resolved.ambiguous,
        }
    value["references"] = [
        explanation.to_json() | {"policy": _policy_json(policy)}
        for explanation, policy in zip(found, policies, strict=True)
    ]
    return value


def _policy_json(policy: _Policy | str) -> dict[str, Any]:
    if isinstance(policy, str):
        return {"reason": policy}
    return {
        "file": policy.file,
        "scope": policy.scope,
        "requirements": list(policy.requirements),
    }


def _lines(
    config: RegistriesConfig,
    resolved: Resolved | None,
    found: list[Explanation],
    policies: list[_Policy | str],
) -> Iterator[str]:
    yield f"configuration: {', '.join(config.files) or 'no registries.conf'}"
    if resolved is not None and resolved.reason != "full":
        yield f"short name: {_resolution(resolved)}"
    for explanation, policy in zip(found, policies, strict=True):
        yield ""
        yield f"{explanation.reference}"
        for number, place in enumerate(explanation.reads, 1):
            yield f"  read {number}: {place.kind} {place.reference}"
            yield from (f"    {line}" for line in _place_lines(place))
        for location, reason in explanation.skipped:
            yield f"  not read: mirror {location}: {reason}"
        yield f"  write: {explanation.write.reference}"
        yield from (f"    {line}" for line in _place_lines(explanation.write))
        yield f"  policy: {_policy_text(policy)}"


def _resolution(resolved: Resolved) -> str:
    if resolved.reason == "alias":
        return f"an alias of {resolved.file}"
    texts = {
        "": "",
        "prefer": "; somebody at a terminal is asked to choose",
        "require": "; somebody has to choose",
    }
    return f"unqualified-search-registries of {resolved.file}{texts[resolved.ambiguous]}"


def _place_lines(place: Place) -> Iterator[str]:
    if place.blocked_by:
        yield f"blocked:      by {place.blocked_by}"
    yield f"decided by:   {place.decided_by or 'the name itself'}"
    if place.location:
        yield f"location:     {place.location}"
    checks = "not verified, http is allowed" if place.insecure else "verified"
    yield f"TLS:          {checks} ({place.insecure_by})"
    yield f"credentials:  {place.credentials}"
    files = f": {', '.join(place.certificate_files)}" if place.certificate_files else ""
    yield f"certificates: {place.certificates or 'those of the system'}{files}"
    yield f"proxy:        {place.proxy or 'none'}"
    yield f"remembered:   {place.known or 'nothing'}"


def _policy_text(policy: _Policy | str) -> str:
    if isinstance(policy, str):
        return policy
    return f"{', '.join(policy.requirements)} ({policy.file}, scope {policy.scope})"
