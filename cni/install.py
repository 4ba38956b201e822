"""Write the plugins' executables: `python -m cni.install [DIRECTORY]`.

An executable is a script of four lines that runs this installation of pycni with this interpreter.
Python starts fastest without `site`, so where pycni and all it needs are in one directory of
packages the script names that directory itself; an editable installation needs `site` to be found.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import os
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from importlib.util import find_spec

EXECUTABLES = ("bridge", "host-local", "loopback", "portmap")

DEFAULT_DIRECTORY = "/opt/cni/bin"

# Older kernels cut the first line of a script off after 127 bytes (BINPRM_BUF_SIZE, execve(2)).
_SHEBANG_LIMIT = 127


class InstallError(Exception):
    """The executables cannot be written, or would not run."""


def install(directory: str) -> list[str]:
    """Write the executables into `directory`, replacing older ones. Returns their paths."""
    packages = [_home("cni"), *(_home(f"cni_plugins.{_module(name)}") for name in EXECUTABLES)]
    dependencies = [_home("jsonschema"), _home("pyroute2")]
    shared = find_shared_directory([*packages, *dependencies])
    paths = []
    os.makedirs(directory, mode=0o755, exist_ok=True)
    for name in EXECUTABLES:
        paths.append(os.path.join(directory, name))
        _write(paths[-1], script(name, sys.executable, shared))
    for package in packages:
        compileall.compile_dir(package, quiet=2)  # slower, but no worse, where it is read-only
    return paths


def script(name: str, python: str, site_packages: str | None) -> str:
    """The text of an executable; with `site_packages` None, `site` finds the packages."""
    if site_packages is None:
        path = "import sys"
        shebang = f"#!{python} -I"
    else:
        # What a virtual environment adds to the interpreter that it is made from is `site`'s work.
        path = f"import sys; sys.path.append({site_packages!r})"
        shebang = f"#!{os.path.realpath(python)} -IS"
    if len(os.fsencode(shebang)) > _SHEBANG_LIMIT or len(shebang.split()) != 2:
        raise InstallError(
            f"{shebang[2:]!r} cannot be the first line of a script: the kernel takes"
            f" {_SHEBANG_LIMIT - 2} bytes without white space in the interpreter's path."
            " Install pycni into a virtual environment with a shorter path."
        )
    return f'{shebang}\n{path}\nfrom cni.launcher import run\nrun("{name}")\n'


def find_shared_directory(packages: Iterable[str]) -> str | None:
    """The one directory for installed packages that holds all of these, None if there is none."""
    shared = {os.path.dirname(package) for package in packages}
    shared = {os.path.dirname(path) if path.endswith("/cni_plugins") else path for path in shared}
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return shared.pop() if len(shared) == 1 and shared <= installed else None


def _module(name: str) -> str:
    return name.replace("-", "_")


def _home(package: str) -> str:
    """The directory of a package, which is not imported."""
    try:
        spec = find_spec(package)
    except ModuleNotFoundError:  # the package around it is missing
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise InstallError(f"{package} is not installed for {sys.executable}")
    return next(iter(spec.submodule_search_locations))


def _write(path: str, text: str) -> None:
    """Replace a file at once: a runtime may be executing it at any time."""
    directory, name = os.path.split(path)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=directory)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            os.fchmod(descriptor, 0o755)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m cni.install", description=__doc__)
    parser.add_argument("directory", nargs="?", default=DEFAULT_DIRECTORY)
    try:
        paths = install(parser.parse_args().directory)
    except (InstallError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")
    sys.stdout.writelines(f"{path}\n" for path in paths)


if __name__ == "__main__":
    main()
