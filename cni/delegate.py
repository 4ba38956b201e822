"""Run another plugin on behalf of this one: in practice, the IPAM plugin of an interface plugin.

The other plugin gets the whole configuration and the same environment. It is searched on CNI_PATH
only. If what is found there is an executable of this very installation, its verb is called in this
process, which saves the start of another interpreter; errors and results are the same either way.

All functions raise the error that the other plugin answers with, by its code; InvalidConfig if
`ipam.type` is a path or not on CNI_PATH, InvalidEnvironment if there is no CNI_PATH.
Source: CNI specification, section "Plugin Delegation".
"""

from __future__ import annotations

import os
import sys

from cni import jsontext, log
from cni.config import load_schema, match_keys
from cni.errors import CniError, InvalidConfig, InvalidEnvironment, IOFailure
from cni.plugin import Plugin, call
from cni.request import Add, Check, Delete, Gc, Request, Status
from cni.result import Result, parse_result
from cni.versions import SUPPORTED


def add_ipam(request: Add) -> Result:
    """Get addresses from the IPAM plugin, one at least.

    An ADD that fails after it has to call `delete_ipam`. If this fails itself, it has done so,
    unless the IPAM plugin is one of this installation: those leave everything or nothing, and what
    another ADD of the attachment has leased must not be released.
    """
    executable = _find(_ipam_type(request), request.path)
    try:
        result = _run("ADD", request, executable)
    except BaseException:
        if _load(executable) is None:
            log.attempt("releasing addresses", delete_ipam, request)
        raise
    if result is None or not result.ips:
        log.attempt("releasing addresses", delete_ipam, request)
        raise CniError(f"ipam.type: {_ipam_type(request)!r} returned no address")
    return result


def check_ipam(request: Check) -> None:
    """Have the IPAM plugin check that the attachment still has its addresses."""
    _run("CHECK", request)


def delete_ipam(request: Add | Delete) -> None:
    """Have the IPAM plugin release what the attachment holds; also what an ADD rolls back."""
    _run("DEL", request)


def gc_ipam(request: Gc) -> None:
    """Have the IPAM plugin release what no valid attachment holds."""
    _run("GC", request)


def status_ipam(request: Status) -> None:
    """Have the IPAM plugin say whether it could serve an ADD."""
    _run("STATUS", request)


def _ipam_type(request: Request) -> str:
    ipam = request.config.get("ipam")
    return str(ipam.get("type") or "") if isinstance(ipam, dict) else ""


def has_ipam(request: Request) -> bool:
    """Whether the configuration names an IPAM plugin; without one the network is layer 2 only."""
    return bool(_ipam_type(request))


def _run(command: str, request: Request, executable: str | None = None) -> Result | None:
    executable = executable or _find(_ipam_type(request), request.path)
    environ = {**request.environ, "CNI_COMMAND": command}
    plugin = _load(executable)
    if plugin is not None:
        config = match_keys(request.config, load_schema(plugin.schema))
        return call(plugin, environ, config, request.is_awaited)
    output = _execute(executable, environ, jsontext.dumps(request.config).encode())
    return _parse_result(executable, output, request.version) if command == "ADD" else None


def _find(plugin_type: str, path: tuple[str, ...]) -> str:
    if "/" in plugin_type:
        raise InvalidConfig(f"ipam.type: {plugin_type!r} is not allowed", "allowed: no '/'")
    if not path:
        raise InvalidEnvironment(
            "CNI_PATH is missing", f"ipam.type {plugin_type!r} is searched there"
        )
    for directory in path:
        candidate = os.path.join(directory, plugin_type)
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    raise InvalidConfig(
        f"ipam.type: {plugin_type!r} is not an executable on CNI_PATH", ":".join(path)
    )


def _load(executable: str) -> Plugin | None:
    """The plugin that the executable runs, if it runs one of this installation."""
    name = os.path.basename(executable)
    package = f"cni_plugins.{name.replace('-', '_')}"
    with open(executable, "rb") as file:
        text = file.read(4096).decode(errors="replace")
    if os.path.dirname(_interpreter(text)) != os.path.dirname(sys.executable):
        return None
    # Written by pycni.install, which may name the directory of the packages, or by pip.
    if f'run("{name}")' not in text and f"{package}.main" not in text:
        return None
    home = os.path.dirname(os.path.dirname(__file__))
    if "sys.path.append" in text and f"sys.path.append({home!r})" not in text:
        return None
    plugin: Plugin = __import__(f"{package}.main", fromlist=["PLUGIN"]).PLUGIN
    return plugin


def _interpreter(script: str) -> str:
    """The path of the interpreter that runs the script; of pycni.install's, executable.sh."""
    first, _, rest = script.partition("\n")
    if first == "#!/bin/sh":
        return rest.partition("\nexec ")[2].partition(" -IS ")[0].strip("'")
    return first[2:].strip().partition(" ")[0] if first.startswith("#!") else ""


def _execute(executable: str, environ: dict[str, str], stdin: bytes) -> bytes:
    """Run an executable with files in memory as its streams, so that no pipe can fill up.

    Returns its standard output. Raises the error that it answers with.
    """
    input_fd = os.memfd_create("stdin")
    output_fd = os.memfd_create("stdout")
    try:
        os.write(input_fd, stdin)
        os.lseek(input_fd, 0, os.SEEK_SET)
        streams = [(os.POSIX_SPAWN_DUP2, input_fd, 0), (os.POSIX_SPAWN_DUP2, output_fd, 1)]
        try:
            pid = os.posix_spawn(executable, [executable], environ, file_actions=streams)
        except OSError as error:
            raise IOFailure(f"{executable} cannot be run", error.strerror or "") from None
        _, status = os.waitpid(pid, 0)
        output = os.pread(output_fd, os.fstat(output_fd).st_size, 0)
    finally:
        os.close(input_fd)
        os.close(output_fd)
    exit_code = os.waitstatus_to_exitcode(status)
    if exit_code != 0:
        raise _parse_error(executable, exit_code, output)
    return output


def _parse_error(executable: str, exit_code: int, output: bytes) -> CniError:
    name = os.path.basename(executable)
    document = _decode(name, exit_code, output)
    error = document if isinstance(document, dict) else {}
    code = error.get("code")
    return CniError(
        str(error.get("msg") or f"{name} failed with exit code {exit_code}"),
        str(error.get("details") or ""),
        code=code if isinstance(code, int) else None,
    )


def _parse_result(executable: str, output: bytes, version: str) -> Result | None:
    """What an ADD answered, in the version that it says, or else the configuration's."""
    name = os.path.basename(executable)
    document = _decode(name, 0, output)
    if document is None:
        return None
    answered = document.get("cniVersion") if isinstance(document, dict) else None
    return parse_result(
        document, answered if answered in SUPPORTED else version, f"{name}'s result"
    )


def _decode(name: str, exit_code: int, output: bytes) -> object:
    try:
        return jsontext.loads(output.decode()) if output.strip() else None
    except ValueError:
        text = output.decode(errors="replace")
        raise CniError(f"{name} (exit code {exit_code}) did not answer in JSON", text) from None
