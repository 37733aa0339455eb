"""Reading trees: what is at a path, what is in it, and where links lead, never outside the root.

Everything takes a `Tree` and paths as it has them. The disk is asked through the descriptor of
the root alone, and what is recorded beside the disk wins over what the disk says.
"""

from imgtools.build.trees.links import resolve
from imgtools.build.trees.read import (
    Node,
    list_names,
    open_file,
    read_small,
    readlink,
    stat_of,
    walk,
    xattrs_of,
)

__all__ = [
    "Node",
    "list_names",
    "open_file",
    "read_small",
    "readlink",
    "resolve",
    "stat_of",
    "walk",
    "xattrs_of",
]
