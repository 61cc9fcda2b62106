"""From a server's name to a connected socket.

Names are resolved in threads that nobody waits for; anyio waits for the descriptors, on every event loop. The sockets
are plain ones. A stream of anyio does not tell how much of a cancelled `send` it has written, cannot be written to
without waiting, and on asyncio takes more time than the reading itself.
"""

from __future__ import annotations

import errno
import os
import socket
from functools import partial
from typing import Final

import anyio

from nats_proto import ADDRESS_HEAD_START, families_in_turn, not_reached

from .worker_threads import WorkerThreads

__all__ = ["dial"]

# Windows says `EWOULDBLOCK`. An interrupted connect (`EINTR`) goes on by itself, as POSIX has it.
IN_PROGRESS: Final = {errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR}

SocketAddress = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
Address = tuple[socket.AddressFamily, SocketAddress]


async def dial(host: str, port: int, *, resolvers: WorkerThreads, open_sockets: set[socket.socket]) -> socket.socket:
    """A connected, non-blocking socket. Raises `OSError`, with what each address said. To give up, cancel it.

    ``open_sockets`` holds those that are being connected.
    """
    addresses = await _resolve(host, port, resolvers)
    # A single address runs no race, and its error needs no summary.
    if len(addresses) == 1:
        return await _connect(*addresses[0], open_sockets)
    failures: list[OSError] = []
    connected: list[socket.socket] = []

    async def attempt(family: socket.AddressFamily, address: SocketAddress, failed: anyio.Event) -> None:
        try:
            connected.append(await _connect(family, address, open_sockets))
        except OSError as error:
            failures.append(error)
            failed.set()
        else:
            attempts.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as attempts:
            for family, address in addresses:
                failed = anyio.Event()
                attempts.start_soon(attempt, family, address, failed)
                with anyio.move_on_after(ADDRESS_HEAD_START):
                    await failed.wait()
    except BaseException:
        # A cancellation may come when an attempt has succeeded already: nobody else would close its socket.
        for sock in connected:
            sock.close()
        raise
    # Two attempts may succeed in the same turn, before the first of them can cancel the second.
    for spare in connected[1:]:
        spare.close()
    if not connected:
        raise not_reached(host, failures)
    return connected[0]


async def _resolve(host: str, port: int, resolvers: WorkerThreads) -> list[Address]:
    """The addresses, in the order in which they are tried."""
    try:
        # An address is read without asking a resolver. So this call does not block, and needs no thread.
        addresses = _look_up(host, port, socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):  # a name
        addresses = await resolvers.run(partial(_look_up, host, port))
    return families_in_turn(addresses)


def _look_up(host: str, port: int, flags: int = 0) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    # A resolver may list an address twice. The order is kept: it is the one that the system prefers (RFC 6724).
    return list(dict.fromkeys((entry[0], entry[4]) for entry in found))


async def _connect(
    family: socket.AddressFamily, address: SocketAddress, open_sockets: set[socket.socket]
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    open_sockets.add(sock)
    try:
        sock.setblocking(False)
        # With Nagle's algorithm a small write waits until the peer has acknowledged the one before: each request would
        # be late.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex(address)
        if code in IN_PROGRESS:
            await anyio.wait_writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        if sock.getsockname() == sock.getpeername():
            # On loopback a dial to a port that nobody listens on may be given that very port, and then succeeds.
            raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    except BaseException:
        sock.close()
        raise
    finally:
        open_sockets.discard(sock)
    return sock
