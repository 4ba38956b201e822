"""The versions of the CNI specification: which there are and which verb exists in which.

Source: the specification's versions and what each added; libcni for a version that is absent.
"""

from __future__ import annotations

from cni.errors import IncompatibleVersion

SUPPORTED = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")

# What an absent or empty cniVersion means (libcni's ConfigDecoder).
WHEN_ABSENT = "0.1.0"

# The first version that has a verb; verbs not named here are in all of them.
_INTRODUCED = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}


def at_least(version: str, wanted: str) -> bool:
    """Whether a version is the wanted one or a later one; both have to be of SUPPORTED."""
    return SUPPORTED.index(version) >= SUPPORTED.index(wanted)


def parse_version(value: object) -> str:
    """The configuration's cniVersion. Raises IncompatibleVersion for one that is not supported."""
    if value is None or value == "":
        return WHEN_ABSENT
    if value not in SUPPORTED:
        allowed = ", ".join(SUPPORTED)
        raise IncompatibleVersion(f"cniVersion {value!r} is not supported", f"allowed: {allowed}")
    return str(value)


def require_verb(verb: str, version: str) -> None:
    """Raise IncompatibleVersion if the verb came into the specification after this version."""
    introduced = _INTRODUCED.get(verb)
    if introduced is not None and not at_least(version, introduced):
        raise IncompatibleVersion(
            f"cniVersion {version!r} does not have {verb}", f"{verb} needs {introduced} or later"
        )
