"""Deletion in registries: what goes, what stays, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from imgtools.errors import Conflict, Denied, ImageNotFound, Unsupported
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.spec.reference import Reference
from imgtools.task import Task
from imgtools.testing.authority import AuthOptions
from imgtools.testing.dialects import DISTRIBUTION_2, GGCR, Dialect
from imgtools.testing.images import Sample, random_artifact, random_image
from imgtools.testing.presets import PRESETS, Preset
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.options import Credentials
from imgtools.transport.registry.api import Repository
from imgtools.transport.registry.removal.delete import delete_image, preview_deletion
from imgtools.transport.registry.removal.delete_plan import (
    Attached,
    DeleteOptions,
    DeletePlan,
    DeleteSurvey,
    plan_manifest,
    plan_tag,
    tags_text,
)
from tests.registry_fake import Answer, FakeRegistry, Request, open_session, say
from tests.rig import RegistryServer, RunCli

NAME = "team/app"
A, B, C, D = (Digest.of(letter) for letter in (b"a", b"b", b"c", b"d"))
PLAIN = DeleteOptions()
ALL = DeleteOptions(all_tags=True)
REPLACE = DeleteOptions(replace_tag=True)
REFERRERS = DeleteOptions(referrers=True)


def kinds(plan: DeletePlan) -> list[str]:
    return [step.kind for step in plan.steps]


def found(
    tags: Mapping[str, Digest], tag: str = "v1", digest: Digest = A, **more: object
) -> DeleteSurvey:
    survey = DeleteSurvey(repository="host/app", digest=digest, tag=tag, tags=tags)
    return replace(survey, **more)  # type: ignore[arg-type]


SIGNATURE = Attached(digest=B, what="signature", tag="sha256-a.sig")


@pytest.mark.parametrize(
    ("survey", "options", "steps", "lost"),
    [
        (found({"v1": A, "v2": B}), PLAIN, ["manifest"], ()),
        (found({}), PLAIN, ["manifest"], ()),
        (found({"v1": A, "v2": A, "v0": A}), ALL, ["manifest"], ("v0", "v2")),
        (found({"v1": A, "v2": A}), REPLACE, ["placeholder"], ()),
        (found({"v1": A}), REPLACE, ["manifest"], ()),
        (found({"v1": A, "v2": A}, tag=""), PLAIN, ["manifest"], ("v1", "v2")),
        (found({"v1": A}, subject=C), PLAIN, ["manifest", "unlist"], ()),
        (
            found({"v1": A, "sha256-a.sig": B}, attached=(SIGNATURE,)),
            REFERRERS,
            ["attached", "manifest"],
            ("sha256-a.sig",),
        ),
        (
            found({"v1": A, "v2": B}, attached=(Attached(digest=B, what="sbom"),)),
            DeleteOptions(referrers=True, all_tags=True),
            ["attached", "manifest"],
            ("v2",),
        ),
    ],
)
def test_plan(
    survey: DeleteSurvey, options: DeleteOptions, steps: list[str], lost: tuple[str, ...]
) -> None:
    plan = plan_manifest(survey, options)
    assert (kinds(plan), plan.lost_tags) == (steps, lost)
    assert all(step.text for step in plan.steps)


@pytest.mark.parametrize(
    ("survey", "options", "error", "says"),
    [
        (found({"v1": A, "v2": A, "v3": B}), PLAIN, Conflict, "also tagged v2, and"),
        (found({"v1": A, "v2": A}), REFERRERS, Conflict, "also tagged v2"),
        (
            found({"v1": A, "v2": B}, attached=(Attached(digest=B, what="sbom"),)),
            REFERRERS,
            Conflict,
            "also tagged v2$",
        ),
        (found({"v1": A}, tag=""), REPLACE, Unsupported, "placeholder"),
        (
            found({"v1": A}),
            DeleteOptions(referrers=True, replace_tag=True),
            Unsupported,
            "placeholder",
        ),
    ],
)
def test_plan_refuses(
    survey: DeleteSurvey, options: DeleteOptions, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        plan_manifest(survey, options)


def test_texts() -> None:
    assert kinds(plan_tag("host/app", "v1")) == ["tag"]
    assert tags_text([f"t{n}" for n in range(12)]).endswith("t9 and 2 more")


def fill(registry: ScriptedRegistry, sample: Sample, *names: str) -> Digest:
    """Put a sample in under tags; the digest."""
    for content in sample.blobs.values():
        registry.push_blob(NAME, content)
    for raw in sample.manifests:
        registry.push_manifest(NAME, raw.content, raw.media_type)
    return registry.push_manifest(
        NAME, sample.top.content, sample.top.media_type, tags=names
    ).digest


def delete(
    registry: ScriptedRegistry | FakeRegistry,
    reference: str,
    options: DeleteOptions = PLAIN,
    **session: Any,
) -> DeletePlan:
    """Delete `:tag`, `@digest` or both from the test repository."""
    opened = open_session(registry.host, **session)
    parsed = Reference.parse(f"{registry.host}/{NAME}{reference}")
    try:
        return delete_image(Repository(opened, NAME, push=True), parsed, options, task=Task(jobs=3))
    finally:
        opened.close()


def tags(registry: ScriptedRegistry) -> list[str]:
    return sorted(registry.repository(NAME).tags)


def has(registry: ScriptedRegistry, digest: Digest) -> bool:
    return digest in registry.repository(NAME).manifests


NO_TAGS = Dialect(delete_tag=False)


@pytest.mark.parametrize("dialect", [Dialect(), GGCR])
def test_tag_goes_alone_where_it_can(dialect: Dialect) -> None:
    with ScriptedRegistry(dialect=dialect) as registry:
        digest = fill(registry, random_image(1), "v1", "v2")
        assert kinds(delete(registry, ":v1")) == ["tag"]
        assert tags(registry) == ["v2"]
        assert has(registry, digest)
        assert registry.lines() == [f"DELETE /v2/{NAME}/manifests/v1 202"]
        with pytest.raises(ImageNotFound):
            delete(registry, ":v1")


@pytest.mark.parametrize("dialect", [NO_TAGS, DISTRIBUTION_2])
def test_only_tag_goes_with_its_manifest(dialect: Dialect) -> None:
    with ScriptedRegistry(dialect=dialect) as registry:
        digest = fill(registry, random_image(1), "v1")
        other = fill(registry, random_image(2), "v2", "latest")
        plan = delete(registry, ":v1")
        assert (kinds(plan), plan.lost_tags) == (["manifest"], ())
        assert tags(registry) == ["latest", "v2"]
        assert not has(registry, digest)
        with pytest.raises(Conflict, match="also tagged latest") as caught:
            delete(registry, ":v2")
        assert "--all-tags" in (caught.value.hint or "")
        assert tags(registry) == ["latest", "v2"]
        assert has(registry, other)
        with pytest.raises(ImageNotFound):
            delete(registry, ":v1")


def test_all_tags_go_when_that_is_meant() -> None:
    for dialect in (Dialect(), DISTRIBUTION_2):
        with ScriptedRegistry(dialect=dialect) as registry:
            fill(registry, random_image(1), "v1", "v2", "v3")
            fill(registry, random_image(2), "other")
            plan = delete(registry, ":v2", ALL)
            assert plan.lost_tags == ("v1", "v3")
            assert tags(registry) == ["other"]


def test_placeholder_frees_one_tag() -> None:
    with ScriptedRegistry(dialect=DISTRIBUTION_2) as registry:
        digest = fill(registry, random_image(1), "v1", "v2")
        manifests = set(registry.repository(NAME).manifests)
        assert kinds(delete(registry, ":v1", REPLACE)) == ["placeholder"]
        assert tags(registry) == ["v2"]
        assert set(registry.repository(NAME).manifests) == manifests
        assert has(registry, digest)
        # Two deletions never use the same placeholder.
        fill(registry, random_image(1), "v1", "v3")
        delete(registry, ":v1", REPLACE)
        delete(registry, ":v3", REPLACE)
        assert tags(registry) == ["v2"]


def test_placeholder_that_stays_is_told() -> None:
    with ScriptedRegistry(dialect=replace(DISTRIBUTION_2, deletes=False)) as registry:
        digest = fill(registry, random_image(1), "v1", "v2")
        with pytest.raises(Unsupported, match="does not delete manifests: 405") as caught:
            delete(registry, ":v1", REPLACE)
        assert f"before, it led to {digest}" in (caught.value.hint or "")


def test_digest_goes_with_its_tags() -> None:
    for dialect in (Dialect(), DISTRIBUTION_2):
        with ScriptedRegistry(dialect=dialect) as registry:
            digest = fill(registry, random_image(1), "v1", "v2")
            fill(registry, random_image(2), "other")
            plan = delete(registry, f"@{digest}")
            assert plan.lost_tags == ("v1", "v2")
            assert tags(registry) == ["other"]
            with pytest.raises(ImageNotFound):
                delete(registry, f"@{digest}")


def test_tag_with_a_digest_is_deleted_only_there() -> None:
    for dialect in (Dialect(), NO_TAGS):
        with ScriptedRegistry(dialect=dialect) as registry:
            first = fill(registry, random_image(1), "v1")
            second = fill(registry, random_image(2), "v2")
            with pytest.raises(Conflict, match=f"it is {first}, not {second}"):
                delete(registry, f":v1@{second}")
            assert tags(registry) == ["v1", "v2"]
            delete(registry, f":v1@{first}")
            assert tags(registry) == ["v2"]


@pytest.mark.parametrize("reference", [":v1", "@"])
def test_registry_that_never_deletes(reference: str) -> None:
    with ScriptedRegistry(dialect=Dialect(delete_tag=False, deletes=False)) as registry:
        digest = fill(registry, random_image(1), "v1")
        with pytest.raises(Unsupported, match="does not delete manifests: 405 UNSUPPORTED"):
            delete(registry, f"@{digest}" if reference == "@" else reference)
        assert tags(registry) == ["v1"]


@pytest.mark.parametrize("status", [400, 409])
def test_registry_that_wants_tags_gone_first(status: int) -> None:
    with ScriptedRegistry(dialect=Dialect(delete_tagged=status)) as registry:
        digest = fill(registry, random_image(1), "v1", "v2")
        plan = delete(registry, f"@{digest}")
        assert plan.lost_tags == ("v1", "v2")
        assert (tags(registry), has(registry, digest)) == ([], False)
        digest = fill(registry, random_image(1), "v1", "v2")
        delete(registry, ":v1", ALL)
        assert (tags(registry), has(registry, digest)) == ([], False)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_presets(preset: Preset) -> None:
    with ScriptedRegistry(dialect=preset.dialect, auth=preset.auth) as registry:
        user = Credentials(username=preset.auth.username, password=preset.auth.password)
        fill(registry, random_image(1), "v1")
        fill(registry, random_image(2), "v2", "v3")
        if not preset.dialect.deletes:
            with pytest.raises(Unsupported, match="does not delete manifests: 405"):
                delete(registry, ":v1", credentials=user)
            assert tags(registry) == ["v1", "v2", "v3"]
            return
        delete(registry, ":v1", credentials=user)
        assert tags(registry) == ["v2", "v3"]
        delete(registry, ":v2", ALL, credentials=user)
        assert tags(registry) == []
        with pytest.raises((ImageNotFound, Denied)):
            delete(registry, ":v2", credentials=user)


def attach(registry: ScriptedRegistry, subject: RawManifest, seed: object) -> RawManifest:
    sample = random_image(seed, subject=subject.descriptor())
    fill(registry, sample)
    return sample.top


@pytest.mark.parametrize("dialect", [Dialect(), DISTRIBUTION_2])
def test_referrers_go_too(dialect: Dialect) -> None:
    with ScriptedRegistry(dialect=dialect) as registry:
        sample = random_image(1)
        digest = fill(registry, sample, "v1")
        sbom = attach(registry, sample.top, "sbom")
        signature = attach(registry, sbom, "signature of the sbom")
        other = fill(registry, random_image(2), "v2")
        stem = f"sha256-{digest.hex}"
        cosign = fill(registry, random_image("cosign"), f"{stem}.sig")
        if dialect.referrers != "yes":
            for subject, raw in ((digest, sbom), (sbom.digest, signature)):
                listed = {
                    "schemaVersion": 2,
                    "mediaType": "application/vnd.oci.image.index.v1+json",
                    "manifests": [raw.descriptor().to_json()],
                }
                registry.push_manifest(
                    NAME, json.dumps(listed).encode(), tags=[f"sha256-{subject.hex}"]
                )
        plan = delete(registry, ":v1", REFERRERS)
        assert kinds(plan)[-1] == "manifest"
        assert tags(registry) == ["v2"]
        assert set(registry.repository(NAME).manifests) == {other}
        assert not any(has(registry, d) for d in (digest, sbom.digest, signature.digest, cosign))


def test_referrers_of_an_image_with_other_tags_stay() -> None:
    with ScriptedRegistry() as registry:
        sample = random_image(1)
        fill(registry, sample, "v1", "v2")
        sbom = attach(registry, sample.top, "sbom")
        with pytest.raises(Conflict, match=r"also tagged v2$"):
            delete(registry, ":v1", REFERRERS)
        assert (tags(registry), has(registry, sbom.digest)) == (["v1", "v2"], True)


def test_deleted_referrer_leaves_the_list_of_its_subject() -> None:
    with ScriptedRegistry(dialect=DISTRIBUTION_2) as registry:
        sample = random_image(1)
        digest = fill(registry, sample, "v1")
        first, second = (attach(registry, sample.top, n) for n in ("one", "two"))
        listed = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [raw.descriptor().to_json() for raw in (first, second)],
            "annotations": {"kept": "yes"},
        }
        tag = f"sha256-{digest.hex}"
        registry.push_manifest(NAME, json.dumps(listed).encode(), tags=[tag])
        plan = delete(registry, f"@{first.digest}")
        assert kinds(plan) == ["manifest", "unlist"]
        repository = registry.repository(NAME)
        left = json.loads(repository.manifests[repository.tags[tag]].content)
        assert [entry["digest"] for entry in left["manifests"]] == [str(second.digest)]
        assert left["annotations"] == {"kept": "yes"}
        delete(registry, f"@{second.digest}")
        assert tags(registry) == ["v1"]


def test_registry_with_referrers_keeps_the_list_itself() -> None:
    with ScriptedRegistry() as registry:
        sample = random_image(1)
        fill(registry, sample, "v1")
        sbom = attach(registry, sample.top, "sbom")
        registry.forget_requests()
        delete(registry, f"@{sbom.digest}")
        assert registry.count("PUT") == 0
        assert tags(registry) == ["v1"]


@pytest.mark.parametrize("dialect", [Dialect(), DISTRIBUTION_2])
def test_preview_changes_nothing(dialect: Dialect) -> None:
    with ScriptedRegistry(dialect=dialect) as registry:
        digest = fill(registry, random_image(1), "v1")
        fill(registry, random_image(2), "v2", "v3")
        session = open_session(registry.host)
        repository = Repository(session, NAME, push=True)

        def preview(text: str, options: DeleteOptions = PLAIN) -> list[object]:
            reference = Reference.parse(f"{registry.host}/{NAME}{text}")
            found = preview_deletion(repository, reference, options, task=Task())
            return [type(p) if isinstance(p, Conflict) else kinds(p) for p in found]

        assert preview(":v1") == [["tag"], ["manifest"]]
        assert preview(":v2") == [["tag"], Conflict]
        assert preview(":v2", REPLACE) == [["tag"], ["placeholder"]]
        assert preview(":v2", ALL) == [["manifest"]]
        assert preview(f"@{digest}") == [["manifest"]]
        with pytest.raises(ImageNotFound):
            preview(":none")
        session.close()
        assert {line.split()[0] for line in registry.lines()} <= {"GET", "HEAD"}
        assert tags(registry) == ["v1", "v2", "v3"]


@pytest.mark.parametrize("status", [200, 202, 204])
def test_every_kind_of_success(status: int) -> None:
    with FakeRegistry(lambda request: say(status)) as registry:
        delete(registry, ":v1")
        assert registry.seen == [f"DELETE /v2/{NAME}/manifests/v1"]


@pytest.mark.parametrize("status", [403, 409, 500])
def test_other_answers_do_not_lead_to_the_manifest(status: int) -> None:
    with FakeRegistry(lambda request: say(status)) as registry:
        with pytest.raises(Exception, match=str(status)):
            delete(registry, ":v1")
        assert {request.method for request in registry.requests} == {"DELETE"}


def test_tags_that_cannot_be_looked_at_stop_it() -> None:
    def script(request: Request) -> Answer:
        if request.method == "DELETE":
            return say(405)
        if request.path.endswith("/tags/list"):
            return say(200, {"name": NAME, "tags": ["v1", "v2"]})
        if request.path.endswith("/v2"):
            return say(403)
        return say(
            200,
            {"schemaVersion": 2, "manifests": []},
            Content_Type="application/vnd.oci.image.index.v1+json",
        )

    with FakeRegistry(script) as registry:
        with pytest.raises(Denied):
            delete(registry, ":v1")
        assert [r for r in registry.seen if r.startswith("DELETE")] == [
            f"DELETE /v2/{NAME}/manifests/v1"
        ]


def test_scope_is_asked_for_as_servers_know_it() -> None:
    """One that knows "delete", one that knows only "*", one that refuses what it does not know."""
    for known, refuses in (("delete", False), ("*", False), ("*", True)):
        asked: list[str] = []

        def script(
            request: Request,
            known: str = known,
            refuses: bool = refuses,
            asked: list[str] = asked,
        ) -> Answer:
            if request.path == "/token":
                scope = request.query["scope"][0]
                asked.append(scope)
                actions = scope.rpartition(":")[2].split(",")
                if refuses and "delete" in actions:
                    return say(400, {"errors": [{"code": "UNKNOWN_ACTION"}]})
                return say(200, {"token": "good" if known in actions else "weak"})
            if request.authorization == "Bearer good":
                return say(202)
            return say(
                401,
                WWW_Authenticate=f'Bearer realm="http://{request.headers["host"]}/token",'
                f'service="s",scope="repository:{NAME}:delete"',
            )

        with FakeRegistry(script) as registry:
            delete(registry, ":v1", credentials=Credentials(username="u", password="p"))
        assert asked[0] == f"repository:{NAME}:pull,push,delete"
        assert (asked[-1] == f"repository:{NAME}:*") == (known == "*")


def test_credentials_that_may_not_delete() -> None:
    with ScriptedRegistry(auth=AuthOptions(scheme="bearer")) as registry:
        fill(registry, random_image(1), "v1")
        with pytest.raises(Denied):
            delete(registry, ":v1")
        delete(registry, ":v1", credentials=Credentials(username="user", password="secret"))
        assert tags(registry) == []


# --- the command line, and a real registry -----------------------------------------------------


def test_command_against_docker_registry(
    registry_token: RegistryServer,
    repository: str,
    preload: Callable[..., str],
    run_cli: RunCli,
) -> None:
    flags = registry_token.skopeo_flags()
    digest = preload(registry_token, "oci", f"{repository}:v1")
    preload(registry_token, "oci", f"{repository}:v2")
    preload(registry_token, "docker", f"{repository}:other")
    name = f"docker://{registry_token.host}/{repository}"

    refused = run_cli("delete", *flags, f"{name}:v1")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "also tagged v2" in refused.stderr
    assert registry_token.tags(repository) == ["other", "v1", "v2"]

    shown = run_cli("delete", *flags, "--dry-run", f"{name}:v1", check=True)
    assert shown.stdout.startswith("delete tag v1\nor, if the registry cannot")
    shown = run_cli("delete", *flags, "--dry-run", "--all-tags", f"{name}:v1", check=True)
    assert shown.stdout == (f"delete manifest {digest} (v1)\nwhich deletes its tags v2\n")
    assert registry_token.tags(repository) == ["other", "v1", "v2"]

    done = run_cli("delete", *flags, "--replace-tag", f"{name}:v1", check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert registry_token.tags(repository) == ["other", "v2"]

    done = run_cli("delete", *flags, f"{name}:v2", check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert registry_token.tags(repository) == ["other"]

    preload(registry_token, "oci", f"{repository}:v1")
    preload(registry_token, "oci", f"{repository}:v2")
    done = run_cli("delete", *flags, f"{name}@{digest}", check=True)
    assert (done.stdout, done.stderr) == ("", "imgtools: info: deleted with its tags v1, v2\n")
    assert registry_token.tags(repository) == ["other"]

    for gone in (f"{name}:v2", f"{name}@{digest}", f"{name}/nothing:x"):
        missing = run_cli("delete", *flags, gone)
        assert (missing.returncode, missing.stdout) == (2, ""), gone
        assert "does not exist" in missing.stderr


@pytest.mark.parametrize(
    "name", ["dir:x", "docker-archive:x", "oci-archive:x", "tarball:x", "docker-daemon:x:y"]
)
def test_other_transports_cannot_delete(run_cli: RunCli, name: str) -> None:
    there = run_cli.work / "x"
    there.write_bytes(b"precious")
    done = run_cli("delete", name)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"Deleting images not implemented for {name.split(':')[0]}: images" in done.stderr
    assert there.read_bytes() == b"precious"


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["foo:x"], ["busybox"]])
def test_wrong_usage(run_cli: RunCli, arguments: list[str]) -> None:
    done = run_cli("delete", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["artifactory", "quay"])
def test_list_that_is_absent_and_looks_forbidden(name: str) -> None:
    preset = PRESETS[name]
    subject = random_image("subject")
    report = random_artifact("report", subject=subject.top.descriptor())
    user = Credentials(username=preset.auth.username, password=preset.auth.password)
    with ScriptedRegistry(dialect=preset.dialect, auth=preset.auth) as registry:
        for raw in (subject.top, report.top):
            registry.push_manifest(NAME, raw.content, raw.media_type)
        session = open_session(registry.host, credentials=user)
        try:
            parsed = Reference.parse(f"{registry.host}/{NAME}@{report.top.digest}")
            repository = Repository(session, NAME, push=True)
            delete_image(repository, parsed, PLAIN, task=Task())
        finally:
            session.close()
        assert list(registry.repository(NAME).manifests) == [subject.top.digest]
