"""Cases 18 to 22: names as people write them, on the command line and against a registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgtools.errors import InvalidReference
from imgtools.spec.digest import Digest
from imgtools.spec.reference import Reference
from imgtools.testing import images
from imgtools.testing.registry import ScriptedRegistry
from tests.bad_input import PLAIN, cli, push

ZEROS = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "registry", "repository"),
    [
        ("alpine", "docker.io", "library/alpine"),
        ("docker.io/alpine", "docker.io", "library/alpine"),
        ("index.docker.io/alpine", "docker.io", "library/alpine"),
        ("registry-1.docker.io/alpine", "docker.io", "library/alpine"),
        ("docker.io/me/alpine", "docker.io", "me/alpine"),
        ("docker.io/library/alpine", "docker.io", "library/alpine"),
        ("ghcr.io/alpine", "ghcr.io", "alpine"),
        ("localhost/alpine", "localhost", "alpine"),
    ],
)
def test_18_library_is_for_single_names_on_docker_hub(
    text: str, registry: str, repository: str
) -> None:
    found = Reference.parse(text)
    assert (found.registry, found.repository) == (registry, repository)


@pytest.mark.parametrize(
    ("text", "registry"),
    [
        ("a/b", "docker.io"),
        ("a.b/c", "a.b"),
        ("a:1/c", "a:1"),
        ("localhost/c", "localhost"),
        ("localhosts/c", "docker.io"),
        ("REGISTRY.example/c", "REGISTRY.example"),
    ],
)
def test_19_first_component_with_dot_colon_or_localhost_is_a_host(text: str, registry: str) -> None:
    assert Reference.parse(text).registry == registry


@pytest.mark.parametrize("text", ["Upper/app", "host.example/App", "a" * 64, "h.example/a/B:1"])
def test_19_upper_case_paths_and_names_like_ids_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidReference):
        Reference.parse(text)
    cli(tmp_path, "inspect", f"docker://{text}").refused(text)


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag"),
    [
        ("host:5000/repo", "host:5000", "repo", "latest"),
        ("repo:5000", "docker.io", "library/repo", "5000"),
        ("host.example:5000/repo:5000", "host.example:5000", "repo", "5000"),
        ("[::1]:5000/repo", "[::1]:5000", "repo", "latest"),
        ("[2001:db8::7]/repo:x", "[2001:db8::7]", "repo", "x"),
        ("xn--bcher-kva.example/repo", "xn--bcher-kva.example", "repo", "latest"),
        ("host.example./repo", "host.example.", "repo", "latest"),
    ],
)
def test_20_port_tag_and_address_forms(text: str, registry: str, repository: str, tag: str) -> None:
    found = Reference.parse(text)
    assert (found.registry, found.repository, found.tag) == (registry, repository, tag)


@pytest.mark.parametrize("text", ["[fe80::1%eth0]/a", "bücher.example/a", "[::1/a", "[::g]/a"])
def test_20_zone_ids_and_hosts_that_are_not_ascii_are_refused(text: str) -> None:
    with pytest.raises(InvalidReference):
        Reference.parse(text)


def test_20_hosts_are_compared_without_regard_to_case(tmp_path: Path) -> None:
    sample = images.random_image("case")
    with ScriptedRegistry() as registry:
        push(registry, "app", sample)
        name = f"docker://LocalHost:{registry.port}/app:1"
        done = cli(tmp_path, "inspect", PLAIN, "--raw", name)
        assert (done.code, done.out) == (0, sample.top.content)


def test_21_tag_and_digest_together_read_by_the_digest(tmp_path: Path) -> None:
    old, new = images.random_image("old"), images.random_image("new")
    with ScriptedRegistry() as registry:
        push(registry, "app", old, "t")
        push(registry, "app", new, "t")
        name = f"docker://{registry.host}/app:t@{old.top.digest}"
        assert cli(tmp_path, "inspect", PLAIN, "--raw", name).out == old.top.content
        # At a destination the tag is kept and the digest has to hold.
        target = f"docker://{registry.host}/copy:t@{old.top.digest}"
        flags = ("--src-tls-verify=false", "--dest-tls-verify=false")
        assert cli(tmp_path, "copy", "-q", *flags, name, target).code == 0
        assert registry.repository("copy").tags == {"t": old.top.digest}
        wrong = f"docker://{registry.host}/copy:u@{new.top.digest}"
        cli(tmp_path, "copy", "-q", *flags, name, wrong).refused(str(new.top.digest))
        assert set(registry.repository("copy").tags) == {"t"}


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:" + "0" * 63,
        "sha256:" + "0" * 65,
        "sha256:" + "A" * 64,
        "sha256:" + "g" * 64,
        "sha512:" + "0" * 64,
        "blake3:" + "0" * 64,
        "md5:" + "0" * 32,
        "sha256:../../../../etc/passwd",
        "sha256",
    ],
)
def test_21_digests_are_checked_before_anything_is_asked(tmp_path: Path, digest: str) -> None:
    with ScriptedRegistry() as registry:
        cli(tmp_path, "inspect", PLAIN, f"docker://{registry.host}/app@{digest}").refused()
        assert registry.requests == []
        assert registry.connections == 0


def test_21_registry_that_keeps_only_its_own_algorithm_is_noticed(registry_plain: object) -> None:
    # Debian's docker-registry answers 201 to a blob under sha512 and then does not know it.
    from imgtools.blob.reader import BlobReader
    from imgtools.errors import Unsupported
    from imgtools.spec.descriptor import Descriptor
    from imgtools.task import Task
    from imgtools.transport.registry.push.destination import RegistryDestination
    from tests.registry_fake import open_session

    content = b"kept under another name"
    digest = Digest.of(content, "sha512")
    descriptor = Descriptor(media_type="application/x", digest=digest, size=len(content))
    session = open_session(registry_plain.host)  # type: ignore[attr-defined]
    try:
        reference = Reference.parse(f"{session.host}/edge21:x")
        destination = RegistryDestination(session, reference)
        with pytest.raises(Unsupported, match="sha512"):
            destination.put_blob(descriptor, lambda: BlobReader.of(content, digest), task=Task())
    finally:
        session.close()


@pytest.mark.parametrize("tag", ["a" * 128, "_", "0", "A.b-c_D", "__"])
def test_22_tags_that_are_allowed(tag: str) -> None:
    assert Reference.parse(f"h.example/a:{tag}").tag == tag


@pytest.mark.parametrize("tag", ["a" * 129, "", ".a", "-a", "a b", "a/b", "ä"])
def test_22_tags_that_are_not(tag: str) -> None:
    with pytest.raises(InvalidReference):
        Reference.parse(f"h.example/a:{tag}")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("a.b", True),
        ("a_b", True),
        ("a__b", True),
        ("a-b", True),
        ("a-----b", True),
        ("a..b", False),
        ("a___b", False),
        ("a.-b", False),
        ("-a", False),
        ("a.", False),
        ("a//b", False),
        ("a/.b", False),
        ("x" * (255 - len("h.example/")), True),
        ("x" * (256 - len("h.example/")), False),
    ],
)
def test_22_components_of_names_and_their_length(path: str, allowed: bool) -> None:
    if allowed:
        assert Reference.parse(f"h.example/{path}").repository == path
    else:
        with pytest.raises(InvalidReference):
            Reference.parse(f"h.example/{path}")
