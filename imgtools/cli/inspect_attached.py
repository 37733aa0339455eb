"""What is attached to an image, for `imgtools inspect --referrers`: every kind, in every place.

Registries have referrers and cosign's tags, layouts both of them too, directories have files;
simple signatures are in lookaside storage where registries.d says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from imgtools.cli.state import Cli
from imgtools.cli.trust import Trust
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.reference import ImageName
from imgtools.transport.base import Source
from imgtools.transport.options import SourceOptions
from imgtools.transport.table import Transports, registry_reference

if TYPE_CHECKING:
    from imgtools.inspect.referrers import Item, List
    from imgtools.sign.image_places import Kind
    from imgtools.sign.stores.attached import Attached


def listing(
    cli: Cli, transports: Transports, name: ImageName, options: SourceOptions, source: Source
) -> List:
    """Who tells what is attached to a manifest of the image `name`, which `source` reads."""
    from imgtools.sign.image_places import image_places
    from imgtools.sign.stores.attached import attached_signature, list_attached, list_attached_in

    trust = Trust(cli, transports, options)
    places = image_places(name, transports, options, trust.signature_places)
    kept = _kept_beside(cli, trust, name)

    def look(subject: Descriptor) -> list[Item]:
        if name.transport == "docker":
            reference = registry_reference(name)
            found = list_attached(transports, reference, options.registry, subject.digest)
        else:
            found = list_attached_in(source, subject.digest)
        beside = [s for kind in kept for s in places.signatures(kind, subject.digest)]
        return [*_items(found), *(_item(attached_signature(s), leaf=True) for s in beside)]

    return look


def _kept_beside(cli: Cli, trust: Trust, name: ImageName) -> tuple[Kind, ...]:
    """The signatures that are neither referrers nor at tags."""
    if name.transport == "dir":
        return "simple", "sigstore"
    if name.transport != "docker" or not cli.has_signature_places:
        return ()
    return ("simple",) if trust.signature_places().says_of(registry_reference(name)) else ()


def _items(found: Sequence[Attached]) -> list[Item]:
    """Referrers as they are, and the layers at a tag together as the image there."""
    from imgtools.inspect.referrers import Item

    items: list[Item] = []
    tags = dict.fromkeys(each.tag for each in found if each.tag)
    for each in found:
        if not each.tag:
            items.append(_item(each))
    for tag in tags:
        layers = [each for each in found if each.tag == tag]
        holder = layers[0].holder
        assert holder is not None, "what is at a tag is in an image"
        kind = next((each.kind for each in layers if each.kind != "other"), "other")
        items.append(
            Item(
                descriptor=holder,
                kind=kind,
                tag=tag,
                contents=tuple(_item(each) for each in layers if each.digest != holder.digest),
            )
        )
    return items


def _item(found: Attached, *, leaf: bool = False) -> Item:
    """One thing; a `leaf` is no manifest, so that nothing can be attached to it."""
    from imgtools.inspect.referrers import Item

    return Item(
        descriptor=Descriptor(
            media_type=found.media_type,
            digest=found.digest,
            size=found.size,
            artifact_type=found.artifact_type,
            annotations=found.annotations,
        ),
        kind=found.kind,
        predicate_type=found.predicate_type,
        claimed=found.claimed,
        leaf=leaf,
    )
