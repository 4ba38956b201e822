"""A request as a plugin sees it: one type a verb, parsed from the environment and standard input.

CNI's own spelling (CNI_CONTAINERID, camelCase) ends here. Parsing raises

    InvalidEnvironment    a variable is missing (all of them are named) or not allowed
    DecodingFailure       standard input is no JSON object
    InvalidConfig         `name`, prevResult for ADD and CHECK, or the valid attachments for GC
    IncompatibleVersion   cniVersion, or a verb that it does not have
    InvalidNetns          CNI_NETNS is the plugin's own namespace

Source: CNI specification, section "CNI Operations" and "Parameters".
"""

from __future__ import annotations

from cni import TYPE_CHECKING
from cni.config import Document
from cni.errors import CniError, InvalidConfig, InvalidEnvironment, InvalidNetns, IOFailure
from cni.formats import parse_ifname
from cni.namedtuple import NamedTuple
from cni.net import namespace
from cni.result import Result, parse_result
from cni.versions import parse_version, require_verb

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Final

# Names become names of files, which have 255 bytes at most (NAME_MAX).
_NAME = "[a-zA-Z0-9][a-zA-Z0-9_.\\-]{0,254}"
_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")

_ABOUT_AN_ATTACHMENT = ("CNI_CONTAINERID", "CNI_IFNAME")
_REQUIRED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": _ABOUT_AN_ATTACHMENT,
    "GC": (),
    "STATUS": (),
}


class Attachment(NamedTuple):
    """A container's interface on a network: the owner of all that an ADD creates."""

    network: str
    container_id: str
    ifname: str

    def __str__(self) -> str:
        return f"{self.network}/{self.container_id}/{self.ifname}"


class Request:
    """What every verb is told.

    config   the network configuration, its known keys spelled as the schema spells them
    network  its name
    version  its cniVersion
    path     the directories of CNI_PATH, in order
    environ  the whole environment, for plugins that are run in turn
    is_awaited  whether somebody may still read the answer
    """

    is_awaited: Callable[[], bool]

    def __init__(self, environ: Mapping[str, str], config: Document) -> None:
        self.environ: Final = environ
        self.config: Final = config
        self.version: Final = parse_version(config.get("cniVersion"))
        self.network: Final = _parse_network_name(config.get("name"))
        self.path: Final = tuple(d for d in environ.get("CNI_PATH", "").split(":") if d)
        self.is_awaited = lambda: True


class _AboutAttachment(Request):
    """A request about one attachment, `owner`.

    `pod` is what CNI_ARGS call the container where an orchestrator runs it, NAMESPACE/NAME of a
    pod of Kubernetes: for messages; empty if they do not.
    """

    def __init__(self, environ: Mapping[str, str], config: Document) -> None:
        super().__init__(environ, config)
        container_id, ifname = (environ[name] for name in _ABOUT_AN_ATTACHMENT)
        self.owner: Final = Attachment(self.network, container_id, ifname)
        self.pod: Final = _find_pod(environ.get("CNI_ARGS", ""))

    @property
    def args(self) -> Mapping[str, str]:
        """The pairs of CNI_ARGS. Raises InvalidEnvironment: a plugin without a use for them does
        not ask.
        """
        return parse_args(self.environ.get("CNI_ARGS", ""))


class Add(_AboutAttachment):
    """Attach the container to the network.

    `netns` is the path of its network namespace; `args` are the pairs of CNI_ARGS, parsed when they
    are asked for.
    """

    def __init__(self, environ: Mapping[str, str], config: Document) -> None:
        super().__init__(environ, config)
        self.netns: Final = _foreign_netns(environ)
        self.prev_result: Final = _parse_prev_result(config, self.version)

    def require_reader(self) -> None:
        """Raise IOFailure if nobody reads the answer any more, for the ADD to be rolled back.

        To be called when all is done, before the attachment's lock is given up: a runtime that was
        killed may have come back, and its DEL been served, before this ADD began.
        """
        if not self.is_awaited():
            raise IOFailure("nobody reads the answer", "the runtime has gone away")


class Check(_AboutAttachment):
    """Find out whether what the ADD built is still there; `prev_result` is what it returned."""

    def __init__(self, environ: Mapping[str, str], config: Document) -> None:
        super().__init__(environ, config)
        self.netns: Final = _foreign_netns(environ)
        prev_result = _parse_prev_result(config, self.version)
        if prev_result is None:
            raise InvalidConfig("prevResult: missing", "CHECK compares with what ADD returned")
        self.prev_result: Final = prev_result


class Delete(_AboutAttachment):
    """Remove what the attachment owns.

    `netns` is None if the runtime no longer knows it, or if the path now leads to the plugin's
    own namespace (its process identifier was given to another process). `prev_result` is None
    if there is none or if it cannot be read: a DEL must not fail for want of either.
    """

    def __init__(self, environ: Mapping[str, str], config: Document) -> None:
        super().__init__(environ, config)
        path = environ.get("CNI_NETNS") or None
        own = path is not None and not _override(environ) and namespace.is_own(path)
        self.netns: Final = None if own else path
        self.prev_result: Final = _read_prev_result(config, self.version)


class Gc(Request):
    """Remove what attachments to the network own that are not among `valid`."""

    def __init__(self, environ: Mapping[str, str], config: Document) -> None:
        super().__init__(environ, config)
        self.valid: Final = _parse_valid_attachments(config, self.network)


class Status(Request):
    """Find out whether an ADD could be served now."""


_VERBS: Mapping[str, type[Add | Check | Delete | Gc | Status]] = {
    "ADD": Add,
    "CHECK": Check,
    "DEL": Delete,
    "GC": Gc,
    "STATUS": Status,
}


def is_name(text: str, longest: int = 255) -> bool:
    """Whether a network or a container may have this name."""
    # That is what _NAME says, but `re` takes as long to import as Python takes to start.
    return text[:1].isalnum() and len(text) <= longest and _CHARACTERS.issuperset(text)


def check_environment(environ: Mapping[str, str]) -> None:
    """Raise InvalidEnvironment for variables that are missing, all at once, or not allowed."""
    command = environ["CNI_COMMAND"]
    if command not in _REQUIRED:
        allowed = ", ".join((*_REQUIRED, "VERSION"))
        raise InvalidEnvironment(f"CNI_COMMAND: {command!r} is unknown", f"allowed: {allowed}")
    missing = [name for name in _REQUIRED[command] if not environ.get(name)]
    if missing:
        raise InvalidEnvironment(f"{command} needs {', '.join(missing)} in the environment")
    if not _REQUIRED[command]:
        return
    container_id, ifname = (environ[name] for name in _ABOUT_AN_ATTACHMENT)
    if not is_name(container_id):
        raise InvalidEnvironment(
            f"CNI_CONTAINERID: {container_id!r} is not allowed", f"allowed: {_NAME}"
        )
    try:
        parse_ifname(ifname)
    except ValueError as error:
        raise InvalidEnvironment("CNI_IFNAME is not allowed", str(error)) from None


def parse_request(
    environ: Mapping[str, str], config: Document
) -> Add | Check | Delete | Gc | Status:
    """The request that `environ` (already checked) and the configuration make."""
    command = environ["CNI_COMMAND"]
    require_verb(command, parse_version(config.get("cniVersion")))
    return _VERBS[command](environ, config)


def parse_args(text: str) -> Mapping[str, str]:
    """CNI_ARGS: `K=V` pairs separated by semicolons, later ones winning.

    IgnoreUnknown stays in, for `take_args`. Raises InvalidEnvironment for a pair without `=`.
    """
    args: dict[str, str] = {}
    for pair in filter(None, text.split(";")):
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise InvalidEnvironment(f"CNI_ARGS: {pair!r} is not allowed", "allowed: KEY=VALUE")
        args[key] = value
    return args


def take_args(args: Mapping[str, str], *known: str) -> Mapping[str, str]:
    """The values of the known keys of CNI_ARGS, by their spelling in `known`.

    Keys are compared without regard to case. Raises InvalidEnvironment for any other key, unless
    IgnoreUnknown is true or 1.
    """
    spelling = {key.lower(): key for key in known}
    taken = {spelling[k.lower()]: v for k, v in args.items() if k.lower() in spelling}
    rest = {key: value for key, value in args.items() if key.lower() not in spelling}
    ignore = {value for key, value in rest.items() if key.lower() == "ignoreunknown"}
    unknown = sorted(key for key in rest if key.lower() != "ignoreunknown")
    if unknown and not any(value.lower() in ("1", "true") for value in ignore):
        allowed = ", ".join((*known, "IgnoreUnknown"))
        raise InvalidEnvironment(
            f"CNI_ARGS: unknown {', '.join(unknown)}",
            f"allowed: {allowed}; IgnoreUnknown=1 lets others pass",
        )
    return taken


def _find_pod(text: str) -> str:
    """The pod that CNI_ARGS name, as kubelet and podman write them; whatever else they hold."""
    pairs = dict(pair.partition("=")[::2] for pair in text.split(";"))
    names = (pairs.get("K8S_POD_NAMESPACE", ""), pairs.get("K8S_POD_NAME", ""))
    return "/".join(names) if all(map(is_name, names)) else ""


def _parse_network_name(name: object) -> str:
    if name is None or name == "":
        raise InvalidConfig("name: missing", "a network needs a name")
    if not isinstance(name, str) or not is_name(name):
        raise InvalidConfig(f"name: {name!r} is not allowed", f"allowed: {_NAME}")
    return name


def _parse_valid_attachments(config: Document, network: str) -> frozenset[Attachment]:
    """`cni.dev/valid-attachments`: a list of {"containerID": …, "ifname": …}.

    An empty list means that nothing is valid, and so does null, which is what Go makes of a list
    that nobody put anything into. A missing one means that the runtime did not say what is valid,
    so it is an error: nothing may be removed by mistake.
    """
    key = "cni.dev/valid-attachments"
    if key not in config:
        raise InvalidConfig(f"{key}: missing", "allowed: a list, empty if no attachment is valid")
    listed = [] if config[key] is None else config[key]
    if not isinstance(listed, list):
        raise InvalidConfig(f"{key}: {listed!r} is not allowed", "allowed: a list")
    valid = set()
    for number, item in enumerate(listed):
        fields = item if isinstance(item, dict) else {}
        container_id, ifname = fields.get("containerID"), fields.get("ifname")
        if not (container_id and isinstance(container_id, str)) or not (
            ifname and isinstance(ifname, str)
        ):
            raise InvalidConfig(
                f"{key}[{number}]: {item!r} is not allowed",
                "allowed: an object with the strings containerID and ifname",
            )
        valid.add(Attachment(network, container_id, ifname))
    return frozenset(valid)


def _foreign_netns(environ: Mapping[str, str]) -> str:
    path = environ["CNI_NETNS"]
    if not _override(environ) and namespace.is_own(path):
        raise InvalidNetns(
            f"CNI_NETNS: {path} is the namespace that the plugin runs in",
            "CNI_NETNS_OVERRIDE=1 allows it",
        )
    return path


def _override(environ: Mapping[str, str]) -> bool:
    return environ.get("CNI_NETNS_OVERRIDE", "").lower() in ("1", "true")


def _parse_prev_result(config: Document, version: str) -> Result | None:
    document = config.get("prevResult")
    return None if document is None else parse_result(document, version)


def _read_prev_result(config: Document, version: str) -> Result | None:
    try:
        return _parse_prev_result(config, version)
    except CniError:
        return None
