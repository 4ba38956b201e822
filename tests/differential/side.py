"""Run a case on a node with one suite of plugins, and write down all that can be seen."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from tests.differential.case import HARMLESS, POD, Case, Document, Probe, Step, configure
from tests.differential.state import read_state
from tests.support.node import Answer, Node

_SECONDS = 1

# The reference plugins leave the bridge's addresses on probation, for a second or two.
_WITHOUT_DAD = "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad"


class Observation(NamedTuple):
    """What a step showed: `code` is 0 if it went well, `seen` is all that is compared."""

    step: Step
    code: int
    seen: Document


def observe(case: Case, plugins: Path, scratch: Path) -> list[Observation]:
    """Run a case with the plugins of that directory."""
    with Node(plugins, scratch) as node:
        return _Side(case, node).run()


class _Side:
    def __init__(self, case: Case, node: Node) -> None:
        self._case = case
        self._node = node
        self._result: Any = None
        told = [case.chain, [step[:-1] for step in case.steps], case.node]
        self._text = json.dumps(told, default=str)

    def run(self) -> list[Observation]:
        for name in self._case.namespaces:
            self._node.add_netns(name)
        if self._case.probes:
            self._script(_WITHOUT_DAD)
            outside = self._node.add_outside()
            self._node.serve("tcp", 9000, outside.netns, name="outside")
            for protocol in {probe.protocol for probe in self._case.probes} & {"tcp", "udp"}:
                self._node.serve(protocol, 80, POD, name="pod")
        for protocol, port in self._case.listeners:
            self._node.serve(protocol, port, name="node")
        self._script(self._case.node)
        return [self._take(step) for step in self._case.steps]

    def _script(self, script: str) -> None:
        if script:
            self._node.run("sh", "-ec", script)

    def _take(self, step: Step) -> Observation:
        self._script(step.script)
        plugin, answer = self._ask_chain(step)
        code = 0 if answer.ok else answer.document["code"]
        seen: Document = {"code": code, "exit": answer.code}
        if not answer.ok:
            seen["error"] = {"by": plugin, "cniVersion": answer.document.get("cniVersion")}
        if step.verb in HARMLESS:
            return Observation(
                step, code, seen | {"answer": answer.document if answer.ok else None}
            )
        state, names = read_state(self._node, self._result, self._text)
        if answer.ok:
            seen["answer"] = names.in_result(answer.document)
        if answer.ok and step.verb == "ADD":
            seen["reaches"] = self._probe()
        return Observation(step, code, seen | state)

    def _ask_chain(self, step: Step) -> tuple[str, Answer]:
        """As libcni does: a DEL backwards, and nothing more after a failure."""
        result = self._result if step.verb in ("CHECK", "DEL") and step.hand_on else None
        chain = self._case.chain[::-1] if step.verb == "DEL" else self._case.chain
        for plugin in chain:
            handed_on = {} if result is None else {"prevResult": result}
            config = configure({**plugin, **handed_on}, step.keys)
            text = json.dumps(config) if step.stdin is None else step.stdin
            answer = self._ask_plugin(step, plugin["type"], text)
            if not answer.ok:
                break
            if step.verb == "ADD":
                result = answer.document
        if answer.ok and step.verb == "ADD":
            self._result = result
        return str(plugin["type"]), answer

    def _ask_plugin(self, step: Step, plugin: str, stdin: str) -> Answer:
        """Run one plugin. Of an answer of several documents, which is wrong, the last counts."""
        variables = {
            "CNI_COMMAND": step.verb,
            "CNI_CONTAINERID": step.container_id,
            "CNI_NETNS": step.netns,
            "CNI_IFNAME": step.ifname,
            "CNI_ARGS": step.args,
            "CNI_PATH": str(self._node.bin_dir),
        } | dict(step.environ)
        present = {name: value for name, value in variables.items() if value is not None}
        executable = self._node.bin_dir / plugin
        done = self._node.run(executable, env=present, stdin=stdin, check=False)
        documents = re.split(r"(?<=^})\s*(?=\{)", done.stdout, flags=re.MULTILINE)
        return Answer(done.returncode, json.loads(documents[-1] or "null"), done.stderr)

    def _probe(self) -> Document:
        """What everybody who asks is answered, all at once."""
        probes = self._case.probes
        if not probes:
            return {}
        with ThreadPoolExecutor() as pool:
            answers = pool.map(self._ask, probes)
            return {probe.name: answer for probe, answer in zip(probes, answers, strict=True)}

    def _ask(self, probe: Probe) -> str | None:
        if probe.protocol == "ping":
            argv = ("ping", "-c1", f"-W{_SECONDS}", probe.address)
            done = self._node.run(*argv, netns=probe.netns, check=False)
            return "pong" if done.returncode == 0 else None
        netns, seconds = probe.netns, float(_SECONDS)
        return self._node.ask(probe.protocol, probe.address, probe.port, netns, timeout=seconds)
