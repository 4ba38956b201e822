"""A case of the differential suite: what is configured, and what a runtime then asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

Document = dict[str, Any]

# As a key's value: leave the key out. None is JSON's null.
ABSENT: Final = object()

POD = "/run/netns/pod"
OTHER = "/run/netns/other"

# Verbs that change nothing.
HARMLESS = ("CHECK", "STATUS", "VERSION")


class Step(NamedTuple):
    """One verb, asked of each plugin of the chain as a runtime does.

    label     how docs/differences.md calls the step; the verb if empty
    keys      added to each plugin's configuration, or taken out of it (ABSENT)
    stdin     instead of a configuration
    hand_on   whether the result of the last ADD is told, as prevResult
    script    what happens on the node just before
    """

    verb: str
    label: str = ""
    container_id: str = "pod"
    netns: str | None = POD
    ifname: str = "eth0"
    args: str = ""
    environ: Mapping[str, str | None] = {}
    keys: Mapping[str, Any] = {}
    stdin: str | None = None
    hand_on: bool = True
    script: str = ""

    @property
    def name(self) -> str:
        return self.label or self.verb


class Probe(NamedTuple):
    """Somebody who asks somebody, after each ADD; `netns` is None for the node itself."""

    name: str
    protocol: str
    address: str
    port: int = 0
    netns: str | None = None


class Case(NamedTuple):
    """A chain of plugins on a fresh node, and what a runtime asks of it.

    The node has a pod's namespace, `pod`, and an `other` one if a step or a probe is about it.
    `listeners` are servers of the node itself: protocol and port.
    """

    name: str
    chain: tuple[Document, ...]
    steps: tuple[Step, ...]
    node: str = ""
    probes: tuple[Probe, ...] = ()
    listeners: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        return self.name

    @property
    def namespaces(self) -> list[str]:
        """The names of the pods' namespaces."""
        used = {step.netns for step in self.steps} | {probe.netns for probe in self.probes}
        return ["pod", "other"] if OTHER in used else ["pod"]


ADD = Step("ADD")
CHECK = Step("CHECK")
DEL = Step("DEL")
DEL_AGAIN = Step("DEL", "DEL again")
GC = Step("GC", keys={"cni.dev/valid-attachments": []})
STATUS = Step("STATUS")
LIFE = (ADD, CHECK, DEL)


def in_pod(script: str) -> str:
    """A script that runs another one in the pod's namespace."""
    return f"nsenter --net={POD} sh -ec '{script}'"


def configure(document: Mapping[str, Any], keys: Mapping[str, Any]) -> Document:
    """A configuration with these keys added, or taken out."""
    merged = {**document, **keys}
    return {key: value for key, value in merged.items() if value is not ABSENT}


def with_keys(step: Step, **keys: Any) -> Step:
    return step._replace(keys={**step.keys, **keys})
