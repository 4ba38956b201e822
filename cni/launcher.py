"""What an executable in /opt/cni/bin runs. Nothing is imported here: start-up is the budget."""

from __future__ import annotations


def run(name: str) -> None:
    """Run the plugin of this name as this process."""
    # A plugin has ended before there is garbage to collect.
    __import__("gc").disable()
    # The built-in does without importlib, whose import is not free.
    plugin = __import__(f"cni_plugins.{name.replace('-', '_')}.main", fromlist=["main"])
    plugin.main()
