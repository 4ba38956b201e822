"""A container image that has busybox and nothing else, as `docker save` would write it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

BUSYBOX = Path("/bin/busybox")
IMAGE = "localhost/pod:1"

# It ends when it is asked to, which the first process of a PID namespace does not by itself.
COMMAND = ("/bin/busybox", "sh", "-c", "trap exit TERM; /bin/busybox sleep 3600 & wait")


def write_image(path: Path) -> None:
    layer = _tar({"bin/busybox": BUSYBOX.read_bytes()})
    config: dict[str, Any] = {
        "architecture": _architecture(),
        "os": "linux",
        "config": {"Cmd": COMMAND, "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
    files = {"config.json": _json(config), "manifest.json": _json(manifest), "layer.tar": layer}
    path.write_bytes(_tar(files))


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


def _architecture() -> str:
    """The machine's, by the name that images use."""
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    return names[os.uname().machine]


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
