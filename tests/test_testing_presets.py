"""Every preset can be pushed to and pulled from by a client that does what the specification
says and puts up with the rest."""

from __future__ import annotations

from urllib.parse import urljoin

import pytest

from imgtools.spec import media_type as mt
from imgtools.testing.presets import PRESETS, Preset
from imgtools.testing.registry import ScriptedRegistry
from tests.scripted import BLOB, CONTENT, DIGEST, UPLOADS, Reply, ask, basic, manifest_bytes, token

V1 = "/v2/app/manifests/v1"


class Client:
    """Authorizes itself for everything, and follows addresses."""

    def __init__(self, registry: ScriptedRegistry, preset: Preset) -> None:
        self._registry = registry
        self._headers = {}
        user = basic(preset.auth.username, preset.auth.password)
        if preset.auth.scheme == "basic":
            self._headers["Authorization"] = user
        elif preset.auth.scheme == "bearer":
            scope = "repository:app:pull,push"
            self._headers["Authorization"] = token(registry, scope, Authorization=user)

    def __call__(
        self, method: str, target: str, body: bytes | None = None, kind: str = ""
    ) -> Reply:
        headers = dict(self._headers)
        if kind:
            headers |= {"Content_Type": kind, "Accept": kind}
        if method in ("POST", "PUT", "PATCH") and not body:
            headers["Content_Length"] = "0"
        path = target.removeprefix(self._registry.url)
        return ask(self._registry, method, path, body, **headers)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_push_and_pull(name: str) -> None:
    preset = PRESETS[name]
    with ScriptedRegistry(dialect=preset.dialect, auth=preset.auth) as registry:
        registry.repository("app")
        client = Client(registry, preset)
        begun = client("POST", UPLOADS)
        assert begun.status == 202
        location = urljoin(registry.url + UPLOADS, begun.headers["location"])
        written = client("PATCH", location, CONTENT, "application/octet-stream")
        assert written.status in (201, 202, 204)
        location = urljoin(location, written.headers["location"])
        joint = "&" if "?" in location else "?"
        assert client("PUT", f"{location}{joint}digest={DIGEST}").status == 201
        content = manifest_bytes(registry, mediaType=mt.OCI_MANIFEST)
        assert client("PUT", V1, content, mt.OCI_MANIFEST).status == 201
        assert client("GET", V1, kind=mt.OCI_MANIFEST).body == content
        assert "v1" in client("GET", "/v2/app/tags/list").json()["tags"]
        reply = client("GET", BLOB)
        if reply.status == 307:
            host, _, target = reply.headers["location"].partition("//")[2].partition("/")
            reply = ask(registry, "GET", f"/{target}", host=host)
        assert (reply.status, reply.body) == (200, CONTENT)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_absent(name: str) -> None:
    """What is not there is not found, in whatever words."""
    preset = PRESETS[name]
    with ScriptedRegistry(dialect=preset.dialect, auth=preset.auth) as registry:
        registry.repository("app")
        reply = Client(registry, preset)("GET", V1)
        expected = {"denied": 403, "unauthorized": 401}.get(preset.dialect.not_found, 404)
        assert reply.status == expected
