"""A throw-away host that container runtimes run on: a Node with a PID namespace, cgroups and files.

/etc and /opt are the machine's own, and changes of them stay in memory. So runtimes find their
configuration and the plugins at their usual places, and all that they start ends with the host.
"""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tests.runtimes.image import write_image
from tests.support.node import Node

NET_D = "/etc/cni/net.d"
PLUGINS = "/opt/cni/bin"
IMAGE_FILE = "/run/image.tar"

_CGROUPS = Path("/sys/fs/cgroup")
_LOG = "/run/log"
_DAEMON = "/run/daemon.pid"

# A new sysfs shows the host's links, and has to be taken beside the old one, which has the cgroups.
_SETUP = f"""
umount /sys
mkdir /run/sys /run/tmp
mount -t sysfs sysfs /run/sys
mount --rbind {_CGROUPS} /run/sys/fs/cgroup
mount --rbind /run/sys /sys
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /var/tmp
for directory in etc opt; do
    upper=/run/files/$directory/upper
    work=/run/files/$directory/work
    mkdir -p $upper $work
    mount -t overlay -o lowerdir=/$directory,upperdir=$upper,workdir=$work overlay /$directory
done
rm -rf /etc/cni /opt/cni
mkdir -p {NET_D} {PLUGINS}
"""


class Machine(Node):
    """A host with `plugins`, names and executables, in /opt/cni/bin, and a machine outside.

    What is in `programs`, a directory, is preferred to what is installed.
    """

    def __init__(
        self, bin_dir: Path, plugins: Mapping[str, Path], scratch: Path, programs: Path | None
    ) -> None:
        super().__init__(bin_dir, scratch, pids=True)
        self._path = f"{programs}:{self._path}" if programs else self._path
        # Runtimes make their cgroups on the machine itself: below this one, which is removed.
        self.cgroup = f"pycni-{os.getpid()}-{self._holder.pid}"
        self.run("sh", "-ec", _SETUP)
        for name, executable in plugins.items():
            self.run("ln", "-s", executable, f"{PLUGINS}/{name}")
        self.outside = self.add_outside()
        write_image(self.path(IMAGE_FILE))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The first process ends only when all others of its PID namespace have.
        self._holder.communicate(timeout=60)
        super().__exit__(kind, error, traceback)
        # In the only hierarchy, or in each of several.
        for parent in (*_CGROUPS.glob(self.cgroup), *_CGROUPS.glob(f"*/{self.cgroup}")):
            for directory, _, _ in os.walk(parent, topdown=False):
                os.rmdir(directory)

    def environment(self, added: Mapping[str, str] | None) -> dict[str, str]:
        return super().environment({"TMPDIR": "/run/tmp"} | dict(added or {}))

    def path(self, path: str) -> Path:
        """Where a file of the host is found from outside."""
        return Path(f"/proc/{self._holder.pid}/root{path}")

    def write(self, path: str, text: str) -> None:
        """Write a file, in a directory that may be missing."""
        self.path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path(path).write_text(text)

    def start_daemon(self, *argv: str) -> None:
        """Start a program that runs until it is killed, or the host ends."""
        script = f"echo $$ >{_DAEMON}; exec {shlex.join(argv)} >>{_LOG} 2>&1"
        self.start("sh", "-c", script)

    def kill_daemon(self) -> None:
        """Kill the daemon that was started last."""
        self.run("kill", "-KILL", self.path(_DAEMON).read_text().strip())

    def log(self) -> str:
        """What daemons said."""
        return self.run("cat", _LOG, check=False).stdout

    # What there is

    def addresses(self, netns: str, ifname: str, scope: str = "global") -> dict[str, str]:
        """The addresses of a container's interface, by `ipv4` and `ipv6`."""
        (link,) = self.json("ip", "-j", "address", "show", "dev", ifname, netns=netns)
        found = (info for info in link["addr_info"] if info["scope"] == scope)
        return {"ipv4" if info["family"] == "inet" else "ipv6": info["local"] for info in found}

    def holdings(self) -> Counter[str]:
        """All that attachments have on the host: links, namespaces, files, what firewalls hold."""
        links = self.json("ip", "-j", "link", "show", "type", "veth")
        files = self.run("find", *_STATE, "-type", "f,l").stdout.split()
        rules = self.run("sh", "-ec", _FIREWALLS).stdout
        # Elements of a set share lines; what is in brackets counts packets.
        things = (
            re.sub(r"[{}]|\[.*?]|^#.*", "", thing).strip() for thing in re.split("[\n,]", rules)
        )
        held = Counter(thing for thing in things if thing)
        held.update(link["ifname"] for link in links)
        held.update(path for path in files if not _STAYS.search(path))
        return held

    def changes(self, before: Counter[str]) -> list[str]:
        """What `holdings` has gained and lost."""
        now = self.holdings()
        gained, lost = (now - before).elements(), (before - now).elements()
        return [*(f"+ {thing}" for thing in gained), *(f"- {thing}" for thing in lost)]


_STATE = ("/run/netns", "/run/cni", "/var/lib/cni")
_FIREWALLS = "nft --stateless list ruleset; iptables-save; ip6tables-save; ipset save"

# The last address that was given, locks, and indexes of leases stay, and do not grow; what kernel
# parameters were before, until the node's last DEL.
_STAYS = re.compile(r"/last_reserved_ip\.\d+$|/lock$|^/run/cni/pycni/(leases|locks|parameters)/")
