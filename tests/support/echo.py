"""A server that answers with its peer's address, and a client that asks it.

    echo.py serve PROTOCOL ADDRESS PORT NAME               until standard input ends
    echo.py ask PROTOCOL ADDRESS PORT SOURCE-PORT TIMEOUT  exit code 1 if nothing answers

PROTOCOL is tcp, udp or sctp. A server at `::` answers IPv4 as well. Its answer is `NAME SOURCE`, or
SOURCE alone if the name is empty: it shows who was reached and from which address.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
from collections.abc import Callable

KINDS = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}


def serve(protocol: str, address: str, port: str, name: str) -> int:
    server = _open(protocol, address)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if server.family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind((address, int(port)))
    if protocol != "udp":
        server.listen()
    print("ready", flush=True)
    while sys.stdin not in select.select([server, sys.stdin], [], [])[0]:
        with contextlib.suppress(OSError):  # the client went away before it was answered
            _answer(server, protocol, name)
    return 0


def _answer(server: socket.socket, protocol: str, name: str) -> None:
    if protocol == "udp":
        _, peer = server.recvfrom(1024)
        server.sendto(_text(name, peer[0]), peer)
        return
    connection, peer = server.accept()
    with connection:
        connection.sendall(_text(name, peer[0]))


def _text(name: str, source: str) -> bytes:
    return f"{name} {source.removeprefix('::ffff:')}".strip().encode()


def ask(protocol: str, address: str, port: str, source_port: str, timeout: str) -> int:
    client = _open(protocol, address)
    client.settimeout(float(timeout))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    client.bind(("", int(source_port)))
    try:
        # A link-local address has a zone behind it, which only this understands.
        client.connect(socket.getaddrinfo(address, int(port), client.family)[0][4])
        if protocol == "udp":
            client.send(b"who am I?")
        answer = client.recv(1024)
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    print(answer.decode())
    return 0


def _open(protocol: str, address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.socket(family, *KINDS[protocol])


if __name__ == "__main__":
    verbs: dict[str, Callable[..., int]] = {"serve": serve, "ask": ask}
    sys.exit(verbs[sys.argv[1]](*sys.argv[2:]))
