"""Where the time of one request goes: PYCNI_TRACE=1 has it printed on standard error.

    at ms   took ms
      0.0      11.9  Python starts (CPU time)
     12.3      14.2  from cni_plugins.portmap.main import main
     29.1       0.1  the request itself
     29.2       0.1    netlink: asking nftables

Nothing of this is loaded otherwise, and no function knows that it can be timed: `begin` puts
timed ones in the place of those that _STEPS names, as soon as their modules are imported.
"""

from __future__ import annotations

import builtins
import sys
import time
from contextlib import contextmanager

from cni import TYPE_CHECKING
from cni.namedtuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TextIO

# What is timed, and how it is called: {1} is the second argument (a method's first after self).
STEPS = {
    "cni.config": {
        "decode": "read the configuration",
        "load_schema": "load the schema",
        "validate": "validate the configuration",
    },
    "cni.net.netlink.conntrack": {
        "forget": "conntrack: forget {0} port {1}",
        "forget_answered": "conntrack: forget what {0} answers",
    },
    "cni.delegate": {"_run": "IPAM {0}", "_execute": "run {0}"},
    "pycni.firewall.nftables.libnftables": {
        "load": "load libnftables",
        "run": "libnftables: run commands",
    },
    "pycni.launcher": {
        "_hand_over": "have the agent take the request",
        "_wait": "wait for its end",
    },
    "pycni.state.locks": {"_lock_directory": "wait for the lock of {0}"},
    "cni.net.netlink.socket": {"Socket.ask": "netlink: {4}", "Socket.tell": "netlink: {2}"},
    "cni.plugin": {"call": "the request itself"},
    "cni.net.sysctl": {"write": "sysctl {0}"},
}

# Shorter imports are of what is there already.
_SHORTEST_IMPORT = 0.0001


class Span(NamedTuple):
    """What was done from `start` for `seconds`, inside of `depth` other spans."""

    start: float
    seconds: float
    depth: int
    what: str


class _Trace:
    def __init__(self, first: str, start: float) -> None:
        self.began = start
        self.spans = [Span(start, time.perf_counter() - start, 0, first)]
        self.depth = 0


_trace: _Trace | None = None
_timed_modules: set[str] = set()


def begin(first: str, start: float | None = None) -> None:
    """Time what this process does from now on, until `report`.

    `first` is what it did so far, since `start` (of time.perf_counter). Without that it is what the
    process has done at all, in CPU time: the one clock that began with it.
    """
    global _trace  # noqa: PLW0603 - a process has one trace
    _trace = _Trace(first, time.perf_counter() - time.process_time() if start is None else start)
    _time_new_modules()
    builtins.__import__ = _timed_import(builtins.__import__)


@contextmanager
def span(what: str, shortest: float = 0) -> Iterator[None]:
    """Time a block, such as the hand-over to an agent; one that is shorter is not kept."""
    trace = _trace
    if trace is None:
        yield
        return
    start, depth, position = time.perf_counter(), trace.depth, len(trace.spans)
    trace.depth += 1
    try:
        yield
    finally:
        trace.depth = depth
        seconds = time.perf_counter() - start
        if seconds >= shortest:
            trace.spans.insert(position, Span(start, seconds, depth, what))


def report(stderr: TextIO) -> None:
    """Print the spans, in the order in which they began."""
    if _trace is None:
        return
    stderr.write("   at ms   took ms\n")
    for start, seconds, depth, what in _trace.spans:
        at, took = (start - _trace.began) * 1000, seconds * 1000
        stderr.write(f"{at:8.1f}  {took:8.1f}  {'  ' * depth}{what}\n")
    stderr.write(f"{(time.perf_counter() - _trace.began) * 1000:8.1f}            the end\n")


def _timed_import(real: Callable[..., Any]) -> Callable[..., Any]:
    def timed(
        name: str, globals_: Any = None, locals_: Any = None, fromlist: Any = (), level: int = 0
    ) -> Any:
        what = f"from {name} import {', '.join(fromlist)}" if fromlist else f"import {name}"
        with span(what, _SHORTEST_IMPORT):
            module = real(name, globals_, locals_, fromlist, level)
        _time_new_modules()
        return module

    return timed


def _time_new_modules() -> None:
    """Replace the functions of new modules wherever they have been imported to."""
    timed = {}
    for module in STEPS.keys() & sys.modules.keys() - _timed_modules:
        spec = sys.modules[module].__spec__
        if not getattr(spec, "_initializing", False):  # or else its functions are not there yet
            _timed_modules.add(module)
            for name, label in STEPS[module].items():
                home, function = find(module, name)
                timed[id(function)] = _timed(function, label)
                setattr(home, name.rpartition(".")[2], timed[id(function)])
    if not timed:
        return
    for other in [
        module for name, module in sys.modules.items() if name.startswith(("cni", "pycni"))
    ]:
        for name, value in list(vars(other).items()):
            if id(value) in timed:
                setattr(other, name, timed[id(value)])


def find(module: str, name: str) -> tuple[Any, Any]:
    """The class or module that holds a function of this (dotted) name, and the function."""
    home: Any = sys.modules[module]
    *classes, last = name.split(".")
    for part in classes:
        home = getattr(home, part)
    return home, getattr(home, last)


def _timed(function: Callable[..., Any], label: str) -> Callable[..., Any]:
    def timed(*arguments: Any, **named: Any) -> Any:
        with span(label.format(*arguments)):
            return function(*arguments, **named)

    return timed
