"""`imgtools attest`: sign a statement about an image and keep it beside the image."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.command import go_bool, verb
from imgtools.cli.options import registry_flags, registry_options, source_options
from imgtools.cli.output import flush, warn, write_text
from imgtools.cli.retrying import retry_flags, retrying
from imgtools.cli.sign_files import read_input
from imgtools.cli.sign_keyless import check_flags, keyless_flags
from imgtools.cli.sign_makers import key_flags, key_signers
from imgtools.cli.state import Cli
from imgtools.cli.trust import Trust
from imgtools.errors import InvalidInput, Unsupported
from imgtools.spec.reference import ImageName
from imgtools.transport.options import SourceOptions
from imgtools.transport.table import Transports, parse_name, registry_reference

if TYPE_CHECKING:
    from imgtools.sign.attest import ToAttest
    from imgtools.sign.predicates import Predicate
    from imgtools.sign.protocols import StatementSigner


@verb("attest", short_help="Attest something of an image in a registry.")
@click.argument("image", metavar="IMAGE-NAME")
@click.option(
    "--predicate",
    required=True,
    metavar="FILE",
    type=click.Path(allow_dash=True),
    help="What is attested, a JSON document (- for standard input).",
)
@click.option(
    "--type",
    "kind",
    default="custom",
    metavar="TYPE",
    help="Its type: slsaprovenance, slsaprovenance1, spdx, spdxjson, cyclonedx, vuln, openvex, "
    "link, custom (the default), or a URI.",
)
@key_flags
@keyless_flags
@click.option(
    "--format",
    "form",
    default="bundle",
    metavar="FORMAT",
    type=click.Choice(["bundle", "attachment"]),
    help="bundle (a referrer, as of cosign 3; the default) or attachment (.att, as of cosign 2).",
)
@go_bool("--recursive", "-r", help="Attest it of the instances of an index as well.")
@go_bool(
    "--replace",
    help="Take away what the same signer attested before in statements of this type.",
)
@go_bool("--dry-run", help="Show what would be attested, and sign nothing.")
@go_bool("--json", "as_json", help="Print the result as JSON.")
@registry_flags()
@retry_flags
@click.pass_obj
def command(cli: Cli, /, **kwargs: Any) -> None:
    """Sign an in-toto statement that the document FILE holds for the image IMAGE-NAME, and
    keep it beside the image.

    An attestation is no signature of the image: `verify --attestation TYPE` asks for one. What
    the same signer has attested before in the same words is not attested again.
    """  # fmt: skip
    from imgtools.sign.predicates import PREDICATE_LIMIT, read_predicate

    retry = retrying(cli, kwargs)
    options = source_options(cli, registry_options(cli, "", kwargs))
    name = parse_name(kwargs["image"])
    if name.transport != "docker":
        raise Unsupported(f"{name.transport}: attestations are put into registries only")
    content = read_input(kwargs["predicate"], "the predicate", PREDICATE_LIMIT)
    predicate = read_predicate(content, kwargs["kind"], datetime.now(UTC))
    signers = _signers(cli, kwargs)
    for signer in signers:
        signer.preflight()
    with Transports(cli.cancel, warn=warn) as transports:
        retry(lambda: _attest(cli, transports, name, options, predicate, signers, kwargs))


def _signers(cli: Cli, kwargs: dict[str, Any]) -> tuple[StatementSigner, ...]:
    from imgtools.cli.sign_keyless import bundle_log_of_key, keyless_bundle_signer
    from imgtools.sign.key_signers import BundleSigner, EnvelopeSigner

    as_bundle = kwargs["form"] == "bundle"
    keys = key_signers(cli, kwargs)
    if not keys and not kwargs["keyless"]:
        raise InvalidInput("nothing says how to sign: give --key, --signer-command or --keyless")
    if not as_bundle and (kwargs["keyless"] or kwargs["rekor_url"] or kwargs["trust_config"]):
        raise InvalidInput(
            "--format attachment is for keys alone: its certificates and log entries are not "
            "made here",
            hint="make a bundle: --format bundle",
        )
    check_flags({**kwargs, "formats": "bundle"}, with_key=bool(keys))
    made: list[StatementSigner] = []
    for key in keys:
        if as_bundle:
            made.append(BundleSigner(key, log=bundle_log_of_key(cli, kwargs)))
        else:
            made.append(EnvelopeSigner(key))
    if kwargs["keyless"]:
        made.append(keyless_bundle_signer(cli, kwargs))
    return tuple(made)


def _attest(
    cli: Cli,
    transports: Transports,
    name: ImageName,
    options: SourceOptions,
    predicate: Predicate,
    signers: tuple[StatementSigner, ...],
    kwargs: dict[str, Any],
) -> None:
    from imgtools.sign.api import subjects
    from imgtools.sign.attest import execute_attesting, plan_attesting
    from imgtools.sign.image_places import image_places
    from imgtools.sign.stores.attestations import AttestationStore

    trust, task, reference = Trust(cli, transports, options), cli.task(), registry_reference(name)
    places = image_places(name, transports, options, trust.signature_places)
    with transports.open_source(name, options) as source:
        wanted = subjects(source.top(), source.manifest, recursive=kwargs["recursive"])
    plan = plan_attesting(
        wanted,
        signers,
        predicate,
        reference.name,
        lambda digest: places.signatures("attestation", digest),
        replace=kwargs["replace"],
        task=task,
    )
    if not kwargs["dry_run"]:
        now = datetime.now(UTC)
        store = AttestationStore(transports, reference, options.registry, created=now, task=task)
        execute_attesting(plan, signers, store, task=task)
    _show(name, predicate, plan, kwargs)


def _show(
    name: ImageName, predicate: Predicate, plan: tuple[ToAttest, ...], kwargs: dict[str, Any]
) -> None:
    rows = [
        {
            "digest": str(step.subject.digest),
            "mediaType": step.subject.media_type,
            "format": kwargs["form"],
            "state": (
                "present" if step.present else "planned" if kwargs["dry_run"] else "attested"
            ),
            "replaced": 0 if step.present else len(step.replaced),
        }
        for step in plan
    ]
    if kwargs["as_json"]:
        found = {"image": str(name), "predicateType": predicate.type, "attestations": rows}
        write_text(json.dumps(found) + "\n")
    else:
        for row in rows:
            write_text(f"{row['state']}  {row['digest']}  {row['format']}  {predicate.type}\n")
    flush()
