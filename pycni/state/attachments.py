"""Who is attached, and what each attachment owns: plain files, for a person to `ls` and `cat`.

    attachments/<network>/<container id>/<ifname>/<plugin>.json     a record
    claims/<what> -> ../attachments/<network>/<container id>/<ifname>

A record is written before the kernel is told anything, so that whatever happens to an ADD, the DEL
that follows finds what there may be to remove. A claim is a symbolic link: made or refused
in one step, it names the owner of something that only one attachment can have, such as a host
port. A late DEL of A leaves alone what B has claimed since.

All of it is in the state directory, see `location`.
"""

from __future__ import annotations

import contextlib
import os

from cni import TYPE_CHECKING, jsontext, log
from cni.errors import IOFailure
from cni.namedtuple import NamedTuple
from cni.net import namespace
from cni.request import Attachment
from pycni.state import location, locks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import Any

_ATTACHMENTS, _CLAIMS = "attachments", "claims"


class DamagedRecord(IOFailure):
    """A record that somebody else has written to, or that the disk lost."""


class Record(NamedTuple):
    """What one plugin did for an attachment.

    netns     the path of the container's namespace, as the ADD was given it
    identity  what that path led to
    owned     firewall entries as JSON values, see `pycni.firewall`
    backend   what carries them out, see `pycni.firewall.backend`; empty if there are none
    """

    netns: str
    identity: namespace.Identity | None
    owned: list[Any]
    backend: str = "nftables"

    @property
    def is_live(self) -> bool:
        """Whether the container's namespace is still there."""
        return self.identity is not None and namespace.identify(self.netns) == self.identity


def locked(owner: Attachment) -> contextlib.AbstractContextManager[None]:
    """Hold the attachment: its next ADD or DEL waits until this one is over, however it ends.

    Raises IOFailure if there can be no state.
    """
    location.ensure()
    return locks.directory(_directory(owner), keep=location.directory())


def remove_locked(owner: Attachment, remove: Callable[[], None]) -> None:
    """Call what removes an attachment, and hold the attachment meanwhile.

    Nothing is written for one that no ADD has begun: it is not held, and removed again if an ADD
    of it has begun meanwhile.
    """
    if not os.path.lexists(_directory(owner)):
        remove()
        if not os.path.lexists(_directory(owner)):
            return
    with locks.directory(_directory(owner), keep=location.directory()):
        remove()


def all_locked() -> contextlib.AbstractContextManager[None]:
    """Hold what attachments have in common: the firewall's rules, bridges.

    Without a state directory there are no attachments, and nothing is held.
    """
    state = location.directory()
    if not os.path.lexists(state):
        return contextlib.nullcontext()
    return locks.directory(state, keep=state)


def write_record(owner: Attachment, plugin: str, record: Record) -> None:
    """Keep what a plugin does for an attachment; a record is there completely or not at all."""
    path = _record_path(owner, plugin)
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        file.write(jsontext.dumps(record._asdict()))
    os.rename(f"{path}.new", path)


def has_record(owner: Attachment, plugin: str) -> bool:
    """Whether a plugin did anything for an attachment."""
    return os.path.exists(_record_path(owner, plugin))


def is_known(owner: Attachment) -> bool:
    """Whether any plugin did anything for an attachment."""
    return any(_record_paths(_directory(owner)))


def find_record(owner: Attachment, plugin: str) -> Record | None:
    """What a plugin did for an attachment, None if it did nothing."""
    return _read_record(_record_path(owner, plugin))


def remove_record(owner: Attachment, plugin: str) -> None:
    """Forget what a plugin did for an attachment."""
    for suffix in ("", ".new"):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(_record_path(owner, plugin) + suffix)


def all_records() -> Iterator[tuple[Attachment, str, Record]]:
    """Every attachment's records. Reads them all: for what is done once, not for every request."""
    for directory, _, names in os.walk(location.path(_ATTACHMENTS)):
        owner = Attachment(*directory.rsplit("/", 3)[1:])
        for name in sorted(names):
            plugin, extension = os.path.splitext(name)
            record = None
            with log.told(f"{owner} is left out"):
                record = find_record(owner, plugin) if extension == ".json" else None
            if record is not None:
                yield owner, plugin, record


def find_stale(network: str, valid: Collection[Attachment]) -> list[Attachment]:
    """The network's attachments but the valid ones; also those whose ADD was killed at once."""
    root = location.path(_ATTACHMENTS, network)
    found = (
        Attachment(network, container_id, ifname)
        for container_id in _directories(root)
        for ifname in _directories(os.path.join(root, container_id))
    )
    return [owner for owner in found if owner not in valid]


def records_of(owner: Attachment) -> dict[str, Record]:
    """What all plugins did for an attachment, by plugin."""
    try:
        names = os.listdir(_directory(owner))
    except FileNotFoundError:
        return {}
    plugins = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    records = ((plugin, find_record(owner, plugin)) for plugin in plugins)
    return {plugin: record for plugin, record in records if record is not None}


def is_last_of_network(owner: Attachment, plugin: str, backend: str) -> bool:
    """Whether no other record than this plugin's is left of the network and the backend."""
    network = location.path(_ATTACHMENTS, owner.network)
    return _is_last_below(network, _record_path(owner, plugin), backend)


def is_last(owner: Attachment, plugin: str, backend: str | None = None) -> bool:
    """Whether no other record than this plugin's is left of all networks, and of the backend."""
    everywhere = location.path(_ATTACHMENTS)
    return _is_last_below(everywhere, _record_path(owner, plugin), backend)


def claim(what: str, owner: Attachment) -> None:
    """Make `owner` the holder of `what`. Raises FileExistsError if somebody holds it."""
    path, target = _claim_path(what), _claim_target(owner)
    try:
        os.symlink(target, path)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        os.symlink(target, path)


def release(what: str, owner: Attachment) -> None:
    """Give up a claim, if it is the owner's."""
    if find_holder(what) == owner:
        os.unlink(_claim_path(what))


def find_holder(what: str) -> Attachment | None:
    """Who holds `what`."""
    try:
        target = os.readlink(_claim_path(what))
    except FileNotFoundError:
        return None
    return Attachment(*target.rsplit("/", 3)[1:])


def claims_of(owner: Attachment) -> list[str]:
    """What an attachment holds. Reads all claims: for when its records do not tell."""
    try:
        claims = os.listdir(location.path(_CLAIMS))
    except FileNotFoundError:
        return []
    return [what for what in claims if find_holder(what) == owner]


def _directories(path: str) -> list[str]:
    """The directories in a directory, by name."""
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []


def _directory(owner: Attachment) -> str:
    return location.path(_ATTACHMENTS, *owner)


def _record_path(owner: Attachment, plugin: str) -> str:
    return os.path.join(_directory(owner), f"{plugin}.json")


def _read_record(path: str) -> Record | None:
    try:
        fields = jsontext.load(path)
        identity = namespace.Identity(*fields["identity"]) if fields["identity"] else None
        # Before there was another backend, records did not name it.
        backend = os.fspath(fields.get("backend", "nftables"))
        return Record(os.fspath(fields["netns"]), identity, list(fields["owned"]), backend)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DamagedRecord(f"{path} cannot be read", repr(error)) from None


def _claim_path(what: str) -> str:
    return location.path(_CLAIMS, what)


def _claim_target(owner: Attachment) -> str:
    return os.path.join("..", _ATTACHMENTS, *owner)


def _is_last_below(directory: str, record: str, backend: str | None) -> bool:
    """Whether no other record of the backend is below the directory; the first one ends the search.

    Directories without a record do not count: they are locked by somebody who has just begun, or is
    about to end. What nobody can read may be anybody's. (A node whose networks have one backend is
    the rule; where both are used, records of the other one are read on the way.)
    """
    paths = (path for path in _record_paths(directory) if path != record)
    return not any(backend is None or _may_be_of(path, backend) for path in paths)


def _may_be_of(path: str, backend: str) -> bool:
    try:
        record = _read_record(path)
    except DamagedRecord:
        return True
    return record is not None and record.backend == backend


def _record_paths(directory: str) -> Iterator[str]:
    with (
        contextlib.suppress(FileNotFoundError, NotADirectoryError),
        os.scandir(directory) as entries,
    ):
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _record_paths(entry.path)
            elif entry.name.endswith(".json"):
                yield entry.path
