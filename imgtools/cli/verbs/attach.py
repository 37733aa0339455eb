"""`imgtools attach`: keep what others made beside an image, as it is.

Nothing is signed and nothing verified here. What could never be accepted for the image, because
it is about another manifest, is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from imgtools.cli.command import go_bool, verb
from imgtools.cli.family import Family
from imgtools.cli.options import registry_flags, registry_options, source_options
from imgtools.cli.output import flush, warn, write_text
from imgtools.cli.retrying import retry_flags, retrying
from imgtools.cli.sign_files import read_input
from imgtools.cli.state import Cli
from imgtools.errors import InvalidInput, Unsupported
from imgtools.frozen import dataclass
from imgtools.transport.table import Transports, parse_name, registry_reference

if TYPE_CHECKING:
    from imgtools.sign.model import Signature
    from imgtools.spec.descriptor import Descriptor
    from imgtools.spec.reference import Reference
    from imgtools.transport.options import RegistryOptions

F = TypeVar("F", bound=Callable[..., Any])

_FILE_LIMIT = 8 * 1024 * 1024
"""Bytes of a file that is attached and is no SBOM."""

command = Family(
    "attach",
    help="Keep an SBOM, an attestation or a signature beside an image in a registry, as it is: "
    "nothing is signed here, and nothing verified.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """An image in a registry, and how its repository is reached."""

    cli: Cli
    transports: Transports
    reference: Reference
    options: RegistryOptions
    subject: Descriptor


def _common(function: F) -> F:
    """What all kinds of attaching take."""
    options: tuple[Callable[[F], F], ...] = (
        go_bool("--dry-run", help="Show what would be attached, and write nothing."),
        go_bool("--json", "as_json", help="Print the result as JSON."),
        registry_flags(),
        retry_flags,
    )
    for option in options:
        function = option(function)
    return function


@verb("sbom", short_help="Attach a bill of materials, unsigned.")
@click.argument("image", metavar="IMAGE-NAME")
@click.argument("file", required=False, metavar="[FILE]", type=click.Path(allow_dash=True))
@click.option(
    "--sbom", "named", metavar="FILE", type=click.Path(allow_dash=True), help="The same as FILE."
)
@click.option(
    "--type",
    "kind",
    default="",
    metavar="TYPE",
    help="spdx, cyclonedx or syft (default: what the document shows).",
)
@click.option(
    "--input-format",
    "form",
    default="",
    metavar="FORMAT",
    help="json, xml or text (default: what the document shows).",
)
@click.option(
    "--format",
    "place",
    default="referrer",
    metavar="FORMAT",
    type=click.Choice(["referrer", "attachment"]),
    help="referrer (the default), or attachment: the tag .sbom, as of cosign.",
)
@_common
@click.pass_obj
def sbom(cli: Cli, /, **kwargs: Any) -> None:
    """Attach the bill of materials FILE (- for standard input) to IMAGE-NAME.

    No signature covers it: whoever may write to the repository may exchange it. What is to be
    relied on is attested: imgtools attest --type spdxjson.
    """  # fmt: skip
    from imgtools.sign.sboms import SBOM_FORMS, SBOM_KINDS, SBOM_LIMIT, read_sbom
    from imgtools.sign.stores.sboms import SbomStore

    for value, known, flag in (
        (kwargs["kind"], SBOM_KINDS, "--type"),
        (kwargs["form"], SBOM_FORMS, "--input-format"),
    ):
        if value and value not in known:
            raise InvalidInput(f"{flag} {value!r} is not known: use {', '.join(known)}")
    content = read_input(_only_file(kwargs, "--sbom"), "the SBOM", SBOM_LIMIT)
    bill = read_sbom(content, kwargs["kind"], kwargs["form"])

    def attach(place: _Place) -> None:
        store = SbomStore(place.transports, place.reference, place.options, task=place.cli.task())
        as_referrer = kwargs["place"] == "referrer"
        put = store.refer if as_referrer else store.tag
        state: str = put(bill, place.subject, dry_run=kwargs["dry_run"])
        media_type = bill.media_type if as_referrer else bill.cosign_media_type
        _show(place, kwargs, state, "sbom", media_type, "unsigned")

    _run(cli, kwargs, attach)


@verb("attestation", short_help="Attach an attestation that was signed elsewhere.")
@click.argument("image", metavar="IMAGE-NAME")
@click.argument("file", required=False, metavar="[FILE]", type=click.Path(allow_dash=True))
@click.option(
    "--attestation",
    "named",
    metavar="FILE",
    type=click.Path(allow_dash=True),
    help="The same as FILE.",
)
@_common
@click.pass_obj
def attestation(cli: Cli, /, **kwargs: Any) -> None:
    """Attach the attestation FILE (- for standard input) to IMAGE-NAME: a sigstore bundle
    becomes a referrer, a DSSE envelope a layer at the tag .att, as of cosign 2.

    It has to be about the image. Who signed it is not looked at: see verify --attestation.
    """  # fmt: skip
    from imgtools.sign.model import ATTESTATION_LIMIT
    from imgtools.sign.ready_made import ready_attestation

    content = read_input(_only_file(kwargs, "--attestation"), "the attestation", ATTESTATION_LIMIT)

    def attach(place: _Place) -> None:
        from imgtools.sign.stores.attestations import AttestationStore

        found, kind = ready_attestation(content, place.subject.digest)
        store = AttestationStore(
            place.transports,
            place.reference,
            place.options,
            created=datetime.now(UTC),
            task=place.cli.task(),
        )
        is_new = kwargs["dry_run"] or store.put(place.subject, found)
        _show(place, kwargs, "attached" if is_new else "present", "attestation", kind,
              "not verified")  # fmt: skip

    _run(cli, kwargs, attach)


@verb("signature", short_help="Attach a signature that was made elsewhere.")
@click.argument("image", metavar="IMAGE-NAME")
@click.argument("file", required=False, metavar="[FILE]", type=click.Path(allow_dash=True))
@click.option(
    "--payload",
    "named",
    metavar="FILE",
    type=click.Path(allow_dash=True),
    help="The same as FILE: the payload that was signed, or a bundle.",
)
@click.option(
    "--signature",
    metavar="PATH",
    type=click.Path(allow_dash=True),
    help="The signature of the payload, in base64 or as bytes.",
)
@click.option(
    "--certificate",
    metavar="PATH",
    type=click.Path(),
    help="The certificate of the signer's key, PEM.",
)
@click.option(
    "--certificate-chain",
    metavar="PATH",
    type=click.Path(),
    help="Those above it, the root last, PEM.",
)
@click.option(
    "--rekor-response", metavar="PATH", type=click.Path(), help="The promise of a log, as JSON."
)
@click.option(
    "--tsr",
    metavar="PATH",
    type=click.Path(),
    help="The answer of an RFC 3161 timestamp authority.",
)
@_common
@click.pass_obj
def signature(cli: Cli, /, **kwargs: Any) -> None:
    """Attach a signature to IMAGE-NAME: FILE is the payload that was signed, which comes with
    --signature and goes to the tag .sig, or a bundle, which becomes a referrer.

    It has to be about the image. Who signed it is not looked at: see verify.
    """  # fmt: skip
    content = read_input(_only_file(kwargs, "--payload"), "the payload", _FILE_LIMIT)
    beside = {
        name: read_input(kwargs[name], f"--{name.replace('_', '-')}", _FILE_LIMIT)
        for name in ("signature", "certificate", "certificate_chain", "rekor_response", "tsr")
        if kwargs[name]
    }

    def attach(place: _Place) -> None:
        made = _signature(content, beside, place.subject)
        is_new = kwargs["dry_run"] or _put_signature(place, made)
        _show(place, kwargs, "attached" if is_new else "present", "signature", made.format,
              "not verified")  # fmt: skip

    _run(cli, kwargs, attach)


def _signature(content: bytes, beside: dict[str, bytes], subject: Descriptor) -> Signature:
    from imgtools.sign.ready_made import is_bundle, ready_bundle, ready_signature

    if is_bundle(content):
        if beside:
            name = next(iter(beside)).replace("_", "-")
            raise InvalidInput(f"a bundle has all that belongs to it: leave out --{name}")
        return ready_bundle(content, subject.digest)
    if "signature" not in beside:
        raise InvalidInput("a payload is attached with its signature: give --signature PATH")
    return ready_signature(
        content,
        beside["signature"],
        subject.digest,
        certificate=beside.get("certificate", b""),
        chain=beside.get("certificate_chain", b""),
        log_entry=beside.get("rekor_response", b""),
        timestamp=beside.get("tsr", b""),
    )


def _put_signature(place: _Place, made: Signature) -> bool:
    from imgtools.sign.stores.attachments import AttachmentWriter
    from imgtools.sign.stores.referrers import BundleWriter

    where, task = (place.transports, place.reference, place.options), place.cli.task()
    if made.format == "bundle":
        writer = BundleWriter(*where, created=datetime.now(UTC), task=task)
        return writer.put(place.subject, [made]) > 0
    return AttachmentWriter(*where, task=task).put(place.subject, [made]) > 0


def _only_file(kwargs: dict[str, Any], flag: str) -> str:
    """The file that is named, one way or the other."""
    found: list[str] = [path for path in (kwargs["file"], kwargs["named"]) if path]
    if len(found) != 1:
        raise InvalidInput(f"name the file to attach once, behind the image or with {flag}")
    return found[0]


def _run(cli: Cli, kwargs: dict[str, Any], attach: Callable[[_Place], None]) -> None:
    """Find the image, and attach to what its name means now."""
    retry = retrying(cli, kwargs)
    options = source_options(cli, registry_options(cli, "", kwargs))
    name = parse_name(kwargs["image"])
    if name.transport != "docker":
        raise Unsupported(f"{name.transport}: things are attached to images in registries only")

    def once() -> None:
        with transports.open_source(name, options) as source:
            subject = source.top().descriptor()
        attach(
            _Place(
                cli=cli,
                transports=transports,
                reference=registry_reference(name),
                options=options.registry,
                subject=subject,
            )
        )

    with Transports(cli.cancel, warn=warn) as transports:
        retry(once)


def _show(
    place: _Place, kwargs: dict[str, Any], state: str, kind: str, what: str, trust: str
) -> None:
    if kwargs["dry_run"] and state != "present":
        state = "planned"
    digest = str(place.subject.digest)
    if kwargs["as_json"]:
        found = {
            "image": kwargs["image"],
            "digest": digest,
            "kind": kind,
            "type": what,
            "state": state,
            "trust": trust,
        }
        write_text(json.dumps(found) + "\n")
    else:
        write_text(f"{state}  {digest}  {kind}  {what}  ({trust})\n")
    flush()


for _verb in (sbom, attestation, signature):
    command.add_command(_verb)
