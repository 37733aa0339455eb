"""What the case of COPY runs: a directory as the layer of a new store, in a process of its own."""

from __future__ import annotations


def copy(source: str, spool: str, root: str) -> None:
    """COPY . /app/ of the directory `source`, from the walk to the layer in a store at `root`."""
    import hashlib
    import os

    from engine.storage.layers import LayerStore
    from engine.storage.layers_disk import open_disk
    from engine.storage.options import StoreLocation
    from imgtools.build.contexts.hashes import FileHashes
    from imgtools.build.copying.digests import content_digest
    from imgtools.build.copying.model import CopyRequest, TreeFiles
    from imgtools.build.copying.survey import plan_copy
    from imgtools.build.copying.write import write_copy
    from imgtools.build.tree import Tree
    from imgtools.spec.digest import Digest
    from imgtools.task import Task

    disk = open_disk(StoreLocation(root=root, runroot=os.path.join(root, "run")))
    fd = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
    tree = Tree(fd=fd, name="context")
    request = CopyRequest(
        sources=(TreeFiles(tree=tree, patterns=(".",)),), destination="/app/", base=None
    )
    plan = plan_copy(request, task=Task())
    content_digest(plan, FileHashes(None))
    hasher = hashlib.sha256()
    with open(spool, "wb+", buffering=0) as file:

        def write(data: bytes) -> None:
            hasher.update(data)
            file.write(data)

        write_copy(plan, write, task=Task())
        file.seek(0)
        LayerStore(disk).apply(None, Digest("sha256", hasher.hexdigest()), file)
    os.close(fd)
