"""What should be the directory of parameters, and is something else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cni.net import sysctl
from pycni.state import location, parameters

NAME = "net/ipv4/conf/lo/route_localnet"


@pytest.mark.parametrize("damage", ["file", "link to itself", "link to nowhere"])
def test_no_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage: str) -> None:
    """Nothing is known then, forgetting parameters succeeds, and setting one puts that right."""
    monkeypatch.setenv(location.VARIABLE, str(tmp_path))
    directory = tmp_path / "parameters"
    if damage == "file":
        directory.write_text("")
    else:
        directory.symlink_to(directory if "itself" in damage else "/nowhere")
    parameters.check(NAME)
    parameters.restore_all()
    monkeypatch.setattr(sysctl, "read", lambda _: "0")
    parameters.ensure(NAME, "0")
    assert os.listdir(directory) == ["net:ipv4:conf:lo:route_localnet"]
