"""Serves images to another program over a socket, by the protocol of skopeo's image proxy.

    serve(socket, services, cancel=CancelToken())

`Services` says how names are opened; the protocol is version 0.2.8.
"""

from __future__ import annotations

from imgtools.imageproxy.images import Services
from imgtools.imageproxy.message import PROTOCOL_VERSION
from imgtools.imageproxy.server import serve

__all__ = ["PROTOCOL_VERSION", "Services", "serve"]
