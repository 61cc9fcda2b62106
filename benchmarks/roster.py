"""The clients under measurement: how each is started, what it can do, and whether it is here at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .works import Case, Work

__all__ = [
    "COMPILED",
    "PURE",
    "Client",
    "NotHereError",
    "Present",
    "known",
    "look_for",
    "of_checkout",
    "plain",
    "pure_of",
    "taking_part",
]

HERE = Path(__file__).parent
NATS_C = HERE / "peers" / "natsc.c"
NATS_GO = HERE / "peers" / "go"
BUILT = HERE / "peers" / "build" / "natsc"
BUILT_GO = HERE / "peers" / "build" / "natsgo"
JS = HERE / "peers" / "js" / "bench.mjs"

ALL = frozenset(
    {
        "publish",
        "publish_many",
        "subscribe_iterator",
        "subscribe_batch",
        "subscribe_callback",
        "fan_out",
        "spread",
        "huge",
        "one_in_flight",
        "request",
        "request_concurrent",
        "subscriptions",
        "connect",
        "reconnect",
        "import",
    }
)
JETSTREAM = frozenset({"js_window", "js_publish", "js_fetch", "js_ordered"})
"""What every client with JetStream does in some way."""
OWN_JETSTREAM = JETSTREAM | {"js_messages", "js_work", "js_memory", "js_first"}
BUCKETS = frozenset({"kv_put", "kv_get", "kv_watch", "object_put", "object_get"})
WITH_THREADS = frozenset({"publish_threads", "request_threads"})
WITH_TASKS = frozenset({"request_tasks"})
PEERS = ALL - {"publish_many", "subscribe_batch"}
FIRST = PEERS - {"spread", "huge", "one_in_flight"}
"""What is measured with peers that none of our growth is held beside."""
COMPILED = ("threads", "asyncio", "uvloop", "trio")
"""Our clients with the compiled module, each with a pure twin."""


def pure_of(name: str) -> str:
    """The name of the pure twin."""
    return f"{name}-pure"


PURE = tuple(map(pure_of, COMPILED))
PURE_TOO = frozenset(
    {"publish", "publish-many", "subscribe", "batch", "callback", "request", "concurrent", "subscriptions", "import"}
)
"""Works that have the pure twins beside the compiled clients."""


@dataclass(frozen=True)
class Client:
    """A program of `benchmarks.peers`."""

    name: str
    command: tuple[str, ...]
    works: frozenset[str]
    env: Mapping[str, str] = field(default_factory=dict)
    module: str = ""
    """What is imported, for the time an import takes."""
    ours: bool = False
    transports: tuple[str, ...] = ("tcp",)
    unordered: frozenset[str] = frozenset()
    """Works in which this client is known not to keep the order: the row is invalid as any other, but no surprise."""

    def environment(self) -> dict[str, str]:
        # What the caller has set for itself must not decide what is measured: without compiled files an import would
        # be a compilation.
        own = ("NATS_PROTO_PURE", "LOOP", "PYTHONDONTWRITEBYTECODE")
        given = {name: value for name, value in os.environ.items() if name not in own}
        return {**given, "PYTHONPATH": str(HERE.parent), **self.env}


@dataclass(frozen=True)
class Present:
    """A client that is here, and what it says about itself."""

    client: Client
    about: Mapping[str, object]

    @property
    def name(self) -> str:
        return self.client.name

    def can(self, program: str, transport: str = "tcp") -> bool:
        lacks = self.about.get("lacks", ())
        assert isinstance(lacks, (list, tuple))
        if program == "import" and not self.client.module:
            return False
        return program in self.client.works and program not in lacks and transport in self.client.transports


def python(module: str) -> tuple[str, ...]:
    return sys.executable, "-m", f"benchmarks.peers.{module}"


def known() -> list[Client]:
    """All of them, in the order they are measured and shown."""
    raw = frozenset({"publish", "subscribe_iterator", "spread", "request", "connect"})
    clients = [
        Client("raw", python("raw"), raw, transports=("tcp", "tls")),
        Client("nats.c", (str(BUILT),), FIRST | {"one_in_flight", "request_threads"} | JETSTREAM),
        Client("nats.go", (str(BUILT_GO),), PEERS | WITH_THREADS | WITH_TASKS | JETSTREAM | BUCKETS | {"js_messages"}),
        Client("js", ("node", "--expose-gc", str(JS)), FIRST),
        Client("nats-py", python("nats_py"), PEERS | WITH_TASKS | JETSTREAM | BUCKETS, {"LOOP": "asyncio"}, "nats"),
        Client(
            "nats-py-uvloop",
            python("nats_py"),
            PEERS - {"import"} | WITH_TASKS | JETSTREAM | BUCKETS,
            {"LOOP": "uvloop"},
        ),
        Client(
            "natsrpy",
            python("natsrpy_client"),
            FIRST - {"fan_out", "reconnect"},
            module="natsrpy",
            unordered=frozenset({"subscribe_callback"}),  # a task for each message
        ),
    ]
    for twin in ({}, {"NATS_PROTO_PURE": "1"}):
        names = PURE if twin else COMPILED
        every = ("tcp", "tls", "ws", "wss")
        works = ALL | WITH_THREADS | OWN_JETSTREAM | BUCKETS | {"service"}
        clients.append(Client(names[0], python("ours_sync"), works, {**twin}, "nats_sync", ours=True, transports=every))
        for name, loop in zip(names[1:], COMPILED[1:], strict=True):
            works = (
                (ALL if loop == "asyncio" else ALL - {"import"}) | WITH_TASKS | OWN_JETSTREAM | BUCKETS | {"service"}
            )
            transports = every if loop == "asyncio" else ("tcp",)
            env = {**twin, "LOOP": loop}
            clients.append(
                Client(name, python("ours_anyio"), works, env, "nats_anyio", ours=True, transports=transports)
            )
    core = frozenset({"parse", "encode", "byte_by_byte", "pool"})
    clients.append(Client("core", python("memory"), core, ours=True))
    clients.append(Client("core-pure", python("memory"), core, {"NATS_PROTO_PURE": "1"}, ours=True))
    return clients


def of_checkout(name: str, folder: Path) -> list[Client]:
    """Ours as they are in another checkout, built there: `threads@name` and so on, to be measured beside these.

    They run by this interpreter and the programs of this checkout.
    """
    sources = sorted(folder.resolve().glob("packages/*/src"))
    if not sources:
        raise NotHereError(f"{folder} has no packages/*/src")
    path = os.pathsep.join(map(str, (HERE.parent, *sources)))
    return [
        replace(client, name=f"{client.name}@{name}", env={**client.env, "PYTHONPATH": path})
        for client in known()
        if client.ours
    ]


def plain(name: str) -> str:
    """The name without the checkout."""
    return name.partition("@")[0]


def look_for(clients: Iterable[Client]) -> tuple[list[Present], dict[str, str]]:
    """Those that are here, and why the others are not."""
    present: list[Present] = []
    missing: dict[str, str] = {}
    for client in clients:
        try:
            present.append(Present(client, _about(client)))
        except NotHereError as error:
            missing[client.name] = str(error)
    return present, missing


def taking_part(work: Work, case: Case, present: Sequence[Present]) -> list[Present]:
    """Who is measured at a case: all who can, less what would make a run long and tell nothing new.

    Transports and linear growth are looked at on our own two clients; the second and third loop at the least and the
    largest size, but publishing at all of them; the pure twins where there is a bar for them, unless there is nothing
    but them.
    """
    names = {one.name for one in present}
    return [one for one in present if one.can(work.needs, case.transport) and _is_asked(one, work, case, names)]


def _is_asked(one: Present, work: Work, case: Case, names: Collection[str]) -> bool:
    name, at, checkout = one.name.partition("@")
    twin = name.removesuffix("-pure")
    if one.client.ours and name != twin and twin + at + checkout in names and twin != "core":
        return twin in ("threads", "asyncio") and work.name in PURE_TOO and case.size in (16, 65536)
    if work.name.startswith("tls"):
        return len(one.client.transports) > 1
    if work.name.startswith("growth"):
        return twin in ("threads", "asyncio", "core")
    return twin not in ("uvloop", "trio") or case.size in (16, 65536) or work.name == "publish" or work.streams


class NotHereError(Exception):
    """Why a client cannot be measured."""


def _about(client: Client) -> dict[str, object]:
    if client.name == "nats.c":
        _compile()
    if client.name == "nats.go":
        _build_go()
    if client.name == "js" and shutil.which("node") is None:
        raise NotHereError("there is no node")
    try:
        answer = subprocess.run(
            [*client.command, "work=about"], env=client.environment(), capture_output=True, timeout=60, text=True
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotHereError(str(error)) from error
    if answer.returncode:
        lines = [line for line in answer.stderr.splitlines() if "Error" in line] or answer.stderr.splitlines()
        raise NotHereError(lines[-1].strip() if lines else f"exit code {answer.returncode}")
    about: dict[str, object] = json.loads(answer.stdout)
    compiled = bool(about.get("compiled"))
    wanted = plain(client.name) in (*COMPILED, "core")
    if client.ours and wanted and not compiled:
        raise NotHereError(f"this build has no compiled module; {pure_of(client.name)} is the same")
    if client.ours and not wanted and compiled:
        raise NotHereError("NATS_PROTO_PURE=1 did not turn the compiled module off")
    return about


def _compile() -> None:
    """nats.c's program, with the machine's own library."""
    if shutil.which("cc") is None:
        raise NotHereError("there is no C compiler (cc)")
    BUILT.parent.mkdir(exist_ok=True)
    try:
        command = ["cc", "-O2", "-o", str(BUILT), str(NATS_C), "-lnats", "-lpthread"]
        answer = subprocess.run(command, capture_output=True, timeout=120, text=True)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotHereError(str(error)) from error
    if answer.returncode:
        if "nats/nats.h" in answer.stderr:
            raise NotHereError("its header is not installed (libnats-dev)")
        raise NotHereError(answer.stderr.splitlines()[-1] if answer.stderr else f"cc: exit code {answer.returncode}")


def _build_go() -> None:
    """nats.go's program, with the modules that its own go.mod names."""
    if shutil.which("go") is None:
        raise NotHereError("there is no Go toolchain (go)")
    BUILT_GO.parent.mkdir(exist_ok=True)
    try:
        command = ["go", "build", "-mod=mod", "-o", str(BUILT_GO), "."]
        answer = subprocess.run(command, cwd=NATS_GO, capture_output=True, timeout=300, text=True)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotHereError(str(error)) from error
    if answer.returncode:
        lines = answer.stderr.strip().splitlines()
        raise NotHereError(lines[-1].strip() if lines else f"go build: exit code {answer.returncode}")
