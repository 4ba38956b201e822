"""docs/conformance.md, made from the tests: a part for each folder, a line for each test.

A test's docstring is the behaviour that it holds; what its file's docstring begins with is the
heading above it. `scripts/conformance` writes the page.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/conformance.md"

# Below tests/: the folders of which the page tells, in order, and what it calls them.
_PARTS = {
    "unit/cni": "The protocol and the SDK",
    "plugins": "",  # a part for each folder in it, called as that is
    "node": "On a node",
    "differential": "Beside the reference plugins",
    "runtimes": "Called by runtimes",
}

_HEAD = """# What pycni promises

One behaviour a line, in the words of the test that holds it: `scripts/conformance` makes this page
from the tests' docstrings. Behaviours come from the CNI specification (0.1.0 to 1.1.0), from libcni
and the reference plugins, and from what their users met.
"""


class Test(NamedTuple):
    """A test function: `docstring` is empty if it has none."""

    name: str
    docstring: str


class File(NamedTuple):
    """A file of tests; `docstring` is empty if it has none."""

    path: Path
    docstring: str
    tests: tuple[Test, ...]

    @property
    def heading(self) -> str:
        """The first sentence of the docstring, and what stands below it."""
        return _first_paragraph(self.docstring).partition(". ")[0].rstrip(".")

    @property
    def text(self) -> str:
        return _first_paragraph(self.docstring).partition(". ")[2]


def read_parts() -> Iterator[tuple[str, list[File]]]:
    """The parts of the page: their titles, and the files of each."""
    for folder, title in _PARTS.items():
        path = ROOT / "tests" / folder
        if title:
            yield title, _read_files(path)
        else:
            for below in sorted(child for child in path.iterdir() if child.is_dir()):
                if files := _read_files(below):
                    yield below.name, files


def _read_files(folder: Path) -> list[File]:
    return [read_file(path) for path in sorted(folder.rglob("test_*.py"))]


def read_file(path: Path) -> File:
    module = ast.parse(path.read_text())
    functions = (node for node in module.body if isinstance(node, ast.FunctionDef))
    tests = (
        Test(node.name, ast.get_docstring(node) or "")
        for node in functions
        if node.name.startswith("test_")
    )
    return File(path, ast.get_docstring(module) or "", tuple(tests))


def render() -> str:
    """The page."""
    return "\n".join([_HEAD, *_lines()])


def _lines() -> Iterator[str]:
    for title, files in read_parts():
        yield f"## {title}\n"
        for file in files:
            path = file.path.relative_to(ROOT)
            yield f"### {file.heading}\n"
            yield f"{file.text} [{path}](../{path})".strip() + "\n"
            for test in file.tests:
                yield f"- {_first_paragraph(test.docstring)} `{test.name}`"
            yield ""


def _first_paragraph(docstring: str) -> str:
    return " ".join(docstring.partition("\n\n")[0].split()).replace("<", "&lt;")


def find_faults() -> list[str]:
    """What keeps docstrings from reading well on the page, each with its place."""
    return [
        f"{file.path.relative_to(ROOT)}::{name}: {fault}"
        for _, files in read_parts()
        for file in files
        for name, fault in _faults_of(file)
    ]


def _faults_of(file: File) -> Iterator[tuple[str, str]]:
    if not file.docstring:
        yield "", "a file's docstring begins with the heading of its tests"
    seen: set[str] = set()
    for test in file.tests:
        sentence = _first_paragraph(test.docstring)
        if not sentence.endswith(".") or sentence.startswith("."):
            yield test.name, "a test's docstring is its behaviour, as a sentence"
        elif sentence in seen:
            yield test.name, "another test of the file has the same docstring"
        seen.add(sentence)


def main() -> int:
    """Write the page. With `--check` the exit code is 1 if it was not up to date."""
    faults = find_faults()
    if faults:
        print(*faults, sep="\n", file=sys.stderr)
        return 1
    text = render()
    is_new = text != PAGE.read_text()
    PAGE.write_text(text)
    if is_new and "--check" in sys.argv:
        print("docs/conformance.md was not up to date, and is now: commit it", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
