"""cni.jsontext beside the standard library's json, which it stands in for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni import jsontext

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    SCALARS | st.text(),
    lambda below: st.lists(below) | st.dictionaries(st.text(), below),
    max_leaves=20,
)


def outcome(loads: Any, text: str) -> Any:
    try:
        return repr(loads(text))
    except ValueError as error:
        return str(error)


@given(VALUES, st.sampled_from([None, 0, 1, 4]))
def test_writing(value: Any, indent: int | None) -> None:
    """A text is json's, to the letter."""
    indent = indent or None
    assert jsontext.dumps(value, indent) == json.dumps(value, indent=indent)


@given(VALUES, st.sampled_from([None, 2]))
def test_reading(value: Any, indent: int | None) -> None:
    """What json writes is read as it was."""
    assert jsontext.loads(json.dumps(value, indent=indent)) == value


@given(st.text(alphabet=' \n\t[]{}:,"\\u01eE+-.truefalsn\0é', max_size=12))
def test_any_text(text: str) -> None:
    """Whatever the text, it is the same value, or the same error, as json's."""
    assert outcome(jsontext.loads, text) == outcome(json.loads, text)


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}'])
def test_no_json(text: str) -> None:
    """What Python takes beyond JSON is refused."""
    with pytest.raises(ValueError, match="is no JSON value"):
        jsontext.loads(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1}, b"", [object()]])
def test_nothing_to_write(value: Any) -> None:
    """What is no JSON value is not written."""
    with pytest.raises(TypeError):
        jsontext.dumps(value)


@pytest.mark.parametrize("text", ["", "{", '{"a": nul}', '"\\x"', "1 2"])
def test_without_the_package(text: str) -> None:
    """An error is json's even if nobody has imported json yet."""
    program = f"from cni import jsontext\njsontext.loads({text!r})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "json.decoder.JSONDecodeError" in done.stderr


def test_file(tmp_path: Path) -> None:
    """A file is read as UTF-8."""
    path = tmp_path / "file"
    path.write_text('{"key": "é"}\n', encoding="utf-8")
    assert jsontext.load(str(path)) == {"key": "é"}
