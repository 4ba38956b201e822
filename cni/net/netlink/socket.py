"""A netlink socket: one request out, its answers in.

pyroute2 has sockets, too, but they bring an event loop along, which costs more time than all that
the kernel does for a request. What goes over the socket is put together elsewhere: rtnetlink in
`netlink`, conntrack and nftables queries in their modules.

Source: netlink(7), include/uapi/linux/netlink.h.
"""

from __future__ import annotations

import _socket as socket  # the wrapper makes enumerations, which takes thirty times as long
import contextlib
import errno
import os
import struct
from types import TracebackType

from cni import TYPE_CHECKING
from cni.errors import CniError
from cni.net.netlink import attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Self

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x200, 0x400, 0x800

HEADER = struct.Struct("=IHHII")

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x100, 0x200
_NLMSGERR_ATTR_MSG = 1
_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK = 270, 10, 11, 12
_SO_SNDBUF, _SO_SNDBUFFORCE = 7, 32  # include/uapi/asm-generic/socket.h

# The kernel puts as much of a dump into a message as the last receive had room for, up to this.
_ROOM = 32768
# What a message takes up of the send buffer beside its own length: netlink_sendmsg.
_SEND_OVERHEAD = 32

# So many errors, of less than a kilobyte each, are held by a receive buffer.
_MOST_AT_ONCE = 200

_MOST_LEFT_OPEN = 4
_left_open: list[Callable[[], object]] = []


class NetlinkError(CniError):
    """The kernel refused a request: `errno`, with its own words (NLMSGERR_ATTR_MSG) as details."""

    def __init__(self, number: int, what: str, reason: str = "") -> None:
        if number == errno.EPERM and not reason:
            from cni.net import namespace

            reason = namespace.explain_refusal()
        super().__init__(f"{what}: {os.strerror(number)}", reason)
        self.errno = number


class _NothingMore(NetlinkError):
    """All that the kernel has answered was received."""


class Socket:
    """A netlink socket of any protocol: sends one request at a time, returns what answers it."""

    def __init__(self, protocol: int) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        try:
            self._socket = socket.socket(socket.AF_NETLINK, kind, protocol)
        except OSError as error:
            what = f"opening a netlink socket (protocol {protocol})"
            raise NetlinkError(error.errno or 0, what) from None
        # CAP_ACK: an error does not bring the refused request back, which may be 64 KiB long.
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._sequence = 0
        self._room = bytearray(_ROOM)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it, as the end of a `with` does; it may be closed already."""
        self._socket.close()

    def ask(self, kind: int, flags: int, payload: bytes, what: str) -> list[bytes]:
        """Send a message; the payloads that answer it. `what` says in an error what was tried.

        Raises NetlinkError.
        """
        return list(self.each_answer(kind, flags, payload, what))

    def each_answer(self, kind: int, flags: int, payload: bytes, what: str) -> Iterator[bytes]:
        """The same, one payload after the other as they come, for a dump that may be long.

        Nothing else may be sent before the last one.
        """
        self._sequence += 1
        self._send(self._message(kind, flags | NLM_F_ACK, payload), what)
        while True:
            for message_kind, message_flags, body in self._receive(what):
                if message_kind == _NLMSG_ERROR:
                    _raise_refusal(message_flags, body, what)
                    return
                if message_kind == _NLMSG_DONE:
                    return
                yield body

    def tell_each(self, kind: int, payloads: Sequence[bytes], what: str, ignored: int) -> None:
        """Send messages that do not depend on one another, a few hundred at a time.

        Raises NetlinkError for the first that is refused, unless with the error number `ignored`.
        """
        for at in range(0, len(payloads), _MOST_AT_ONCE):
            self._sequence += 1
            some = payloads[at : at + _MOST_AT_ONCE]
            self._send(b"".join(self._message(kind, 0, payload) for payload in some), what)
            with contextlib.suppress(_NothingMore):
                while True:
                    for _, flags, body in self._receive(what):
                        if _error_number(body) != ignored:
                            _raise_refusal(flags, body, what)

    def tell(self, batch: Sequence[tuple[int, int, bytes]], what: str) -> None:
        """Send messages (kind, flags, payload) as one batch, of which the kernel does all or none.

        The first and the last one mark its borders. Only what is longer than the kernel takes at
        once is sent as several batches, in order: where a process may not raise its send buffer, as
        in a user namespace, beyond 400 KiB. Raises NetlinkError; earlier batches are done then.
        """
        first, *inner, last = batch
        try:
            self._tell([first, *inner, last], what)
        except NetlinkError as error:
            if error.errno != errno.EMSGSIZE or len(inner) < 2:
                raise
            half = len(inner) // 2
            self.tell([first, *inner[:half], last], what)
            self.tell([first, *inner[half:], last], what)

    def _tell(self, batch: Sequence[tuple[int, int, bytes]], what: str) -> None:
        """Send one batch. Raises NetlinkError, EMSGSIZE for one that is too long.

        Errors come without being asked for, so only the last message is acknowledged: each
        acknowledgement takes up a kilobyte of the receive buffer, of 208 KiB. What is refused is
        reported before it.
        """
        self._sequence += 1
        first, *inner, (kind, flags, body), last = batch
        messages = [first, *inner, (kind, flags | NLM_F_ACK, body), last]
        self._send(b"".join(self._message(*message) for message in messages), what)
        while True:
            for _, flags, body in self._receive(what):
                _raise_refusal(flags, body, what)
                return

    def _message(self, kind: int, flags: int, payload: bytes) -> bytes:
        length = HEADER.size + len(payload)
        header = HEADER.pack(length, kind, flags | NLM_F_REQUEST, self._sequence, 0)
        return header + payload + b"\0" * (-length % 4)

    def _send(self, data: bytes, what: str) -> None:
        if len(data) > _ROOM:
            self._raise_send_buffer(len(data) + _SEND_OVERHEAD)
        try:
            self._socket.sendto(data, (0, 0))
        except OSError as error:
            raise NetlinkError(error.errno or errno.EIO, what) from None

    def _raise_send_buffer(self, size: int) -> None:
        if self._socket.getsockopt(socket.SOL_SOCKET, _SO_SNDBUF) >= size:
            return
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, size)
        except OSError:
            # Not root of the machine: up to twice net.core.wmem_max.
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUF, size)

    def _receive(self, what: str) -> Iterator[tuple[int, int, bytes]]:
        """The messages of one datagram that answer the last request.

        The kernel answers before the request's send returns, and goes on with a dump when it is
        received, so there is nothing to wait for.
        """
        peek = socket.MSG_PEEK | socket.MSG_TRUNC | socket.MSG_DONTWAIT
        try:
            # MSG_TRUNC makes the kernel tell the length of what waits, so that none is cut off.
            waiting = self._socket.recv_into(self._room, 0, peek)
            data = self._socket.recv(waiting, socket.MSG_DONTWAIT)
        except BlockingIOError:
            raise _NothingMore(errno.EAGAIN, what, "there is no answer") from None
        except OSError as error:
            raise NetlinkError(error.errno or errno.EIO, what, "no answer can be read") from None
        return self._split(data)

    def _split(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        position = 0
        while position < len(data):
            length, kind, flags, sequence, _ = HEADER.unpack_from(data, position)
            if sequence == self._sequence:
                yield kind, flags, data[position + HEADER.size : position + length]
            position += (length + 3) & ~3


def leave_open(close: Callable[[], object]) -> None:
    """Have `close` called for a netfilter socket later: when a few others have been left open.

    Whoever closes one, be it by its end, waits until the kernel has freed what was just deleted
    from nftables, which takes 10 ms and more: nft_rcv_nl_event in net/netfilter/nf_tables_api.c.
    A process has other work to do meanwhile.
    """
    _left_open.append(close)
    if len(_left_open) > _MOST_LEFT_OPEN:
        _left_open.pop(0)()


def _raise_refusal(flags: int, body: bytes, what: str) -> None:
    number = _error_number(body)
    if number == 0:
        return
    reason = ""
    if flags & _NLM_F_ACK_TLVS:
        # The request follows the error number, or its header alone if capped; then attributes.
        (length,) = struct.unpack_from("=I", body, 4)
        start = 4 + (HEADER.size if flags & _NLM_F_CAPPED else (length + 3) & ~3)
        message = attributes.parse(body[start:]).get(_NLMSGERR_ATTR_MSG, b"")
        reason = message.rstrip(b"\0").decode(errors="replace")
    raise NetlinkError(number, what, reason)


def _error_number(body: bytes) -> int:
    return -int(struct.unpack_from("=i", body)[0])
