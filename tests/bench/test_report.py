"""The report of a benchmark: bench.json, bench.html and the table on the terminal."""

import json
import xml.etree.ElementTree as ElementTree
from io import StringIO
from pathlib import Path

from bench import report
from bench.figures import Figure, Sample, rows, summed_up
from bench.plots import bars
from rich.console import Console

MACHINE = {"cores": 2, "processor": "<one>"}


def figures() -> list[Figure]:
    values = {"channelbox": (0.5, 0.6), "tutorial": (41.0, 45.0), "nchan": (1.2, 1.3)}
    return summed_up(
        Sample("delivery_cpu", server, size, value, "s", 0.95 if server == "channelbox" else 0.1, 4)
        for size in (200, 1000)
        for server, both in values.items()
        for value in both
    )


def test_files_contain_every_figure_and_load_no_resources(tmp_path: Path) -> None:
    report.write(tmp_path, MACHINE, figures(), ["<lost>"])
    content = json.loads((tmp_path / "bench.json").read_text())
    assert content["machine"] == MACHINE
    assert len(content["figures"]) == 6
    page = (tmp_path / "bench.html").read_text()
    assert page.count("<svg") == 2
    assert "&lt;lost&gt;" in page and "<lost>" not in page
    assert "src=" not in page and "href=" not in page and "http" not in page


def test_ratios_come_first_and_a_busy_generator_is_marked() -> None:
    output = StringIO()
    report.show(Console(file=output, width=150), figures(), [])
    text = output.getvalue()
    assert text.index("78.2x") < text.index("0.55*")
    assert report.LIMITED in text


def test_a_plot_is_svg_with_longer_bars_for_more() -> None:
    row = rows(figures())[0]
    drawn = ElementTree.fromstring(bars(row))
    widths = [float(rect.attrib["width"]) for rect in drawn.iter("rect")]
    medians = [figure.median for figure in row.servers.values()]
    assert sorted(range(3), key=widths.__getitem__) == sorted(range(3), key=medians.__getitem__)
    assert "channelbox" in "".join(drawn.itertext())


def test_a_row_without_a_value_is_not_drawn() -> None:
    (row,) = rows(summed_up([Sample("max_connections", "tutorial", 0, 0, "connections")]))
    assert bars(row) == ""
