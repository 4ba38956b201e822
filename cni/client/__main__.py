"""The command, see `cni.client`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping

from cni.client.execution import Runtime
from cni.client.network import CONFIG_DIRECTORY, load_network
from cni.client.target import parse_target
from cni.errors import CniError


def main(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Carry out one command. Returns the exit code; errors go to standard error."""
    if len(arguments) != 3 or arguments[0] not in ("add", "check", "del", "gc", "status"):
        usage = "usage: python -m cni.client add|check|del|gc|status NETWORK NETNS"
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
