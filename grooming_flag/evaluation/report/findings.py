"""What to know first of an evaluation, in sentences with their numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from grooming_flag.evaluation.audits import OTHER_SOURCES, RETRAINED
from grooming_flag.evaluation.figures import Figure
from grooming_flag.evaluation.report.reading import (
    BASE_RATE,
    SET_HERE,
    Reading,
    base_rate,
    counts,
    estimate,
    highest,
    in_full,
    interval,
    lowest,
    plural,
    rate_set_here,
)

REQUEST = "A flag asks a person to look at a thread. It is no finding about anyone, and nothing may act on it alone."
FPR = "false-positive rate"


class Expectation(NamedTuple):
    """What 10,000 threads bring at the main operating point, if so many of them are risky."""

    base_rate: str
    risky: int
    alerts: Figure
    found: Figure
    missed: Figure


class Finding(NamedTuple):
    """What to know about one topic, and the section of the report that has more."""

    section: str
    topic: str
    text: str


def expectations(reading: Reading) -> list[Expectation]:
    """Return what to expect at each base rate; nothing if the alerts or the recall were not measured."""
    recall = reading.one("detection", measure="recall", at=reading.main)
    found = {f.slice: f for f in reading.of("alerts", measure="risky threads found per 100 reviews", at=reading.main)}
    return [
        Expectation(
            base_rate(alerts), risky_of(alerts.slice), alerts, found[alerts.slice], missed(alerts.slice, recall)
        )
        for alerts in reading.of("alerts", measure="alerts per 10,000 threads", at=reading.main)
        if recall is not None and alerts.slice in found
    ]


def risky_of(at_base_rate: str) -> int:
    """Return how many of 10,000 threads are risky."""
    return round(1e4 * float(at_base_rate.removeprefix(BASE_RATE)))


def missed(at_base_rate: str, recall: Figure) -> Figure:
    """Return how many of the risky threads among 10,000 are not flagged."""
    risky = risky_of(at_base_rate)
    value, high, low = (None if end is None else risky * (1.0 - end) for end in (recall.value, recall.low, recall.high))
    measure = "risky threads missed per 10,000 threads"
    return Figure("alerts", measure, at_base_rate, recall.at, "risky thread", value, low, high, recall.n)


def what_was_judged(reading: Reading) -> str:
    """Return how much was judged, and how it was counted."""
    persons = sum(source.get("persons", 0) for source in reading.sources)
    return (
        f"Judged on {plural(reading.data.get('threads', 0), 'thread')} from {plural(len(reading.sources), 'source')}, "
        f"{reading.data.get('risky', 0):,} of them labeled risky. A thread counts once, however long it is. All "
        f"intervals are 95 %; those of recall are over persons ({persons:,} are named) or connected authors, whose "
        f"threads are not independent."
    )


def main_point(reading: Reading) -> str:
    """Return the main operating point with its threshold."""
    threshold = reading.points.get(reading.main)
    return reading.main if threshold is None else f"{reading.main} (threshold {threshold:.4g})"


def findings(reading: Reading) -> list[Finding]:
    """Return what a reader should know first; what was not measured is left out."""
    first = (_detection, _weakest, _robustness, _templates, _suspects, _evidence)
    parts = (*first, _early, _probabilities, _shortcuts, _comparison)
    return [finding for part in parts for finding in part(reading)]


def _detection(reading: Reading) -> Iterator[Finding]:
    recall, alarms = (reading.one("detection", measure=name, at=reading.main) for name in ("recall", FPR))
    if recall and alarms:
        text = f"At {reading.main}: of the risky threads {in_full(recall)}, of the others {in_full(alarms)}."
        yield Finding("detection", "Flagged", text)
    recalls = sorted(reading.of("detection", measure="recall"), key=lambda figure: figure.at, reverse=True)
    at_rates = {rate_set_here(f.at): f for f in recalls if rate_set_here(f.at) and f.value is not None}
    if at_rates:
        parts = "; ".join(f"{rate}: {estimate(figure)}" for rate, figure in at_rates.items())
        yield Finding("detection", "Recall", f"At a false-positive rate of {parts} (n={recalls[0].n:,} threads).")


def _weakest(reading: Reading) -> Iterator[Finding]:
    sources = {source["source"] for source in reading.sources}
    worst = highest(f for f in reading.of("slices", measure=FPR, at=reading.main) if f.slice in sources)
    if worst:
        name = worst.slice if worst.value else f"None flagged in any source. Least is known of {worst.slice}"
        yield Finding("slices", "Worst ordinary talk", f"{name}: {in_full(worst)} flagged by mistake.")
    recalls = reading.of("slices", measure="recall", at=reading.main)
    least = lowest(figure for figure in recalls if figure.slice.startswith("length: "))
    if least:
        yield Finding("slices", "Hardest length", f"{least.slice.removeprefix('length: ')}: recall {in_full(least)}.")


def _robustness(reading: Reading) -> Iterator[Finding]:
    lost = reading.of("perturbations", measure="recall lost")
    worst, pair = (highest(f for f in lost if (" + " in f.slice) == is_pair) for is_pair in (False, True))
    if worst:
        two = f"; of random pairs to {pair.slice}: {estimate(pair)}" if pair else ""
        text = f"Most recall is lost to {worst.slice}: {in_full(worst)}{two}."
        any_lost = any(figure.value and figure.value > 0.0 for figure in lost)
        yield Finding("perturbations", "Worst perturbation", text if any_lost else "None loses recall.")
    before = reading.one("detection", measure=FPR, at=reading.main)
    alarms = highest(reading.of("perturbations", measure=FPR))
    if alarms and before:
        text = f"Most others are flagged after {alarms.slice}: {in_full(alarms)}; as they are, {estimate(before)}."
        more = (alarms.value or 0.0) > (before.value or 0.0)
        yield Finding("perturbations", "Most false alarms", text if more else "No perturbation adds to them.")


def _templates(reading: Reading) -> Iterator[Finding]:
    at = {"at": reading.main}
    worst = highest(reading.of("templates", measure=FPR, **at))
    shown = [figure for figure in reading.of("templates", measure="recall", **at) if figure.value is not None]
    parts = [f"Of ordinary talk most of {worst.slice} is flagged, {in_full(worst)}"] if worst and worst.value else []
    parts = ["Of ordinary talk none is flagged"] if worst and not parts else parts
    parts += [f"of {figure.slice} {in_full(figure)}" for figure in shown]
    if parts:
        text = f"{'; '.join(parts)}. These test a mechanism, not detection quality."
        yield Finding("templates", "Templates", text)


def _suspects(reading: Reading) -> Iterator[Finding]:
    right = reading.of("suspects", measure="suspect named, of flagged", at=reading.main)
    least = lowest(right)
    if least:
        hits, n = sum(figure.hits or 0 for figure in right), sum(figure.n for figure in right)
        where = f"; least in {least.slice}, {in_full(least)}" if len(right) > 1 else f" {interval(least)}"
        yield Finding("suspects", "Suspect", f"The right one in {hits:,}/{n:,} flagged risky threads{where}.")
    for partners in reading.of("suspects", measure="flagged, partners' side alone", at=reading.main):
        suspects = reading.one(
            "suspects", measure="flagged, suspects' side alone", slice=partners.slice, at=reading.main
        )
        if suspects:
            text = f"{in_full(suspects)} flagged by the suspects' side alone, {in_full(partners)} by the others'."
            yield Finding("suspects", "One side alone", f"{partners.slice}: {text}")


def _evidence(reading: Reading) -> Iterator[Finding]:
    named = reading.one("evidence", measure="precision of the strongest 3")
    marked = reading.one("evidence", measure="marked lines")
    if named and marked:
        text = f"Of the 3 strongest messages annotators marked {in_full(named)}, of all in those threads"
        yield Finding("evidence", "Evidence", f"{text} {estimate(marked)}.")


def _early(reading: Reading) -> Iterator[Finding]:
    messages = reading.one("early", measure="median messages to the first flag", at=reading.main)
    minutes = reading.one("early", measure="median minutes to the first flag", at=reading.main)
    if messages:
        time = f", {estimate(minutes)} minutes" if minutes else ""
        text = f"Half of the found are flagged within {estimate(messages)} messages{time} ({counts(messages)})."
        yield Finding("early", "First flag", text)
    alarms = reading.one("early", measure="false-positive rate over the stream", at=reading.main)
    if alarms:
        text = f"If every message is looked at as it comes, {in_full(alarms)} of the others are flagged at some time."
        yield Finding("early", "Live", text)


def _probabilities(reading: Reading) -> Iterator[Finding]:
    names = ("mean probability", "share of risky threads")
    predicted, observed = (reading.one("calibration", measure=name, at=reading.main) for name in names)
    if predicted and observed:
        text = f"Flagged threads have a mean probability of {estimate(predicted)}; {in_full(observed)} are risky."
        yield Finding("calibration", "Probabilities", text)


def _shortcuts(reading: Reading) -> Iterator[Finding]:
    areas = [f for f in reading.of("audits", measure="ROC-AUC") if f.value is not None and not _reads(f)]
    if areas:
        text = (
            f"Models that see no word reach ROC-AUC {'; '.join(f'{f.slice} {estimate(f)}' for f in areas)} (chance: "
            "0.5). The nearer to 1, the more of what is measured here may be how the data were gathered."
        )
        yield Finding("audits", "Shortcuts", text)
    at = f"FPR 0.001 {SET_HERE}"
    unseen = reading.one("audits", measure="recall", slice=OTHER_SOURCES, at=at)
    if unseen:
        text = f"A text model fitted on all other sources has recall {in_full(unseen)} at a false-positive rate"
        text += " of 1 in 1,000."
        yield Finding("audits", "Unseen sources", text)
    full = reading.one("detection", measure="recall", at=at)
    for left_out in reading.of("audits", measure="recall", at=at):
        if full and left_out.slice.startswith(RETRAINED) and ": " not in left_out.slice:
            text = f"{left_out.slice.capitalize()}, the same recipe has recall {estimate(left_out)} at a false-positive"
            yield Finding("audits", "Left-out source", f"{text} rate of 1 in 1,000; with it {estimate(full)}.")


def _reads(audit: Figure) -> bool:
    """Tell whether what was audited is a model that sees the text."""
    return audit.slice.startswith((OTHER_SOURCES, RETRAINED))


def _comparison(reading: Reading) -> Iterator[Finding]:
    recalls = [f for f in differences(reading) if f.measure == "recall" and f.value is not None]
    where = {rate_set_here(f.at) or f.at: f for f in recalls}
    for name in ("1 in 1,000", "1 in 100", "each at its own point"):
        if name in where:
            figure = where[name]
            at = name if name == figure.at else f"at a false-positive rate of {name}"
            text = f"{figure.slice}: recall {in_full(figure)} {at}; {verdict(figure)}."
            yield Finding("comparison", "Comparison", text)
            return


def differences(reading: Reading) -> list[Figure]:
    """Return by how much the system differs from the one that it is compared with."""
    return [figure for figure in reading.of("comparison") if figure.slice != reading.metrics.get("against")]


def verdict(difference: Figure) -> str:
    """Return what the interval of a difference says."""
    if difference.low is None or difference.high is None:
        return "not known"
    if difference.low > 0.0:
        return "higher, beyond chance"
    return "lower, beyond chance" if difference.high < 0.0 else "may be chance"
