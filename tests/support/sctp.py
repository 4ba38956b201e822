"""The first packet of an SCTP association, for kernels with and without SCTP sockets.

    sctp.py send ADDRESS PORT      send an INIT
    sctp.py receive FAMILY PORT    wait for one to that port; print `INIT SOURCE`; FAMILY is 4 or 6

Source: RFC 9260, sections 3.1 (header), 3.3.2 (INIT), appendix A (CRC32c).
"""

from __future__ import annotations

import socket
import struct
import sys

_INIT = 1


def send(address: str, port: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_SCTP) as raw:
        raw.sendto(_init_packet(40000, int(port)), (address, 0))


def receive(ip_version: str, port: str) -> None:
    family = socket.AF_INET if ip_version == "4" else socket.AF_INET6
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_SCTP) as raw:
        raw.settimeout(5)
        print("ready", flush=True)
        while True:
            packet, peer = raw.recvfrom(1024)
            # Of IPv4, and of it only, a raw socket sees the header.
            sctp = packet[(packet[0] & 15) * 4 :] if ip_version == "4" else packet
            if struct.unpack_from("!HH", sctp) == (40000, int(port)) and sctp[12] == _INIT:
                intact = "INIT" if sctp == _init_packet(40000, int(port)) else "damaged"
                print(intact, peer[0], flush=True)
                return


def _init_packet(source_port: int, port: int) -> bytes:
    header = struct.pack("!HHI", source_port, port, 0)
    chunk = struct.pack("!BBHIIHHI", _INIT, 0, 20, 0x1234, 65535, 1, 1, 0x1234)
    return header + struct.pack("<I", _crc32c(header + bytes(4) + chunk)) + chunk


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


if __name__ == "__main__":
    {"send": send, "receive": receive}[sys.argv[1]](*sys.argv[2:])
