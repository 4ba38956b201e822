"""Short names made of long ones, for kernel objects whose names have little room."""

from __future__ import annotations


def digest(text: str) -> int:
    """64 bits that are the text's own: FNV-1a.

    hashlib would load OpenSSL, which takes longer than most of what the name is for.
    """
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def shorten(text: str, length: int) -> str:
    """The text itself if it has no more characters than that, or else its beginning and a hash."""
    if len(text) <= length:
        return text
    return f"{text[: length - 9]}-{digest(text) % 16**8:08x}"
