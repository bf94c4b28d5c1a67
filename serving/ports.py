"""Ports: taken early, with an error that says what to do."""

from __future__ import annotations

import contextlib
import errno
import secrets
import socket

from clickmill.errors import UsageError

_SERVERS_OWN = range(10_240, 32_768)
"""Linux gives 32768 to 60999 to outgoing connections."""


def listen(host: str, port: int, option: str) -> socket.socket:
    """A bound, listening socket; port 0 takes a free one. `option` is the flag to name, "--http-port".

    Raises UsageError when the port is taken, forbidden, or the host is not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(2048)
    except (OSError, OverflowError) as error:
        sock.close()
        raise UsageError(_explain(host, port, option, error)) from error
    sock.setblocking(False)
    return sock


def claim(host: str, port: int, option: str) -> int:
    """Number of a port that is free now; for servers that must bind themselves, a little later. Raises UsageError as `listen` does.

    Port 0 draws one below those that the system gives to outgoing connections: between this and the server's own binding one of
    them would sooner or later be taken by a client.
    """
    if port == 0:
        for _ in range(50):
            drawn = secrets.choice(_SERVERS_OWN)
            with contextlib.suppress(UsageError):
                return claim(host, drawn, option)
    sock = listen(host, port, option)
    number: int = sock.getsockname()[1]
    sock.close()
    return number


def _explain(host: str, port: int, option: str, error: Exception) -> str:
    code = getattr(error, "errno", None)
    if code == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is in use by another program; stop it, give {option} another number, "
            f"or {option} 0 for a free one"
        )
    if code == errno.EACCES:
        return f"port {port} on {host} is not allowed for this user; give {option} a number above 1023"
    if code == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return f"{host} is no address of this machine ({error}); give --host 127.0.0.1 or 0.0.0.0"
    return f"cannot listen on {host} port {port}: {error}; give {option} another number"
