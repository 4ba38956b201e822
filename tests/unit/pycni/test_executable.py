"""An executable as far as it is a shell's, beside a child that waits: this process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pycni import install
from pycni.agent import calls
from pycni.launcher import ANSWER, REQUEST, find_start

pytestmark = pytest.mark.usefixtures("standby")

# dash on Debian; on others it is bash, which is here as well.
SHELLS = ("/bin/sh", shutil.which("bash") or "bash is missing")


@pytest.fixture
def executable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Looks for children where this process is the only one, and runs a plugin that tells so."""
    (tmp_path / f"waiting/{os.getpid()}.{find_start('self')}").mkdir(parents=True)
    monkeypatch.setattr(install, "WAITING", str(tmp_path / "waiting"))
    (tmp_path / "pycni").mkdir()
    launcher = "import os\ndef run(name): print('run', name, os.environ['state'])\n"
    (tmp_path / "pycni/launcher.py").write_text(launcher)
    path = tmp_path / "bridge"
    path.write_text(install.script("bridge", sys.executable, str(tmp_path)))
    return path


@contextmanager
def called(shell: str, executable: Path) -> Iterator[subprocess.Popen[str]]:
    """`state` is also what a variable of the shell's part is called."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [shell, executable], stdin=pipe, stdout=pipe, stderr=pipe, text=True, env={"state": "mine"}
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def receive() -> calls.Request:
    said = b""
    while not said:  # the pipe has yet to be opened
        said = os.read(REQUEST, 4096)
    return calls.parse(said)


@pytest.mark.parametrize("shell", SHELLS)
def test_request(shell: str, executable: Path) -> None:
    """The child learns whose request it is, in one piece, and where the streams are."""
    with called(shell, executable) as process:
        request = receive()
        assert (request.pid, request.plugin) == (process.pid, "bridge")
        assert request.packages == str(executable.parent)
        streams = [os.stat(f"/proc/{process.pid}/fd/{number}").st_ino for number in request.streams]
        ours = (process.stdin, process.stdout, process.stderr)
        assert streams == [os.fstat(stream.fileno()).st_ino for stream in ours if stream]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("said", ["refused 0", "ended 9", "taken x; exit", "taken"])
def test_not_taken(shell: str, executable: Path, said: str) -> None:
    """If the child does not take the request, or is killed before, Python runs it, as if alone."""
    with called(shell, executable) as process:
        receive()
        os.write(ANSWER, f"{said}\n".encode())
        assert process.communicate() == ("run bridge mine\n", "")
        assert process.returncode == 0


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("status", "code"), [(0, 0), (1 << 8, 1), (15, -15), (9, -9)])
def test_end(shell: str, executable: Path, status: int, code: int) -> None:
    """The shell ends as the child says that the request did."""
    with called(shell, executable) as process:
        receive()
        calls.say(ANSWER, "taken", os.getpid())
        calls.say(ANSWER, "ended", status)
        assert process.communicate() == ("", "")
        assert process.returncode == code


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("start", ["1", "", "x"])
def test_another_process(shell: str, executable: Path, start: str) -> None:
    """A process that has a child's pid, and started at another time, is left alone."""
    (own,) = (executable.parent / "waiting").iterdir()
    own.rename(own.with_name(f"{os.getpid()}.{start}"))
    with called(shell, executable) as process:
        assert process.communicate() == ("run bridge mine\n", "")
    assert list((executable.parent / "waiting").glob("*/taken")) == []
