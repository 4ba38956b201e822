"""The protocol: one process, one request.

`run` reads a request, calls the plugin's verb and writes exactly one JSON document, whatever
happens: a result, an error, or nothing at all after any other verb than ADD that went well. It
touches only what it is given, so that all of the protocol can be tested in memory; `main` gives it
a process's environment and streams.

Source: CNI specification, section "Execution Protocol".
"""

from __future__ import annotations

import contextlib
import io
import os
import sys

from cni import TYPE_CHECKING, jsontext, log
from cni.config import Document, decode, load_schema, match_keys, validate
from cni.errors import CniError, IOFailure, from_oserror
from cni.namedtuple import NamedTuple
from cni.request import (
    Add,
    Check,
    Delete,
    Gc,
    Status,
    check_environment,
    parse_request,
)
from cni.result import Result
from cni.versions import SUPPORTED, parse_version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import BinaryIO, NoReturn, TextIO


class Plugin(NamedTuple):
    """A plugin: its verbs, and the path of the schema of the configuration that it takes.

    The verbs raise `CniError`s. A configuration is validated before ADD, CHECK and STATUS; DEL and
    GC get it as it comes, for a configuration that became invalid must not keep a container from
    being removed. A plugin that holds nothing on the node needs no `gc`, and one that can always
    serve no `status`.
    """

    name: str
    schema: str
    add: Callable[[Add], Result]
    check: Callable[[Check], None]
    delete: Callable[[Delete], None]
    gc: Callable[[Gc], None] | None = None
    status: Callable[[Status], None] | None = None


def main(plugin: Plugin) -> NoReturn:
    """Run the plugin as this process, which ends with its exit code."""
    # Whatever prints to standard output by mistake, child processes included, must not get
    # between the runtime and the one document that it expects there.
    stdout = os.fdopen(os.dup(1), "wb", buffering=0)
    with contextlib.suppress(OSError):
        os.dup2(2, 1)
    os.umask(0o022)  # a runtime's may be 0, and state must not be anybody's to write
    # A stream that the runtime did not open is None.
    stdin = sys.stdin.buffer if sys.stdin else io.BytesIO()
    sys.exit(run(plugin, os.environ, stdin, stdout, sys.stderr or io.StringIO()))


def run(
    plugin: Plugin,
    environ: Mapping[str, str],
    stdin: BinaryIO,
    stdout: BinaryIO,
    stderr: TextIO,
) -> int:
    """Answer the request that `environ` and `stdin` make. Returns the exit code, 0 or 1.

    Nothing is raised: any error is written to `stdout`, an unforeseen one's traceback to `stderr`.
    """
    command = environ.get("CNI_COMMAND")
    if not command:
        versions = ", ".join(SUPPORTED)
        stderr.write(f"CNI plugin {plugin.name} (pycni)\nCNI versions supported: {versions}\n")
        return 0
    answer = _Answer(stdout)
    try:
        if command == "VERSION":
            answer.write({"cniVersion": answer.version, "supportedVersions": list(SUPPORTED)})
            return 0
        check_environment(environ)
        config = match_keys(decode(_read(stdin)), load_schema(plugin.schema))
        answer.version = parse_version(config.get("cniVersion"))
        result = call(plugin, environ, config, answer.is_awaited)
        if result is not None:
            _answer_add(plugin, environ, config, result, answer)
    except CniError as error:
        answer.write_error(error)
        return 1
    except Exception as error:  # noqa: BLE001 - whatever happens, the runtime gets its document
        answer.write_error(_as_cni_error(plugin, error, stderr))
        return 1
    return 0


def _always() -> bool:
    return True


def call(
    plugin: Plugin,
    environ: Mapping[str, str],
    config: Document,
    is_awaited: Callable[[], bool] = _always,
) -> Result | None:
    """Run one request. ADD returns a Result.

    The keys of `config` are spelled as the plugin's schema spells them, see `config.match_keys`.
    `is_awaited` tells whether somebody may still read the answer.
    """
    request = parse_request(environ, config)
    request.is_awaited = is_awaited
    if isinstance(request, Delete):
        plugin.delete(request)
        return None
    if isinstance(request, Gc):
        if plugin.gc is not None:
            plugin.gc(request)
        return None
    validate(config, load_schema(plugin.schema))
    if isinstance(request, Add):
        return plugin.add(request)
    if isinstance(request, Check):
        plugin.check(request)
    elif plugin.status is not None:
        plugin.status(request)
    return None


def _answer_add(
    plugin: Plugin,
    environ: Mapping[str, str],
    config: Document,
    result: Result,
    answer: _Answer,
) -> None:
    """Write an ADD's result. An ADD that cannot be answered has failed, and is undone."""
    try:
        answer.write(result.to_document(answer.version))
    except BaseException:
        delete = {**environ, "CNI_COMMAND": "DEL"}
        log.attempt("undoing the ADD", call, plugin, delete, config)
        raise


class _Answer:
    """Standard output, which takes one document. It should not be buffered."""

    def __init__(self, stdout: BinaryIO) -> None:
        self.version = SUPPORTED[-1]
        self._stdout = stdout
        self._begun = False

    def is_awaited(self) -> bool:
        """Whether somebody may read it: of a pipe or socket whose other end is closed, nobody."""
        try:
            descriptor = self._stdout.fileno()
        except (OSError, ValueError):
            return True  # a file in memory
        import select  # for those that ask only, at the end of an ADD

        poll = select.poll()
        poll.register(descriptor, 0)
        return not any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))

    def write(self, document: Document) -> None:
        """Write the document. Raises IOFailure, after which another one may be written instead.

        Nothing is written behind a document that has been written in part.
        """
        if self._begun:
            raise IOFailure("standard output has a part of another document")
        text = memoryview(jsontext.dumps(document, indent=4).encode() + b"\n")
        try:
            while text:
                # None stands for a pipe that is full, and that its reader does not wait for.
                written = self._stdout.write(text) or 0
                if not written:
                    raise IOFailure("standard output cannot be written", "nobody reads it")
                self._begun = True
                text = text[written:]
            self._stdout.flush()
        except OSError as error:
            raise IOFailure("standard output cannot be written", str(error)) from None

    def write_error(self, error: CniError) -> None:
        document = {"cniVersion": self.version, "code": error.code, "msg": error.message}
        with contextlib.suppress(IOFailure):  # nobody is left to be told
            self.write(document | ({"details": error.details} if error.details else {}))


def _read(stdin: BinaryIO) -> bytes:
    try:
        return stdin.read()
    except OSError as error:
        raise IOFailure("standard input cannot be read", str(error)) from None


def _as_cni_error(plugin: Plugin, error: Exception, stderr: TextIO) -> CniError:
    """The error for whatever a plugin let through, with a traceback if it explains more.

    Files that cannot be used are to be expected; an OSError without a file's name is not.
    """
    if isinstance(error, OSError) and error.filename is not None:
        return from_oserror(error)
    with contextlib.suppress(Exception):  # what goes wrong now matters less
        import traceback

        traceback.print_exception(error, file=stderr)
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError):
        return IOFailure(f"{plugin.name}: {error}", what)
    return CniError(f"{plugin.name} failed unexpectedly", what)
