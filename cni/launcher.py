"""What an executable in /opt/cni/bin runs. It imports next to nothing: start-up is the budget."""

from __future__ import annotations

import gc
import posix
import sys

from cni import bundle


def run(name: str) -> None:
    """Run the plugin of this name as this process."""
    gc.disable()  # the process ends before there is garbage to collect
    bundle.use()
    if posix.environ.get(b"PYCNI_TRACE") == b"1":
        from cni import trace

        trace.begin()
    # The built-in does without importlib, whose import is not free.
    plugin = __import__(f"cni_plugins.{name.replace('-', '_')}.main", fromlist=["main"])
    try:
        plugin.main()
    except SystemExit as end:
        _end(end.code)


def _end(code: str | int | None) -> None:
    """End without Python's taking itself apart, for which it needs a fifth of its start-up again.

    So what is left to the interpreter's end (atexit, finalizers) is not run.
    """
    if not isinstance(code, int):
        sys.exit(code)
    trace = sys.modules.get("cni.trace")
    if trace is not None:
        trace.report(sys.stderr)
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except OSError:
        pass  # nobody reads it
    posix._exit(code)  # noqa: SLF001 - as os names it, too
