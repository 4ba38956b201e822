"""What can go wrong, and the code by which a runtime is told.

    CniError                      999
     ├─ IncompatibleVersion         1
     ├─ UnknownContainer            3
     ├─ InvalidEnvironment          4
     ├─ IOFailure                   5
     ├─ DecodingFailure             6
     ├─ InvalidConfig               7
     ├─ InvalidNetns                8
     ├─ TryAgainLater              11
     ├─ NotAvailable               50
     ├─ CheckFailed               100
     ├─ AlreadyExists             101
     └─ NoAddressAvailable        102

Codes below 100 are the specification's, those from 100 on a plugin's own, here this project's; 999
is what libcni calls an internal error. Another code goes with a single error: `CniError("…",
code=150)`, or `NotAvailable("…", code=51)` if containers that are attached may suffer as well.

Source: CNI specification, sections "Error" and "STATUS"; for 8 and 999, libcni's pkg/types.
"""

from __future__ import annotations

import os

from cni import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class CniError(Exception):
    """An error that reaches the runtime as a JSON document on standard output.

    `message` is one sentence for a person; `details` is optional further text. `code`
    belongs to the class, unless another plugin's error is passed on with the code it came with.
    """

    code = 999

    def __init__(self, message: str, details: str = "", *, code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.message}: {self.details}" if self.details else self.message


class IncompatibleVersion(CniError):
    """The configuration's cniVersion is not supported, or lacks the verb that was asked for."""

    code = 1


class UnknownContainer(CniError):
    """The container is not known, so the runtime need not send a DEL for what fails here.

    For plugins of others: a DEL of pycni's own succeeds for containers that it does not know.
    """

    code = 3


class InvalidEnvironment(CniError):
    """A CNI_* variable is missing or has a value that is not allowed."""

    code = 4


class IOFailure(CniError):
    """Reading or writing failed: a file, a socket, standard input."""

    code = 5


class DecodingFailure(CniError):
    """What was read is no JSON, or no JSON object."""

    code = 6


class InvalidConfig(CniError):
    """A key of the network configuration is missing or has a value that is not allowed."""

    code = 7


class InvalidNetns(CniError):
    """CNI_NETNS is the plugin's own network namespace."""

    code = 8


class TryAgainLater(CniError):
    """The same request may succeed later, with nothing changed: the runtime should send it again.

    For plugins that depend on something that comes and goes, such as a daemon.
    """

    code = 11


class NotAvailable(CniError):
    """STATUS: the plugin cannot serve an ADD now."""

    code = 50


class CheckFailed(CniError):
    """CHECK found that something an ADD built is gone or changed."""

    code = 100


class AlreadyExists(CniError):
    """An interface, an address or a host port is taken."""

    code = 101


class NoAddressAvailable(CniError):
    """Every address of a range set is taken."""

    code = 102


def from_oserror(error: OSError) -> IOFailure:
    """The error that says what an OSError does: on which files, and why, without a number."""
    # Of a call that was given a descriptor, it is that number.
    given = (error.filename, error.filename2)
    names = [os.fsdecode(name) for name in given if isinstance(name, (str, bytes))]
    reason = error.strerror or str(error)
    return IOFailure(f"{' -> '.join(names)}: {reason}" if names else reason)


def run_all(steps: Iterable[Callable[[], object]]) -> None:
    """Run every step, whatever becomes of the others, and at the end raise what went wrong.

    So one failure does not strand a DEL. What is raised is the only error, or a CniError that tells
    all of them, with the code of the first; OSErrors become IOFailures.
    """
    errors: list[CniError] = []
    for step in steps:
        try:
            step()
        except CniError as error:
            errors.append(error)
        except OSError as error:
            errors.append(from_oserror(error))
        except Exception as error:  # noqa: BLE001 - a mistake of ours must not strand the rest
            errors.append(CniError(f"{type(error).__name__}: {error}"))
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise CniError("; ".join(map(str, errors)), code=errors[0].code)
