"""Conditions on a published port: words of a user's that become a part of an nft rule.

They may compare (`ip saddr 10.0.0.0/8`, `iifname != eth1`, `tcp sport { 1, 2 }`), not decide: what
is done with a packet is this project's, and neither may they end the rule and begin another
one. nft is asked whether the rest makes sense. Source: nft(8), "Expressions", "Statements".
"""

from __future__ import annotations

import re

_WORD = re.compile(r"[\w ,./:@!=<>&|^()*{}+~-]*", re.ASCII)

# Keywords that begin a statement which decides about a packet or changes something, or that end
# the rule. Behind a letter or one of `_.:/-` they are a part of a name or an address.
_STATEMENT = re.compile(
    r"(?<![A-Za-z_.:/-])(accept|add|comment|continue|delete|dnat|drop|dup|flow|fwd|goto|jump|log"
    r"|map|masquerade|meter|notrack|queue|redirect|reject|reset|return|set|snat|synproxy|tproxy"
    r"|update|vmap|xt)(?![\w./-])",
    re.ASCII,
)


def parse_condition(text: str) -> str:
    """One or more words of an nft match. Raises ValueError that says what is allowed."""
    if not _WORD.fullmatch(text):
        raise ValueError(
            "allowed: nft expressions of letters, digits, blanks, _,./:@!=<>&|^()*{}+~-"
        )
    found = _STATEMENT.search(text)
    if found:
        raise ValueError(f"allowed: nft expressions that compare; {found[0]} does more")
    return text
