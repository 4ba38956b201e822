"""Leases: which addresses ADD gives, what CHECK and DEL say of them."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cni import plugin
from cni_plugins.host_local.main import PLUGIN

Document = dict[str, Any]
EARLIER_BOOT = b"00000000-0000-0000-0000-000000000000"


class Answer(NamedTuple):
    code: int
    document: Any

    @property
    def addresses(self) -> list[str]:
        assert self.code == 0, self.document
        return [ip["address"].partition("/")[0] for ip in self.document["ips"]]

    @property
    def error(self) -> int:
        assert self.code == 1, self.document
        return int(self.document["code"])

    @property
    def text(self) -> str:
        assert self.code == 1, self.document
        return f"{self.document['msg']} {self.document.get('details', '')}"


class Network:
    """A network whose leases are in a directory of the test's own."""

    def __init__(self, data_dir: Path) -> None:
        self.directory = data_dir / "pods"
        self.config: Document = {
            "cniVersion": "1.1.0",
            "name": "pods",
            "type": "bridge",
            "ipam": {"type": "host-local", "dataDir": str(data_dir)},
        }

    def use(self, *sets: list[Document] | str, **ipam: Any) -> None:
        """Configure range sets; a text is a set of one subnet."""
        ranges = [[{"subnet": s}] if isinstance(s, str) else s for s in sets]
        self.config["ipam"] |= {"ranges": ranges} | ipam

    def add(
        self, container_id: str, ifname: str = "eth0", cni_args: str = "", **keys: Any
    ) -> Answer:
        return self._run("ADD", container_id, ifname, cni_args, keys)

    def check(self, container_id: str, *addresses: str, ifname: str = "eth0") -> Answer:
        prev_result = {"cniVersion": "1.1.0", "ips": [{"address": a} for a in addresses]}
        return self._run("CHECK", container_id, ifname, "", {"prevResult": prev_result})

    def delete(self, container_id: str, ifname: str = "eth0", **keys: Any) -> Answer:
        return self._run("DEL", container_id, ifname, "", keys)

    def _run(
        self, verb: str, container_id: str, ifname: str, cni_args: str, keys: Document
    ) -> Answer:
        environ = {"CNI_COMMAND": verb, "CNI_CONTAINERID": container_id, "CNI_IFNAME": ifname}
        environ |= {"CNI_NETNS": "/run/netns/none", "CNI_ARGS": cni_args}
        stdin = io.BytesIO(json.dumps(self.config | keys).encode())
        stdout = io.BytesIO()
        code = plugin.run(PLUGIN, environ, stdin, stdout, io.StringIO())
        return Answer(code, json.loads(stdout.getvalue() or "null"))

    def write(self, name: str, content: str) -> Path:
        self.directory.mkdir(exist_ok=True)
        path = self.directory / name
        path.write_text(content, newline="")
        return path

    def leases(self) -> list[str]:
        names = os.listdir(self.directory) if self.directory.is_dir() else []
        return sorted(name for name in names if re.fullmatch(r"[0-9a-f.:]+", name))


@pytest.fixture
def network(tmp_path: Path) -> Network:
    network = Network(tmp_path)
    network.use("10.22.0.0/29")
    return network


# ADD: the result


def test_add_reports_one_address_of_each_set(network: Network) -> None:
    """In order of the sets, with prefix length and gateway, and nothing about interfaces."""
    network.use("10.22.0.0/16", "fd00:22::/64", routes=[{"dst": "0.0.0.0/0"}])
    assert network.add("a").document == {
        "cniVersion": "1.1.0",
        "ips": [
            {"address": "10.22.0.2/16", "gateway": "10.22.0.1"},
            {"address": "fd00:22::2/64", "gateway": "fd00:22::1"},
        ],
        "routes": [{"dst": "0.0.0.0/0"}],
    }


def test_routes_carry_all_that_1_1_0_knows(network: Network) -> None:
    """mtu, advmss, priority, table and scope are handed on."""
    route = {"dst": "10.0.0.0/8", "gw": "10.22.0.1", "mtu": 1400, "advmss": 1360}
    route |= {"priority": 100, "table": 50, "scope": 0}
    network.use("10.22.0.0/16", routes=[route])
    assert network.add("a").document["routes"] == [route]


def test_resolv_conf_becomes_dns(network: Network, tmp_path: Path) -> None:
    """nameserver, domain, search and options; comments and lone keywords are passed over."""
    path = tmp_path / "resolv.conf"
    path.write_text(
        "# nameserver 192.0.2.9\n; options rotate\nnameserver 192.0.2.1\nnameserver 192.0.2.2 x\n"
        "domain example.org\nsearch a.example\n search b.example c.example\nsearch\n"
        "options ndots:5 edns0\nsortlist 10.0.0.0\n\n"
    )
    network.use("10.22.0.0/16", resolvConf=str(path))
    assert network.add("a").document["dns"] == {
        "nameservers": ["192.0.2.1", "192.0.2.2"],
        "domain": "example.org",
        "search": ["a.example", "b.example", "c.example"],
        "options": ["ndots:5", "edns0"],
    }


def test_a_resolv_conf_that_is_not_there_is_an_error(network: Network) -> None:
    """The error names the key and the path, and nothing is leased."""
    network.use("10.22.0.0/16", resolvConf="/nonexistent")
    answer = network.add("a")
    assert answer.error == 5
    assert "ipam.resolvConf: /nonexistent" in answer.text
    assert network.leases() == []


def test_old_versions_get_their_format(network: Network) -> None:
    """0.2.0 knows one address of each family."""
    network.config["cniVersion"] = "0.2.0"
    network.use("10.22.0.0/16", "fd00:22::/64")
    document = network.add("a").document
    assert document["ip4"] == {"ip": "10.22.0.2/16", "gateway": "10.22.0.1"}
    assert document["ip6"] == {"ip": "fd00:22::2/64", "gateway": "fd00:22::1"}


def test_files_are_those_of_the_reference_plugin(network: Network) -> None:
    """One file an address, the last address of each set, and the lock."""
    network.use("10.22.0.0/16", "fd00:22::/64")
    network.add("a")
    names = ["10.22.0.2", "fd00:22::2", "last_reserved_ip.0", "last_reserved_ip.1", "lock"]
    assert sorted(os.listdir(network.directory)) == names
    assert (network.directory / "10.22.0.2").read_bytes() == b"a\r\neth0"
    assert (network.directory / "last_reserved_ip.1").read_bytes() == b"fd00:22::2"


def test_keys_in_any_case_and_nulls_are_understood(network: Network) -> None:
    """As Go decodes them, inside of ranges, too."""
    network.config["ipam"]["Ranges"] = [
        [{"Subnet": "10.9.0.0/24", "RANGESTART": "10.9.0.7", "gateway": None}]
    ]
    del network.config["ipam"]["ranges"]
    assert network.add("a").addresses == ["10.9.0.7"]


# ADD: which address


def test_addresses_go_round(network: Network) -> None:
    """An address just released is the last to be given out again."""
    assert network.add("a").addresses == ["10.22.0.2"]
    network.delete("a")
    given = [network.add(name).addresses[0] for name in "bcdef"]
    assert given == ["10.22.0.3", "10.22.0.4", "10.22.0.5", "10.22.0.6", "10.22.0.2"]


def test_a_corrupt_last_reserved_ip_is_tolerated(network: Network) -> None:
    """The round robin then starts at the beginning."""
    network.add("a")
    network.write("last_reserved_ip.0", "10.22.\0")
    assert network.add("b").addresses == ["10.22.0.3"]


def test_a_full_range_set_is_named(network: Network) -> None:
    """The error says which set of which network has no address left."""
    for name in "abcde":
        network.add(name)
    answer = network.add("f")
    assert answer.error == 102
    assert "range set 0 of network pods" in answer.text
    assert "10.22.0.1-10.22.0.6" in answer.text


def test_a_failure_in_a_later_set_gives_the_earlier_addresses_back(network: Network) -> None:
    """ADD leaves everything or nothing."""
    network.use("10.22.0.0/24", "10.23.0.0/30")
    network.add("a")
    assert network.add("b").error == 102
    assert network.leases() == ["10.22.0.2", "10.23.0.2"]


def test_the_same_attachment_twice_is_an_error(network: Network) -> None:
    """The error names the address; a second interface of the container gets its own."""
    network.add("a")
    answer = network.add("a")
    assert answer.error == 101
    assert "10.22.0.2" in answer.text
    assert network.add("a", ifname="net1").addresses == ["10.22.0.3"]


def test_a_lease_of_an_earlier_boot_is_no_obstacle(network: Network) -> None:
    """Its address is leased again, to the same attachment or to another one."""
    for name in "abcde":
        network.add(name)
    for address in ("10.22.0.3", "10.22.0.4"):
        os.setxattr(network.directory / address, "user.pycni.boot", EARLIER_BOOT)
    assert network.add("f").addresses == ["10.22.0.3"]
    assert network.add("c").addresses == ["10.22.0.4"]
    assert network.add("g").error == 102


def test_a_requested_address_of_an_earlier_boot_is_reclaimed(network: Network) -> None:
    """Asking for it is enough."""
    network.add("a")
    os.setxattr(network.directory / "10.22.0.2", "user.pycni.boot", EARLIER_BOOT)
    assert network.add("b", cni_args="IP=10.22.0.2").addresses == ["10.22.0.2"]


def test_leases_without_a_boot_are_kept(network: Network) -> None:
    """The reference plugin's leases may be of pods that run."""
    for n in range(2, 7):
        network.write(f"10.22.0.{n}", f"pod{n}\r\neth0")
    assert network.add("a").error == 102


@pytest.mark.parametrize("content", ["", "\r\n", "\0\0\0\0"])
def test_torn_leases_are_reclaimed(network: Network, content: str) -> None:
    """What a power cut left of leases pins no address."""
    for n in range(2, 7):
        network.write(f"10.22.0.{n}", content)
    assert [network.add(name).addresses for name in "ab"] == [["10.22.0.2"], ["10.22.0.3"]]


# ADD: requested addresses


@pytest.mark.parametrize(
    ("cni_args", "keys"),
    [
        ("IP=10.22.0.5", {}),
        ("IP=10.22.0.5/16", {}),
        ("IgnoreUnknown=1;K8S_POD_NAME=web;IP=10.22.0.5", {}),
        ("", {"args": {"cni": {"ips": ["10.22.0.5"]}}}),
        ("", {"runtimeConfig": {"ips": ["10.22.0.5/16"]}}),
        ("IP=10.22.0.5", {"runtimeConfig": {"ips": ["10.22.0.5"]}}),
    ],
)
def test_an_address_can_be_asked_for(network: Network, cni_args: str, keys: Document) -> None:
    """By CNI_ARGS, args.cni.ips and runtimeConfig.ips, with or without a prefix length."""
    answer = network.add("a", cni_args=cni_args, **keys)
    assert answer.document["ips"] == [{"address": "10.22.0.5/29", "gateway": "10.22.0.1"}]
    assert network.add("b").addresses == ["10.22.0.6"]


def test_an_empty_ip_asks_for_any_address(network: Network) -> None:
    """As without IP in CNI_ARGS."""
    assert network.add("a", cni_args="IP=").addresses == ["10.22.0.2"]


def test_addresses_can_be_asked_for_in_any_order(network: Network) -> None:
    """Each goes to the set that it belongs to; other sets give what is next."""
    network.use("10.22.0.0/24", "10.23.0.0/24", "fd00:22::/64")
    answer = network.add("a", runtimeConfig={"ips": ["fd00:22::9", "10.22.0.9"]})
    assert answer.addresses == ["10.22.0.9", "10.23.0.2", "fd00:22::9"]


@pytest.mark.parametrize("wanted", ["10.22.0.0", "10.22.0.1", "10.22.0.7", "10.9.9.9", "fd00::1"])
def test_an_address_that_is_not_offered_cannot_be_asked_for(network: Network, wanted: str) -> None:
    """Network, gateway and broadcast addresses, and those of no range; nothing is leased."""
    answer = network.add("a", runtimeConfig={"ips": [wanted]})
    assert answer.error == 7
    assert f"runtimeConfig.ips[0]: {wanted}" in answer.text
    assert network.leases() == []


def test_a_set_gives_one_address(network: Network) -> None:
    """Asking for a second one is an error, and nothing is leased."""
    answer = network.add("a", runtimeConfig={"ips": ["10.22.0.4", "10.22.0.5"]})
    assert answer.error == 7
    assert "runtimeConfig.ips[1]: 10.22.0.5" in answer.text
    assert network.leases() == []


def test_asking_for_a_taken_address_names_the_holder(network: Network) -> None:
    """The sets before it are rolled back."""
    network.use("10.22.0.0/24", "10.23.0.0/24")
    network.add("a")
    answer = network.add("b", cni_args="IP=10.23.0.2")
    assert answer.error == 101
    assert "container a eth0" in answer.text
    assert network.leases() == ["10.22.0.2", "10.23.0.2"]


@pytest.mark.parametrize("cni_args", ["IP=10.22.0.x", "K8S_POD_NAME=web", "IP"])
def test_bad_args_are_refused(network: Network, cni_args: str) -> None:
    """What is no address, and keys that nobody knows unless IgnoreUnknown is set."""
    assert network.add("a", cni_args=cni_args).error == 4


def test_ranges_can_come_from_the_runtime(network: Network) -> None:
    """runtimeConfig.ipRanges come before those of the configuration."""
    answer = network.add("a", runtimeConfig={"ipRanges": [[{"subnet": "10.9.0.0/24"}]]})
    assert answer.addresses == ["10.9.0.2", "10.22.0.2"]


# ADD: bad configuration


@pytest.mark.parametrize(
    ("ipam", "key"),
    [
        ({"ranges": []}, "ipam.ranges: missing"),
        ({"ranges": [[]]}, "ipam.ranges[0]: []"),
        ({"ranges": [[{}]]}, "ipam.ranges[0][0].subnet: missing"),
        ({"ranges": [{"subnet": "10.0.0.0/24"}]}, "ipam.ranges[0]: "),
        ({"ranges": [[{"subnet": "10.0.0.0"}]]}, 'ipam.ranges[0][0].subnet: "10.0.0.0"'),
        ({"ranges": [[{"subnet": "10.0.0.0/31"}]]}, "ipam.ranges[0][0].subnet: 10.0.0.0/31"),
        ({"subnet": "10.0.0.1/24"}, "ipam.subnet: 10.0.0.1/24"),
        ({"subnet": "10.0.0.0/24", "rangeEnd": "x"}, 'ipam.rangeEnd: "x"'),
        ({"routes": [{"gw": "10.0.0.1"}]}, "ipam.routes[0].dst: missing"),
        ({"routes": [{"dst": "10.0.0.0/8", "mtu": "1"}]}, 'ipam.routes[0].mtu: "1"'),
        ({"dataDir": "/tmp\0"}, "ipam.dataDir: "),
        ({"dataDir": 7}, "ipam.dataDir: 7"),
    ],
)
def test_bad_configuration_is_named(network: Network, ipam: Document, key: str) -> None:
    """Code 7, the path of the key, its value."""
    answer = network.add("a", ipam=network.config["ipam"] | ipam)
    assert answer.error == 7
    assert answer.text.startswith(key)
    assert not network.directory.exists()


def test_without_ipam_there_is_no_add(network: Network) -> None:
    """The key is required."""
    answer = network.add("a", ipam=None)
    assert answer.error == 7
    assert answer.text.startswith("ipam: missing")


# DEL


def test_delete_frees_all_of_the_owners_addresses(network: Network) -> None:
    """And nobody else's, not even those of another interface of the container."""
    network.use("10.22.0.0/24", "fd00:22::/64")
    network.add("a")
    network.add("a", ifname="net1")
    network.add("b")
    assert network.delete("a") == Answer(0, None)
    assert network.leases() == ["10.22.0.3", "10.22.0.4", "fd00:22::3", "fd00:22::4"]


@pytest.mark.parametrize(
    "keys",
    [
        {"ranges": [[{"subnet": "10.99.0.0/24"}]]},
        {"ranges": [[{"subnet": "nonsense"}]], "subnet": 7},
        {"ranges": None},
    ],
)
def test_delete_does_not_depend_on_the_ranges(network: Network, keys: Document) -> None:
    """They may have been changed, broken or removed since the ADD."""
    network.add("a")
    assert network.delete("a", ipam=network.config["ipam"] | keys).code == 0
    assert network.leases() == []


@pytest.mark.parametrize("ipam", [None, 7, "x", [], {}, {"dataDir": 7}, {"dataDir": "/x\0"}])
def test_delete_needs_no_valid_ipam(network: Network, ipam: object) -> None:
    """Whatever `ipam` is, DEL ends well."""
    name = "pycni-test-that-is-nowhere"
    assert network.delete("a", name=name, ipam=ipam) == Answer(0, None)


def test_delete_without_an_add_creates_nothing(network: Network) -> None:
    """A missing directory stays missing; so does one that cannot be."""
    assert network.delete("a") == Answer(0, None)
    assert not network.directory.exists()
    file = network.directory.with_name("file")
    file.touch()
    assert network.delete("a", ipam={"dataDir": str(file)}) == Answer(0, None)


def test_delete_twice_is_fine(network: Network) -> None:
    """The second time there is nothing to do."""
    network.add("a")
    assert [network.delete("a").code, network.delete("a").code] == [0, 0]


def test_delete_frees_leases_of_old_versions(network: Network) -> None:
    """Files that hold the container ID only, if there is no exact one."""
    network.write("10.22.0.2", "a")
    network.write("10.22.0.3", "a\r\nnet1")
    network.write("10.22.0.4", "ab")
    assert network.delete("a").code == 0
    assert network.leases() == ["10.22.0.3", "10.22.0.4"]


def test_a_late_delete_leaves_what_others_got_since(network: Network) -> None:
    """The address of an earlier boot's attachment belongs to who leased it after that."""
    network.add("a")
    os.setxattr(network.directory / "10.22.0.2", "user.pycni.boot", EARLIER_BOOT)
    network.add("b", cni_args="IP=10.22.0.2")
    network.delete("a")
    assert network.leases() == ["10.22.0.2"]


# CHECK


def test_check_passes_after_add(network: Network) -> None:
    """For all addresses, and beside those that other plugins gave."""
    network.use("10.22.0.0/24", "fd00:22::/64")
    network.add("a")
    others = ["192.0.2.7/24", "10.22.0.1/24", "fd00:99::1/64"]
    assert network.check("a", "10.22.0.2/24", "fd00:22::2/64", *others) == Answer(0, None)


def test_check_knows_leases_of_old_versions(network: Network) -> None:
    """A file with the container ID is enough."""
    network.write("10.22.0.2", "a")
    assert network.check("a", "10.22.0.2/29").code == 0


def test_check_fails_without_a_lease(network: Network) -> None:
    """It names the attachment, and creates nothing."""
    answer = network.check("a", "10.22.0.2/29")
    assert answer.error == 100
    assert "pods/a/eth0" in answer.text
    assert not network.directory.exists()


def test_check_fails_if_the_lease_is_of_an_earlier_boot(network: Network) -> None:
    """Such a lease may be given to anybody."""
    network.add("a")
    os.setxattr(network.directory / "10.22.0.2", "user.pycni.boot", EARLIER_BOOT)
    assert network.check("a", "10.22.0.2/29").error == 100


def test_check_fails_if_an_address_is_another_ones(network: Network) -> None:
    """It names the address and who has it."""
    network.add("a")
    network.add("b")
    answer = network.check("a", "10.22.0.2/29", "10.22.0.3/29")
    assert answer.error == 100
    assert "10.22.0.3 is not leased to pods/a/eth0" in answer.text
    assert "container b eth0" in answer.text


def test_check_fails_if_one_of_several_leases_is_gone(network: Network) -> None:
    """It names the address."""
    network.use("10.22.0.0/24", "fd00:22::/64")
    network.add("a")
    (network.directory / "fd00:22::2").unlink()
    answer = network.check("a", "10.22.0.2/24", "fd00:22::2/64")
    assert answer.error == 100
    assert "fd00:22::2 is not leased" in answer.text
