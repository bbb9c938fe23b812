"""The report of an evaluation as one page that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

from grooming_flag.errors import MissingExtraError
from grooming_flag.evaluation.report import plots
from grooming_flag.evaluation.report.findings import REQUEST, expectations, findings, main_point, what_was_judged
from grooming_flag.evaluation.report.plots import Plot
from grooming_flag.evaluation.report.reading import Reading, counts, decimals, interval, number, one_in
from grooming_flag.evaluation.report.tables import TABLES, numbers_of

PLOTS: Mapping[str, Sequence[Callable[[Reading], Plot | None]]] = {
    "detection": (plots.recall_by_fpr, plots.precision_by_recall),
    "alerts": (plots.workload,),
    "calibration": (plots.reliability,),
    "early": (plots.by_message,),
}


def render_html(metrics: Mapping[str, Any]) -> str:
    """Return the report as a page of its own: the same metrics give the same text.

    Parameters
    ----------
    metrics : mapping
        What `grooming_flag.evaluation.protocol.evaluate` returns. What is missing is said to be.

    Raises
    ------
    MissingExtraError
        If Jinja2 or matplotlib is not installed.
    """
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise MissingExtraError("a report needs jinja2; pip install 'grooming-flag[report]'") from error
    reading = Reading(metrics)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= {"counts": counts, "decimals": decimals, "interval": interval, "number": number}
    page = environment.from_string(resources.files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8"))
    drawn = {name: [plot for plot in (draw(reading) for draw in draws) if plot] for name, draws in PLOTS.items()}
    return page.render(
        reading=reading,
        tables={name: build(reading) for name, build in TABLES.items()},
        plots={name: [(plot, numbers_of(plot)) for plot in of_section] for name, of_section in drawn.items()},
        expected=expectations(reading),
        findings=findings(reading),
        main_point=main_point(reading),
        judged=what_was_judged(reading),
        request=REQUEST,
        penalty=reading.one("early", measure="p of the latency penalty"),
        prior=None if reading.metrics.get("prior") is None else one_in(reading.metrics["prior"]),
    )
