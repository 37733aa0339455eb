"""Runs the scripts of testdata/registry, which make the certificates and the test images.

They run as processes of their own, so that what they import stays out of the tests.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
TESTDATA = REPOSITORY / "testdata" / "registry"

USERNAME = "tester"
# A colon and a character beyond ASCII: both have to survive Basic authentication.
PASSWORD = "s3cret:pässword"


def make_certificates(directory: Path) -> Path:
    """Make keys, certificates and an htpasswd file in `directory`; returns it."""
    subprocess.run([sys.executable, TESTDATA / "make_certs.py", directory], check=True)
    entry = subprocess.run(
        ["htpasswd", "-nbB", "-C", "4", USERNAME, PASSWORD], check=True, stdout=subprocess.PIPE
    )
    (directory / "htpasswd").write_bytes(entry.stdout)
    return directory


def make_images(directory: Path) -> Path:
    """Make the OCI layout of test images at `directory`, not there yet; returns it."""
    subprocess.run([sys.executable, TESTDATA / "make_images.py", directory, "--check"], check=True)
    return directory
