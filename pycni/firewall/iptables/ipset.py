"""ipsets of addresses. Source: ipset(8), include/uapi/linux/netfilter/ipset/ip_set.h."""

from __future__ import annotations

import errno

from pyroute2.ipset import IPSet, IPSetError

from cni import TYPE_CHECKING
from pycni.firewall.vocabulary import Refused, Unavailable

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self

    from cni.net.addresses import IPAddress

# enum ipset_cmd_flags
_LIST_SETNAME = 1 << 1

# Linux's own address families, which are also ipset's.
_FAMILIES = {4: 2, 6: 10}


# Having none is not among the reasons for these.
_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EINTR, errno.EIO)


class IPSets:
    """A connection to the kernel's ipsets. Raises Unavailable if it has none."""

    def __init__(self) -> None:
        try:
            self._ipset: Any = IPSet()
            self._ipset.get_proto_version()
        except OSError as error:
            if error.errno in _PASSING:
                raise
            raise Unavailable("the kernel's ipsets cannot be used", str(error)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ipset.close()

    def ensure(self, name: str, version: int) -> None:
        """Make a set of addresses of an IP version, if there is none of that name."""
        self._ask("create", name, "hash:ip", family=_FAMILIES[version], exclusive=False)

    def add(self, name: str, address: IPAddress) -> None:
        """Add an address, unless it is there. Raises Refused if there is no such set."""
        family = _FAMILIES[address.version]
        self._ask("add", name, str(address), family=family, exclusive=False)

    def delete(self, name: str, address: IPAddress) -> None:
        """Delete an address. Raises Refused if it is not there."""
        self._ask("delete", name, str(address), family=_FAMILIES[address.version])

    def has(self, name: str, address: IPAddress) -> bool:
        """Whether a set has an address; a set that is not there has none."""
        try:
            return bool(self._ipset.test(name, str(address), family=_FAMILIES[address.version]))
        except IPSetError as error:
            if error.code == errno.ENOENT:
                return False
            raise Refused(f"the ipset {name} cannot be asked", str(error)) from None

    def flush(self, name: str) -> None:
        """Delete all addresses of a set."""
        self._ask("flush", name)

    def destroy(self, name: str) -> None:
        """Delete a set, to which no rule may refer any more."""
        self._ask("destroy", name)

    def names(self, prefix: str) -> list[str]:
        """The sets whose names begin like that."""
        listed = self._ipset.list(flags=_LIST_SETNAME)
        found = (each.get_attr("IPSET_ATTR_SETNAME") for each in listed)
        return [name for name in found if name and name.startswith(prefix)]

    def _ask(self, verb: str, name: str, *arguments: Any, **options: Any) -> None:
        try:
            getattr(self._ipset, verb)(name, *arguments, **options)
        except (IPSetError, OSError) as error:
            raise Refused(f"the ipset {name} was not changed ({verb})", str(error)) from None
