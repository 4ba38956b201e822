"""Kernel parameters that were set, and what they were before: links, for a person to `ls -l`.

    parameters/net:ipv4:conf:br0:route_localnet -> 7 0 1

The link leads nowhere; what it says is made, or refused, in one step: the interface's index (0 for
a parameter of the whole node), the value before, the value set. It is made before the parameter is
set. With it, CHECK and `pycni repair` know what an ADD has set, and the node's last DEL gives
interfaces back what they had. A parameter of the whole node stays as it is: others may rely on it
by then.
"""

from __future__ import annotations

import _socket as socket
import contextlib
import errno
import os

from cni import TYPE_CHECKING
from cni.errors import CheckFailed
from cni.namedtuple import NamedTuple
from cni.net import sysctl
from pycni.state import files, location

if TYPE_CHECKING:
    from collections.abc import Iterator

_PARAMETERS = "parameters"

# Readlink's errors where there is none, or something else.
_NOTHING = (*files.NO_DIRECTORY, errno.EINVAL)


class Setting(NamedTuple):
    """A parameter that was set. `ifindex` is 0 for one of the whole node."""

    name: str
    ifindex: int
    before: str
    value: str

    @property
    def is_current(self) -> bool:
        """Whether its interface is still the same one."""
        return self.ifindex == _ifindex(self.name)

    def __str__(self) -> str:
        # sysctl(8) takes the separator that comes first; an interface's name may hold dots.
        return self.name.replace("/", ".") if "." not in self.name else self.name


def ensure(name: str, value: str, *, keep: bool = False) -> None:
    """Set a parameter, and remember what it was; with `keep`, it will not be what it was again.

    Raises OSError that names the parameter's file.
    """
    now = sysctl.read(name)
    if now is not None:
        _remember(Setting(name, _ifindex(name), value if keep else now, value))
    if now != value:
        sysctl.write(name, value)


def try_ensure(name: str, value: str, *, keep: bool = False) -> bool:
    """The same, if the kernel has the parameter and lets it be written; whether that was so."""
    try:
        ensure(name, value, keep=keep)
    except OSError:
        return sysctl.try_write(name, value)  # what it was is not known then
    return True


def are_set() -> bool:
    """Whether any are."""
    return os.path.isdir(location.path(_PARAMETERS))


def check(name: str) -> None:
    """Raise CheckFailed if the parameter was set, and is not any more as it was set."""
    setting = _find(name)
    if setting is not None and setting.is_current:
        now = sysctl.read(name)
        if now != setting.value:
            raise CheckFailed(
                f"{setting} is {now} instead of {setting.value}", "`pycni repair` sets it again"
            )


def find_changed() -> list[Setting]:
    """What is not any more as it was set."""
    return [s for s in _settings() if s.is_current and sysctl.read(s.name) != s.value]


def repair() -> list[Setting]:
    """Set again what is not any more as it was set. Returns it. Raises OSError."""
    changed = find_changed()
    for setting in changed:
        sysctl.write(setting.name, setting.value)
    return changed


def restore(name: str, *, unknown: str) -> None:
    """Set a parameter of an interface to what it was before, and forget it.

    `unknown` is what it becomes if that is not known. What somebody else has set since stays.
    """
    setting = _find(name)
    if setting is None:
        sysctl.try_write(name, unknown)
    else:
        _restore(setting)
        _remove_directory()


def restore_all() -> None:
    """Do so with all parameters of interfaces, and forget those of the whole node."""
    for name in _names():
        setting = _find(name)
        if setting is None:
            files.remove_any(_path(name))
        else:
            _restore(setting)
    _remove_directory()


def forget_gone() -> None:
    """Forget the parameters of interfaces that are gone."""
    for setting in _settings():
        if not setting.is_current:
            _restore(setting)


def _remove_directory() -> None:
    with contextlib.suppress(OSError):  # there are more
        os.rmdir(location.path(_PARAMETERS))


def _restore(setting: Setting) -> None:
    if setting.ifindex and setting.is_current and sysctl.read(setting.name) == setting.value:
        sysctl.try_write(setting.name, setting.before)
    files.remove_any(_path(setting.name))


def _remember(setting: Setting) -> None:
    """Keep the setting, unless an older one tells what the parameter was before."""
    known = _find(setting.name)
    if known is not None:
        if known.ifindex == setting.ifindex:
            setting = setting._replace(before=known.before)
        if known == setting:
            return
    files.ensure_directory(location.path(_PARAMETERS))
    files.remove_any(_path(setting.name))  # an older one, or what is none
    with contextlib.suppress(FileExistsError):  # somebody else's first ADD was faster
        os.symlink(f"{setting.ifindex} {setting.before} {setting.value}", _path(setting.name))


def _settings() -> Iterator[Setting]:
    return filter(None, map(_find, _names()))


def _names() -> list[str]:
    return [name.replace(":", "/") for name in sorted(files.names_in(location.path(_PARAMETERS)))]


def _find(name: str) -> Setting | None:
    """What is known of a parameter: of a link that is not as we write them, nothing."""
    try:
        target = os.readlink(_path(name))
    except OSError as error:
        if error.errno in _NOTHING:
            return None
        raise
    ifindex, _, values = target.partition(" ")
    before, _, value = values.partition(" ")
    if not ifindex.isdecimal() or not value or name.count("/") < 2:
        return None
    return Setting(name, int(ifindex), before, value)


def _ifindex(name: str) -> int:
    """The index of the interface that a parameter is of: 0 if of none, -1 if it is gone."""
    _, _, kind, *rest = name.split("/")
    if kind != "conf" or rest[0] in ("all", "default"):
        return 0
    try:
        return socket.if_nametoindex(rest[0])
    except OSError:
        return -1


def _path(name: str) -> str:
    return location.path(_PARAMETERS, name.replace("/", ":"))
