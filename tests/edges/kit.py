"""What the edge cases of registries share: commands on samples, and readings of request logs."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from imgtools.testing.connection import Exchange
from imgtools.testing.registry import ScriptedRegistry
from tests.bad_input import PLAIN, Outcome, cli

USER = "user:secret"
"""Name and password that the scripted registry lets in."""


def copied(tmp_path: Path, source: str, destination: str, *flags: str, **settings: Any) -> Outcome:
    """`copy`, without TLS where a side is a registry."""
    sides = (("--src-tls-verify=false", source), ("--dest-tls-verify=false", destination))
    used = [flag for flag, name in sides if name.startswith("docker://")]
    return cli(tmp_path, "copy", "-q", *used, *flags, source, destination, **settings)


def raw(tmp_path: Path, name: str, *flags: str, **settings: Any) -> Outcome:
    """`inspect --raw`: one manifest."""
    return cli(tmp_path, "inspect", PLAIN, "--raw", *flags, name, **settings)


def token_requests(registry: ScriptedRegistry) -> list[Exchange]:
    """The requests that its token server got."""
    return [exchange for exchange in registry.requests if exchange.path == "/token"]


def scopes(registry: ScriptedRegistry) -> list[list[str]]:
    """The scopes of each request for a token."""
    queries = [parse_qs(urlsplit(e.target).query) for e in token_requests(registry)]
    return [query.get("scope", []) for query in queries]


def shown(exchanges: list[Exchange]) -> list[str]:
    """The Authorization of each request that has one."""
    return [e.headers["authorization"] for e in exchanges if "authorization" in e.headers]


def basic(user: str, password: str) -> str:
    """The value of `auth` in an auth file."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def auth_file(path: Path, auths: dict[str, Any], **more: Any) -> tuple[str]:
    """An auth file with these entries, as the setting that names it."""
    path.write_text(json.dumps({"auths": auths, **more}))
    return (str(path),)
