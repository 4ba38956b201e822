"""The file that holds all modules: what is imported from it, and what is not."""

from __future__ import annotations

import marshal
import os
import sys
from pathlib import Path
from types import CodeType

import pytest

from pycni import bundle

SOURCE = "import os\nHERE = os.path.basename(__file__)\n\n\ndef double(n):\n    return 2 * n\n"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "bundled").mkdir()
    for name in ("__init__", "module"):
        (tmp_path / "bundled" / f"{name}.py").write_text(SOURCE)
    return tmp_path / "bundled"


@pytest.fixture
def finder(package: Path) -> bundle.Finder:
    return bundle.Finder(marshal.loads(bundle.dump(modules(package)))[1])


def modules(package: Path) -> list[tuple[str, str, CodeType]]:
    sources = {"bundled": package / "__init__.py", "bundled.module": package / "module.py"}
    return [(name, str(path), compile(SOURCE, path, "exec")) for name, path in sources.items()]


def test_import(finder: bundle.Finder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module is the same as if it was imported from its source."""
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    module = __import__("bundled.module", fromlist=["double"])
    assert module.double(21) == 42
    assert module.HERE == "module.py"
    assert module.__package__ == "bundled"
    assert sys.modules["bundled"].__path__ == [os.path.dirname(str(module.__file__))]
    for name in ("bundled", "bundled.module"):
        del sys.modules[name]


def test_changed_sources(finder: bundle.Finder, package: Path) -> None:
    """A module whose source was changed or removed is Python's to find."""
    assert finder.find_spec("bundled.module")
    (package / "module.py").write_text("changed = True\n")
    assert finder.find_spec("bundled.module") is None
    (package / "module.py").unlink()
    assert finder.find_spec("bundled.module") is None
    assert finder.find_spec("bundled")


def test_others(finder: bundle.Finder) -> None:
    """What is not in the bundle is Python's to find."""
    assert finder.find_spec("os") is None


@pytest.mark.parametrize("content", [None, b"", b"x", marshal.dumps(3), marshal.dumps((1, {}))])
def test_no_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None) -> None:
    """Without a bundle for this very Python, nothing is changed."""
    monkeypatch.setattr(bundle, "FILE", str(tmp_path / "file"))
    before = list(sys.meta_path)
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    bundle.use()
    assert sys.meta_path == before


def test_use(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one, it is asked first."""
    monkeypatch.setattr(bundle, "FILE", str(tmp_path / "file"))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    (tmp_path / "file").write_bytes(bundle.dump(modules(package)))
    bundle.use()
    assert isinstance(sys.meta_path[0], bundle.Finder)
