"""What a page or an example shows is run as it stands there, and so with the time-outs of a user.

A second, or five, is less than a machine with too much to do may stand still, and a program that shows how to wait for
a second must not be made to wait for a minute. So here, and nowhere else, a test that fails is tried again, with a
server that is new: what is wrong on a page is wrong each time.
"""

from __future__ import annotations

import traceback
from contextlib import ExitStack

import pytest

from nats_sync.testing import LocalServer

TRIES = 3


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    """Call it, up to so many times."""
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    with ExitStack() as stack:
        for left in reversed(range(TRIES)):
            try:
                pyfuncitem.obj(**arguments)
            except Exception:
                if not left:
                    raise
                print(f"It is tried again:\n{traceback.format_exc()}")
            else:
                break
            if "jetstream_server" in arguments:
                arguments["jetstream_server"] = stack.enter_context(LocalServer(jetstream=True))
    return True
