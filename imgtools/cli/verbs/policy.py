"""`imgtools policy`: look at the trust policy without looking at images."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from imgtools.cli.command import go_bool, verb
from imgtools.cli.family import Family
from imgtools.cli.output import flush, write_text
from imgtools.cli.state import Cli
from imgtools.cli.trust import policy_files
from imgtools.transport.table import parse_name

if TYPE_CHECKING:
    from imgtools.sign.policies.files import Policies
    from imgtools.sign.registries_d import StorePlaces
    from imgtools.spec.reference import ImageName


command = Family(
    "policy",
    help="Explain and check policy.json, its companion and registries.d; no registry is asked.",
)


@verb("explain", short_help="Show what a policy asks of an image.")
@click.argument("image", metavar="IMAGE-NAME")
@go_bool("--json", "as_json", help="Print JSON.")
@click.pass_obj
def explain(cli: Cli, image: str, as_json: bool) -> None:
    """Show which scope of the policy decides about IMAGE-NAME, every scope that was looked
    for, what is required, and where signatures are read."""
    from imgtools.cli.policy_text import explained, explained_json
    from imgtools.sign.policies.files import load
    from imgtools.sign.policies.scopes import choose, identity_scopes

    name = parse_name(image)
    policies = load(policy_files(cli))
    chosen = choose(policies.policy, name, policies.companion)
    places = _places(cli, name) if name.transport == "docker" else None
    scopes = identity_scopes(name)
    if as_json:
        write_text(json.dumps(explained_json(str(name), chosen, scopes, places)) + "\n")
    else:
        write_text(explained(str(name), chosen, scopes, places))
    flush()


@verb("check", short_help="Check a policy and the keys that it names.")
@click.argument("file", required=False, type=click.Path(), metavar="[POLICY-FILE]")
@go_bool("--companion", help="POLICY-FILE is a companion.")
@click.pass_obj
def check(cli: Cli, file: str | None, companion: bool) -> int:
    """Check POLICY-FILE, or the policy in force with its companion: its words, and whether
    every key that it names can be used. The exit code is 1 for a policy that is wrong. Scopes
    under which no image falls are warned of."""
    from imgtools.cli.output import complain, warn
    from imgtools.sign.policies.files import accept_all
    from imgtools.sign.policies.idle import idle_scopes
    from imgtools.sign.policies.inspect import problems

    policies = _load(cli, file, companion)
    read = [p for p in (policies.policy, policies.companion) if p not in (None, accept_all())]
    found = [problem for policy in read if policy is not None for problem in problems(policy)]
    for policy in read:
        for line in idle_scopes(policy) if policy is not None else ():
            warn(line)
    for line in found:
        complain(line)
    if not found:
        names = [policy.origin for policy in read if policy is not None]
        write_text("".join(f"{name}: good\n" for name in names) or "no policy file\n")
        flush()
    return 1 if found else 0


def _load(cli: Cli, file: str | None, companion: bool) -> Policies:
    from imgtools.sign.policies.files import PolicyFiles, load

    if file is None:
        return load(policy_files(cli))
    if companion:
        return load(PolicyFiles(companions=(file,), companion_required=True))
    return load(PolicyFiles(policies=(file,), required=True))


def _places(cli: Cli, name: ImageName) -> StorePlaces:
    from imgtools.transport.table import registry_reference

    return cli.signature_places().for_reference(registry_reference(name))


command.add_command(explain)
command.add_command(check)
