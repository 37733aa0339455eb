"""Scopes of bearer tokens: what one allows, and which other form some servers want.

A scope is `type:name:action,action` (distribution project, "Token Scope Documentation"); a
token carries several. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

EVERYTHING = "*"


def delete_scope(repository: str) -> str:
    """The scope that deletes in `repository`.

    Token servers that do not know the action `delete` are asked for `widened` instead.
    """
    return f"repository:{repository}:pull,push,delete"


def parse_scope(scope: str) -> tuple[str, str, frozenset[str]]:
    """Resource type, name and actions; the name may hold colons (a port)."""
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    return kind, name, frozenset(action for action in actions.split(",") if action)


def covers(held: Iterable[str], wanted: Iterable[str]) -> bool:
    """Whether a token for the scopes `held` allows all that `wanted` names.

    Nothing covers an empty `wanted`: whoever asks for no scope asks who we are.
    """
    granted: dict[tuple[str, str], set[str]] = {}
    for scope in held:
        kind, name, actions = parse_scope(scope)
        granted.setdefault((kind, name), set()).update(actions)
    found = False
    for scope in wanted:
        kind, name, actions = parse_scope(scope)
        allowed = granted.get((kind, name), set())
        if not (actions <= allowed or EVERYTHING in allowed):
            return False
        found = True
    return found


def widened(scopes: tuple[str, ...]) -> tuple[str, ...]:
    """`scopes` for a server without the action `delete`: it calls that `*`, everything."""
    parsed = [(scope, *parse_scope(scope)) for scope in scopes]
    return tuple(
        f"{kind}:{name}:{EVERYTHING}" if "delete" in actions else scope
        for scope, kind, name, actions in parsed
    )
