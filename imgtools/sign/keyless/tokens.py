"""Identity tokens (OpenID Connect): what they say of themselves, read and not verified.

Whom a token names is for the certificate authority to verify and to say. It is read here only
to tell its owner soon that it is no token or has expired; the token itself is in no message.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import field
from datetime import UTC, datetime
from typing import Any

from imgtools.errors import Denied, InvalidInput, InvalidJSON, LimitExceeded
from imgtools.frozen import dataclass
from imgtools.spec import strict_json

TOKEN_LIMIT = 64 * 1024
"""Bytes of a token, and of the file that has it."""

_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_LAST_SECOND = 253402300799  # of the year 9999


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityToken:
    """A token: its `text` is a secret, `issuer` who made it, `expires` when it ends."""

    text: str = field(repr=False)
    issuer: str
    expires: datetime


TokenSource = Callable[[], IdentityToken]
"""Gives a token, perhaps another one each time; raises InvalidInput, Denied and what reading
one raises."""


def parse_token(text: str, what: str, *, now: datetime | None = None) -> IdentityToken:
    """The token in `text`, with white space around it; `what` says whose it is.

    Raises InvalidInput for what is no JSON web token, Denied for one that has expired.
    """
    text = text.strip()
    if len(text) > TOKEN_LIMIT or not _FORM.fullmatch(text):
        raise InvalidInput(
            f"{what} is no identity token: expected a JSON web token, three texts with dots "
            "between them"
        )
    claims = _claims(text, what)
    issuer, expires = claims.get("iss"), claims.get("exp")
    if not isinstance(issuer, str) or not issuer:
        raise InvalidInput(f"{what} does not say who issued it (iss)")
    if isinstance(expires, bool) or not isinstance(expires, int | float):
        raise InvalidInput(f"{what} does not say when it expires (exp)")
    if not 0 < expires <= _LAST_SECOND:
        raise InvalidInput(f"{what} expires at a time that is out of range (exp)")
    end = datetime.fromtimestamp(int(expires), UTC)
    if end <= (now or datetime.now(UTC)):
        raise Denied(
            f"{what} expired at {end:%Y-%m-%dT%H:%M:%SZ}",
            host=issuer,
            hint="identity tokens live for minutes: get one just before signing",
        )
    return IdentityToken(text=text, issuer=issuer, expires=end)


def _claims(text: str, what: str) -> dict[str, Any]:
    middle = text.split(".")[1]
    try:
        content = base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4))
        return strict_json.loads_object(content, what, limit=TOKEN_LIMIT)
    except (ValueError, InvalidJSON, LimitExceeded) as e:
        # Nothing of the cause is said: it may quote the token.
        raise InvalidInput(f"{what} is no identity token: its claims are no JSON object") from e
