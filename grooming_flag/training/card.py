"""The model card, written from what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grooming_flag.evaluation.figures import Figure, format_figure
from grooming_flag.model import Model

TEMPLATE = """\
# {name}

A linear model that scores a message thread for grooming-risk patterns: adults who build up contact with a child in
order to abuse it. It answers with a probability, the author most likely to drive the pattern, and the messages that
carry the evidence. **A flag is a request that a trained person look at a thread. It is not a finding.**

## Use it for, and not for
- For: putting threads in the order in which trained moderators look at them, with the platform's own threshold.
- Not for: any automated sanction, report or contact; statements about a person outside the review; employment,
  law-enforcement or court evidence; monitoring of people who were not told; showing scores to end users.
- Scanning private messages may lack a legal basis where you are (in the European Union the interim derogation expired
  on 3 April 2026). Clear that first.
- The languages of its sources. Text in others has few known features, and the model mostly abstains or stays low.

## How it works
Presence of words, word pairs and character {char_ngrams}-grams, hashed into {n_features} buckets;
two columns of {bits}-bit weights: risk of the pooled text of a segment (at most {max_messages} messages), and the
suspects' text against their partners'. {weighted} buckets have a weight. An n-gram took part in training only if at
least {floor} distinct authors wrote it (an author id counts once a thread; in the threads of one known person the
suspects are one author and the others another). Below {min_amount} known features the model abstains. A probability is
made from the score, the amount of text, and how much any author writes like a suspect. No timing, time of day or
message count is used.

Trained with seed {seed} by grooming_flag {library}.

Probabilities assume a prior of {prior:g} (share of risky threads); `with_prior` restates them for your platform.

## Trained on
| source | threads | risky | persons | what it is | terms, as its source states them |
|---|---|---|---|---|---|
{training}

Chosen, calibrated and measured on (no thread is in both, and no person where persons are known):

| source | threads | risky | persons | what it is | terms, as its source states them |
|---|---|---|---|---|---|
{development}

{positives}Whoever deploys these weights must clear the terms above. No message text is in this folder.
It holds hashed fingerprints of the training threads and persons, so that evaluation can refuse to judge on them.

## Operating points
| point | threshold | false-positive rate, development negatives | recall, all development positives |
|---|---|---|---|
{points}

## Measured
The unit is the thread. Brackets are 95 % intervals: over persons where persons are known (2,000 resamples), else exact
binomial. Operating points and calibration were chosen on these same development threads, so that the figures are a
little better than a stranger's data will give.

{measured}

## Limits
{limits}- Recall on platforms unlike the sources is unknown and will be lower.
- Short threads: see recall by length above. Early messages of a contact look like any other talk.
- Ordinary talk between young people, flirting adults and public chat rooms raise false alarms first; see the sources.
- The suspect is named by how text differs from the partner's. In a group it is a hint only.
- An adversary who knows the weights can evade it. Keep explanations from end users.
"""


def model_card(model: Model, measured: Sequence[Figure], terms: Mapping[str, Mapping[str, str]]) -> str:
    """Return the card of a model in Markdown.

    Parameters
    ----------
    model : Model
        With operating points and lineage.
    measured : sequence of Figure
    terms : mapping
        `what` and `terms` of each source, by its name; `positives` and `limits` of the `model`.
    """
    lineage = model.lineage
    about = terms.get("model", {})
    low, high = model.extractor.char_ngrams or (0, 0)
    return TEMPLATE.format(
        name=model.name,
        char_ngrams=low if low == high else f"{low}- to {high}",
        n_features=model.extractor.n_features,
        bits=8 * model.weights.itemsize,
        max_messages=model.segment_rule.max_messages,
        weighted=lineage["weighted_buckets"],
        floor=lineage["privacy_floor"],
        min_amount=model.min_amount,
        seed=lineage["seed"],
        library=lineage["library"],
        prior=model.calibration.prior,
        positives=about["positives"].strip() + "\n" if "positives" in about else "",
        limits=about["limits"].strip() + "\n" if "limits" in about else "",
        training=_sources(lineage["training"], terms),
        development=_sources(lineage["development"], terms),
        points=_points(model),
        measured=measured_table(measured),
    )


def measured_table(measured: Sequence[Figure]) -> str:
    """Return the figures as a Markdown table, one column an operating point."""
    points = list(dict.fromkeys(figure.at for figure in measured))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for figure in measured:
        cells.setdefault((figure.measure, figure.slice), {})[figure.at] = format_figure(figure)
    lines = [f"| measure | threads | {' | '.join(points)} |", "|---" * (2 + len(points)) + "|"]
    for (measure, threads), found in sorted(cells.items(), key=lambda item: item[0][0]):
        lines.append(f"| {measure} | {threads} | {' | '.join(found.get(point, '') for point in points)} |")
    return "\n".join(lines)


def _sources(sources: Mapping[str, Mapping[str, Any]], terms: Mapping[str, Mapping[str, str]]) -> str:
    rows = []
    for name, counts in sources.items():
        known = terms.get(name, {})
        numbers = f"{counts['threads']} | {counts['positive']} | {counts['persons'] or ''}"
        what, stated = known.get("what", "not described"), known.get("terms", "not stated")
        rows.append(f"| {name} | {numbers} | {what} | {stated} |")
    return "\n".join(rows)


def _points(model: Model) -> str:
    rows = []
    for name, point in model.operating_points.items():
        m = point.measured
        low, high = m["fpr_95"]
        alarms = f"{m['fpr']:.5f} [{low:.5f}, {high:.5f}] ({m['false_positives']}/{m['negatives']})"
        recall = f"{m['recall']:.3f} ({m['true_positives']}/{m['positives']})"
        rows.append(f"| {name} | {point.threshold:.6g} | {alarms} | {recall} |")
    return "\n".join(rows)
