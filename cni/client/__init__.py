"""The runtime's side of CNI: run the plugins of a network for a container.

    python -m cni.client add|check|del|gc|status NETWORK NETNS

does what cnitool does, with the same variables (CNI_PATH, NETCONFPATH, CAP_ARGS, CNI_ARGS,
CNI_IFNAME), container identifiers and cached results, so that either may remove what the other
added. It goes further in one thing: a DEL goes on past a plugin that fails, and reports at the end.
`gc` and `status` are about the network as a whole, whatever NETNS is.

    network      networks as they are configured
    target       whom a network is for
    execution    a network's plugins are run, one after the other
    results      what ADD returned is kept
    documents    JSON that others wrote
    __main__     the command

Source: CNI specification, sections "Network configuration format" and "Execution of Network
Configurations"; libcni for what a runtime keeps in /var/lib/cni/results.
"""

from cni.client.execution import Runtime, execute, find_executable, plugin_config
from cni.client.network import Network, load_network, parse_network
from cni.client.target import Target, parse_target

__all__ = [
    "Network",
    "Runtime",
    "Target",
    "execute",
    "find_executable",
    "load_network",
    "parse_network",
    "parse_target",
    "plugin_config",
]
