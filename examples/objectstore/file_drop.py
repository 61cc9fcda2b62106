"""A file drop: files that are put into a folder go into a bucket, and every other place has them a moment later.

    python examples/objectstore/file_drop.py nats://127.0.0.1:4222 send FOLDER
    python examples/objectstore/file_drop.py nats://127.0.0.1:4222 receive FOLDER

The sender puts each file under its name. Who receives watches the bucket: it gets what is there, and what comes, each
file complete or not at all, and removes what was deleted. A file that is replaced while it is fetched is fetched again,
since the watch tells of the newer one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nats_sync
from nats_sync.jetstream import (
    InitialValuesDone,
    JetStream,
    ObjectNotFoundError,
    ObjectReplacedError,
    ObjectStore,
    ObjectWatch,
)

BUCKET = "drop"


def bucket(js: JetStream) -> ObjectStore:
    """Whoever comes first makes it."""
    return js.create_object_store(BUCKET, description="files on their way")


def send(files: ObjectStore, folder: Path) -> list[str]:
    """Put all files of a folder, and delete what it does not have: the names of those that were put."""
    there = {info.name: info for info in files.list()}
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    for name in names:
        files.put_file(folder / name)
    for name in there.keys() - set(names):
        files.delete(name)
    return names


def receive(changes: ObjectWatch, files: ObjectStore, folder: Path, until: str | None = None) -> list[str]:
    """Have in the folder what the bucket has; what was done. Ends after the file ``until``, or never."""
    done: list[str] = []
    for info in changes:
        if isinstance(info, InitialValuesDone):
            continue
        path = folder / Path(info.name).name  # a name may be any text, also one that leads elsewhere
        if info.deleted:
            path.unlink(missing_ok=True)
            done.append(f"removed {path.name}")
        else:
            try:
                files.get_file(info.name, path)
                done.append(f"got {path.name}")
            except (ObjectReplacedError, ObjectNotFoundError):
                pass  # the watch tells of it next
        if info.name == until:
            break
    return done


def main(url: str, what: str, folder: str) -> None:
    """Send, or receive until it is stopped."""
    with nats_sync.connect(url, name=f"file-drop {what}") as nc:
        files = bucket(nc.jetstream())
        if what == "send":
            print("\n".join(send(files, Path(folder))))
        else:
            with files.watch() as changes:
                receive(changes, files, Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:4])
