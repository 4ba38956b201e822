"""Transport protocols that have ports, by the names that CNI and nftables have for them.

Source: IANA's protocol numbers.
"""

from __future__ import annotations

NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}
