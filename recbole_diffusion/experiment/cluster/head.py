"""The head of an existing Ray cluster: its address, and whether it answers there.

Ray itself would try for minutes to reach a head that is dead, and print a line for each attempt.
"""

from __future__ import annotations

import importlib
import os
import socket
from typing import Any

_SECONDS = 5.0
_LARGEST_PORT = 2**16 - 1
#: The client's connection preface of HTTP/2, on which gRPC rests, and an empty SETTINGS frame (RFC 9113, 3.4 and 6.5).
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_SETTINGS_FRAME = 4


def host_and_port(address: str) -> tuple[str, int]:
    """Return host and port of the head that answers at the address, ``host:port`` or ``auto``.

    Raises:
        ValueError: no such address, nothing listens there, or what listens is no Ray; one line.
    """
    host, _, port = _resolve(address).rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) <= _LARGEST_PORT) or "/" in host:
        raise ValueError(f"address={address!r} is not allowed; allowed: host:port of the cluster's head, or auto")
    if not listens(host, int(port)):
        raise ValueError(f"address={address!r}: nothing listens on {host}:{port}; start a cluster: ray start --head")
    if not _answers(host, int(port)):
        raise ValueError(
            f"address={address!r}: what listens on {host}:{port} does not answer as Ray's head does; "
            "give the address that `ray start --head` prints, or start the cluster again"
        )
    return host, int(port)


def _resolve(address: str) -> str:
    """Return the head's address; for ``auto`` that of RAY_ADDRESS or of the last ``ray start`` on this machine.

    Ray itself would join any session on the machine.
    """
    if address != "auto":
        return address
    utils: Any = importlib.import_module("ray._private.utils")
    head = os.environ.get("RAY_ADDRESS") or utils.read_ray_address()
    if not head or head == "auto":
        raise ValueError("address='auto': no cluster was started on this machine; give host:port of its head")
    return str(head)


def listens(host: str, port: int) -> bool:
    """Whether a server accepts connections."""
    try:
        _connect(host, port).close()
    except (OSError, UnicodeError):  # the name of no machine
        return False
    return True


def _answers(host: str, port: int) -> bool:
    """Whether a server answers HTTP/2's preface with a SETTINGS frame, as every gRPC server must.

    With RAY_USE_TLS it would answer to TLS only, and the question is not asked.
    """
    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("0", "false", ""):
        return True
    try:
        with _connect(host, port) as connection, connection.makefile("rb") as stream:
            connection.sendall(_PREFACE)
            head = stream.read(4)  # length (3 bytes), type
    except OSError:  # closed, or silent for too long
        return False
    return len(head) == 4 and head[3] == _SETTINGS_FRAME


def _connect(host: str, port: int) -> socket.socket:
    return socket.create_connection((host.strip("[]"), port), timeout=_SECONDS)
