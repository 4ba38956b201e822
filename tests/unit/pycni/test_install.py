from __future__ import annotations

import marshal
import os
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from pycni import bundle
from pycni.install import (
    InstallError,
    find_package,
    find_site_packages,
    script,
    write_bundle,
    write_executables,
)

PACKAGES = sysconfig.get_path("purelib")


def test_regular_installation() -> None:
    """Without `site`, the script names the interpreter behind all links, and the packages."""
    text = script("host-local", sys.executable, "/with space/site-packages")
    lines = text.splitlines()
    assert lines[0] == "#!/bin/sh"
    assert f'exec {os.path.realpath(sys.executable)} -IS "$0" "$@"' in lines
    assert lines[-3:] == [
        "import sys; sys.path.append('/with space/site-packages')",
        "from pycni.launcher import run",
        'run("host-local")',
    ]
    assert "@" not in text.replace('"$@"', "")


@pytest.mark.parametrize("path", ["/a\\b", "/a\nb", "/a\tb"])
def test_paths_that_no_script_can_name(path: str) -> None:
    """Python, or the agent, would take them for something else."""
    with pytest.raises(InstallError, match="without backslash"):
        script("bridge", sys.executable, path)


def test_editable_installation() -> None:
    """With `site`, the script runs the virtual environment's own interpreter."""
    assert script("bridge", "/v/bin/python", None) == (
        '#!/v/bin/python -I\nimport sys\nfrom pycni.launcher import run\nrun("bridge")\n'
    )


@pytest.mark.parametrize("python", ["/" + "x" * 124, "/with space/bin/python"])
def test_interpreters_that_no_script_can_name(python: str) -> None:
    """The kernel would cut the line off, or take half of the path for an argument."""
    with pytest.raises(InstallError, match="first line of a script"):
        script("bridge", python, None)


def test_shared_directory() -> None:
    """Only a directory for packages that holds every one of them lets a script do without site."""
    shared = [f"{PACKAGES}/cni", f"{PACKAGES}/cni_plugins/bridge"]
    assert find_site_packages(shared) == PACKAGES
    assert find_site_packages([*shared, "/elsewhere/jsonschema"]) is None
    assert find_site_packages(["/src/cni", "/src/cni_plugins/bridge"]) is None


def test_executable_runs_its_plugin(tmp_path: Path) -> None:
    """The launcher imports the plugin's main module, whose name has no dashes, and nothing else."""
    plugin = tmp_path / "cni_plugins" / "host_local"
    plugin.mkdir(parents=True)
    (plugin / "main.py").write_text(
        "import sys\ndef main(): print('importlib' in sys.modules, sys.flags.no_site)\n"
    )
    for package in ("cni", "pycni"):
        (tmp_path / package).symlink_to(find_package(package))
    executable = tmp_path / "host-local"
    executable.write_text(script("host-local", sys.executable, str(tmp_path)))
    executable.chmod(0o755)
    done = subprocess.run([executable], capture_output=True, text=True, check=False)
    assert done.stdout == "False 1\n", done.stderr


def test_files_are_replaced(tmp_path: Path) -> None:
    """Executables can be run by all, written by their owner; nothing else is left beside them."""
    for text in ("first", "second"):
        (path,) = write_executables(str(tmp_path / "bin"), {"bridge": text})
        assert Path(path).read_text() == text
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o755
        assert os.listdir(tmp_path / "bin") == ["bridge"]


def test_nothing_is_left_where_a_file_cannot_be_replaced(tmp_path: Path) -> None:
    """A directory of an executable's name is left alone, and said to be in the way."""
    (tmp_path / "bridge").mkdir()
    with pytest.raises(IsADirectoryError):
        write_executables(str(tmp_path), {"bridge": "text"})
    assert os.listdir(tmp_path) == ["bridge"]


@pytest.mark.parametrize("package", ["cni_plugins.none", "none", "none.at_all"])
def test_what_is_missing_is_named(package: str) -> None:
    """An executable that would not run is not written."""
    with pytest.raises(InstallError, match=f"{package} is not installed"):
        find_package(package)


def test_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our modules, and what they need of the standard library, are put into one file."""
    monkeypatch.setattr(bundle, "FILE", str(tmp_path / "cache" / "modules"))
    write_bundle(sysconfig.get_path("purelib"))
    _, modules = marshal.loads((tmp_path / "cache" / "modules").read_bytes())
    finder = bundle.Finder(modules)
    for name in (
        "cni",
        "pycni.firewall.nftables.query",
        "cni_plugins.host_local.main",
        "ipaddress",
    ):
        spec = finder.find_spec(name)
        assert spec is not None
        assert spec.origin == modules[name][0]
