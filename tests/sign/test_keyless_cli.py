"""`imgtools sign --keyless` and `imgtools verify` against services on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from imgtools.sign.bundles.parse import parse_bundle
from imgtools.sign.bundles.verify_key import verify_with_key
from imgtools.sign.checks import FulcioCheck, check_sigstore_fulcio
from imgtools.sign.keys.private import load_private_key
from imgtools.sign.keys.public import load_public_key, load_rekor_key
from imgtools.sign.model import BundleSignature, SigstoreSignature
from imgtools.sign.stores.attachments import AttachmentReader
from imgtools.sign.stores.referrers import BundleReader
from imgtools.spec.reference import Reference
from imgtools.testing.sigstore.authority import Leaf
from imgtools.transport.options import RegistryOptions
from imgtools.transport.table import Transports
from tests.bad_input import PLAIN, Outcome
from tests.rig import RegistryServer
from tests.sign.ground import INDEX
from tests.sign.key_makers import private_pem
from tests.sign.keyless_rig import IMAGE, WHO, Keyless, keyless

DIGEST = IMAGE.top.digest
KEY = private_pem(ec.generate_private_key(ec.SECP256R1()))
WORKFLOW = "https://github.com/team/app/.github/workflows/release.yml@refs/heads/main"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Keyless]:
    """An unsigned image and a sigstore."""
    with keyless(tmp_path) as found:
        yield found


def attachments(site: Keyless) -> list[SigstoreSignature]:
    """What is at the image's tag for attachments."""
    reference, options = Reference.parse(site.name), RegistryOptions(tls_verify=False)
    with Transports() as transports:
        found = AttachmentReader(transports, reference, options).signatures(DIGEST)
    return [each for each in found if isinstance(each, SigstoreSignature)]


def bundles(site: Keyless) -> list[bytes]:
    """What refers to the image."""
    reference, options = Reference.parse(site.name), RegistryOptions(tls_verify=False)
    with Transports() as transports:
        found = BundleReader(transports, reference, options).signatures(DIGEST)
    return [each.content for each in found if isinstance(each, BundleSignature)]


def as_json(done: Outcome) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.out)
    return found


# --- what is made, and who verifies it ----------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "rekor", "formats"),
    [
        ((), 1, ["sigstore"]),
        (("--format", "bundle"), 1, ["bundle"]),
        (("--format", "bundle"), 2, ["bundle"]),
        (("--format", "both"), 1, ["bundle", "sigstore"]),
    ],
    ids=["attachment", "bundle-rekor1", "bundle-rekor2", "both"],
)
def test_what_is_signed_is_verified_by_name_and_issuer(
    site: Keyless, flags: tuple[str, ...], rekor: Literal[1, 2], formats: list[str]
) -> None:
    done = site.sign(*flags, rekor=rekor)
    assert done.code == 0, done.err
    assert sorted(line.split()[2] for line in done.out.decode().splitlines()) == formats
    found = site.verify("--json")
    assert found.code == 0, found.err
    signatures = as_json(found)["manifests"][0]["signatures"]
    assert sorted(each["format"] for each in signatures) == formats
    for each in signatures:
        assert (each["subject"], each["issuer"]) == (WHO, site.sigstore.issuer.url)
        assert each["identity"] == site.name
        assert each["time"]


def test_verify_matches_whole_names_and_issuers(site: Keyless) -> None:
    """Exactly, or by regular expressions that match all of both."""
    assert site.sign("--format", "both").code == 0
    issuer = site.sigstore.issuer.url
    rows = {
        (WHO, issuer): 0,
        ("User@example.test", issuer): 1,
        ("example.test", issuer): 1,
        (WHO, f"{issuer}/"): 1,
        (WHO, "https://accounts.example.com"): 1,
    }
    for (who, by), code in rows.items():
        done = site.verify(who=who, issuer=by)
        assert done.code == code, (who, by, done.err)
    expressions = {(".*@example[.]test", "https://oidc.*"): 0, ("example", "https://oidc.*"): 1}
    for (who, by), code in expressions.items():
        done = site.run(
            "verify", PLAIN, "--certificate-identity-regexp", who, "--trusted-root", site.root(),
            "--certificate-oidc-issuer-regexp", by, site.place.name,
        )  # fmt: skip
        assert done.code == code, (who, by, done.err)


def test_a_workflow_is_somebody_too(site: Keyless) -> None:
    """Names that are URIs, which policy.json cannot ask for."""
    claims = {"job_workflow_ref": WORKFLOW.removeprefix("https://github.com/"), "email": None}
    token = site.token_file("repo:team/app:ref:refs/heads/main", claims=claims)
    assert site.sign("--format", "both", "--identity-token-file", token).code == 0
    found = as_json(site.verify("--json", who=WORKFLOW))["manifests"][0]["signatures"]
    assert [each["subject"] for each in found] == [WORKFLOW, WORKFLOW]
    assert site.verify(who="repo:team/app:ref:refs/heads/main").code == 1


def test_containers_policy_admits_what_is_signed(site: Keyless) -> None:
    """`fulcio` of policy.json, by its own check and for a copy."""
    assert site.sign().code == 0
    (signature,) = attachments(site)
    rekor = load_rekor_key(site.sigstore.rekor.public_pem, "rekor.pub")
    check = FulcioCheck(
        roots=site.sigstore.root_pem, rekor=(rekor,), issuer=site.sigstore.issuer.url, email=WHO
    )
    assert check_sigstore_fulcio(signature, check).claim.reference == site.name
    (site.path / "ca.pem").write_bytes(site.sigstore.root_pem)
    (site.path / "rekor.pub").write_bytes(site.sigstore.rekor.public_pem)
    for who, code in ((WHO, 0), ("other@example.test", 1)):
        fulcio = {
            "caPath": str(site.path / "ca.pem"),
            "oidcIssuer": site.sigstore.issuer.url,
            "subjectEmail": who,
        }
        policy = site.place.policy(
            {
                "type": "sigstoreSigned",
                "fulcio": fulcio,
                "rekorPublicKeyPath": str(site.path / "rekor.pub"),
            }
        )
        assert site.place.copy(policy=policy).code == code


@pytest.mark.parametrize("rekor", [1, 2])
def test_the_verifier_of_sigstore_python_accepts_bundles(
    site: Keyless, rekor: Literal[1, 2]
) -> None:
    from sigstore.models import Bundle, TrustedRoot
    from sigstore.verify import Verifier, policy

    assert site.sign("--format", "bundle", rekor=rekor).code == 0
    (content,) = bundles(site)
    verifier = Verifier(trusted_root=TrustedRoot.from_file(str(site.root())))
    who = policy.Identity(identity=WHO, issuer=site.sigstore.issuer.url)
    kind, payload = verifier.verify_dsse(Bundle.from_json(content), who)
    assert kind == "application/vnd.in-toto+json"
    subject = json.loads(payload)["subject"][0]
    assert subject["digest"] == {"sha256": DIGEST.hex}
    assert subject["annotations"] == {"docker-reference": site.name}


def test_an_index_is_signed_with_its_instances_under_one_certificate(tmp_path: Path) -> None:
    with keyless(tmp_path, INDEX) as site:
        done = site.sign("--format", "both")
        assert (done.code, len(done.out.splitlines())) == (0, 6), done.err
        assert site.verify("--all", "--strict").code == 0
        asked = [e.path for e in site.sigstore.requests]
        assert asked.count("/api/v2/signingCert") == 1
        assert asked.count("/api/v1/log/entries") == 6


def test_s69_nothing_is_signed_twice_alike(site: Keyless) -> None:
    """What the same name of the same issuer signed stays, whatever key it had; what somebody
    else signed is another signature."""
    assert site.sign("--format", "both").code == 0
    again = site.sign("--format", "both")
    assert [line.split()[0] for line in again.out.decode().splitlines()] == ["present"] * 2
    assert (len(attachments(site)), len(bundles(site))) == (1, 1)
    other = site.token_file("other@example.test")
    assert site.sign("--format", "both", "--identity-token-file", other).out.count(b"signed") == 2
    assert site.sign("--format", "both", "--again").out.count(b"signed") == 2
    assert (len(attachments(site)), len(bundles(site))) == (3, 3)


# --- services that are named one by one ---------------------------------------------------------


def named(site: Keyless, *flags: str | Path) -> Outcome:
    """Sign with URLs instead of a trust config."""
    urls = ("--fulcio-url", site.sigstore.url, "--rekor-url", f"{site.sigstore.url}/")
    token = ("--identity-token-file", site.token_file())
    return site.run("sign", PLAIN, "--keyless", *token, *urls, *flags, site.place.name)


def test_services_are_named_by_url(site: Keyless) -> None:
    root = ("--trusted-root", site.root())
    assert named(site, *root).code == 0
    stamped = ("--format", "bundle", "--timestamp-url", f"{site.sigstore.url}/ts")
    assert named(site, *root, *stamped, "--rekor-version", "2", "--again").code == 0
    assert named(site, *root, *stamped, "--again").code == 0
    found = [json.loads(content)["verificationMaterial"] for content in bundles(site)]
    kinds = sorted(each["tlogEntries"][0]["kindVersion"]["kind"] for each in found)
    assert kinds == ["dsse", "hashedrekord"]
    assert all(len(m["timestampVerificationData"]["rfc3161Timestamps"]) == 1 for m in found)
    done = site.verify("--json")
    assert len(as_json(done)["manifests"][0]["signatures"]) == 3


def test_urls_without_a_root_are_refused_before_anything_is_asked(site: Keyless) -> None:
    done = named(site)
    done.refused("nothing says whom to trust", "--trusted-root")
    assert not site.sigstore.requests


ROOTED = ("--trusted-root", "r", "--fulcio-url", "u", "--rekor-url", "u")


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("--identity-token-file", "t"), "--identity-token-file needs --keyless"),
        (("--fulcio-url", "u"), "--fulcio-url needs --keyless"),
        (("--trust-config", "c"), "--trust-config needs --keyless or --key"),
        (("--trusted-root", "r"), "--trusted-root needs --keyless or --rekor-url"),
        (("--rekor-url", "u"), "--rekor-url needs --keyless or --key"),
        (("--keyless", "--rekor-version", "2"), "--rekor-version needs --rekor-url"),
        (("--keyless", "--timestamp-url", "u"), "--timestamp-url is for bundles"),
        (("--keyless", "--trust-config", "c", "--trusted-root", "r"), "has a trusted root"),
        (("--keyless", "--trusted-root", "r"), "needs --fulcio-url and --rekor-url"),
        (("--keyless", "--identity-token", "t", "--identity-token-file", "t", *ROOTED),
         "cannot be given together"),
        (("--keyless", "--fulcio-url", "ftp://u"), "nothing says whom to trust"),
    ],
)  # fmt: skip
def test_options_that_would_mean_nothing_are_errors(
    site: Keyless, flags: tuple[str, ...], word: str
) -> None:
    (site.path / "r").write_bytes(site.sigstore.trusted_root_json())
    absolute = [str(site.path / "r") if flag == "r" else flag for flag in flags]
    site.run("sign", PLAIN, *absolute, site.place.name).refused(word)
    assert not site.place.registry.requests


def test_a_log_of_the_second_version_has_no_attachments(site: Keyless) -> None:
    site.sign(rekor=2).refused("attachments need a log of Rekor's first version")
    assert not site.place.registry.requests


def test_a_key_can_be_logged(site: Keyless) -> None:
    """With and without a root that the log's promise is held against."""
    (site.path / "key").write_bytes(KEY)
    (site.path / "rekor.pub").write_bytes(site.sigstore.rekor.public_pem)
    words = ("--key", site.path / "key", "--rekor-url", site.sigstore.url)
    for root in ((), ("--trusted-root", site.root())):
        assert site.run("sign", PLAIN, "--again", *words, *root, site.place.name).code == 0
    assert len(attachments(site)) == len(site.sigstore.rekor.entries) == 2


def test_a_bundle_by_a_key_can_be_logged(site: Keyless) -> None:
    """Then it holds for who asks for a log, too; one that is not logged is not the same."""
    (site.path / "key").write_bytes(KEY)
    words = ("--key", site.path / "key", "--format", "bundle")
    logged = (*words, "--rekor-url", site.sigstore.url)
    site.run("sign", PLAIN, *logged, site.place.name).refused("--trusted-root")
    assert site.run("sign", PLAIN, *words, site.place.name).code == 0
    for state in (b"signed", b"present"):
        done = site.run("sign", PLAIN, *logged, "--trusted-root", site.root(), site.place.name)
        assert done.out.startswith(state), done.err
    parsed = [parse_bundle(content) for content in bundles(site)]
    assert sorted(len(bundle.entries) for bundle in parsed) == [0, 1]
    key = load_private_key(KEY, lambda: b"", "key")
    keys = (load_public_key(key.public_pem, "key"),)
    root = site.sigstore.trusted_root_json()
    (whole,) = (bundle for bundle in parsed if bundle.entries)
    assert verify_with_key(whole, keys, trusted_root=root)[1].time is not None


def test_a_bundle_gets_no_entry_of_another_log(site: Keyless) -> None:
    (site.path / "key").write_bytes(KEY)
    other_entry(site)
    done = site.run(
        "sign", PLAIN, "--key", site.path / "key", "--format", "bundle", "--rekor-url",
        site.sigstore.url, "--trusted-root", site.root(), site.place.name,
    )  # fmt: skip
    done.refused("log entry")
    assert not site.pushed


# --- tokens -------------------------------------------------------------------------------------


def test_a_projected_token_is_found_and_read_anew(site: Keyless) -> None:
    """Kubernetes puts one into a file, and replaces it."""
    file = site.token_file()
    assert site.sign(projected_token=str(file)).code == 0
    site.token_file("pod@example.test")
    assert site.sign(projected_token=str(file)).code == 0
    assert site.verify(who="pod@example.test").code == 0


def test_the_token_of_the_environment_and_of_the_command_line(site: Keyless) -> None:
    assert site.sign(identity_token=site.sigstore.token("env@example.test")).code == 0
    assert site.verify(who="env@example.test").code == 0
    assert site.sign("--identity-token", site.sigstore.token("word@example.test")).code == 0
    assert site.verify(who="word@example.test").code == 0


def test_tokens_are_never_shown(site: Keyless) -> None:
    """Neither by a debug log nor by an error that quotes a service which repeats them."""
    token = site.sigstore.token(WHO)
    echo = json.dumps({"message": f"bad token {token}, Authorization: Bearer {token}"})
    fault = {"path": "/api/v2/signingCert", "status": 401, "body": echo}
    done = [site.run("--debug", "sign", PLAIN, "--keyless", "--identity-token", token,
                     "--trust-config", site.config(), site.place.name)]  # fmt: skip
    site.sigstore.fail(**fault)
    done.append(site.sign("--identity-token", token))
    done.append(site.sign("--identity-token", f"{token}.more"))
    done.append(site.sign("--identity-token", token, "extra"))
    assert [each.code for each in done] == [0, 1, 1, 1]
    for each in done:
        shown = each.err + each.out.decode()
        assert not any(part in shown for part in token.split("."))


@pytest.mark.parametrize("text", ["", "token", "a.b", "a.b.c.d", "a.b.c", "é.b.c", "a" * 70_000])
def test_what_is_no_token_is_said_before_anything_is_asked(site: Keyless, text: str) -> None:
    (site.path / "token").write_text(text)
    done = site.sign("--identity-token-file", site.path / "token")
    assert done.code == 1
    assert "token" in done.err
    assert len(done.err) < 400
    assert not site.sigstore.requests
    assert not site.pushed


# --- services that fail or lie ------------------------------------------------------------------


def other_entry(site: Keyless) -> None:
    """The log answers with an entry that it has of something else (CVE-2026-22703)."""
    signer = site.sigstore.signer(WHO)
    entry = signer.logged(b"other", signer.sign(b"other"))
    site.sigstore.rekor.log = lambda *args, **kwargs: entry  # type: ignore[method-assign]


def wrong_promise(site: Keyless) -> None:
    log = site.sigstore.rekor.log

    def changed(*args: Any, **kwargs: Any) -> Any:
        entry = log(*args, **kwargs)
        return replace(entry, integrated_time=entry.integrated_time + 1)

    site.sigstore.rekor.log = changed  # type: ignore[method-assign]


def leaf(made: Leaf) -> Callable[[Keyless], None]:
    def change(site: Keyless) -> None:
        site.sigstore.services.leaf = made

    return change


def fault(**fields: Any) -> Callable[[Keyless], None]:
    def change(site: Keyless) -> None:
        site.sigstore.fail(**fields)

    return change


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (fault(path="/api/v2/signingCert", status=500), "500"),
        (fault(path="/api/v2/signingCert", status=403), "403"),
        (fault(path="/api/v2/signingCert", cut_headers=True), "signingCert"),
        (fault(path="/api/v2/signingCert", body_override=b"{}"), "no list of certificates"),
        (leaf(Leaf(timestamps="foreign")), "a certificate log that was not trusted then"),
        (leaf(Leaf(timestamps="none")), "no signed certificate timestamp"),
        (fault(path="/api/v1/log", status=503), "503"),
        (fault(path="/api/v1/log/entries", status=500), "500"),
        (fault(path="/api/v1/log/entries", body_override=b"[]"), "not a JSON object"),
        (other_entry, "of another"),
        (wrong_promise, "not"),
    ],
    ids=[
        "fulcio-500", "fulcio-403", "fulcio-cut", "fulcio-empty", "sct-of-another-log", "no-sct",
        "rekor-away", "rekor-500", "rekor-list", "cve-2026-22703", "promise",
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["sigstore", "bundle"])
def test_nothing_is_pushed_when_a_service_fails_or_lies(
    site: Keyless, change: Callable[[Keyless], None], word: str, form: str
) -> None:
    if change is other_entry and form == "bundle":
        word = "does not hold"
    change(site)
    site.sign("--format", form).refused(word)
    assert not site.pushed


def test_a_token_is_led_to_no_other_host(site: Keyless) -> None:
    """Not even by the service that it was made for."""
    site.sigstore.fail(path="/api/v2/signingCert", redirect=f"{site.place.registry.url}/steal")
    site.sign().refused("307")
    assert not any(e.path == "/steal" for e in site.place.registry.requests)


def test_certificates_of_services_are_always_verified(
    site: Keyless, registry_tls: RegistryServer
) -> None:
    """--tls-verify is about the registry; certs.d says whom else to trust."""
    root = ("--trusted-root", site.root(), "--rekor-url", site.sigstore.url)
    token = ("--identity-token-file", site.token_file())
    words = ("sign", PLAIN, "--keyless", *token, *root, "--fulcio-url", registry_tls.url)
    site.run(*words, site.place.name).refused("certificate")
    directory = site.path / "certs.d" / registry_tls.host
    directory.mkdir(parents=True)
    (directory / "ca.crt").write_bytes(registry_tls.ca_file.read_bytes())
    done = site.run(*words, site.place.name, certs_dirs=(str(directory.parent),))
    done.refused("/api/v1/signingCert: 404")


# --- parameter files ----------------------------------------------------------------------------


def parameters(site: Keyless, **changes: str | None) -> Path:
    """A parameter file with Fulcio; None leaves a field out."""
    fields: dict[str, str | None] = {
        "fulcioURL": site.sigstore.url,
        "oidcMode": "staticToken",
        "oidcIDToken": site.sigstore.token(WHO),
        "rekorURL": site.sigstore.url,
        **changes,
    }
    inner = {key: value for key, value in fields.items() if value and key != "rekorURL"}
    rekor = {"rekorURL": fields["rekorURL"]} if fields["rekorURL"] else {}
    path = site.path / "params.yaml"
    path.write_text(json.dumps({"fulcio": inner, **rekor}))
    return path


def copied(site: Keyless, params: Path, *flags: str | Path) -> Outcome:
    """Copy app:1 over itself, and sign it there."""
    sides = ("--src-tls-verify=false", "--dest-tls-verify=false", "--insecure-policy", "-q")
    name = site.place.name
    return site.run("copy", *sides, "--sign-by-sigstore", params, *flags, name, name)


def test_a_parameter_file_signs_with_fulcio_and_rekor(site: Keyless) -> None:
    done = copied(site, parameters(site))
    assert done.code == 0, done.err
    assert site.verify("--format", "sigstore").code == 0


def test_a_parameter_file_signs_with_a_key_and_logs_it(site: Keyless) -> None:
    (site.path / "key").write_bytes(KEY)
    path = site.path / "params.yaml"
    path.write_text(f"privateKeyFile: {site.path}/key\nrekorURL: {site.sigstore.url}\n")
    assert copied(site, path).code == 0
    (signature,) = attachments(site)
    assert "dev.sigstore.cosign/bundle" in signature.annotations
    path.write_text(f"privateKeyFile: {site.path}/key\n")
    assert copied(site, path).code == 0
    assert len(site.sigstore.rekor.entries) == 1


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"fulcioURL": None}, "no fulcioURL"),
        ({"rekorURL": None}, "without rekorURL"),
        ({"oidcMode": None}, "no oidcMode"),
        ({"oidcMode": "browser"}, "unknown oidcMode"),
        ({"oidcMode": "interactive"}, "oidcMode interactive is not supported"),
        ({"oidcMode": "deviceGrant"}, "oidcMode deviceGrant is not supported"),
        ({"oidcIDToken": None}, "no oidcIDToken"),
        ({"oidcIDToken": "secret"}, "no identity token"),
        ({"oidcToken": "x"}, "unknown field 'oidcToken'"),
        ({"rekorURL": "rekor"}, "no http or https URL"),
    ],
)
def test_a_bad_parameter_file_is_said_before_anything_is_read(
    site: Keyless, changes: dict[str, str | None], word: str
) -> None:
    done = copied(site, parameters(site, **changes))
    done.refused(word)
    assert "secret" not in done.err
    assert not site.place.registry.requests


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "neither privateKeyFile nor fulcio"),
        ("- a", "not a mapping"),
        ("privateKeyFile: [a]", "not a text"),
        ("privatekeyfile: a", "unknown field"),
        ("privateKeyFile: a\nprivateKeyFile: b", "twice"),
        ("privateKeyFile: a\nfulcio: {fulcioURL: u}", "both"),
        ("privateKeyPassphraseFile: a", "without a privateKeyFile"),
    ],
)
def test_a_parameter_file_is_read_strictly(site: Keyless, text: str, word: str) -> None:
    (site.path / "params.yaml").write_text(text)
    copied(site, site.path / "params.yaml").refused(word)


# --- start-up -----------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--version"], ["sign", "--help"], ["copy", "dir:a", "dir:b"]])
def test_sigstore_is_imported_only_for_keyless_signatures(words: list[str], tmp_path: Path) -> None:
    """Neither are the clients of its services."""
    program = (
        "import sys\nfrom imgtools.cli.main import run\nfrom imgtools.cli.settings import Settings"
        f"\nfrom imgtools.cli.state import Cli\nrun({words!r}, Cli(settings=Settings()))\n"
        "print('\\nloaded', *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        encoding="utf-8",
    )
    loaded = done.stdout.rpartition("loaded")[2].split()
    assert "imgtools.cli.main" in loaded
    heavy = ("sigstore", "id", "rfc3161_client", "requests", "imgtools.sign.keyless")
    assert not [name for name in loaded if name.startswith(tuple(f"{h}." for h in heavy))]
    assert not set(heavy) & set(loaded)


def test_signing_with_a_key_imports_no_sigstore(site: Keyless) -> None:
    (site.path / "key").write_bytes(KEY)
    words = ["sign", PLAIN, "--key", str(site.path / "key"), site.place.name]
    program = (
        "import sys\nfrom imgtools.cli.main import run\nfrom imgtools.cli.settings import Settings"
        "\nfrom imgtools.cli.state import Cli\n"
        f"code = run({words!r}, Cli(settings=Settings()))\nprint('loaded', *sys.modules)\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, encoding="utf-8"
    )
    loaded = done.stdout.rpartition("loaded")[2].split()
    assert "imgtools.sign.key_signers" in loaded
    assert not {"sigstore", "id", "rfc3161_client", "requests"} & set(loaded)
