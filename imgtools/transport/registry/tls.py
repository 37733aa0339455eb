"""Makes TLS contexts from options: trust, client certificates, or no verification at all.

A directory of certificates follows certs.d of containers and docker: every `*.crt` is a CA
beside the system's, every `*.cert` a client certificate whose key is the `*.key` of the
same name. This module, and ssl with it, is imported only when https is spoken.
"""

from __future__ import annotations

import logging
import os
import ssl

from imgtools.errors import InvalidInput, StorageError
from imgtools.transport.options import RegistryOptions

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
    incomplete, StorageError for files that cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
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
    return context


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
