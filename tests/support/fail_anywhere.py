"""Run a plugin's ADD again and again, each time with another function of ours that fails.

    python fail_anywhere.py PLUGIN FIRST STEP < configuration

Each ADD is a process of its own, in which one call of a function of the project raises: the
FIRST-th, then every STEP-th after it, until an ADD is over before. Prints a JSON list of the calls
after which an ADD had failed and left something, or a DEL had not removed what was left.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
import sys
from types import FrameType
from typing import Any

OURS = ("/pycni/", "/cni_plugins/", "/cni/delegate.py", "/cni/net/")
# What ends a `with`: an error there has nothing to do with the ADD, which is over.
ENDS = {"__exit__", "close", "opened", "entered", "both_sides", "directory", "all_locked", "locked"}

ENVIRON = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "a",
    "CNI_NETNS": "/run/netns/a",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": os.environ["CNI_PATH"],
}
LEFT = """
ls /sys/class/net | grep veth
find /run/cni -mindepth 2 ! -path /run/cni/pycni/claims ! -path '*/leases*'
find /var/lib/cni -regextype egrep -regex '.*/[0-9a-f]+[.:][0-9a-f.:]+'
nft list ruleset
"""


class Failing:
    """A profile function that raises at one call, and notes which."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.where = ""

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if event != "call" or code.co_name in ENDS:
            return
        if not any(part in code.co_filename for part in OURS):
            return
        self.number -= 1
        if self.number == 0:
            self.where = f"{code.co_filename.rpartition('site-packages/')[2]}:{code.co_name}"
            sys.setprofile(None)
            raise RuntimeError(f"injected at {self.where}")


def add(plugin: Any, config: bytes, number: int) -> tuple[int, str]:
    """One ADD. Returns its exit code, and the call that failed, if one did."""
    from cni.plugin import run

    failing = Failing(number)
    sys.setprofile(failing)
    code = run(plugin, ENVIRON, io.BytesIO(config), io.BytesIO(), io.StringIO())
    sys.setprofile(None)
    return code, failing.where


def in_child(plugin: Any, config: bytes, number: int) -> tuple[int, str]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, json.dumps(add(plugin, config, number)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        answer = json.loads(file.read() or '[-1, "died"]')
    os.waitpid(pid, 0)
    return answer[0], answer[1]


def left() -> list[str]:
    done = subprocess.run(["sh", "-c", LEFT], capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


def main() -> None:
    from cni.plugin import run

    name, first, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    plugin = importlib.import_module(f"cni_plugins.{name.replace('-', '_')}.main").PLUGIN
    config = sys.stdin.buffer.read()
    wrong, number, failed, before = [], first, 0, left()
    while True:
        code, where = in_child(plugin, config, number)
        if not where:
            break
        failed += code != 0
        if code != 0 and left() != before:
            wrong.append([number, where, left()])
        delete = ENVIRON | {"CNI_COMMAND": "DEL"}
        errors = io.StringIO()
        code = run(plugin, delete, io.BytesIO(config), io.BytesIO(), errors)
        if code != 0 or left() != before:
            wrong.append([number, where, "DEL", code, errors.getvalue(), left()])
        number += step
    print(json.dumps({"failed": failed, "wrong": wrong}))


if __name__ == "__main__":
    main()
