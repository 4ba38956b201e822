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
import errno
import os

from cni import TYPE_CHECKING, jsontext, log
from cni.formats import parse_ifname, parse_path
from cni.namedtuple import NamedTuple
from cni.net import namespace
from cni.request import Attachment, is_name
from pycni.state import files, location, locks
from pycni.state.files import Damaged
from pycni.state.names import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import Any

_ATTACHMENTS, _CLAIMS = "attachments", "claims"
_SHORT, _LONG = 12, 64


class Record(NamedTuple):
    """What one plugin did for an attachment.

    netns     the path of the container's namespace, as the ADD was given it
    identity  what that path led to
    owned     firewall entries as JSON values, see `pycni.firewall`
    backend   what carries them out, see `pycni.firewall.backend`; empty if there are none
    pod       NAMESPACE/NAME of the container's pod, as far as it was told; for messages
    """

    netns: str
    identity: namespace.Identity | None
    owned: list[Any]
    backend: str = "nftables"
    pod: str = ""

    @property
    def is_live(self) -> bool:
        """Whether the container's namespace is still there."""
        try:
            return self.identity is not None and namespace.identify(self.netns) == self.identity
        except OSError:
            return True  # for all that can be found out


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
    if not files.exists(_directory(owner)):
        remove()
        if not files.exists(_directory(owner)):
            return
    with locks.directory(_directory(owner), keep=location.directory()):
        remove()


@contextlib.contextmanager
def all_locked() -> Iterator[None]:
    """Hold what attachments have in common: the firewall's rules, bridges.

    Without a state directory there are no attachments, and nothing is held.
    """
    state = location.directory()
    if not files.exists(state):
        yield
        return
    with locks.directory(state, keep=state):
        files.discard_unless_directory(location.path(_CLAIMS))
        yield


def write_record(owner: Attachment, plugin: str, record: Record) -> None:
    """Keep what a plugin does for an attachment; a record is there completely or not at all."""
    files.write(_record_path(owner, plugin), jsontext.dumps(record._asdict()))


def has_record(owner: Attachment, plugin: str) -> bool:
    """Whether a plugin did anything for an attachment. Raises OSError if that is not known."""
    return files.exists(_record_path(owner, plugin))


def is_known(owner: Attachment) -> bool:
    """Whether any plugin did anything for an attachment."""
    return any(_record_paths(_directory(owner)))


def find_record(owner: Attachment, plugin: str) -> Record | None:
    """What a plugin did for an attachment, None if it did nothing. Raises Damaged, OSError."""
    return _read_record(_record_path(owner, plugin))


def remove_record(owner: Attachment, plugin: str) -> None:
    """Forget what a plugin did for an attachment."""
    files.remove(_record_path(owner, plugin))


def all_records() -> Iterator[tuple[Attachment, str, Record]]:
    """Every attachment's records. Reads them all: for what is done once, not for every request.

    A damaged record is left out, with a warning. Raises OSError: then some may be missing.
    """
    for directory, _, names in os.walk(location.path(_ATTACHMENTS), onerror=_raise_unless_gone):
        owner = Attachment(*directory.rsplit("/", 3)[1:])
        for name in sorted(names):
            plugin, extension = os.path.splitext(name)
            record = None
            try:
                record = find_record(owner, plugin) if extension == ".json" else None
            except Damaged as error:
                log.warn(f"{owner} is left out: {error}")
            if record is not None:
                yield owner, plugin, record


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


def find_stale(network: str, valid: Collection[Attachment]) -> list[Attachment]:
    """The network's attachments but the valid ones; also those whose ADD was killed at once."""
    root = location.path(_ATTACHMENTS, network)
    found = (
        Attachment(network, container_id, ifname)
        for container_id in _directories(root)
        for ifname in _directories(os.path.join(root, container_id))
    )
    return [owner for owner in found if owner not in valid and _is_possible(owner)]


def of_container(container_id: str) -> list[Attachment]:
    """A container's attachments, to whatever network."""
    return [
        Attachment(network, container_id, ifname)
        for network in _directories(location.path(_ATTACHMENTS))
        for ifname in _directories(location.path(_ATTACHMENTS, network, container_id))
    ]


def records_of(owner: Attachment) -> dict[str, Record]:
    """What all plugins did for an attachment, by plugin."""
    names = files.names_in(_directory(owner))
    plugins = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    records = ((plugin, find_record(owner, plugin)) for plugin in plugins)
    return {plugin: record for plugin, record in records if record is not None}


def describe(owner: Attachment, pod: str = "") -> str:
    """An attachment in a message's words: by its pod, if that is told here or by a record.

    A container ID as runtimes make them, 64 digits, is cut off after 12.
    """
    if not pod:
        with contextlib.suppress(OSError, Damaged):
            pod = next((each.pod for each in records_of(owner).values() if each.pod), "")
    network, container, ifname = owner
    container = container[:_SHORT] if len(container) == _LONG else container
    if not pod:
        return str(Attachment(network, container, ifname))
    return f"pod {pod} (network {network}, container {container}, {ifname})"


def is_last_of_network(owner: Attachment, plugin: str, backend: str) -> bool:
    """Whether no other record than this plugin's is left of the network and the backend."""
    network = location.path(_ATTACHMENTS, owner.network)
    return _is_last_below(network, _record_path(owner, plugin), backend)


def is_last(owner: Attachment, plugin: str, backend: str | None = None) -> bool:
    """Whether no other record than this plugin's is left of all networks, and of the backend."""
    everywhere = location.path(_ATTACHMENTS)
    return _is_last_below(everywhere, _record_path(owner, plugin), backend)


def are_any() -> bool:
    """Whether any plugin did anything for any attachment."""
    return any(_record_paths(location.path(_ATTACHMENTS)))


def claim(what: str, owner: Attachment) -> None:
    """Make `owner` the holder of `what`. Raises FileExistsError if somebody holds it."""
    path, target = _claim_path(what), _claim_target(owner)
    try:
        os.symlink(target, path)
    except FileExistsError:
        if find_holder(what) is not None:
            raise
        files.remove_any(path)
        os.symlink(target, path)
    except OSError as error:
        if error.errno not in files.NO_DIRECTORY:
            raise
        files.ensure_directory(os.path.dirname(path))
        os.symlink(target, path)


def release(what: str, owner: Attachment) -> None:
    """Give up a claim, if it is the owner's. One that names nobody goes, too."""
    if find_holder(what) in (owner, None):
        files.remove_any(_claim_path(what))


def find_holder(what: str) -> Attachment | None:
    """Who holds `what`; None also if what is there names nobody. Raises OSError."""
    try:
        target = os.readlink(_claim_path(what))
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.EINVAL, *files.NO_DIRECTORY):  # it is no link, or nowhere
            return None
        raise
    parts = target.split("/")
    if parts[:2] != ["..", _ATTACHMENTS] or len(parts) != 2 + len(Attachment._fields):
        return None
    holder = Attachment(*parts[2:])
    return holder if _is_possible(holder) else None


def claims_of(owner: Attachment) -> list[str]:
    """What an attachment holds. Reads all claims: for when its records do not tell."""
    claims = files.names_in(location.path(_CLAIMS))
    return [what for what in claims if find_holder(what) == owner]


def address_claim(network: str, address: object) -> str:
    """The name by which an attachment claims an address of a network."""
    return f"address-{shorten(network, 150)}-{address}"


def is_live(owner: Attachment) -> bool:
    """Whether a record tells of a namespace that is still there, for all that can be found out."""
    try:
        return any(record.is_live for record in records_of(owner).values())
    except (Damaged, OSError):
        return True


def is_abandoned(owner: Attachment) -> bool:
    """Whether records tell of the attachment, and of no namespace that is still there.

    Of attachments that the reference plugins made there is no record, and nothing known.
    """
    return _is_possible(owner) and is_known(owner) and not is_live(owner)


def release_orphaned() -> list[str]:
    """Remove, and return, the claims of nobody: of attachments without any record."""
    claims = files.names_in(location.path(_CLAIMS))
    orphaned = [what for what in claims if not _is_held(what)]
    for what in orphaned:
        files.remove_any(_claim_path(what))
    return orphaned


def _is_held(what: str) -> bool:
    holder = find_holder(what)
    return holder is not None and is_known(holder)


def _is_possible(owner: Attachment) -> bool:
    """Whether there can be such an attachment; anybody may have made files of any name."""
    try:
        parse_ifname(owner.ifname)
    except ValueError:
        return False
    return is_name(owner.network) and is_name(owner.container_id)


def _directories(path: str) -> list[str]:
    """The directories in a directory, by name."""
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _directory(owner: Attachment) -> str:
    return location.path(_ATTACHMENTS, *owner)


def _record_path(owner: Attachment, plugin: str) -> str:
    return os.path.join(_directory(owner), f"{plugin}.json")


def _read_record(path: str) -> Record | None:
    try:
        return files.read_json(path, _parse_record)
    except FileNotFoundError:
        return None


def _parse_record(fields: Any) -> Record:
    identity = (
        namespace.Identity(*map(_integer, fields["identity"])) if fields["identity"] else None
    )
    # Before there was another backend, records did not name it.
    backend = os.fspath(fields.get("backend", "nftables"))
    netns, pod = parse_path(os.fspath(fields["netns"])), os.fspath(fields.get("pod", ""))
    return Record(netns, identity, list(fields["owned"]), backend, pod)


def _integer(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no whole number")
    return value


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
    except (Damaged, OSError):
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
