"""Where state is kept: one directory, which everything else in `pycni.state` is in.

    PYCNI_STATE            in a request's environment, for whoever may not write to /run/cni
    stateDirectory         in the node's settings, /etc/pycni/pycni.toml, for all requests
    /run/cni/pycni         otherwise

All requests of a network namespace have to use the same directory; the nftables table says which
one it was made from, and `pycni.firewall` refuses another. It should be in a tmpfs: no
network namespace survives a reboot, and neither may a claim.
"""

from __future__ import annotations

import errno
import os
import stat

from cni.errors import InvalidConfig, InvalidEnvironment, IOFailure, NotAvailable, from_oserror

DEFAULT = "/run/cni/pycni"
SETTINGS = "/etc/pycni/pycni.toml"
VARIABLE = "PYCNI_STATE"

_KEY = "stateDirectory"
_ALLOWED = "an absolute path in ASCII, without '..', quotes and backslashes"

_NOBODY = 65534  # kernel.overflowuid

_settings: dict[str, str | None] = {}


def directory() -> str:
    """The state directory of this request; it need not exist.

    The environment is asked each time, since a process of the agent takes on its caller's. Raises
    InvalidEnvironment, or InvalidConfig that names the settings' file.
    """
    asked = os.environ.get(VARIABLE)
    if not asked:
        return _from_settings() or DEFAULT
    if not _is_allowed(asked):
        raise InvalidEnvironment(f"{VARIABLE}: {asked!r} is not allowed", f"allowed: {_ALLOWED}")
    return os.path.normpath(asked)


def path(*names: str) -> str:
    """The path of something in the state directory."""
    return os.path.join(directory(), *names)


def ensure() -> None:
    """Have a state directory. Raises IOFailure that says what else can be done."""
    try:
        os.makedirs(directory(), mode=0o700, exist_ok=True)
        stranger = _find_stranger(directory())
    except OSError as error:
        raise IOFailure(*_no_state(from_oserror(error).message)) from None
    if stranger:
        raise IOFailure(*_no_state(stranger))


def require_usable() -> None:
    """Raise NotAvailable if `ensure`, or writing there, could not work now, with the reason."""
    obstacle = find_obstacle(directory()) or _find_stranger(directory())
    if obstacle:
        raise NotAvailable(*_no_state(obstacle))


def _find_stranger(state: str) -> str | None:
    """Who else may change state, or put another directory in its place; None if nobody."""
    ours = {0, os.geteuid()}
    # In a user namespace, root of the machine is nobody.
    for path, owners in ((state, ours), (os.path.dirname(state), ours | {_NOBODY})):
        try:
            status = os.stat(path)
        except FileNotFoundError:
            continue
        if status.st_uid not in owners:
            return f"{path} belongs to user {status.st_uid}"
        by_others = stat.S_IWOTH | (stat.S_IWGRP if status.st_gid not in (0, os.getegid()) else 0)
        if status.st_mode & by_others and not status.st_mode & stat.S_ISVTX:
            return f"{path} can be written to by others"
    return None


def _no_state(reason: str) -> tuple[str, str]:
    what = f"state cannot be kept in {directory()}: {reason}"
    return what, f"{VARIABLE}, or {_KEY} in {SETTINGS}, can name another directory"


def find_obstacle(wanted: str) -> str | None:
    """What keeps files from being made in a directory that need not exist, with its path.

    Nothing is written to find out. None if nothing is known to do so.
    """
    existing = wanted
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing) or "."
    if not os.path.isdir(existing):
        return f"{existing} is not a directory"
    try:
        system = os.statvfs(existing)
        if system.f_flag & os.ST_RDONLY:
            return f"{existing}: {os.strerror(errno.EROFS)}"
        if not os.access(existing, os.W_OK | os.X_OK):
            return f"{existing}: {os.strerror(errno.EACCES)}"
    except OSError as error:
        return from_oserror(error).message
    # Some file systems have no count of files.
    if system.f_bfree == 0 or (system.f_files and system.f_ffree == 0):
        left = "bytes" if system.f_bfree == 0 else "files"
        return f"{existing}: {os.strerror(errno.ENOSPC)} (for {left})"
    return None


def _is_allowed(text: str) -> bool:
    is_plain = text.isascii() and text.isprintable() and not set(text) & set("\"'\\")
    return is_plain and text.startswith("/") and ".." not in text.split("/")


def _from_settings() -> str | None:
    """What the node's settings say, read once; None without such a file or key."""
    if SETTINGS not in _settings:
        _settings[SETTINGS] = _read_settings(SETTINGS)
    return _settings[SETTINGS]


def _read_settings(file: str) -> str | None:
    try:
        with open(file, "rb") as opened:
            text = opened.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise IOFailure(f"{file} cannot be read", error.strerror or "") from None
    import tomllib  # only nodes with such a file wait for it

    try:
        document = tomllib.loads(text.decode())
    except ValueError as error:
        raise InvalidConfig(f"{file} is not TOML", str(error)) from None
    for key in document:
        if key != _KEY:
            raise InvalidConfig(f"{file}: {key}: unknown", f"allowed: {_KEY}")
    value = document.get(_KEY)
    if value is None:
        return None
    if not isinstance(value, str) or not _is_allowed(value):
        raise InvalidConfig(f"{file}: {_KEY}: {value!r} is not allowed", f"allowed: {_ALLOWED}")
    return os.path.normpath(value)
