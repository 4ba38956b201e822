"""Whom a network is for, and what cnitool's arguments and variables say of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from cni.client.documents import naming, parse_object
from cni.errors import InvalidEnvironment


class Target(NamedTuple):
    """Whom a network is for: a container's namespace and interface, and what is asked for it.

    `args` are the pairs of CNI_ARGS; `capability_args` the values for the capabilities that
    plugins declare, such as portMappings.
    """

    container_id: str
    netns: str
    ifname: str = "eth0"
    args: tuple[tuple[str, str], ...] = ()
    capability_args: Mapping[str, Any] = {}


def parse_target(netns: str, environ: Mapping[str, str]) -> Target:
    """What cnitool makes of its arguments and variables."""
    path = os.path.abspath(netns)
    digest = hashlib.sha512(path.encode()).digest()[:10]
    with naming("CAP_ARGS"):
        capability_args = parse_object(environ.get("CAP_ARGS") or "{}")
    return Target(
        container_id=f"cnitool-{digest.hex()}",
        netns=path,
        ifname=environ.get("CNI_IFNAME", "eth0"),
        args=tuple(_parse_args(environ.get("CNI_ARGS", ""))),
        capability_args=capability_args,
    )


def _parse_args(text: str) -> Iterator[tuple[str, str]]:
    for pair in text.split(";") if text else ():
        key, separator, value = pair.partition("=")
        if not (key and separator and value) or "=" in value:
            raise InvalidEnvironment(f"CNI_ARGS: {pair!r} is not allowed", "allowed: KEY=VALUE")
        yield key, value
