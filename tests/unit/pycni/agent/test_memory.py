"""Pages that a forked process copies ahead."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pycni.agent import memory


def private_kilobytes() -> int:
    text = Path("/proc/self/smaps_rollup").read_text()
    (found,) = re.findall(r"^Private_Dirty: +(\d+) kB", text, re.MULTILINE)
    return int(found)


def in_a_child(*, copies: bool) -> int:
    """The memory, in kB, of a forked process that it shares with nobody any more."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        for _ in memory.copy_pages() if copies else ():
            pass
        os.write(writer, b"%d" % private_kilobytes())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    with open(reader) as pipe:
        return int(pipe.read())


def test_copies() -> None:
    """A process has nearly nothing of its own after a fork, and all of it when it has copied it."""
    assert in_a_child(copies=True) > 5 * in_a_child(copies=False)
