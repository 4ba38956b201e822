"""From figures to what people read: tables in Markdown, and plots."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Bar(NamedTuple):
    """What is promised of a figure: that it is at most so much."""

    measure: str
    value: float
    limit: float

    @property
    def is_met(self) -> bool:
        return round(self.value, 2) <= self.limit


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown; numbers are right-aligned, and rounded where they are not whole."""
    cells = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "| "
        + " | ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in cells
    ]
    rule = "|".join(
        "-" * (width + 2) if n == 0 else "-" * (width + 1) + ":" for n, width in enumerate(widths)
    )
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]]) + "\n"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}" if value < 10 else f"{value:,.0f}"
    return str(value)


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
    return {
        "processor": f"{os.cpu_count()} x {model}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "nft": _version("nft", "--version"),
        "iptables": _version("iptables", "--version"),
    }


def _version(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def plot_growth(
    directory: Path, growth: Mapping[int, Mapping[str, Mapping[str, float]]]
) -> list[Path]:
    """Draw milliseconds against attachments, a panel for each verb, as PNG and as SVG.

    `growth` has, by the number of attachments, a figure for each contender and verb.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "pycni"  # the same figures make the same file
    from matplotlib import pyplot as plt

    verbs = ("ADD", "CHECK", "DEL")
    sizes = sorted(growth)
    figure, panels = plt.subplots(1, len(verbs), figsize=(12, 4), layout="constrained")
    for panel, verb in zip(panels, verbs, strict=True):
        for name in growth[sizes[0]]:
            panel.plot(sizes, [growth[size][name][verb] for size in sizes], "o-", label=name)
        panel.set(title=verb, xlabel="attachments present, of two ports each", ylim=(0, None))
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("milliseconds (median)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    paths = [directory / f"growth.{extension}" for extension in ("png", "svg")]
    for path in paths:
        figure.savefig(path, dpi=100, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths
