"""A container with an interface on a network of a test's node."""

from __future__ import annotations

from typing import Any, NamedTuple


class Pod(NamedTuple):
    """A container; `result` is what the ADD of its interface returned, in 0.3.0 or later."""

    name: str
    netns: str
    result: Any

    @property
    def ipv4(self) -> str:
        return self._address(".")

    @property
    def ipv6(self) -> str:
        return self._address(":")

    @property
    def host_ifname(self) -> str:
        return str(self.result["interfaces"][1]["name"])

    @property
    def mac(self) -> str:
        return str(self.result["interfaces"][2]["mac"])

    def _address(self, mark: str) -> str:
        addresses = (str(ip["address"]).split("/")[0] for ip in self.result["ips"])
        return next(address for address in addresses if mark in address)
