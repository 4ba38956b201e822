"""STATUS: whether an ADD could be served now, and if not, why."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.network import Network, without_firewalls, write_plugin
from tests.support.node import Answer, Node
from tests.support.ports import port

PLUGINS = ("bridge", "host-local", "portmap", "loopback")
NOBODY = dict.fromkeys(("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"))
# A /30 has one address beside the gateway's.
TINY = {
    "type": "host-local",
    "ranges": [[{"subnet": "fd00:22::/64"}], [{"subnet": "10.22.0.0/30"}]],
}

# All that a STATUS must leave as it is; when IPv6 addresses become valid is the kernel's doing.
_STATE = """
ip -j link; ip -j address | sed 's/"tentative":true,//g'; nft -j list ruleset
find /run/cni /var/lib/cni -printf '%p %y %T@\\n' | sort
cat /proc/sys/net/ipv4/ip_forward
"""


@pytest.fixture
def network(node: Node) -> Network:
    return Network(node)


def status(network: Network, plugin: str = "bridge", **environ: str) -> Answer:
    variables: dict[str, Any] = NOBODY | environ
    return network.node.cni("STATUS", plugin, network.config, **variables)


def is_available(answer: Answer) -> bool:
    return (answer.code, answer.document) == (0, None)


def assert_refused(answer: Answer, *words: str) -> None:
    """It says that no ADD can be served, and why."""
    document = answer.document
    assert (answer.code, document["code"]) == (1, 50), answer
    said = f"{document['msg']} {document.get('details', '')}"
    assert all(word in said for word in words), said


# Yes


@pytest.mark.parametrize("plugin", PLUGINS)
def test_available(network: Network, node: Node, plugin: str) -> None:
    """On a fresh node all plugins can serve; they print nothing and make nothing."""
    before = node.run("sh", "-c", _STATE).stdout
    assert is_available(status(network, plugin))
    assert node.run("sh", "-c", _STATE).stdout == before


@pytest.mark.parametrize("plugin", PLUGINS)
def test_with_pods(network: Network, node: Node, plugin: str) -> None:
    """Beside pods they can, too, and change nothing."""
    network.attach()
    before = node.run("sh", "-c", _STATE).stdout
    assert is_available(status(network, plugin))
    assert node.run("sh", "-c", _STATE).stdout == before


def test_no_ipam_plugin(node: Node) -> None:
    """A network without addresses needs no IPAM plugin, and no CNI_PATH."""
    network = Network(node, isDefaultGateway=False, ipMasq=False, ipam={})
    assert is_available(node.cni("STATUS", "bridge", network.config, CNI_PATH=None))


# No address


@pytest.mark.parametrize("plugin", ["bridge", "host-local"])
def test_no_address(network: Network, plugin: str) -> None:
    """With the last address of one range set leased, STATUS passes and warns, naming the set."""
    network.config["ipam"] = TINY
    assert status(network, plugin).stderr == ""
    network.attach()
    answer = status(network, plugin)
    assert is_available(answer)
    assert "no address is left in range set 1 of network net" in answer.stderr
    assert network.add("b").document["code"] == 102


@pytest.mark.parametrize("plugin", ["bridge", "host-local"])
def test_no_address_is_a_failure(network: Network, plugin: str) -> None:
    """Where it is configured so, STATUS fails with the last address of a range set leased."""
    network.config["ipam"] = TINY | {"statusOnExhaustion": "fail"}
    assert is_available(status(network, plugin))
    network.attach()
    assert_refused(status(network, plugin), "range set 1 of network net", "10.22.0.2")


def test_address_again(network: Network) -> None:
    """After a DEL there is an address again."""
    network.config["ipam"] = TINY
    network.attach()
    network.delete()
    assert is_available(status(network))


def test_torn_lease(network: Network, node: Node) -> None:
    """What is left of a lease that was not written completely does not count."""
    network.config["ipam"] = TINY
    node.run("mkdir", "-p", "/var/lib/cni/networks/net")
    node.run("touch", "/var/lib/cni/networks/net/10.22.0.2")
    assert is_available(status(network))
    network.attach()


def test_lease_of_an_earlier_boot(network: Network, node: Node) -> None:
    """Nor does a lease that was made before the node was booted."""
    network.config["ipam"] = TINY
    network.attach("a")
    lease = "/var/lib/cni/networks/net/10.22.0.2"
    program = f"import os; os.setxattr('{lease}', 'user.pycni.boot', b'earlier')"
    node.run(sys.executable, "-c", program)
    assert is_available(status(network))


def test_no_place_for_leases(network: Network, node: Node) -> None:
    """Where no lease can be written, no ADD can be served, and the place is named."""
    node.run("touch", "/var/lib/cni/networks")
    assert_refused(status(network), "/var/lib/cni/networks/net")
    assert not network.add().ok


def test_leases_on_a_read_only_disk(network: Network, node: Node) -> None:
    """Nor on a file system that is read-only."""
    node.run("mount", "-o", "remount,ro", "/var/lib")
    assert_refused(status(network), "/var/lib/cni")
    assert not network.add().ok


def test_no_resolv_conf(network: Network) -> None:
    """Nor without the file that is to be reported as `dns`."""
    network.config["ipam"] = TINY | {"resolvConf": "/run/none"}
    assert_refused(status(network), "ipam.resolvConf", "/run/none")
    assert not network.add().ok


# No firewall, no bridge


@pytest.mark.parametrize("plugin", ["bridge", "portmap"])
def test_no_firewall(network: Network, node: Node, plugin: str) -> None:
    """Without libnftables no ADD can be served that needs it."""
    with without_firewalls(node):
        assert_refused(status(network, plugin), "libnftables")
        assert network.add().document["code"] == 999
    assert is_available(status(network, plugin))


@pytest.mark.parametrize("plugin", ["bridge", "host-local", "loopback"])
def test_no_firewall_needed(network: Network, node: Node, plugin: str) -> None:
    """Plugins that need no firewall can serve without."""
    network.config["ipMasq"] = False
    with without_firewalls(node):
        assert is_available(status(network, plugin))
        network.attach()


def test_no_bridge(network: Network, node: Node) -> None:
    """Where something else has the bridge's name, no ADD can be served."""
    node.run("ip", "link", "add", "br0", "type", "veth")
    assert_refused(status(network), "br0", "veth")
    assert not network.add().ok


# Another IPAM plugin


def test_another_ipam_plugin(network: Network, tmp_path: Path) -> None:
    """An IPAM plugin that is none of ours is asked, with the whole configuration."""
    directory = tmp_path / "bin"
    write_plugin(directory, "pool", f"cd {directory}\ncat > stdin\necho $CNI_COMMAND >> calls")
    network.config["ipam"] = {"type": "pool", "size": 7}
    assert is_available(status(network, CNI_PATH=str(directory)))
    assert (directory / "calls").read_text().split() == ["STATUS"]
    assert json.loads((directory / "stdin").read_text()) == network.config


@pytest.mark.parametrize("code", [50, 51])
def test_failing_ipam_plugin(network: Network, tmp_path: Path, code: int) -> None:
    """What it answers is passed on, with its code."""
    error = {"code": code, "msg": "not now", "details": "the pool is empty"}
    write_plugin(tmp_path / "bin", "pool", f"echo '{json.dumps(error)}'; exit 1")
    network.config["ipam"] = {"type": "pool"}
    answer = status(network, CNI_PATH=str(tmp_path / "bin"))
    assert answer.document == error | {"cniVersion": "1.1.0"}


def test_missing_ipam_plugin(network: Network) -> None:
    """An IPAM plugin that is not there has code 7, as for an ADD."""
    network.config["ipam"] = {"type": "gone"}
    assert status(network).document["code"] == 7
    assert network.add().document["code"] == 7


# Wrong requests


@pytest.mark.parametrize(
    ("plugin", "keys"),
    [
        ("bridge", {"mtu": "large"}),
        ("bridge", {"hairpinMode": True, "promiscMode": True}),
        ("bridge", {"ipam": {"type": "host-local"}}),
        ("host-local", {"ipam": {"type": "host-local"}}),
        ("host-local", {"ipam": {"type": "host-local", "subnet": "10.22.0.1/24"}}),
        ("portmap", {"snat": "yes"}),
        ("portmap", {"backend": "ipvs"}),
        ("portmap", {"runtimeConfig": {"portMappings": [port(8080, 80), port(8080, 81)]}}),
    ],
)
def test_invalid_configuration(network: Network, plugin: str, keys: dict[str, Any]) -> None:
    """A configuration that an ADD would refuse has code 7."""
    network.config |= keys
    assert status(network, plugin).document["code"] == 7


@pytest.mark.parametrize("plugin", PLUGINS)
def test_old_version(network: Network, plugin: str) -> None:
    """Below 1.1.0 there is no STATUS: code 1."""
    network.config["cniVersion"] = "1.0.0"
    assert status(network, plugin).document["code"] == 1


# A runtime


def conflist(**keys: Any) -> dict[str, Any]:
    ipam = TINY | {"statusOnExhaustion": "fail"}
    bridge = {"type": "bridge", "bridge": "br0", "isGateway": True, "ipMasq": True, "ipam": ipam}
    plugins = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]
    return {"cniVersion": "1.1.0", "name": "net", "plugins": plugins} | keys


def test_cnitool(node: Node) -> None:
    """cnitool succeeds while there are addresses, and passes on why there are none."""
    pod = node.add_netns("pod")
    answer = node.cnitool("status", conflist(), pod)
    assert (answer.code, answer.stderr) == (0, "")
    assert node.cnitool("add", conflist(), pod).ok
    answer = node.cnitool("status", conflist(), pod)
    assert answer.code == 1
    assert "no address is left in range set 1" in answer.stderr


def test_cnitool_of_an_old_version(node: Node) -> None:
    """Below 1.1.0 cnitool asks nobody."""
    with without_firewalls(node):
        assert node.cnitool("status", conflist(cniVersion="1.0.0"), "/run/netns/pod").ok
        assert not node.cnitool("status", conflist(), "/run/netns/pod").ok
