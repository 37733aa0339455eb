"""Makes TLS contexts from options: trust, client certificates, or no verification at all.

A directory of certificates follows certs.d of containers and docker: every `*.crt` is a CA
beside the system's, every `*.cert` a client certificate whose key is the `*.key` of the
same name. What may be negotiated is narrowed by TlsDetails, never widened. This module, and
ssl with it, is imported only when https is spoken.
"""

from __future__ import annotations

import logging
import os
import ssl

from imgtools.errors import InvalidInput, StorageError, Unsupported
from imgtools.transport.options import RegistryOptions, TlsDetails

log = logging.getLogger(__name__)


def certificates_for(registry: str, options: RegistryOptions) -> str | None:
    """The directory of certificates for `registry`, named as in references; None for none.

    containers-certs.d(5): the name is `host[:port]` to the letter, and the first of the
    directories that has it is the only one used.
    """
    if options.cert_dir is not None:
        return options.cert_dir
    candidates = (os.path.join(directory, registry) for directory in options.certs_dirs)
    return next((path for path in candidates if os.path.isdir(path)), None)


def make_context(
    options: RegistryOptions, *, registry: str = "", client_identity: bool
) -> ssl.SSLContext:
    """A client context for `options`; with `client_identity` it offers the client pairs.

    `registry` is the name that certificates are looked up by where no directory was given.

    The system's CAs are OpenSSL's own default, which SSL_CERT_FILE and SSL_CERT_DIR
    redirect. Raises InvalidInput for files that are no certificates or pairs that are
    incomplete, StorageError for files that cannot be read, Unsupported for details that
    OpenSSL cannot be held to.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _apply_details(context, options.tls)
    if options.tls_verify:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if options.ca_file is not None:
        _load_ca(context, options.ca_file)
    directory = certificates_for(registry, options) if registry else options.cert_dir
    if directory is not None:
        _load_directory(context, directory, client_identity=client_identity)
    # Registries that ask for a client certificate only for some paths ask after the handshake.
    context.post_handshake_auth = client_identity
    return context


def unwanted_cipher(cipher: tuple[str, str, int] | None, details: TlsDetails) -> str:
    """The name of a TLS 1.3 suite that was negotiated and is not in `details`, else "".

    Python cannot choose among the suites of TLS 1.3, so the choice is checked before
    anything is sent. As in Go, a list without any of them says nothing about TLS 1.3.
    """
    from imgtools.transport.registry.wire.tls_names import TLS13_SUITES

    allowed = TLS13_SUITES.intersection(details.cipher_suites)
    name = cipher[0] if cipher is not None else ""
    return name if allowed and name in TLS13_SUITES and name not in allowed else ""


def _apply_details(context: ssl.SSLContext, details: TlsDetails) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if details == TlsDetails():
        return
    from imgtools.transport.registry.wire.tls_names import TLS12_SUITES, TLS13_SUITES

    if details.min_version == "1.3":
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    elif details.min_version not in ("", "1.2"):
        raise Unsupported(
            f"TLS details: minVersion {details.min_version}: the lowest version is 1.2"
        )
    if details.cipher_suites:
        _choose_ciphers(context, details, TLS12_SUITES, TLS13_SUITES)
    if details.named_groups:
        _choose_group(context, details.named_groups)


def _choose_ciphers(
    context: ssl.SSLContext, details: TlsDetails, tls12: dict[str, str], tls13: frozenset[str]
) -> None:
    unknown = [name for name in details.cipher_suites if name not in tls12 and name not in tls13]
    if unknown:
        raise InvalidInput(f"TLS details: unknown cipher suite {unknown[0]!r}")
    chosen = [tls12[name] for name in details.cipher_suites if name in tls12]
    if not chosen:
        # Only suites of TLS 1.3 are allowed, and so no earlier version is.
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return
    try:
        context.set_ciphers(":".join(chosen))
    except ssl.SSLError as e:
        raise Unsupported(
            f"TLS details: this OpenSSL has none of the cipher suites {', '.join(chosen)}"
        ) from e


def _choose_group(context: ssl.SSLContext, names: tuple[str, ...]) -> None:
    """Offer one of the groups: Python cannot offer a choice, and one of those that are
    allowed is never more than is allowed. secp256r1 is what every server has to know."""
    from imgtools.transport.registry.wire.tls_names import GROUPS

    unknown = [name for name in names if name not in GROUPS]
    if unknown:
        raise InvalidInput(f"TLS details: unknown named group {unknown[0]!r}")
    for name in sorted(names, key=lambda name: name != "secp256r1"):
        try:
            context.set_ecdh_curve(GROUPS[name])
        except (ValueError, ssl.SSLError) as e:
            log.debug("TLS details: %s: %s", name, e)
        else:
            log.debug("TLS details: of the groups %s, %s is offered", names, name)
            return
    raise Unsupported(
        f"TLS details: this OpenSSL cannot be held to the groups {', '.join(names)}",
        hint="with Python's ssl one of secp256r1, secp384r1 and secp521r1 has to be allowed",
    )


def _load_directory(context: ssl.SSLContext, directory: str, *, client_identity: bool) -> None:
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, PermissionError) as e:
        # As in certs.d: a directory that is not for us says nothing.
        log.debug("certificates in %s are not used: %s", directory, e.strerror)
        return
    except OSError as e:
        raise StorageError(f"{directory}: {e.strerror}", path=directory) from e
    present = set(names)
    for name in names:
        path = os.path.join(directory, name)
        stem, extension = os.path.splitext(name)
        if extension == ".crt":
            _load_ca(context, path)
        elif extension == ".cert":
            if f"{stem}.key" not in present:
                raise InvalidInput(f"missing key {stem}.key for client certificate {path}")
            if client_identity:
                _load_pair(context, path, os.path.join(directory, f"{stem}.key"))
        elif extension == ".key" and f"{stem}.cert" not in present:
            raise InvalidInput(
                f"missing client certificate {stem}.cert for key {path}",
                hint="CA certificates have the extension .crt, client certificates .cert",
            )


def _load_ca(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as e:
        raise InvalidInput(f"{path} holds no CA certificate that can be read") from e
    except OSError as e:
        raise StorageError(f"{path}: {e.strerror}", path=path) from e


def _load_pair(context: ssl.SSLContext, certificate: str, key: str) -> None:
    def no_password() -> str:
        raise InvalidInput(f"{key} is encrypted, which is not supported for client keys")

    try:
        context.load_cert_chain(certificate, key, password=no_password)
    except ssl.SSLError as e:
        raise InvalidInput(f"{certificate} and {key} are not a certificate and its key") from e
    except OSError as e:
        raise StorageError(f"{certificate}: {e.strerror}", path=certificate) from e
