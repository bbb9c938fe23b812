"""The model card, written from the model and its evaluation alone (after Mitchell et al. 2019)."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from grooming_flag.evaluation.figures import Figure
from grooming_flag.evaluation.report.findings import REQUEST, Finding, findings, main_point, what_was_judged
from grooming_flag.evaluation.report.reading import SET_HERE, Reading, estimate, number, one_in
from grooming_flag.evaluation.report.tables import TABLES, Cell, Table
from grooming_flag.model import Model
from grooming_flag.policy import OperatingPoint

WIDTH = 120
FAILURES = ("Worst ordinary talk", "Hardest length", "One side alone", "Worst perturbation", "Most false alarms")
"""Topics of findings that say where the model fails."""

MEASURED = {
    "alerts": (
        "What alerts are worth",
        "By Bayes' rule from recall and false-positive rate, where risky threads are rare: find the row that is yours.",
    ),
    "detection": (
        "Detection",
        "Operating points were chosen on these threads before, thresholds called “set here” for the table alone. "
        "Precision, F1 and F0.5 hold for the share of risky threads in these data, which no platform has.",
    ),
    "slices": (
        "By source, length and kind of text",
        "For whom it works less well. Of few threads little is known: look at the interval first. Unknown features are "
        "those without a weight; the language is a guess.",
    ),
    "early": (
        "Early detection",
        "Each thread is replayed message by message, and the model sees only the past. ERDE is the cost of late and "
        "wrong decisions, best at 0; the latency-weighted F1 is F1 times how early the median find is.",
    ),
    "suspects": (
        "Suspects",
        "Whether the author whom it names is one of those in the label, and whether it flags what suspects write or "
        "whom they write to.",
    ),
    "evidence": (
        "Evidence",
        "How many of the messages named as strongest evidence annotators had marked, beside the share that naming any "
        "would give.",
    ),
    "tactics": (
        "Tactics",
        "Whether messages show by themselves what annotators coded, on persons the heads were not trained on (five "
        "folds; each cut is where F1 is best there). Annotators do not mark every message that shows a tactic, so that "
        "precision is a lower bound. Told apart: of messages coded with one tactic, for how many it stands out most.",
    ),
    "perturbations": (
        "Robustness",
        "Threads rewritten as somebody might who wants to pass, at an unchanged threshold: what recall is lost, and "
        "how many other threads are flagged then.",
    ),
    "templates": (
        "Families of ordinary talk",
        "Invented threads from templates. **They test a mechanism and are never detection quality**: nobody talks like "
        "a grammar, and the intervals are over its draws.",
    ),
    "calibration": (
        "Probabilities",
        "Whether they come true, and whether after a prior shift as many alerts are risky as they predict (1 at best).",
    ),
    "audits": (
        "Shortcuts in the data",
        "What models reach that see length, timing, parties or source but no word. ROC-AUC 0.5 is chance. A high "
        "figure is bad news about the data: part of every figure above may be no more than that. Then the step to "
        "another source, twice: a plain text model fitted on all other sources of these data, and this model's own "
        "training repeated without one of its sources. What is lost there may be lost on a platform like none of "
        "these, and more: sources of one origin stand in for one another.",
    ),
}

HELD_OUT = "Development threads are a part of the same files, held out by a hash of the person, else of the words."
GIVEN = "The two were given as files of their own."

TEMPLATE = """\
# {name}

A linear model that scores a message thread for grooming-risk patterns: adults who build up contact with a child in
order to abuse it. It answers with a probability, the author most likely to drive the pattern, and the messages that
carry the evidence.

**{request}**

## In short
{judged}

{findings}
{notes}

{alerts}

## Use it for, and not for
- For: putting threads in the order in which trained moderators look at them, with the platform's own threshold.
- Not for: any automated sanction, report or contact; statements about a person outside the review; employment,
  law-enforcement or court evidence; monitoring of people who were not told; showing scores to end users.
- Scanning private messages may lack a legal basis where you are (in the European Union the interim derogation expired
  on 3 April 2026). Clear that first.
- The languages of its sources. Text in others has few known features, and the model mostly abstains or stays low.

## Known failures
{failures}
{limits}- Recall on platforms unlike the sources is unknown and will be lower. Early messages of a contact look like any
  other talk.
- The suspect is named by how text differs from the partner's. In a group it is a hint only.
- Disguise of every word (perturbations named "-throughout") hides more than that of every second word, and several
  ways of it together more still. Of text that is all mentions, addresses or links the model abstains.
- An adversary who knows the weights can evade it. Keep explanations from end users.

## Human review
- Whoever decides is a trained person who reads the thread. Show the evidence in its place, not the score alone, and say
  that evidence is what the model reacted to, not what is wrong.
- Record how often reviewers overturn flags, by kind of thread and language.
- Before use, and again when the platform or its users change, measure on a random sample of your own labelled threads.
- Give the people concerned a way to contest what follows from a review.

## How it works
Presence of words, word pairs and character {char_ngrams}-grams, hashed into {n_features} buckets, with columns of
{bits}-bit weights, among them one for the risk of the pooled text of a segment (at most {max_messages} messages) and
one for the suspects' text against their partners'. {weighted} buckets have a weight. Below {min_amount} known features
the model abstains. A probability is made from the score, the amount of text, and how much any author writes like a
suspect. No timing or time of day is used, and the number of messages only where a segment ends.

{tactics}Probabilities assume a prior of {prior:g} (share of risky threads); `with_prior` restates them for yours.

## Data
Trained on:

{training}

Chosen, calibrated and measured on:

{development}

{split} The SHA-256 of each file is in config.json. No person and no
thread id is in both, and no thread of the one has the words of one of the other; near-duplicates were not looked for,
and threads that name no person may share one.

{positives}Whoever deploys these weights must clear the terms above; the code of the library is under Apache-2.0.

## Operating points
{points}

Each flags that many of the other threads above, and lies half way between the last that it flags and the next. Which
thresholds released models had is in models/CHANGELOG.md of the library.

## Measured
On the development threads of the second table, with grooming_flag {library} and seed {seed}. The unit is the thread,
but a message for evidence and a generated thread for templates. Brackets are 95 % intervals: of shares of other threads
exact binomial, else over clusters (the threads of a person, or of authors who are connected through threads). Where a
cell is empty there was nothing to measure.

{clusters}

{measured}

## Privacy and retention
- The folder holds no message and no id of a thread, author or person. An n-gram took part in training only if at least
  {floor} distinct authors wrote it, or would have in one of the ways in which texts are rewritten for training (an
  author id counts once a thread; in threads of one known person the suspects are one author and the others another).
- It holds hashed fingerprints of the training threads and persons, so that evaluation can refuse to judge on them;
  threads that only tactics were learnt from are not among them, since no evaluation judges tactics.
  Whoever has a thread or the id of a person can tell by them whether it was among those; nobody can read a thread out
  of them. Delete fingerprints.safetensors and its line in SHA256SUMS if that must not be: no score depends on it.
- The model keeps nothing of what it scores. Scores, suspects and evidence are personal data of the people in a thread:
  keep them no longer than the review takes, and none of threads that were not flagged.

## How to make it again
    grooming-flag train TRAINED_ON...{dev} --terms TOML --seed {seed} --prior {prior:g} -o {name}

with grooming_flag {library} and the files of the tables of sources, in their order: the same files and seed give the
same bytes. metrics.json has all figures, unrounded; what each answers is in docs/evaluation.md of the library.
"""

RECALIBRATED = """
## Recalibrated on verdicts: {model}
{how}

{rows}

{limits}
"""


def model_card(model: Model, metrics: Mapping[str, Any], terms: Mapping[str, Mapping[str, str]]) -> str:
    """Return the card of a model in Markdown.

    Parameters
    ----------
    model : Model
        With operating points and lineage.
    metrics : mapping
        Its evaluation on the development threads, as in metrics.json.
    terms : mapping
        `what` and `terms` of each source, by its name; `positives` and `limits` of the `model`.
    """
    lineage = model.lineage
    about = terms.get("model", {})
    low, high = model.extractor.char_ngrams or (0, 0)
    files, dev_files = ({one["sha256"] for one in lineage[of].values()} for of in ("training", "development"))
    held_out = bool(files & dev_files)
    reading = Reading(metrics)
    found = findings(reading)
    return TEMPLATE.format(
        name=model.name,
        tactics=_tactics(model),
        request=REQUEST,
        judged=_wrapped(f"{what_was_judged(reading)} The main operating point is {main_point(reading)}."),
        findings=_bullets(finding for finding in found if finding.topic not in FAILURES),
        alerts=_tables(TABLES["alerts"](reading)[:1]),
        failures=_bullets(finding for finding in found if finding.topic in FAILURES),
        limits=about["limits"].strip() + "\n" if "limits" in about else "",
        char_ngrams=low if low == high else f"{low}- to {high}",
        n_features=model.extractor.n_features,
        bits=8 * model.weights.itemsize,
        max_messages=model.segment_rule.max_messages,
        weighted=lineage["weighted_buckets"],
        min_amount=model.min_amount,
        prior=model.calibration.prior,
        training=_sources(lineage["training"], terms),
        development=_sources(lineage["development"], terms),
        split=HELD_OUT if held_out else GIVEN,
        positives=about["positives"].strip() + "\n" if "positives" in about else "",
        points=_points(model),
        dev="" if held_out else " --dev MEASURED_ON...",
        clusters=_tables(TABLES["data"](reading)[:1]),
        measured="\n\n".join(_measured(reading)),
        notes=_bullets(Finding("notes", "Note", note) for note in reading.metrics["notes"]),
        floor=lineage["privacy_floor"],
        seed=lineage["seed"],
        library=lineage["library"],
    )


def recalibrated_card(card: str, report: Mapping[str, Any]) -> str:
    """Return the card of a model with a section on its recalibration.

    Parameters
    ----------
    card : str
        Of the model before.
    report : mapping
        As `grooming_flag.training.learn_from` returns it.
    """
    kinds = [(selection, *counts.values()) for selection, counts in report["verdicts"].items()]
    thresholds = [(name, f"{old:.6g}", f"{new:.6g}") for name, (old, new) in report["thresholds"].items()]
    how = (
        f"The weights are those of {report['from']}, which the card above tells of. Log-odds of probabilities are now "
        "slope x log-odds + offset, fitted to what moderators said of threads that it had flagged or that were drawn "
        "from the others, and held near slope 1 and offset 0 the more, the fewer verdicts there are."
    )
    limits = (
        "Operating points flag the same threads as before, so what was found and missed there stands as it is above "
        "and in metrics.json; thresholds, and what is said of probabilities, are those before. Probabilities below "
        "the lowest that was reviewed are extrapolated."
    )
    tables = (
        _table(["reviewed as", "confirmed", "dismissed", "unsure"], kinds),
        _table(["measure", "value [95 %] (count)"], learnt(report)),
        _table(["point", "threshold before", "now"], thresholds),
    )
    section = RECALIBRATED.format(
        model=report["model"], how=_wrapped(how), rows="\n\n".join(tables), limits=_wrapped(limits)
    )
    return card + section


def tuned_card(card: str, point: OperatingPoint) -> str:
    """Return the card of a model with a section on an operating point that was chosen later.

    It takes the place of one on an earlier point of that name.

    Parameters
    ----------
    card : str
        Of the model before.
    point : OperatingPoint
    """
    title = f"## Operating point {point.name}"
    before, _, rest = card.partition(f"\n{title}\n")
    after = rest.partition("\n## ")
    kept = before + (f"\n## {after[2]}" if after[1] else "")
    how = (
        f"Chosen after the model was trained; wherever else this card speaks of {point.name}, an earlier one is meant."
    )
    rows = [("threshold", f"{point.threshold:.6g}"), *((name, str(value)) for name, value in point.measured.items())]
    return f"{kept.rstrip()}\n\n{title}\n{_wrapped(how)}\n\n{_table(['measured', 'value'], rows)}\n".lstrip("\n")


def learnt(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return each figure of a recalibration in words: what it is, and how much."""
    return [
        (f"{f.measure}, {f.slice}", _cell(f) if f.low is not None else f"{number(f.value, 3)} (n={f.n:,})")
        for f in Reading(report).figures
    ]


def _tactics(model: Model) -> str:
    """Return how tactics are told, and what from."""
    if not model.tactics.names:
        return ""
    return (
        _wrapped(
            f"Which tactics a message shows ({', '.join(model.tactics.names)}; in no order) is told by columns of "
            "their own, under the same floor, that no score depends on. They were trained on the messages that "
            f"annotators coded in {', '.join(model.lineage['tactics']['sources'])}, even where that is otherwise a "
            "source to measure on."
        )
        + "\n\n"
    )


def _measured(reading: Reading) -> Iterable[str]:
    """Yield each section of the evaluation: its title, what it is about, and its tables."""
    shipped = [figure for figure in reading.metrics["figures"] if not figure["at"].endswith(SET_HERE)]
    at_points = Reading({**reading.metrics, "figures": shipped})
    for name, (title, about) in MEASURED.items():
        tables = TABLES[name](at_points if name == "slices" else reading)
        if tables or name != "tactics":
            yield f"### {title}\n{_wrapped(about)}\n\n{_tables(tables) or 'Not measured on these threads.'}"


def _bullets(found: Iterable[Finding]) -> str:
    return "\n".join(_wrapped(f"- {finding.topic}: {finding.text}") for finding in found)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="  " if text.startswith("- ") else "", break_on_hyphens=False)


def _tables(tables: Iterable[Table]) -> str:
    return "\n\n".join(
        f"{table.caption}:\n\n"
        + _table(
            [table.corner, *table.columns],
            ([f"{row.name}: {row.note}" if row.note else row.name, *map(_cell, row.cells)] for row in table.rows),
        )
        for table in tables
    )


def _cell(cell: Cell) -> str:
    """Return value, interval and counts."""
    if not isinstance(cell, Figure):
        return cell or ""
    if not cell.n:
        return "none"
    return f"{estimate(cell)} ({f'n={cell.n:,}' if cell.hits is None else f'{cell.hits:,}/{cell.n:,}'})"


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [[str(cell).replace("|", "\\|") for cell in row] for row in (columns, *rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (lines[0], ["---"] * len(columns), *lines[1:]))


def _sources(sources: Mapping[str, Mapping[str, Any]], terms: Mapping[str, Mapping[str, str]]) -> str:
    rows = []
    for name, counts in sources.items():
        known = terms.get(name, {})
        numbers = (counts["threads"], counts["positive"], counts["persons"] or "")
        rows.append((name, *numbers, known.get("what", "not described"), known.get("terms", "not stated")))
    return _table(["source", "threads", "risky", "persons", "what it is", "terms, as its source states them"], rows)


def _points(model: Model) -> str:
    rows = []
    for name, point in model.operating_points.items():
        m = point.measured
        low, high = m["fpr_95"]
        alarms = f"{m['fpr']:.5f} [{low:.5f}, {high:.5f}] ({m['false_positives']}/{m['negatives']})"
        found = f"{m['recall']:.3f} ({m['true_positives']}/{m['positives']})"
        rows.append((name, f"{point.threshold:.6g}", m["on"], one_in(m["target_fpr"]), alarms, found))
    columns = ("point", "threshold", "chosen on", "to have a false-positive rate of", "which is", "recall")
    return _table(columns, rows)
