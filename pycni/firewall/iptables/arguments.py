"""Conditions as iptables has them: arguments of a rule, which is this project's and stays one.

They may match, and not say what is done, in which chain, or how the program is run. iptables is
asked whether the rest makes sense. Source: iptables(8), getopt_long(3).
"""

from __future__ import annotations

# Matches with one letter. -p would be a second one, which iptables does not take.
_SHORT = ("-s", "-d", "-i", "-o", "-f", "-m")

# Options that are no matches; getopt takes any beginning of a name for the name.
_LONG = (
    *("append", "check", "delete", "delete-chain", "exact", "flush", "goto", "help", "insert"),
    *("ipv4", "ipv6", "jump", "line-numbers", "list", "list-rules", "modprobe", "new-chain"),
    *("numeric", "rename-chain", "replace", "set-counters", "table", "verbose", "version"),
    *("wait", "wait-interval", "zero"),
)

# Matches' own options that begin like one of those.
_OF_MATCHES = ("set",)


def parse_argument(text: str) -> str:
    """One argument of an iptables rule. Raises ValueError that says what is allowed."""
    if not text.isprintable() or '"' in text or "\\" in text:
        raise ValueError("allowed: an iptables argument without quotes, \\ and line breaks")
    if text.startswith("--"):
        name = text[2:].partition("=")[0]
        if name not in _OF_MATCHES and any(option.startswith(name) for option in _LONG):
            raise ValueError(f"allowed: iptables arguments that match; {text} does more")
    elif text.startswith("-") and text not in _SHORT:
        short = ", ".join(_SHORT)
        raise ValueError(f"allowed: iptables matches, each argument by itself: {short}, --…")
    return text
