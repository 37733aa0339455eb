"""Where the identity token of a keyless signature comes from: options, environment, the CI system.

A browser is never opened. Tokens are read anew each time that one is needed, since those of a
cluster are replaced while a long copy runs; none of them is ever shown.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from imgtools.blob.files import storage_errors
from imgtools.errors import Denied, InvalidInput, LimitExceeded, Unsupported

if TYPE_CHECKING:
    from imgtools.cli.settings import Settings
    from imgtools.sign.keyless.tokens import IdentityToken, TokenSource

VARIABLE = "SIGSTORE_ID_TOKEN"
"""The variable that GitLab puts its token into, and everybody who has one in a pipeline."""

AUDIENCE = "sigstore"
"""Whom the tokens of CI systems are asked for."""

_TOKEN = re.compile(r"eyJ[\w.-]+", re.ASCII)


def token_source(
    settings: Settings, token: str | None, file: str | None, *, what: str = "--identity-token"
) -> TokenSource:
    """What gives tokens: `token`, the file `file`, SIGSTORE_ID_TOKEN, the token that Kubernetes
    projects for cosign, or the service of the CI system that we run in; the first that is there.
    `what` names `token` in errors.

    Raises InvalidInput for both `token` and `file`. Calls of it raise what `parse_token` and
    reading files raise, Denied where a CI system gives none, Unsupported where there is none.
    """
    if token is not None and file is not None:
        raise InvalidInput("--identity-token and --identity-token-file cannot be given together")

    def source() -> IdentityToken:
        from imgtools.sign.keyless.tokens import parse_token

        if token is not None:
            return parse_token(token, what)
        if file is not None:
            return parse_token(_read(file), file)
        if settings.identity_token:
            return parse_token(settings.identity_token, VARIABLE)
        if os.path.exists(settings.projected_token):
            return parse_token(_read(settings.projected_token), settings.projected_token)
        return parse_token(_ambient(), "the token of the CI system")

    return source


def _read(path: str) -> str:
    from imgtools.sign.keyless.tokens import TOKEN_LIMIT

    with storage_errors(path), open(path, "rb") as file:
        content = file.read(TOKEN_LIMIT + 1)
    if len(content) > TOKEN_LIMIT:
        raise LimitExceeded(f"the identity token in {path}", TOKEN_LIMIT)
    return content.decode("ascii", "replace")


def _ambient() -> str:
    """The token of GitHub, Google Cloud, Buildkite, GitLab or CircleCI."""
    from id import IdentityError, detect_credential

    try:
        found = detect_credential(AUDIENCE)
    except IdentityError as e:
        # What it says may quote an answer.
        said = _TOKEN.sub("…", " ".join(str(e).split()))[:300]
        raise Denied(
            f"the CI system gives no identity token: {said}",
            host="",
            hint="in GitHub's workflows it needs: permissions: id-token: write",
        ) from None
    if not found:
        raise Unsupported(
            "there is no identity token, and none is got by opening a browser",
            hint=f"give one with --identity-token-file or {VARIABLE}",
        )
    return found
