"""Small files of state, each of which is there completely or not at all.

No link is followed to a file, and only a plain file is read: opening a pipe could wait for ever.
FileNotFoundError alone means that there is no file (or NotADirectoryError, of a path on the way).
Whatever is wrong with one that is there is `Damaged`; any other OSError is the disk's, and tells
nothing about the file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from cni import TYPE_CHECKING, jsontext, log
from cni.errors import IOFailure

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")

# What O_NOFOLLOW, O_DIRECTORY or a path through something else than a directory ends in.
_NOT_PLAIN = (NotADirectoryError, IsADirectoryError)
# There is nothing, or something else than a directory on the way there.
NO_DIRECTORY = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)

_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

# What can go wrong in reading a value from JSON that anybody may have written.
_DAMAGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


class Damaged(IOFailure):
    """A file of state that somebody else has written to, or that the disk lost."""


def read(path: str) -> str:
    """The text in a file. Raises FileNotFoundError, Damaged, OSError."""
    try:
        return _read(path).decode()
    except UnicodeDecodeError as error:
        raise Damaged(f"{path} cannot be read", repr(error)) from None


def read_json(path: str, parse: Callable[[Any], T]) -> T:
    """What `parse` makes of the JSON value in a file. Raises FileNotFoundError, Damaged, OSError.

    Whatever `parse` raises for a value that it cannot use is damage.
    """
    text = read(path)
    try:
        return parse(jsontext.loads(text))
    except _DAMAGE as error:
        raise Damaged(f"{path} cannot be read", repr(error)[:200]) from None


def write(path: str, text: str) -> None:
    """Write a file, in place of one that is there. If this fails, nothing has changed.

    Writers of the same file are to be kept apart by a lock.
    """
    unfinished = _unfinished(path)
    descriptor = _create(unfinished)
    try:
        try:
            data = memoryview(text.encode())
            while data:
                data = data[os.write(descriptor, data) :]
        finally:
            os.close(descriptor)
        os.rename(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise


def remove(path: str) -> None:
    """Remove a file, and what a writer that was killed has left of it; that there is none is fine.

    A directory in its place goes as well, with all that is in it.
    """
    for each in (path, _unfinished(path)):
        remove_any(each)


def remove_any(path: str) -> None:
    """Remove whatever is there; nothing is fine. What a link leads to stays."""
    try:
        os.unlink(path)
    except IsADirectoryError:
        remove_tree(path)
    except OSError as error:
        if error.errno not in NO_DIRECTORY:
            raise


def ensure_directory(path: str) -> None:
    """Make a directory, and those above it; in place of what is none, be it a link to one."""
    try:
        os.mkdir(path, 0o700)
    except FileNotFoundError:
        os.makedirs(path, 0o700, exist_ok=True)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            os.mkdir(path, 0o700)


def remove_tree(path: str) -> None:
    """Remove a directory with all that is in it, as shutil.rmtree, which takes long to import."""
    for directory, directories, files in os.walk(path, topdown=False):
        for name in files:
            os.unlink(os.path.join(directory, name))
        for name in directories:
            inner = os.path.join(directory, name)
            # os.walk counts a link to a directory as a directory.
            (os.unlink if os.path.islink(inner) else os.rmdir)(inner)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(path)


def exists(path: str) -> bool:
    """Whether anything is there. Raises OSError if that is not known."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def discard_unless_directory(path: str) -> None:
    """Remove what is in a directory's place; a directory, or nothing, stays."""
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            log.warn(f"{path} is not a directory: removed")
            os.unlink(path)
    except FileNotFoundError:
        return


def is_directory(path: str) -> bool:
    """Whether a directory is there, or a link to one. Raises OSError if that is not known."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # of a path with a NUL in it
        return False


def names_in(path: str) -> list[str]:
    """The names in a directory; none if there is none, or a link to one. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return []
    try:
        return os.listdir(descriptor)
    finally:
        os.close(descriptor)


def open_plain(path: str, flags: int) -> int:
    """A descriptor of a plain file. Raises FileNotFoundError, Damaged, OSError."""
    try:
        descriptor = os.open(path, flags | _FLAGS, 0o600)
    except _NOT_PLAIN as error:
        raise Damaged(f"{path} cannot be read: it is not a plain file", str(error)) from None
    except OSError as error:
        # A link, or a pipe or device that there is nobody at the other end of.
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise Damaged(f"{path} cannot be read: it is not a plain file", str(error)) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Damaged(f"{path} cannot be read: it is not a plain file")
    return descriptor


def _read(path: str) -> bytes:
    descriptor = open_plain(path, os.O_RDONLY)
    try:
        parts = []
        while part := os.read(descriptor, 1 << 20):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def _create(path: str) -> int:
    """A new, empty file, whatever a writer that was killed has left at its place."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS
    try:
        return os.open(path, flags, 0o600)
    except FileExistsError:
        os.unlink(path)
        return os.open(path, flags, 0o600)


def _unfinished(path: str) -> str:
    return f"{path}.new"
