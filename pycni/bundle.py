"""All of pycni's modules, compiled, in one file: finding, opening and reading them one by one takes
a seventh of a request.

`pycni.install` writes the file. A module whose source is not as it was then is left to Python's own
way, as is every module where there is no such file, or one of another Python. This module does
without `__future__`, which is in the bundle, too.
"""

import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec

from cni import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import CodeType, ModuleType

    # Path and identity of its source, whether it is a package, its marshalled code.
    Entry = tuple[str, tuple[int, int], bool, bytes]

FILE = f"{__file__.rpartition('/')[0]}/__pycache__/modules.{sys.implementation.cache_tag}"


class Finder:
    """Finds (PEP 451) and runs what is in the bundle."""

    def __init__(self, modules: "Mapping[str, Entry]") -> None:
        self._modules = modules

    def find_spec(
        self, name: str, _path: "Sequence[str] | None" = None, _target: "ModuleType | None" = None
    ) -> ModuleSpec | None:
        """What is known of a module; None if Python shall find it."""
        if name not in self._modules:
            return None
        source, identity, is_package, _ = self._modules[name]
        if identify(source) != identity:
            return None
        spec = ModuleSpec(name, self, origin=source, is_package=is_package)  # type: ignore[arg-type]
        spec.has_location = True
        if is_package:
            spec.submodule_search_locations = [source.rpartition("/")[0]]
        return spec

    def create_module(self, _spec: ModuleSpec) -> None:
        """Leave it to Python."""

    def exec_module(self, module: "ModuleType") -> None:
        """Run its code."""
        code = marshal.loads(self._modules[module.__name__][3])  # noqa: S302 - our own
        exec(code, module.__dict__)  # noqa: S102 - as every import does


def use() -> None:
    """Import from the bundle from now on, if there is one for this Python."""
    try:
        with open(FILE, "rb") as file:
            version, modules = marshal.loads(file.read())  # noqa: S302 - our own
    except (OSError, ValueError, EOFError, TypeError):
        return
    if version == sys.hexversion:
        sys.meta_path.insert(0, Finder(modules))


def identify(source: str) -> tuple[int, int] | None:
    """What changes whenever a source does, None if there is none; as in Python's own caches."""
    try:
        status = posix.stat(source)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def dump(modules: "Iterable[tuple[str, str, CodeType]]") -> bytes:
    """The content of a bundle, from names, paths of sources, and code."""
    entries = {
        name: (source, identify(source), source.endswith("/__init__.py"), marshal.dumps(code))
        for name, source, code in modules
    }
    return marshal.dumps((sys.hexversion, entries))
