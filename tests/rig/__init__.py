"""Real servers for the tests: registries as processes, a token server and a proxy that takes notes.

Every helper is a context manager that listens on a loopback port the kernel chose and is gone,
threads and processes included, when its block ends.
"""

from __future__ import annotations

from tests.rig.cli import RunCli
from tests.rig.messages import Head, Reply
from tests.rig.proxy import Exchange, LoggingProxy
from tests.rig.registry import Answer, RegistryServer
from tests.rig.testdata import REPOSITORY, make_certificates, make_images
from tests.rig.tokens import TokenRequest, TokenServer

__all__ = [
    "REPOSITORY",
    "Answer",
    "Exchange",
    "Head",
    "LoggingProxy",
    "RegistryServer",
    "Reply",
    "RunCli",
    "TokenRequest",
    "TokenServer",
    "make_certificates",
    "make_images",
]
