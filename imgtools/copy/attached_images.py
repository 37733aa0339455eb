"""Policy about what comes along with an image, such as signatures and bills of materials.

Nobody signs those, and they prove themselves or nothing. What can be run is another matter: by
whatever tag or subject it hangs on an image, it is an image itself, and judged as one. Otherwise
whoever may write to a repository could bring any image into a mirror by attaching it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from imgtools.spec import media_type as mt
from imgtools.spec.manifest import Index, Manifest, RawManifest, parse
from imgtools.spec.reference import ImageName

if TYPE_CHECKING:
    from imgtools.copy.survey import Admit

CheckName = Callable[[ImageName], "Admit | None"]
"""Policy about a name: who has to admit its manifests, None for nobody; raises Rejected."""

_UNTYPED = frozenset({"", "application/octet-stream"})
"""What configs of images were called before they had a type, and may be still."""


def only_images(admit: Admit) -> Admit:
    """Asks `admit` about what can be run, and about nothing else."""

    def asked(raw: RawManifest) -> object:
        return admit(raw) if can_be_run(raw) else None

    return asked


def by_its_name(check_name: CheckName, name: ImageName) -> Admit:
    """Asks policy about what can be run of the attached `name`; policy is not asked about the
    name before, because it may know nothing of what is attached."""

    def asked(raw: RawManifest) -> object:
        admit = check_name(name)
        return admit(raw) if admit is not None else None

    return only_images(asked)


def can_be_run(raw: RawManifest) -> bool:
    """Whether a manifest is an image's, with layers of files. The images of an index are asked
    about for themselves; raises InvalidManifest and InvalidJSON."""
    view = parse(raw)
    if isinstance(view, Index):
        return False
    if not isinstance(view, Manifest):
        return True
    kind = view.config.media_type
    return (mt.kind(kind) == "config" or kind in _UNTYPED) and any(
        mt.kind(layer.media_type) == "layer" for layer in view.layers
    )
