"""`imgtools sign`: sign an image where it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from imgtools.cli.command import go_bool, verb
from imgtools.cli.options import registry_flags, registry_options, source_options
from imgtools.cli.output import flush, warn, write_text
from imgtools.cli.retrying import retry_flags, retrying
from imgtools.cli.sign_makers import maker_flags, makers
from imgtools.cli.state import Cli
from imgtools.cli.trust import Trust
from imgtools.errors import InvalidInput, Unsupported
from imgtools.spec.reference import ImageName, Reference
from imgtools.transport.options import SourceOptions
from imgtools.transport.table import Transports, parse_name, registry_reference

if TYPE_CHECKING:
    from imgtools.sign.api import SignPlan, ToSign
    from imgtools.sign.model import Signature
    from imgtools.sign.protocols import ImageSigner


@verb("sign", short_help="Sign an image in a registry.")
@click.argument("image", metavar="IMAGE-NAME")
@maker_flags
@go_bool(
    "--recursive",
    "-r",
    default=True,
    help="Sign the instances of an index as well as the index (default: true).",
)
@click.option(
    "--sign-identity",
    metavar="NAME:TAG",
    default="",
    help="Sign by this name instead of IMAGE-NAME.",
)
@go_bool("--again", help="Sign also what the same signer has signed by this name before.")
@go_bool("--dry-run", help="Show what would be signed, and sign nothing.")
@go_bool("--json", "as_json", help="Print the result as JSON.")
@registry_flags()
@retry_flags
@click.pass_obj
def command(cli: Cli, /, **kwargs: Any) -> None:
    """Sign the image IMAGE-NAME, which is named docker://, where it is.

    By default a signature is a sigstore attachment, which skopeo, podman, CRI-O and cosign
    verify; --format bundle makes what cosign 3 makes, with the name that was signed as an
    annotation. An index is signed with all its instances. The digests are those that the name
    means now; nothing is signed twice alike.
    """  # fmt: skip
    retry = retrying(cli, kwargs)
    registry = registry_options(cli, "", kwargs)
    options = source_options(cli, registry)
    name = parse_name(kwargs["image"])
    if name.transport != "docker":
        raise Unsupported(
            f"{name.transport}: images are not signed where they are",
            hint="sign while copying: imgtools copy --sign-by-sigstore-private-key",
        )
    signers = makers(cli, kwargs)
    if not signers:
        raise InvalidInput("nothing says how to sign: give --key, --keyless or --sign-by")
    for signer in signers:
        signer.preflight()
    with Transports(cli.cancel, warn=warn) as transports:
        retry(lambda: _sign(cli, transports, name, options, signers, kwargs))


def _sign(
    cli: Cli,
    transports: Transports,
    name: ImageName,
    options: SourceOptions,
    signers: tuple[ImageSigner, ...],
    kwargs: dict[str, Any],
) -> None:
    from imgtools.sign.api import execute_signing, plan_signing, subjects
    from imgtools.sign.image_places import image_places
    from imgtools.sign.image_writers import image_writers

    trust, task = Trust(cli, transports, options), cli.task()
    places = image_places(name, transports, options, trust.signature_places)
    writers = image_writers(name, transports, options.registry, trust.signature_places, task=task)
    with transports.open_source(name, options) as source:
        wanted = subjects(source.top(), source.manifest, recursive=kwargs["recursive"])
    reference = kwargs["sign_identity"] or str(registry_reference(name))
    if "@" in reference and not Reference.parse(reference, default_tag="").tag:
        warn(
            f"{reference} is signed by its digest alone, which nobody accepts by default who asks "
            "for a tag: name it NAME:TAG@DIGEST, or say --sign-identity NAME:TAG"
        )
    plan = plan_signing(
        wanted, signers, reference, places.signatures, again=kwargs["again"], task=task
    )
    if kwargs["dry_run"]:
        done: tuple[tuple[ToSign, Signature | None], ...] = tuple((s, None) for s in plan.steps)
    else:
        done = execute_signing(plan, signers, writers, task=task)
    _show(name, plan, done, kwargs)


def _show(
    name: ImageName,
    plan: SignPlan,
    done: tuple[tuple[ToSign, Signature | None], ...],
    kwargs: dict[str, Any],
) -> None:
    rows = []
    for step, _ in done:
        state = "present" if step.present else "planned" if kwargs["dry_run"] else "signed"
        rows.append(
            {
                "digest": str(step.subject.digest),
                "mediaType": step.subject.media_type,
                "format": step.format,
                "state": state,
            }
        )
    if kwargs["as_json"]:
        found = {"image": str(name), "identity": plan.reference, "signatures": rows}
        write_text(json.dumps(found) + "\n")
    else:
        for row in rows:
            write_text(f"{row['state']}  {row['digest']}  {row['format']}  {plan.reference}\n")
    flush()
