"""Write the plugins' executables: `python -m pycni.install [DIRECTORY]`.

An executable is a script that runs this installation of pycni with this interpreter. Where pycni
and all it needs are in one directory of packages, it is made from executable.sh: a shell that has
the agent run the request if it can, and Python without `site`, with which it starts fastest. An
editable installation needs `site` to be found, and gets four lines of Python.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import os
import shlex
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Mapping
from importlib.util import find_spec

from cni import TYPE_CHECKING
from pycni import bundle
from pycni.launcher import ANSWER, EXECUTABLES, LIFELINE, LOST, REQUEST, WAITING

if TYPE_CHECKING:
    from types import CodeType

DEFAULT_DIRECTORY = "/opt/cni/bin"

# Older kernels cut the first line of a script off after 127 bytes (BINPRM_BUF_SIZE, execve(2)).
_SHEBANG_LIMIT = 127


# What every request needs of the standard library and Python does not have within itself.
_STANDARD = (
    *("__future__", "collections", "contextlib", "functools", "ipaddress", "keyword", "operator"),
    *("reprlib", "struct", "types"),
)


class InstallError(Exception):
    """The executables cannot be written, or would not run."""


def install(directory: str) -> list[str]:
    """Write the executables into `directory`, replacing older ones. Returns their paths."""
    packages = [
        find_package("cni"),
        find_package("pycni"),
        *(find_package(_package(name)) for name in EXECUTABLES),
    ]
    dependencies = [find_package("jsonschema"), find_package("pyroute2")]
    site_packages = find_site_packages([*packages, *dependencies])
    texts = {name: script(name, sys.executable, site_packages) for name in EXECUTABLES}
    for package in packages:
        compileall.compile_dir(package, quiet=2)  # slower, but no worse, where it is read-only
    if site_packages is not None:
        with contextlib.suppress(OSError):  # likewise
            write_bundle(site_packages)
    return write_executables(directory, texts)


def write_bundle(site_packages: str) -> None:
    """Write all modules into one file, see `pycni.bundle`."""
    modules = [(name, *_compile(_source_of(name))) for name in _STANDARD]
    for package in ("cni", "pycni", "cni_plugins"):
        for directory, _, names in os.walk(os.path.join(site_packages, package)):
            for source in (os.path.join(directory, name) for name in names):
                if source.endswith(".py"):
                    name = _module_name(os.path.relpath(source, site_packages))
                    modules.append((name, *_compile(source)))
    os.makedirs(os.path.dirname(bundle.FILE), exist_ok=True)
    _replace(bundle.FILE, bundle.dump(modules), 0o644)


def _source_of(name: str) -> str:
    spec = find_spec(name)
    return str(spec.origin) if spec else ""


def _compile(source: str) -> tuple[str, CodeType]:
    with open(source, "rb") as file:
        return source, compile(file.read(), source, "exec", dont_inherit=True)


def _module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def script(name: str, python: str, site_packages: str | None) -> str:
    """The text of an executable; with `site_packages` None, `site` finds the packages."""
    if site_packages is None:
        return _python_script(name, python)
    # What a virtual environment adds to the interpreter that it is made from is `site`'s work.
    python = os.path.realpath(python)
    for path in (python, site_packages):
        if not set(path).isdisjoint("\\\t\n"):
            raise InstallError(
                f"{path!r} cannot be named by a script: without backslash, tab or newline it can."
                " Install pycni into a virtual environment with another path."
            )
    values = {
        "NAME": name,
        "PYTHON": shlex.quote(python),
        "PACKAGES": shlex.quote(site_packages),
        "PACKAGES_IN_PYTHON": repr(site_packages),
        "REQUEST": str(REQUEST),
        "ANSWER": str(ANSWER),
        "LIFELINE": str(LIFELINE),
        "LOST": LOST.strip(),
        "WAITING": WAITING,
    }
    with open(os.path.join(os.path.dirname(__file__), "executable.sh"), encoding="utf-8") as file:
        text = file.read()
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def _python_script(name: str, python: str) -> str:
    shebang = f"#!{python} -I"
    if len(os.fsencode(shebang)) > _SHEBANG_LIMIT or len(shebang.split()) != 2:
        raise InstallError(
            f"{shebang[2:]!r} cannot be the first line of a script: the kernel takes"
            f" {_SHEBANG_LIMIT - 2} bytes without white space in the interpreter's path."
            " Install pycni into a virtual environment with a shorter path."
        )
    return f'{shebang}\nimport sys\nfrom pycni.launcher import run\nrun("{name}")\n'


def find_package(name: str) -> str:
    """The directory of a package, which is not imported. Raises InstallError if there is none."""
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:  # the package around it is missing
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise InstallError(f"{name} is not installed for {sys.executable}")
    return next(iter(spec.submodule_search_locations))


def _package(name: str) -> str:
    return f"cni_plugins.{name.replace('-', '_')}"


def find_site_packages(packages: Iterable[str]) -> str | None:
    """The one directory of installed packages that holds all of these, None if there is none."""
    parents = {os.path.dirname(package).removesuffix("/cni_plugins") for package in packages}
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return parents.pop() if len(parents) == 1 and parents <= installed else None


def write_executables(directory: str, texts: Mapping[str, str]) -> list[str]:
    """Replace each file at once: a runtime may run it at any time. Returns their paths."""
    os.makedirs(directory, mode=0o755, exist_ok=True)
    paths = []
    for name, text in texts.items():
        paths.append(os.path.join(directory, name))
        _replace(paths[-1], text.encode(), 0o755)
    return paths


def _replace(path: str, content: bytes, mode: int) -> None:
    directory, name = os.path.split(path)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(descriptor, mode)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(prog="python -m pycni.install", description=__doc__)
    parser.add_argument("directory", nargs="?", default=DEFAULT_DIRECTORY)
    try:
        paths = install(parser.parse_args().directory)
    except (InstallError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")
    sys.stdout.writelines(f"{path}\n" for path in paths)


if __name__ == "__main__":
    main()
