"""The report of an evaluation as one page that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from grooming_flag.errors import MissingExtraError
from grooming_flag.evaluation.report import plots
from grooming_flag.evaluation.report.findings import REQUEST, expectations, findings, main_point, what_was_judged
from grooming_flag.evaluation.report.plots import Plot
from grooming_flag.evaluation.report.reading import Reading, counts, decimals, interval, number, one_in
from grooming_flag.evaluation.report.tables import TABLES, numbers_of

if TYPE_CHECKING:
    import jinja2

PLOTS: Mapping[str, Sequence[Callable[[Reading], Plot | None]]] = {
    "detection": (plots.recall_by_fpr, plots.precision_by_recall),
    "alerts": (plots.workload,),
    "calibration": (plots.reliability,),
    "early": (plots.by_message,),
}


def page_template(name: str, package: str) -> jinja2.Template:
    """Return a template among the files of a package; what it is given is escaped, and must be all it asks for."""
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise MissingExtraError("a page needs jinja2; pip install 'grooming-flag[report]'") from error
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(resources.files(package).joinpath(name).read_text(encoding="utf-8"))


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
    page = page_template("report.html.j2", __package__)
    page.globals.update(counts=counts, decimals=decimals, interval=interval, number=number)
    reading = Reading(metrics)
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
