"""The launcher's program, run by path in an interpreter without site: launcher.py ROOT FD.
ROOT is where the package `engine` is, FD the end of a socket pair."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    from engine.runtime.zygote.server import serve

    serve(int(sys.argv[2]))
