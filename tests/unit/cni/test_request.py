"""Requests: CNI_ARGS, CNI_PATH and who owns what."""

from __future__ import annotations

import pytest

from cni.errors import InvalidEnvironment
from cni.request import Add, Attachment, parse_args, parse_request, take_args

ENVIRON = {"CNI_CONTAINERID": "pod", "CNI_NETNS": "/run/netns/pod", "CNI_IFNAME": "eth0"}
KUBELET = (
    "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;"
    "K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=1-2"
)


def add(**environ: str) -> Add:
    request = parse_request({**ENVIRON, "CNI_COMMAND": "ADD", **environ}, {"name": "net"})
    assert isinstance(request, Add)
    return request


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("", {}),
        ("A=1", {"A": "1"}),
        ("A=1;B=2", {"A": "1", "B": "2"}),
        ("A=1;A=2", {"A": "2"}),
        ("A=", {"A": ""}),
        ("A=b=c", {"A": "b=c"}),
        (";A=1;;", {"A": "1"}),
    ],
)
def test_args(text: str, args: dict[str, str]) -> None:
    """CNI_ARGS are pairs, a later one winning; a value may hold an equals sign."""
    assert parse_args(text) == args
    assert add(CNI_ARGS=text).args == args


@pytest.mark.parametrize("text", ["A", "A=1;B", "=1", ";=", "A 1"])
def test_malformed_args(text: str) -> None:
    """What is no pair is an error that quotes it."""
    with pytest.raises(InvalidEnvironment, match="CNI_ARGS") as caught:
        _ = add(CNI_ARGS=text).args
    assert caught.value.details == "allowed: KEY=VALUE"


@pytest.mark.parametrize(
    ("text", "pod"),
    [
        (KUBELET, "default/web-0"),
        ("broken;K8S_POD_NAME=web;=;K8S_POD_NAMESPACE=default", "default/web"),
        ("K8S_POD_NAME=web", ""),
        ("K8S_POD_NAME=we\nb;K8S_POD_NAMESPACE=default", ""),
        ("", ""),
    ],
)
def test_pod(text: str, pod: str) -> None:
    """The pod's name and namespace are found in CNI_ARGS, whatever else they hold."""
    assert add(CNI_ARGS=text).pod == pod


def test_known_args() -> None:
    """A plugin takes the keys that it knows, in its own spelling."""
    assert take_args({"ip": "10.1.0.5", "MAC": "x"}, "IP", "MAC") == {"IP": "10.1.0.5", "MAC": "x"}


def test_unknown_args() -> None:
    """Keys that the plugin does not know are an error that names all of them."""
    with pytest.raises(InvalidEnvironment) as caught:
        take_args({"b": "1", "MAC": "x", "A": "2"}, "MAC")
    assert caught.value.message == "CNI_ARGS: unknown A, b"
    assert caught.value.details.startswith("allowed: MAC, IgnoreUnknown;")


@pytest.mark.parametrize("value", ["1", "true", "TRUE"])
@pytest.mark.parametrize("key", ["IgnoreUnknown", "ignoreunknown", "IGNOREUNKNOWN"])
def test_ignored_args(key: str, value: str) -> None:
    """With IgnoreUnknown they are passed over."""
    assert take_args({key: value, "A": "2", "MAC": "x"}, "MAC") == {"MAC": "x"}


@pytest.mark.parametrize("value", ["0", "false", "", "yes"])
def test_args_that_are_not_ignored(value: str) -> None:
    """IgnoreUnknown that is neither true nor 1 does not count, and is no unknown key itself."""
    assert take_args({"IgnoreUnknown": value}, "MAC") == {}
    with pytest.raises(InvalidEnvironment, match=r"unknown A:"):
        take_args({"IgnoreUnknown": value, "A": "2"}, "MAC")


def test_what_kubelet_sends() -> None:
    """The pod's name and namespace, which Kubernetes tells every plugin, are no error."""
    assert take_args(parse_args(KUBELET), "MAC") == {}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", ()),
        ("/opt/cni/bin", ("/opt/cni/bin",)),
        ("/a:/b", ("/a", "/b")),
        (":/a::/b:", ("/a", "/b")),
    ],
)
def test_path(text: str, path: tuple[str, ...]) -> None:
    """CNI_PATH lists directories; an empty one does not mean the working directory."""
    assert add(CNI_PATH=text).path == path


def test_owner() -> None:
    """An attachment's name is written as a path."""
    assert str(Attachment("net", "pod", "eth0")) == "net/pod/eth0"
    assert str(add().owner) == "net/pod/eth0"
