"""Whether a registry is spoken to by https or http, where the user left that open.

https is used wherever TLS answers, with any certificate; only silence or something that is no
TLS leads to http, and only under --tls-verify=false. What an earlier run remembered is tried
first and replaced when it turns out wrong.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from imgtools.transport.registry.wire.exchange import ExchangeFailed
from imgtools.transport.registry.wire.url import Origin

if TYPE_CHECKING:
    from imgtools.transport.registry.wire.http import HttpClient, Response

log = logging.getLogger(__name__)

_TLS_PATIENCE = 5.0
"""Seconds: some http servers wait in silence for the rest of what is a TLS greeting."""


class SchemeChoice:
    """The scheme of one registry, from any number of threads."""

    def __init__(
        self, authority: str, client: HttpClient, *, verify: bool, remembered: str = ""
    ) -> None:
        """With `verify` it is https, and nothing is ever tried."""
        self._authority = authority
        self._client = client
        self._verify = verify
        self._lock = threading.Lock()
        self._remembered = remembered
        self.known = "https" if verify else remembered
        """The scheme as far as it is known, "" before anything was tried."""
        self._tested = verify

    @property
    def base(self) -> str:
        """`scheme://host[:port]`; connects when the scheme is unknown.

        Raises ExchangeFailed when neither TLS nor, where that is allowed, http answers.
        """
        if not self.known:
            with self._lock:
                if not self.known:
                    self.known = self._find()
        return f"{self.known}://{self._authority}"

    @property
    def learned(self) -> str:
        """What a later process should begin with."""
        return self.known if self._tested and not self._verify else self._remembered

    def confirm(self) -> None:
        """Something answered as a registry does."""
        self._tested = True

    def reconsider(self) -> bool:
        """Whether a remembered scheme that does not work was replaced by another one."""
        with self._lock:
            if self._tested or not self._remembered:
                return False
            self._tested = True
            before, self.known = self.known, ""
            try:
                self.known = self._find()
            finally:
                self.known = self.known or before
            return self.known != before

    def refused_plain(self, response: Response) -> bool:
        """Whether a 400 means that TLS is spoken here now; the response is used up then."""
        if response.status != 400 or self._tested or self.known != "http":
            return False
        if response.header("Docker-Distribution-Api-Version") or not self.reconsider():
            return False
        response.drain()
        return True

    def _find(self) -> str:
        """https where TLS answers (with any certificate), else http."""
        try:
            origin = Origin.of(f"https://{self._authority}")
            self._client.connect(origin, patience=_TLS_PATIENCE)
        except ExchangeFailed as e:
            log.debug("%s: %s; trying http", self._authority, e.message)
            return "http"
        self._tested = True
        return "https"
