"""Explains what went wrong on the network: one typed failure with the remedy where there is one.

The cause is what the system or OpenSSL said first; the layers that wrapped it say nothing
that a person could act on.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from imgtools.transport.registry.wire.exchange import ExchangeFailed, Stage
from imgtools.transport.registry.wire.url import Origin, clean

ClientHint = Callable[[], str]
"""What to say where a client certificate may be missing."""


def network_failure(
    error: BaseException,
    origin: Origin,
    stage: Stage,
    *,
    stale: bool = False,
    silence: str = "",
    via: str = "",
    client_hint: ClientHint | None = None,
) -> ExchangeFailed:
    """The typed form of `error`, which ended an exchange with `origin` at `stage`.

    `silence` is what was waited for, and for how long, should it be a time-out; `via` is the
    proxy whose failure it is.
    """
    if isinstance(error, ExchangeFailed):
        return error
    reason, hint, final = _explain(_root_cause(error), stage, silence, client_hint)
    if via:
        reason = f"{via}: {reason}"
        hint = "the proxy comes from HTTPS_PROXY or HTTP_PROXY"
    return failed(reason, origin, stage, stale=stale, final=final, hint=hint)


def failed(
    reason: str,
    origin: Origin,
    stage: Stage,
    *,
    stale: bool = False,
    final: bool = False,
    hint: str | None = None,
) -> ExchangeFailed:
    """An exchange with `origin` that ended at `stage` for `reason`."""
    host = origin.authority
    doing = {
        "connect": f"cannot connect to {origin}",
        "tls": f"cannot establish TLS with {host}",
        "send": f"sending to {origin} failed",
        "receive": f"no complete answer from {origin}",
    }[stage]
    return ExchangeFailed(
        f"{doing}: {clean(reason)}", host=host, stage=stage, stale=stale, final=final, hint=hint
    )


def _explain(
    cause: BaseException, stage: Stage, silence: str, client_hint: ClientHint | None
) -> tuple[str, str | None, bool]:
    """Reason, hint, and whether trying again is pointless."""
    if isinstance(cause, socket.gaierror):
        unknown = cause.errno == socket.EAI_NONAME
        return "the host name cannot be resolved", "check the name", unknown
    if isinstance(cause, TimeoutError):
        own = cause.strerror if cause.errno is None else None
        waited = own or silence
        return f"timed out: {waited}" if waited else "timed out", None, False
    if isinstance(cause, UnicodeError):
        return "the host name cannot be resolved", "check the name", True
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
        return _explain_tls(reason, stage, client_hint)
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror[:1].lower() + cause.strerror[1:], None, False
    text = str(cause) or type(cause).__name__
    return text[:1].lower() + text[1:], None, isinstance(cause, ValueError)


def _explain_tls(
    reason: str, stage: Stage, client_hint: ClientHint | None
) -> tuple[str, str | None, bool]:
    """What a reason of OpenSSL's means for people."""
    hint = None
    if "ALERT" in reason and any(
        word in reason for word in ("CERTIFICATE", "HANDSHAKE", "UNKNOWN_CA")
    ):
        hint = client_hint() if client_hint is not None else None
        hint = hint or "it may want a client certificate: a .cert and a .key file in --cert-dir"
    if "PROTOCOL_VERSION" in reason or reason == "UNSUPPORTED_PROTOCOL":
        return (
            "it does not speak a version of TLS that is allowed",
            "TLS 1.2 is the lowest that is spoken, and --tls-details may ask for more",
            True,
        )
    if reason == "UNSAFE_LEGACY_RENEGOTIATION_DISABLED":
        return (
            "it only knows the insecure form of TLS renegotiation (before RFC 5746)",
            "the registry, or a proxy before it, needs an update",
            True,
        )
    return reason.lower().replace("_", " "), hint, hint is not None or stage == "tls"


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
