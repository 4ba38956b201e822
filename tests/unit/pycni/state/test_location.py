from __future__ import annotations

from pathlib import Path

import pytest

from cni.errors import CniError
from pycni.state import location


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The node's settings file, which does not exist yet."""
    monkeypatch.setattr(location, "SETTINGS", str(tmp_path / "pycni.toml"))
    return tmp_path / "pycni.toml"


def refusal() -> str:
    with pytest.raises(CniError) as caught:
        location.directory()
    return str(caught.value)


def test_default(settings: Path) -> None:
    """State is in /run/cni/pycni where neither environment nor settings say otherwise."""
    assert not settings.exists()
    assert location.directory() == location.DEFAULT


def test_settings(settings: Path) -> None:
    """The node's settings say where state is."""
    settings.write_text('stateDirectory = "/srv/pycni/"\n')
    assert location.directory() == "/srv/pycni"


def test_environment(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment wins over the settings, and counts anew for each request."""
    settings.write_text('stateDirectory = "/srv/pycni"\n')
    for asked in ("/run/user/1000/pycni", "/run/user/1001/pycni"):
        monkeypatch.setenv("PYCNI_STATE", asked)
        assert location.path("claims") == f"{asked}/claims"


@pytest.mark.parametrize("value", ["pycni", "./pycni", "/run/../etc", ".."])
def test_wrong_environment(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A path that depends on where a process is, or goes up, is refused with what is allowed."""
    monkeypatch.setenv("PYCNI_STATE", value)
    assert refusal() == f"PYCNI_STATE: {value!r} is not allowed: allowed: {location._ALLOWED}"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("stateDirectory = 5", "stateDirectory: 5 is not allowed"),
        ('stateDirectory = "pycni"', "stateDirectory: 'pycni' is not allowed"),
        ('stateDirectory = ""', "stateDirectory: '' is not allowed"),
        ('statedir = "/srv"', "statedir: unknown"),
        ("stateDirectory", "is not TOML"),
        ("stateDirectory = '/\udcff'", "is not TOML"),
    ],
)
def test_wrong_settings(settings: Path, text: str, named: str) -> None:
    """Settings that are not allowed are an error that names the file, the key and the value."""
    settings.write_text(text, errors="surrogateescape")
    error = refusal()
    assert named in error
    assert str(settings) in error


def test_unreadable_settings(settings: Path) -> None:
    """Settings that cannot be read are an error, not taken for none."""
    settings.mkdir()
    assert refusal() == f"{settings} cannot be read: Is a directory"
