"""Tags that are made of a digest, and so are about the manifest with that digest.

`sha256-HEX` is the index of referrers where a registry has no API for them (distribution-spec
"Referrers Tag Schema"), `sha256-HEX.sig`, `.att` and `.sbom` are where cosign puts what it
attaches to an image.
"""

from __future__ import annotations

import re

from imgtools.errors import InvalidDigest
from imgtools.spec.digest import Digest

_DIGEST_TAG = re.compile(r"([a-z0-9]+)-([0-9a-f]{32,128})(\..+)?")


def subject_of_tag(tag: str) -> tuple[Digest, str] | None:
    """The digest that a tag such as `sha256-HEX.sig` is made of, and the rest (".sig").

    The rest is "" for the fallback tag of the referrers API (distribution-spec "Referrers
    Tag Schema"); None for other tags.
    """
    found = _DIGEST_TAG.fullmatch(tag)
    if found is None:
        return None
    try:
        return Digest.parse(f"{found[1]}:{found[2]}"), found[3] or ""
    except InvalidDigest:
        return None
