"""Where state is kept: one directory, which everything else in `pycni.state` is in.

    PYCNI_STATE            in a request's environment, for whoever may not write to /run/cni
    stateDirectory         in the node's settings, /etc/pycni/pycni.toml, for all requests
    /run/cni/pycni         otherwise

All requests of a network namespace have to use the same directory. It should be in a tmpfs: no
network namespace survives a reboot, and neither may a claim.
"""

from __future__ import annotations

import os

from cni.errors import InvalidConfig, InvalidEnvironment, IOFailure

DEFAULT = "/run/cni/pycni"
SETTINGS = "/etc/pycni/pycni.toml"
VARIABLE = "PYCNI_STATE"

_KEY = "stateDirectory"
_ALLOWED = "an absolute path without '..'"

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


def _is_allowed(text: str) -> bool:
    return text.startswith("/") and ".." not in text.split("/") and "\0" not in text


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
