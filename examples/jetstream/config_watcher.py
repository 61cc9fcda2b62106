"""A configuration watcher: a program that follows its configuration while it is changed.

    python examples/jetstream/config_watcher.py nats://127.0.0.1:4222

The configuration is a bucket with one key for each setting. Two ways to follow it: a mapping in memory, for code that
reads a setting when it needs it; and a handler, for code that has to do something when a setting changes. Both go on
through restarts of servers and lost connections, and begin with what the bucket has.
"""

from __future__ import annotations

import sys
from queue import Queue

import nats_sync
from nats_sync.jetstream import InitialValuesDone, KeyValueEntry


def main(url: str) -> list[str]:
    """Change a configuration, and follow it; what the follower has reported."""
    report: Queue[str] = Queue()

    def changed(entry: KeyValueEntry[str] | InitialValuesDone) -> None:
        if isinstance(entry, InitialValuesDone):
            report.put(f"{entry.entries} settings at the beginning")
        elif entry.deleted:
            report.put(f"{entry.key} is back to its default")
        else:
            report.put(f"{entry.key} is {entry.value}")

    with nats_sync.connect(url, name="config-watcher") as nc:
        settings = nc.jetstream().create_key_value("settings", history=5).typed(str)
        settings.put("web.port", "8080")
        settings.put("web.color", "green")
        with settings.mapping("web.>") as view, settings.on_change(changed, "web.>") as changes:
            changes.ready(timeout=30)
            report.put(f"the view has {view['web.port']} and {view['web.color']}")
            settings.put("web.port", "9090")
            settings.delete("web.color")
            settings.put("database.host", "not.followed.example")
            reports = [report.get(timeout=30) for _ in range(6)]
        return reports


if __name__ == "__main__":
    for line in main(sys.argv[1] if len(sys.argv) > 1 else "nats://127.0.0.1:4222"):
        print(line)
