"""Answers that cannot be given."""

from __future__ import annotations

import errno
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import cni
from cni import log, plugin

ENVIRON = {"CNI_CONTAINERID": "pod", "CNI_NETNS": "/run/netns/pod", "CNI_IFNAME": "eth0"}
CONFIG = {"cniVersion": "1.0.0", "name": "net", "type": "fake"}


class Full(io.BytesIO):
    """Standard output that takes some bytes, and then fails so many times."""

    def __init__(self, takes: int, failures: int) -> None:
        super().__init__()
        self._takes, self._failures = takes, failures

    def write(self, text: Any) -> int:
        if self.tell() < self._takes:
            return super().write(text[: self._takes - self.tell()])
        self._failures -= 1
        if self._failures >= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


class Verbs:
    """A plugin's verbs, which note what they are asked for."""

    def __init__(self, schema: Path) -> None:
        schema.write_text("{}")
        self.seen: list[str] = []
        verbs = (self._note, self._note)
        self.plugin = plugin.Plugin("fake", str(schema), self._add, *verbs)

    def _add(self, request: cni.Add) -> cni.Result:
        self._note(request)
        return cni.Result(routes=(), dns=cni.DNS(nameservers=("192.0.2.1",)))

    def _note(self, request: object) -> None:
        self.seen.append(type(request).__name__)

    def run(self, verb: str, stdout: io.BytesIO, stdin: str = json.dumps(CONFIG)) -> int:
        environ = ENVIRON | {"CNI_COMMAND": verb}
        given = io.BytesIO(stdin.encode())
        return plugin.run(self.plugin, environ, given, stdout, io.StringIO())


@pytest.fixture
def verbs(tmp_path: Path) -> Verbs:
    return Verbs(tmp_path / "schema.json")


def test_failure_of_one_write(verbs: Verbs) -> None:
    """If writing the result fails once, the runtime gets the error and nothing else."""
    stdout = Full(0, 1)
    assert verbs.run("ADD", stdout) == 1
    assert json.loads(stdout.getvalue())["code"] == 5


@pytest.mark.parametrize("takes", [0, 30])
def test_add_that_cannot_be_answered(verbs: Verbs, takes: int) -> None:
    """An ADD whose result cannot be written is undone."""
    assert verbs.run("ADD", Full(takes, 9)) == 1
    assert verbs.seen == ["Add", "Delete"]


def test_half_an_answer(verbs: Verbs) -> None:
    """Nothing is written behind a part of the result."""
    stdout = Full(30, 1)
    assert verbs.run("ADD", stdout) == 1
    assert len(stdout.getvalue()) == 30


def test_short_writes(verbs: Verbs) -> None:
    """A result that is taken in parts is written completely."""

    class Slow(io.BytesIO):
        def write(self, text: Any) -> int:
            return super().write(text[:7])

    stdout = Slow()
    assert verbs.run("ADD", stdout) == 0
    assert json.loads(stdout.getvalue())["dns"] == {"nameservers": ["192.0.2.1"]}


@pytest.mark.parametrize("verb", ["ADD", "CHECK", "DEL"])
@pytest.mark.parametrize("depth", [500, 900, 100_000])
def test_nested_too_deeply(verbs: Verbs, verb: str, depth: int) -> None:
    """A configuration that is nested too deeply has code 6."""
    stdout = io.BytesIO()
    stdin = json.dumps(CONFIG)[:-1] + ', "x": ' + "[" * depth + "]" * depth + "}"
    assert verbs.run(verb, stdout, stdin) == 1
    assert json.loads(stdout.getvalue())["code"] == 6


def test_warning_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning that cannot be written makes nothing else fail."""
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(Full(0, 9), write_through=True))
    log.warn("something is wrong")


def test_error_about_a_descriptor(verbs: Verbs) -> None:
    """An error of a call that was given a descriptor has code 5, as one about a path has."""

    def fail(_: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory", 4)

    stdout = io.BytesIO()
    verbs.plugin = verbs.plugin._replace(delete=fail)
    assert verbs.run("DEL", stdout) == 1
    assert json.loads(stdout.getvalue())["code"] == 5
