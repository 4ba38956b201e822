"""What ADD returned, in files that cnitool and libcni's other users share.

Source: libcni, which has them in /var/lib/cni/results.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from cni.client.documents import naming, parse_object, take
from cni.client.network import Network
from cni.client.target import Target
from cni.config import Document
from cni.errors import CniError
from cni.result import parse_result
from cni.versions import parse_version

CACHE_DIRECTORY = "/var/lib/cni"

_KIND = "cniCacheV1"


class Results:
    """What the networks' ADDs returned, each in a file of its own below `cache_directory`."""

    def __init__(self, cache_directory: str) -> None:
        self._directory = Path(cache_directory, "results")

    def remember(self, network: Network, target: Target, result: Document) -> None:
        """Keep what ADD returned, and what it was given, in the form that libcni reads."""
        document = {
            "kind": _KIND,
            "containerId": target.container_id,
            "config": base64.b64encode(network.source).decode(),
            "ifName": target.ifname,
            "networkName": network.name,
            "netns": target.netns,
            "cniArgs": target.args,
            "capabilityArgs": target.capability_args,
            "result": result,
        }
        path = self._path(network, target)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with os.fdopen(os.open(temporary, flags, 0o600), "w") as file:
            json.dump({key: value for key, value in document.items() if value}, file)
        temporary.rename(path)

    def recall(self, network: Network, target: Target) -> Document:
        """What ADD returned, in the network's version; empty if nothing is known of it."""
        path = self._path(network, target)
        try:
            source = path.read_bytes()
        except OSError:
            return {}
        with naming(path):
            document = parse_object(source)
            # Runtimes of old kept the result alone.
            cached = document.get("kind") == _KIND
            result: Document = take(document, "result", dict, {}) if cached else document
            if not result:
                return {}
            version = parse_version(result.get("cniVersion"))
            return parse_result(result, version).to_document(parse_version(network.version))

    def forget(self, network: Network, target: Target) -> None:
        """Delete the file; that there is none is no error."""
        self._path(network, target).unlink(missing_ok=True)

    def targets(self, network: Network) -> Iterator[Target]:
        """Whom the network was added for, as far as it can be read."""
        for path in sorted(self._directory.glob("*")):
            with contextlib.suppress(CniError, OSError, KeyError, TypeError, ValueError):
                document = parse_object(path.read_bytes())
                if document.get("kind") == _KIND and document["networkName"] == network.name:
                    yield Target(
                        document["containerId"],
                        document.get("netns", ""),
                        document["ifName"],
                        tuple((key, value) for key, value in document.get("cniArgs") or ()),
                        document.get("capabilityArgs") or {},
                    )

    def _path(self, network: Network, target: Target) -> Path:
        return self._directory / f"{network.name}-{target.container_id}-{target.ifname}"
