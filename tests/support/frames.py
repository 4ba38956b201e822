"""A sender of single UDP packets as no program of good faith sends them, by a packet socket.

    frames.py KIND DESTINATION-MAC SOURCE DESTINATION PORT

KINDS tells what is in front of the IP header. `ring` is sent by PACKET_TX_RING, whose packets have
their headers in a page of their own.
"""

from __future__ import annotations

import mmap
import socket
import struct
import sys

_VLAN, _SERVICE_VLAN = b"\x81\x00\x00\x00", b"\x88\xa8\x00\x00"

KINDS = {
    "plain": b"",
    "options": b"",
    "ring": b"",
    "tag": _VLAN,
    "service tag": _SERVICE_VLAN,
    "two tags": _SERVICE_VLAN + _VLAN,
    "three tags": _VLAN * 3,
    "four tags": _VLAN * 4,
    "seven tags": _VLAN * 6,
}

# include/uapi/linux/if_packet.h
_SOL_PACKET, _PACKET_TX_RING, _TP_STATUS_SEND_REQUEST = 263, 13, 1
_FRAME, _DATA = 2048, 32


def packet(source: str, destination: str, port: int, options: bytes) -> bytes:
    """An IPv4 packet with one letter for a UDP port; without its optional UDP checksum."""
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    size = 20 + len(options)
    first = struct.pack("!BBHHHBB", 0x40 + size // 4, 0, size + 9, 1, 0, 64, socket.IPPROTO_UDP)
    total = sum(struct.unpack(f"!{size // 2}H", first + b"\0\0" + addresses + options))
    total = (total >> 16) + (total & 0xFFFF)
    checksum = struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)
    return first + checksum + addresses + options + struct.pack("!HHHH", 5555, port, 9, 0) + b"x"


def send_by_ring(sender: socket.socket, frame: bytes) -> None:
    """Have the kernel send what is in a page that it shares with this process."""
    request = struct.pack("=IIII", mmap.PAGESIZE, 1, _FRAME, mmap.PAGESIZE // _FRAME)
    sender.setsockopt(_SOL_PACKET, _PACKET_TX_RING, request)
    with mmap.mmap(sender.fileno(), mmap.PAGESIZE) as ring:
        ring[_DATA : _DATA + len(frame)] = frame
        ring[:12] = struct.pack("@LI", _TP_STATUS_SEND_REQUEST, len(frame))
        sender.send(b"")


def main(kind: str, mac: str, source: str, destination: str, port: str) -> None:
    sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sender.bind(("eth0", 0x0800))
    addresses = bytes.fromhex(mac.replace(":", "")) + sender.getsockname()[4]
    options = b"\x01" * 4 if kind == "options" else b""
    body = packet(source, destination, int(port), options)
    frame = addresses + KINDS[kind] + b"\x08\x00" + body
    if kind == "ring":
        send_by_ring(sender, frame)
    else:
        sender.send(frame)


if __name__ == "__main__":
    main(*sys.argv[1:])
