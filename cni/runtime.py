"""The runtime's side of CNI: run the plugins of a network for a container.

    python -m cni.runtime add|check|del|gc|status NETWORK NETNS

does what cnitool does, with the same variables (CNI_PATH, NETCONFPATH, CAP_ARGS, CNI_ARGS,
CNI_IFNAME), container identifiers and cached results, so that either may remove what the other
added. It goes further in one thing: a DEL goes on past a plugin that fails, and reports at the end.
`gc` and `status` are about the network as a whole, whatever NETNS is.

Source: CNI specification, sections "Network configuration format" and "Execution of Network
Configurations"; libcni for what a runtime keeps in /var/lib/cni/results.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from cni.config import Document, parse_plugin_type
from cni.errors import CniError, DecodingFailure, InvalidConfig, InvalidEnvironment, run_all
from cni.request import check_environment
from cni.result import parse_result
from cni.versions import SUPPORTED, at_least, parse_version, require_verb

CONFIG_DIRECTORY = "/etc/cni/net.d"
CACHE_DIRECTORY = "/var/lib/cni"

_CACHE_KIND = "cniCacheV1"


class Network(NamedTuple):
    """A network: the chain of its plugins' configurations. `source` is its JSON."""

    name: str
    version: str
    plugins: tuple[Document, ...]
    disable_check: bool
    disable_gc: bool
    source: bytes


class Target(NamedTuple):
    """Whom a network is for: a container's namespace and interface, and what is asked for it.

    `args` are the pairs of CNI_ARGS; `capability_args` the values for the capabilities that
    plugins declare, such as portMappings.
    """

    container_id: str
    netns: str
    ifname: str = "eth0"
    args: tuple[tuple[str, str], ...] = ()
    capability_args: Mapping[str, Any] = {}


_NOBODY = Target("", "", "")


# Networks as they are configured


def load_network(directory: str, name: str) -> Network:
    """The network of this name: a list of plugins, or a single plugin's configuration.

    Raises InvalidConfig for the first file that cannot be understood, as libcni does.
    """
    for path in _files(directory, ".conflist"):
        source = path.read_bytes()
        with _naming(path):
            document = _parse_object(source)
            if document.get("name") != name:
                continue
            # Besides those in the list, plugins may come in files of a folder with its name.
            alone = _is_true(document, "loadOnlyInlinedPlugins")
            files = [] if alone else _files(os.path.join(directory, name), ".conf")
            return parse_network(source, [_parse_object(file.read_bytes()) for file in files])
    for path in _files(directory, ".conf", ".json"):
        with _naming(path):
            plugin = _parse_object(path.read_bytes())
            if plugin.get("name") == name:
                version = _take(plugin, "cniVersion", str, "")
                single = {"name": name, "cniVersion": version, "plugins": [plugin]}
                return parse_network(json.dumps(single).encode())
    raise InvalidConfig(f"there is no network {name!r} in {directory}")


def parse_network(source: bytes, more_plugins: list[Document] | None = None) -> Network:
    """Read a network's list of plugins; `more_plugins` come after those in the list."""
    document = _parse_object(source)
    name = _take(document, "name", str, "")
    if not name or "/" in name:
        # The name becomes part of a file's name in the cache.
        raise InvalidConfig(f"name: {name!r} is not allowed", "allowed: a name without '/'")
    plugins = [*_take(document, "plugins", list, []), *(more_plugins or [])]
    if not plugins:
        raise InvalidConfig("plugins: missing", "a network needs one plugin at least")
    for number, plugin in enumerate(plugins):
        if not isinstance(plugin, dict) or not isinstance(plugin.get("type"), str):
            raise InvalidConfig(f"plugins[{number}].type: missing")
    return Network(
        name,
        _choose_version(document),
        tuple(plugins),
        _is_true(document, "disableCheck"),
        _is_true(document, "disableGC"),
        source,
    )


def _choose_version(document: Document) -> str:
    """The newest version of `cniVersions`, from 1.1.0 on, and `cniVersion` that is known here."""
    version: str = _take(document, "cniVersion", str, "")
    offered = [*_take(document, "cniVersions", list, []), version]
    return max((v for v in SUPPORTED if v in offered), key=SUPPORTED.index, default=version)


def _files(directory: str, *suffixes: str) -> list[Path]:
    with contextlib.suppress(FileNotFoundError):
        files = (Path(entry.path) for entry in os.scandir(directory) if entry.is_file())
        return sorted(file for file in files if file.suffix in suffixes)
    return []


@contextlib.contextmanager
def _naming(place: Path | str) -> Iterator[None]:
    """Say in an error where it was found."""
    try:
        yield
    except CniError as error:
        raise InvalidConfig(f"{place}: {error}") from None


def _parse_object(source: bytes | str) -> Document:
    try:
        document = json.loads(source)
    except ValueError as error:
        raise DecodingFailure("not JSON", str(error)) from None
    if not isinstance(document, dict):
        raise DecodingFailure("not a JSON object")
    return document


def _take(document: Document, key: str, kind: type, default: Any) -> Any:
    value = document.get(key)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise InvalidConfig(f"{key}: {json.dumps(value)} is not allowed")
    return value


def _is_true(document: Document, key: str) -> bool:
    """Flags of a network may be written as strings, in any case."""
    value = document.get(key, False)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return bool(_take(document, key, bool, default=False))


# Networks as they are run


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
        self._results = Path(cache_directory, "results")
        self._execute = execute

    def add(self, network: Network, target: Target) -> Document:
        """Run the chain in order, each plugin given the result of the one before it."""
        result: Document = {}
        for plugin in network.plugins:
            output = self._call("ADD", network, target, plugin, result)
            result = _parse_output(plugin, output, network.version)
        self._remember(network, target, result)
        return result

    def check(self, network: Network, target: Target) -> None:
        """Run the chain in order, each plugin given the result of the whole ADD."""
        require_verb("CHECK", parse_version(network.version))
        if network.disable_check:
            return
        result = self._recall(network, target)
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
                result = self._recall(network, target)
        run_all(
            partial(self._call, "DEL", network, target, plugin, result)
            for plugin in reversed(network.plugins)
        )
        self._cached(network, target).unlink(missing_ok=True)

    def gc(self, network: Network, valid: Collection[tuple[str, str]] | None = None) -> None:
        """Delete the attachments that were added here but for the valid ones, then run GC.

        `valid` are container IDs and interfaces. If nobody knows them, plugins are not told any.
        """
        if network.disable_gc:
            return
        steps: list[Callable[[], object]] = [
            partial(self.delete, network, target)
            for target in self._cached_targets(network)
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

    # What ADD returned

    def _cached(self, network: Network, target: Target) -> Path:
        return self._results / f"{network.name}-{target.container_id}-{target.ifname}"

    def _remember(self, network: Network, target: Target, result: Document) -> None:
        document = {
            "kind": _CACHE_KIND,
            "containerId": target.container_id,
            "config": base64.b64encode(network.source).decode(),
            "ifName": target.ifname,
            "networkName": network.name,
            "netns": target.netns,
            "cniArgs": target.args,
            "capabilityArgs": target.capability_args,
            "result": result,
        }
        path = self._cached(network, target)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with os.fdopen(os.open(temporary, flags, 0o600), "w") as file:
            json.dump({key: value for key, value in document.items() if value}, file)
        temporary.rename(path)

    def _cached_targets(self, network: Network) -> Iterator[Target]:
        """Whom the network was added for, as far as it can be read."""
        for path in sorted(self._results.glob("*")):
            with contextlib.suppress(CniError, OSError, KeyError, TypeError, ValueError):
                document = _parse_object(path.read_bytes())
                if document.get("kind") == _CACHE_KIND and document["networkName"] == network.name:
                    yield Target(
                        document["containerId"],
                        document.get("netns", ""),
                        document["ifName"],
                        tuple((key, value) for key, value in document.get("cniArgs") or ()),
                        document.get("capabilityArgs") or {},
                    )

    def _recall(self, network: Network, target: Target) -> Document:
        """What ADD returned, in the network's version; empty if nothing is known of it."""
        path = self._cached(network, target)
        try:
            source = path.read_bytes()
        except OSError:
            return {}
        with _naming(path):
            document = _parse_object(source)
            # Runtimes of old kept the result alone.
            cached = document.get("kind") == _CACHE_KIND
            result: Document = _take(document, "result", dict, {}) if cached else document
            if not result:
                return {}
            version = parse_version(result.get("cniVersion"))
            return parse_result(result, version).to_document(parse_version(network.version))


def plugin_config(
    network: Network, target: Target, plugin: Document, prev_result: Document
) -> Document:
    """What a plugin reads on standard input; an empty `prev_result` is none."""
    config = plugin | {"name": network.name, "cniVersion": network.version}
    if prev_result:
        config["prevResult"] = prev_result
    capabilities: Document = _take(plugin, "capabilities", dict, {})
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
        document = _parse_object(output)
        version = parse_version(document.get("cniVersion") or network_version)
        return parse_result(document, version, "result").to_document(version)
    except CniError as error:
        raise CniError(f"plugin {plugin['type']} returned no result (add): {error}") from None


def _parse_error(verb: str, plugin_type: str, code: int, output: bytes) -> CniError:
    what = f"plugin {plugin_type} failed ({verb.lower()})"
    try:
        document = _parse_object(output)
        message, details = document["msg"], document.get("details", "")
        return CniError(f"{what}: {message}", details, code=document.get("code"))
    except (CniError, KeyError):
        return CniError(f"{what} with exit code {code}", output.decode(errors="replace"))


# The command line


def parse_target(netns: str, environ: Mapping[str, str]) -> Target:
    """What cnitool makes of its arguments and variables."""
    path = os.path.abspath(netns)
    digest = hashlib.sha512(path.encode()).digest()[:10]
    with _naming("CAP_ARGS"):
        capability_args = _parse_object(environ.get("CAP_ARGS") or "{}")
    return Target(
        container_id=f"cnitool-{digest.hex()}",
        netns=path,
        ifname=environ.get("CNI_IFNAME", "eth0"),
        args=tuple(_parse_args(environ.get("CNI_ARGS", ""))),
        capability_args=capability_args,
    )


def _parse_args(text: str) -> Iterator[tuple[str, str]]:
    for pair in text.split(";") if text else ():
        key, separator, value = pair.partition("=")
        if not (key and separator and value) or "=" in value:
            raise InvalidEnvironment(f"CNI_ARGS: {pair!r} is not allowed", "allowed: KEY=VALUE")
        yield key, value


def main(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Carry out one command. Returns the exit code; errors go to standard error."""
    if len(arguments) != 3 or arguments[0] not in ("add", "check", "del", "gc", "status"):
        usage = "usage: python -m cni.runtime add|check|del|gc|status NETWORK NETNS"
        print(usage, file=sys.stderr)
        return 1
    verb, name, netns = arguments
    runtime = Runtime(environ.get("CNI_PATH", ""))
    try:
        network = load_network(environ.get("NETCONFPATH") or CONFIG_DIRECTORY, name)
        target = parse_target(netns, environ)
        if verb == "add":
            print(json.dumps(runtime.add(network, target), indent=4))
        elif verb == "check":
            runtime.check(network, target)
        elif verb == "gc":
            runtime.gc(network)
        elif verb == "status":
            runtime.status(network)
        else:
            runtime.delete(network, target)
    except (CniError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
