"""What a process asks the system for while it publishes: no new pages for chunks that are written and gone."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import sysconfig

import pytest

# In a process of its own: any test before it may have freed a large block, and what is looked at would be there anyhow.
PROGRAM = """
import resource, threading
from nats_proto._session.outbox import CHUNK_SIZE, Outbox

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        while not outbox.full:
            outbox.append(b"PUB a 1009\\r\\n" + b"x" * 1009 + b"\\r\\n")
        while pieces := outbox.take(CHUNK_SIZE, [])[0]:
            outbox.sent(sum(map(len, pieces)))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

outbox = Outbox()
outbox.begin()
faults(5)
print(faults(20))
thread = threading.Thread(target=lambda: (faults(5), print(faults(20))))  # other threads have other heaps
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep memory by other rules")
@pytest.mark.skipif(
    sys.implementation.name != "cpython" or bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="it has an allocator of its own",
)
@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="the allocator may be another one")
def test_chunks_that_are_written_leave_their_memory_to_the_next_ones() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    main, other = map(int, done.stdout.split())
    # Twenty times a full outbox, which is eleven chunks of 25 pages. Given back and asked for again, most are new ones.
    assert max(main, other) < 500
