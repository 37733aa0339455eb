"""`imgtools verify`: who signed an image, as far as that can be proved."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.command import go_bool, verb
from imgtools.cli.options import registry_flags, registry_options, source_options
from imgtools.cli.output import complain, flush, warn, write_text
from imgtools.cli.retrying import retry_flags, retrying
from imgtools.cli.running import TimedOut
from imgtools.cli.state import Cli
from imgtools.cli.trust import Trust
from imgtools.cli.verify_trust import trust_flags, wanted
from imgtools.errors import (
    BlobNotFound,
    ConnectionFailed,
    Denied,
    DigestMismatch,
    Error,
    ImageNotFound,
    InvalidArchive,
    InvalidInput,
    InvalidJSON,
    InvalidManifest,
    InvalidSignature,
    LimitExceeded,
    NotSigned,
    RegistryError,
    SeveralErrors,
    SizeMismatch,
    StorageError,
    UnsafePath,
)
from imgtools.spec import media_type as mt
from imgtools.spec.reference import ImageName
from imgtools.transport.options import SourceOptions
from imgtools.transport.table import Transports, parse_name, registry_reference

if TYPE_CHECKING:
    from imgtools.sign.policies.model import Requirement
    from imgtools.sign.verify import Manifests, Verification
    from imgtools.transport.base import Source

UNKNOWN = 3
"""The exit code where nobody can tell: not verified, and not known to be unsigned either."""

_UNREADABLE = (
    BlobNotFound,
    ConnectionFailed,
    Denied,
    DigestMismatch,
    InvalidArchive,
    InvalidJSON,
    InvalidManifest,
    InvalidSignature,
    LimitExceeded,
    RegistryError,
    SeveralErrors,
    SizeMismatch,
    StorageError,
    TimedOut,
    UnsafePath,
)
"""What reading ends with; a signature that was read and does not hold is part of a verdict."""


@verb("verify", short_help="Verify the signatures of an image.")
@click.argument("image", metavar="IMAGE-NAME")
@trust_flags
@go_bool(
    "--all",
    "-a",
    "every",
    help="Verify every instance of an index, not only the one for this machine.",
)
@go_bool("--strict", help="Ask for a signature of the index and of each instance.")
@go_bool("--json", "as_json", help="Print the result as JSON.")
@go_bool(
    "--predicate",
    "only_predicate",
    help="With --attestation: print only what was attested, each on a line, as JSON.",
)
@registry_flags()
@retry_flags
@click.pass_obj
def command(cli: Cli, /, **kwargs: Any) -> int:
    """Verify that IMAGE-NAME is signed, and print its digest and who signed it.

    Trust is what the options say: keys, identities in certificates, GPG key rings; without any
    of them it is the policy in force. Use the digest that is printed, not the name, which may
    mean another image by then.

    Exit codes: 0 verified; 1 not signed, or not by whom it should be; 2 no such image; 3 the
    registry does not say, because it refused or failed.
    """  # fmt: skip
    retry = retrying(cli, kwargs)
    options = source_options(cli, registry_options(cli, "", kwargs))
    name = parse_name(kwargs["image"])
    requirements = wanted(kwargs)
    if kwargs["only_predicate"] and not (kwargs["attestation"] and not kwargs["as_json"]):
        raise InvalidInput("--predicate needs --attestation, and goes without --json")
    _load_keys(requirements or ())
    with Transports(cli.cancel, warn=warn) as transports:
        trust = Trust(cli, transports, options)
        if requirements is None:
            # What is wrong with a policy is no answer of a registry.
            trust.gate.check_name(name)
        try:
            if requirements is None:
                return retry(lambda: _by_policy(cli, transports, name, options, trust, kwargs))
            needed = requirements
            return retry(lambda: _verify(cli, transports, name, options, needed, kwargs))
        except ImageNotFound:
            raise
        except _UNREADABLE as e:
            complain(_line(e))
            return UNKNOWN


def _load_keys(requirements: tuple[Requirement, ...]) -> None:
    """Raise what is wrong with what the options name: that is no verdict about an image, and
    known without one."""
    from imgtools.sign.policies.inspect import leaves, load_keys

    now = datetime.now(UTC)
    for requirement in leaves(requirements):
        load_keys(requirement, now)


def _verify(
    cli: Cli,
    transports: Transports,
    name: ImageName,
    options: SourceOptions,
    requirements: tuple[Requirement, ...],
    kwargs: dict[str, Any],
) -> int:
    from imgtools.sign.image_places import image_places
    from imgtools.sign.verify import verify_manifests

    trust = Trust(cli, transports, options)
    with transports.open_source(name, options) as source:
        manifests = _manifests(cli, source, kwargs["every"])
    found = verify_manifests(
        manifests,
        requirements,
        registry_reference(name) if name.transport == "docker" else None,
        image_places(name, transports, options, trust.signature_places),
        clock=lambda: datetime.now(UTC),
        task=cli.task(),
    )
    good = found.complete if kwargs["strict"] else found.verified
    _show(name, found, good, kwargs)
    return 0 if good else 1


def _by_policy(
    cli: Cli,
    transports: Transports,
    name: ImageName,
    options: SourceOptions,
    trust: Trust,
    kwargs: dict[str, Any],
) -> int:
    """What the policy says of the instances, as a copy would ask it."""
    from imgtools.sign.verify import Verification

    gate = trust.gate
    with transports.open_source(name, options) as source:
        manifests = _manifests(cli, source, kwargs["every"])
    asked = manifests.instances or (manifests.top,)
    verdicts = tuple(gate.verdict(name, descriptor.digest) for descriptor in asked)
    if manifests.instances and kwargs["strict"]:
        verdicts = (gate.verdict(name, manifests.top.digest), *verdicts)
        asked = manifests.all
    chosen = verdicts[0].chosen
    if all(verdict.admitted and not verdict.signed for verdict in verdicts):
        raise NotSigned(
            f"{name} is admitted by policy, but no signature is asked for ({chosen.where})",
            hint="say what to trust: --key, --certificate-identity or --gpg-keyring",
        )
    good = all(verdict.signed for verdict in verdicts)
    from imgtools.sign.verify import Manifests

    shown = Verification(manifests=Manifests(top=asked[0], instances=asked[1:]), verdicts=verdicts)
    _show(name, shown, good, kwargs)
    return 0 if good else 1


def _manifests(cli: Cli, source: Source, every: bool) -> Manifests:
    """The top manifest and the instances that are asked about."""
    from imgtools.image.select import choose_instance, is_manifest_entry
    from imgtools.sign.api import subjects
    from imgtools.sign.verify import Manifests
    from imgtools.spec.manifest import Index, parse

    top = source.top()
    view = parse(top)
    if not isinstance(view, Index):
        return Manifests(top=top.descriptor())
    if every:
        _, *instances = subjects(top, source.manifest, recursive=True)
        inner = [parse(source.manifest(d)) for d in instances if mt.kind(d.media_type) == "index"]
        entries = [e for each in (view, *inner) if isinstance(each, Index) for e in each.manifests]
        whole = all(map(is_manifest_entry, entries))
        return Manifests(top=top.descriptor(), instances=tuple(instances), whole=whole)
    return Manifests(top=top.descriptor(), instances=(choose_instance(view, cli.platform()),))


def _show(name: ImageName, found: Verification, good: bool, kwargs: dict[str, Any]) -> None:
    from imgtools.cli.verify_text import as_text, predicates, to_json

    if kwargs["as_json"]:
        write_text(json.dumps(to_json(str(name), found, good)) + "\n")
        flush()
        return
    out, err = as_text(str(name), found, good)
    if kwargs["only_predicate"]:
        out = "".join(f"{line}\n" for line in predicates(found)) if good else ""
    write_text(out)
    flush()
    for line in err:
        complain(line)


def _line(error: Error) -> str:
    return error.message + (f" ({error.hint})" if error.hint else "")
