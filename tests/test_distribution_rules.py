"""The rules of distribution-spec 1.1, held against every registry that the tests rely on.

The scripted registry and `imgtools serve` keep all of them. What docker's registry 2.8 does
differently is `EXCEPTIONS`, and stays true: a rule that is named there must be broken.
"""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator, Mapping

import pytest

from imgtools.testing.registry import ScriptedRegistry
from tests import distribution_rules, distribution_rules_manifests
from tests.distribution_client import Repo
from tests.rig import RegistryServer
from tests.serve_process import serve

RULES: Mapping[str, Callable[[Repo], None]] = {
    name: rule
    for module in (distribution_rules, distribution_rules_manifests)
    for name, rule in vars(module).items()
    if getattr(rule, "__module__", "") == module.__name__
}
EXCEPTIONS: Mapping[str, str] = {
    "manifest_without_accept": "hides OCI manifests from requests that do not accept them",
    "push_post": "throws the body away and begins a session",
    "push_out_of_order": "does not look at Content-Range",
    "put_with_tags": "ignores tag parameters",
    "put_confirms_its_subject": "knows no subjects",
    "referrers": "has no referrers",
    "referrers_none": "has no referrers",
    "referrers_filter": "has no referrers",
    "referrers_of_what_comes_later": "has no referrers",
    "referrers_of_no_digest": "has no referrers",
    "delete_of_a_referrer": "has no referrers",
    "delete_tag": "deletes by digest alone",
    "tags": "names tags in no order",
    "tags_in_pages": "ignores n and last",
    "tags_from_last": "ignores n and last",
    "tags_after_the_end": "ignores n and last",
    "tags_none": "ignores n and last",
    "name_invalid": "fails at names that are too long",
    "blob_range_beyond": "announces the blob's length with 416, sends less and hangs up",
    "put_over_the_limit": "answers 400",
}


@pytest.fixture(scope="module")
def scripted() -> Iterator[str]:
    with ScriptedRegistry() as registry:
        yield registry.host


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(tmp_path_factory.mktemp("served"), "--writable") as process:
        yield process.host


@pytest.fixture(scope="module")
def debian(registry_plain: RegistryServer) -> str:
    return registry_plain.host


@pytest.mark.parametrize("rule", sorted(RULES))
@pytest.mark.parametrize("registry", ["scripted", "served", "debian"])
def test_rule(request: pytest.FixtureRequest, registry: str, rule: str, repository: str) -> None:
    repo = Repo(request.getfixturevalue(registry), repository)
    if registry == "debian" and rule in EXCEPTIONS:
        with pytest.raises((AssertionError, KeyError, ValueError, http.client.IncompleteRead)):
            RULES[rule](repo)
        return
    RULES[rule](repo)


def test_exceptions_are_rules() -> None:
    assert set(EXCEPTIONS) <= set(RULES)
    assert len(RULES) > 50
