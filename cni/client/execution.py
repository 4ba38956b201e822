"""Networks as they are run: their plugins, one after the other.

Source: CNI specification, section "Execution of Network Configurations".
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Collection, Mapping
from functools import partial

from cni.client.documents import parse_object, take
from cni.client.network import Network
from cni.client.results import CACHE_DIRECTORY, Results
from cni.client.target import Target
from cni.config import Document
from cni.errors import CniError, InvalidConfig, InvalidEnvironment, run_all
from cni.formats import parse_plugin_type
from cni.request import check_environment
from cni.result import parse_result
from cni.versions import at_least, parse_version, require_verb

_NOBODY = Target("", "", "")


def execute(executable: str, environ: Mapping[str, str], stdin: bytes) -> tuple[int, bytes]:
    """Run a plugin. Returns its exit code and standard output; standard error is passed through.

    Raises CniError for what cannot be run.
    """
    try:
        done = subprocess.run(
            [executable], env=environ, input=stdin, stdout=subprocess.PIPE, check=False
        )
    except OSError as error:
        raise CniError(f"{executable} cannot be run", str(error)) from None
    return done.returncode, done.stdout


class Runtime:
    """Runs the plugins found on `path`, and remembers what ADD returned in `cache_directory`.

    `path` is a CNI_PATH. All verbs raise the CniError that a plugin answers with, by its code.
    """

    def __init__(
        self,
        path: str,
        cache_directory: str = CACHE_DIRECTORY,
        execute: Callable[[str, Mapping[str, str], bytes], tuple[int, bytes]] = execute,
    ) -> None:
        self._path = path
        self._results = Results(cache_directory)
        self._execute = execute

    def add(self, network: Network, target: Target) -> Document:
        """Run the chain in order, each plugin given the result of the one before it."""
        result: Document = {}
        for plugin in network.plugins:
            output = self._call("ADD", network, target, plugin, result)
            result = _parse_output(plugin, output, network.version)
        self._results.remember(network, target, result)
        return result

    def check(self, network: Network, target: Target) -> None:
        """Run the chain in order, each plugin given the result of the whole ADD."""
        require_verb("CHECK", parse_version(network.version))
        if network.disable_check:
            return
        result = self._results.recall(network, target)
        for plugin in network.plugins:
            self._call("CHECK", network, target, plugin, result)

    def delete(self, network: Network, target: Target) -> None:
        """Run the chain backwards, each plugin given the result of the whole ADD.

        A result that cannot be read is no reason to leave anything behind, and neither is a plugin
        that fails; what ADD returned is kept then for another DEL.
        """
        result: Document = {}
        if at_least(parse_version(network.version), "0.4.0"):
            with contextlib.suppress(CniError):
                result = self._results.recall(network, target)
        run_all(
            partial(self._call, "DEL", network, target, plugin, result)
            for plugin in reversed(network.plugins)
        )
        self._results.forget(network, target)

    def gc(self, network: Network, valid: Collection[tuple[str, str]] | None = None) -> None:
        """Delete the attachments that were added here but for the valid ones, then run GC.

        `valid` are container IDs and interfaces. If nobody knows them, plugins are not told any.
        """
        if network.disable_gc:
            return
        steps: list[Callable[[], object]] = [
            partial(self.delete, network, target)
            for target in self._results.targets(network)
            if (target.container_id, target.ifname) not in (valid or ())
        ]
        if at_least(parse_version(network.version), "1.1.0"):
            told: Document = {}
            if valid is not None:
                listed = [{"containerID": owner, "ifname": ifname} for owner, ifname in valid]
                # Plugins of the specification's first draft look for the second name.
                told = {"cni.dev/valid-attachments": listed, "cni.dev/attachments": listed}
            steps += [
                partial(self._call, "GC", network, _NOBODY, plugin | told, {})
                for plugin in network.plugins
            ]
        run_all(steps)

    def status(self, network: Network) -> None:
        """Ask the chain in order whether it could serve an ADD; the first that cannot ends it."""
        if at_least(parse_version(network.version), "1.1.0"):
            for plugin in network.plugins:
                self._call("STATUS", network, _NOBODY, plugin, {})

    def _call(
        self,
        verb: str,
        network: Network,
        target: Target,
        plugin: Document,
        prev_result: Document,
    ) -> bytes:
        environ = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": target.container_id,
            "CNI_NETNS": target.netns,
            "CNI_IFNAME": target.ifname,
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in target.args),
            "CNI_PATH": self._path,
        }
        check_environment(environ)
        stdin = json.dumps(plugin_config(network, target, plugin, prev_result)).encode()
        executable = find_executable(plugin["type"], self._path)
        code, output = self._execute(executable, os.environ | environ, stdin)
        if code != 0:
            raise _parse_error(verb, plugin["type"], code, output)
        return output


def plugin_config(
    network: Network, target: Target, plugin: Document, prev_result: Document
) -> Document:
    """What a plugin reads on standard input; an empty `prev_result` is none."""
    config = plugin | {"name": network.name, "cniVersion": network.version}
    if prev_result:
        config["prevResult"] = prev_result
    capabilities: Document = take(plugin, "capabilities", dict, {})
    capability_args = {k: v for k, v in target.capability_args.items() if capabilities.get(k)}
    if capability_args:
        config["runtimeConfig"] = capability_args
    return config


def find_executable(plugin_type: str, path: str) -> str:
    """The first file of this name in the directories of CNI_PATH.

    Raises InvalidConfig for a name that is a path, InvalidEnvironment if there is no such file.
    """
    try:
        parse_plugin_type(plugin_type)
    except ValueError as error:
        raise InvalidConfig(f"type: {plugin_type!r} is not allowed", str(error)) from None
    for directory in filter(None, path.split(":")):
        executable = os.path.join(directory, plugin_type)
        if os.path.isfile(executable):
            return executable
    raise InvalidEnvironment(f"CNI_PATH: there is no {plugin_type} in {path or 'no directory'}")


def _parse_output(plugin: Document, output: bytes, network_version: str) -> Document:
    """What ADD returned, in its own version; if it names none it is the network's."""
    try:
        document = parse_object(output)
        version = parse_version(document.get("cniVersion") or network_version)
        return parse_result(document, version, "result").to_document(version)
    except CniError as error:
        raise CniError(f"plugin {plugin['type']} returned no result (add): {error}") from None


def _parse_error(verb: str, plugin_type: str, code: int, output: bytes) -> CniError:
    what = f"plugin {plugin_type} failed ({verb.lower()})"
    try:
        document = parse_object(output)
        message, details = document["msg"], document.get("details", "")
        return CniError(f"{what}: {message}", details, code=document.get("code"))
    except (CniError, KeyError):
        return CniError(f"{what} with exit code {code}", output.decode(errors="replace"))
