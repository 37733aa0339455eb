"""Explains what went wrong on the network: one typed failure with the remedy where there is one.

The cause is what the system or OpenSSL said first; the layers that wrapped it say nothing
that a person could act on.
"""

from __future__ import annotations

import socket

from imgtools.transport.registry.exchange import ExchangeFailed, Stage
from imgtools.transport.registry.url import Origin, clean


def network_failure(
    error: BaseException, origin: Origin, stage: Stage, *, stale: bool = False
) -> ExchangeFailed:
    """The typed form of `error`, which ended an exchange with `origin` at `stage`."""
    host = origin.authority
    cause = _root_cause(error)
    reason, hint, final = _explain(cause, stage)
    doing = {
        "connect": f"cannot connect to {origin}",
        "tls": f"cannot establish TLS with {host}",
        "send": f"sending to {origin} failed",
        "receive": f"no complete answer from {origin}",
    }[stage]
    return ExchangeFailed(
        f"{doing}: {clean(reason)}", host=host, stage=stage, stale=stale, final=final, hint=hint
    )


def _explain(cause: BaseException, stage: Stage) -> tuple[str, str | None, bool]:
    """Reason, hint, and whether trying again is pointless."""
    if isinstance(cause, socket.gaierror):
        unknown = cause.errno == socket.EAI_NONAME
        return "the host name cannot be resolved", "check the registry's name", unknown
    if isinstance(cause, TimeoutError):
        return "timed out", None, False
    verify = getattr(cause, "verify_message", None)
    if verify is not None:
        return (
            f"its certificate is not trusted: {verify}",
            "give the CA's certificate with --cert-dir (as a .crt file) or SSL_CERT_FILE, "
            "or accept any certificate with --tls-verify=false",
            True,
        )
    reason = getattr(cause, "reason", None)
    if stage == "tls" and reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"):
        return "it does not speak TLS", "use --tls-verify=false for a registry on http", True
    if stage == "tls" and _is_end(cause):
        return (
            "the other side closed the connection",
            "if the registry is on plain http, use --tls-verify=false",
            False,
        )
    if isinstance(reason, str):
        hint = None
        if "ALERT" in reason and ("CERTIFICATE" in reason or "HANDSHAKE" in reason):
            hint = "it may want a client certificate: a .cert and a .key file in --cert-dir"
        return reason.lower().replace("_", " "), hint, hint is not None or stage == "tls"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower(), None, False
    text = str(cause) or type(cause).__name__
    return text[:1].lower() + text[1:], None, isinstance(cause, ValueError)


def _root_cause(error: BaseException) -> BaseException:
    seen = {id(error)}
    while (cause := error.__cause__) is not None and id(cause) not in seen:
        seen.add(id(cause))
        error = cause
    return error


def _is_end(cause: BaseException) -> bool:
    """Whether the other side hung up in the middle of a TLS handshake."""
    return isinstance(cause, ConnectionResetError) or type(cause).__name__ in (
        "SSLEOFError",
        "SSLZeroReturnError",
    )
