"""What `imgtools policy explain` shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from imgtools.sign.policies.inspect import described
from imgtools.sign.policies.model import NAMES

if TYPE_CHECKING:
    from imgtools.sign.policies.model import Chosen
    from imgtools.sign.registries_d import StorePlaces


def explained(name: str, chosen: Chosen, scopes: Sequence[str], places: StorePlaces | None) -> str:
    """Lines: the image, the scope that decides, what is required, where signatures are."""
    lines = [
        f"{name}",
        f"  decided by  {chosen.origin}, {chosen.scope}",
        f"  looked for  {', '.join(repr(scope) for scope in scopes)}",
    ]
    for requirement in chosen.requirements:
        lines += [f"  requires    {line}" for line in described(requirement)]
    if places is not None:
        lines.append(f"  simple signatures  {places.lookaside_read or 'nowhere'}")
        lines.append(f"  attachments        {_attachments(places)}")
        lines.append("  bundles            referrers in the registry")
    return "\n".join(lines) + "\n"


def explained_json(
    name: str, chosen: Chosen, scopes: Sequence[str], places: StorePlaces | None
) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "image": name,
        "file": chosen.origin,
        "scope": chosen.scope,
        "scopes": list(scopes),
        "requirements": [
            {"type": NAMES[type(found)], "description": list(described(found))}
            for found in chosen.requirements
        ],
        "lookaside": places.lookaside_read if places is not None else None,
        "useSigstoreAttachments": places.attachments if places is not None else None,
    }


def _attachments(places: StorePlaces) -> str:
    if places.attachments is False:
        return "not read (use-sigstore-attachments: false in registries.d)"
    said = "registries.d" if places.attachments else "read where a policy asks for them"
    return f"tags in the registry ({said})"
