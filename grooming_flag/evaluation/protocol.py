"""The whole evaluation of one system, and its comparison with another: labelled threads to figures and curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from grooming_flag._version import __version__
from grooming_flag.errors import DataError, MissingExtraError, PolicyError
from grooming_flag.evaluation.answers import Answers, answers_of, answers_of_rows
from grooming_flag.evaluation.audits import OTHER_SOURCES, audit, audit_figures
from grooming_flag.evaluation.comparison import comparison_figures
from grooming_flag.evaluation.detection import (
    Curve,
    curves,
    fpr_point,
    is_measurable,
    point_figures,
    ranking_figures,
    with_fpr_points,
)
from grooming_flag.evaluation.early import early_figures, replay
from grooming_flag.evaluation.evidence import Coded, evidence_figures, with_evidence
from grooming_flag.evaluation.figures import Figure, share
from grooming_flag.evaluation.leaks import check_unseen
from grooming_flag.evaluation.metrics import least_threshold
from grooming_flag.evaluation.pool import Pool
from grooming_flag.evaluation.reliability import calibration_figures
from grooming_flag.evaluation.robustness import Progress, family_figures, perturbation_figures, template_figures
from grooming_flag.evaluation.slices import (
    by_source,
    kind_figures,
    kinds_of_language,
    kinds_of_text,
    kinds_of_unknown,
    sides_of,
    slice_figures,
    suspect_figures,
)
from grooming_flag.evaluation.splits import AuthorIds, labels_of
from grooming_flag.io.scores import ScoreRow
from grooming_flag.model import Model
from grooming_flag.policy import resolve
from grooming_flag.records import Thread

FORMAT = 1
"""Version of metrics.json. Raise it when a reader of an older one could misread a newer one, and say so in
docs/evaluation.md."""

TEMPLATES = "template/"
"""How the ids of generated threads begin."""

EARLY_SUSPECT = 20
FEW_CLUSTERS = 20
SCORED_FPR = 1e-3
"""False-positive rate, on the judged threads, of the main point of a system that is known by its scores."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A system that is known by its score file."""

    name: str
    rows: Sequence[ScoreRow]


System = Model | Scored


def evaluate(
    sources: Mapping[str, Sequence[Thread]],
    system: System,
    against: System | None = None,
    *,
    at: str | float = "balanced",
    coded: Coded | None = None,
    authors: AuthorIds = "auto",
    allow_seen: bool = False,
    seed: int = 0,
    n_jobs: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Judge a system on labelled threads; return all that metrics.json holds.

    Parameters
    ----------
    sources : mapping of str to sequence of Thread
        Labelled threads by the name of their file. Generated ones, by their ids, are judged by themselves.
    system, against : Model or Scored
    at : str or float
        Operating point of the model, or threshold, at which evidence, perturbations and the like are measured. A
        system that is known by its scores has the threshold with a false-positive rate of 0.001 on these threads,
        unless a number is given.
    coded : mapping, optional
        By thread id, which messages annotators marked.
    authors : {"auto", "global", "thread"}
        Whether an author id means one person in all threads of its file.
    allow_seen : bool
        Judge a model even on threads, or persons, that it was trained on; the notes then say so.
    seed : int
        The same threads, systems and seed give the same figures, whatever `n_jobs`.
    n_jobs : int
        Processes; -1 for one a core.
    progress : callable, optional
        Gets the name of a step, how much of it is done, and of how much.

    Raises
    ------
    DataError
        If a thread has no label, ids repeat, there are not both risky and other threads, or the model was trained on
        some of them.
    PolicyError
        If the model has no such operating point.
    """
    step = progress or (lambda name, done, total: None)
    real, generated = apart(sources)
    notes = [note for one in (system, against) for note in _notes(one, sources, allow_seen)]
    pool = Pool.of(real, authors)
    if not pool.risky.any() or pool.risky.all():
        beside = f" (and {len(generated)} generated ones, which are judged apart)" if generated else ""
        raise DataError(
            f"of {len(pool.threads)} threads{beside} {pool.risky.sum()} are labeled risky; both kinds are needed"
        )
    for thread in [*pool.threads, *generated]:
        if len((coded or {}).get(thread.thread_id, thread.messages)) != len(thread.messages):
            raise DataError(f"thread {thread.thread_id} has other numbers of messages and of marks; give one a message")
    answers, main = _answers(system, pool, at)
    notes += _doubts(pool, main)
    figures: list[Figure] = []
    drawn: dict[str, Curve] = {}

    step("detection", 0, 1)
    figures += ranking_figures(pool, answers, seed)
    figures += point_figures(pool, answers, seed)
    drawn |= curves(pool, answers, seed)
    of_calibration, reliability = calibration_figures(pool, answers, seed)
    figures += of_calibration
    drawn |= reliability

    step("slices and suspects", 0, 1)
    everywhere = replace(answers, points=with_fpr_points(pool, answers))
    figures += slice_figures(pool, everywhere)
    kinds = kinds_of_text(pool)
    try:
        kinds |= kinds_of_language(pool)
    except MissingExtraError as error:
        notes.append(f"No figures by language: {error}.")
    if isinstance(system, Model):
        kinds |= kinds_of_unknown(system, pool)
    figures += kind_figures(pool, answers, kinds)
    figures += suspect_figures(pool, answers)

    step("early detection", 0, 1)
    if isinstance(system, Model):
        answers = replace(answers, replays=replay(system, pool.threads))
        if coded:
            answers = with_evidence(system, pool, answers, coded, main)
        figures += _early_suspects(system, pool)
        figures += _one_side(system, pool, answers.points)
    figures += evidence_figures(pool, answers, coded or {}, main)
    of_early, by_message = early_figures(pool, answers, seed)
    figures += of_early
    drawn |= by_message

    if isinstance(system, Model):
        figures += perturbation_figures(system, pool, answers, main, seed=seed, n_jobs=n_jobs, progress=progress)
        figures += template_figures(system, answers.points, seed=seed, n_jobs=n_jobs, progress=progress)
    else:
        notes.append("Perturbations, and templates that are not among the judged threads, need a model to be asked.")
    figures += _given_templates(system, generated, answers.points)
    try:
        figures += _audit_figures(pool, seed, n_jobs, step)
    except DataError as error:
        notes.append(f"No shortcut audits: {error}.")
    if against is not None:
        step("comparison", 0, 1)
        other, their_main = _answers(against, pool, at)
        figures += comparison_figures(pool, answers, other, (main, their_main), seed)
    return {
        "format": FORMAT,
        "library": __version__,
        "system": answers.system,
        "kind": "model" if isinstance(system, Model) else "scores",
        "prior": answers.prior,
        "at": main,
        "points": dict(everywhere.points),
        "against": None if against is None else against.name,
        "seed": seed,
        "data": _described(pool),
        "notes": notes,
        "figures": [figure._asdict() for figure in figures],
        "curves": drawn,
    }


def apart(
    sources: Mapping[str, Sequence[Thread]],
) -> tuple[dict[str, list[Thread]], list[Thread]]:
    """Return the real threads by source, and the generated ones."""
    real = {name: [t for t in threads if not t.thread_id.startswith(TEMPLATES)] for name, threads in sources.items()}
    generated = [t for threads in sources.values() for t in threads if t.thread_id.startswith(TEMPLATES)]
    return {name: threads for name, threads in real.items() if threads}, generated


def _notes(system: System | None, sources: Mapping[str, Sequence[Thread]], allow_seen: bool) -> list[str]:
    """Return a note on threads that a model was trained on, which are refused unless allowed, or that have no score."""
    if isinstance(system, Scored):
        ids = {t.thread_id for threads in apart(sources)[0].values() for t in threads}
        scored = {row.thread_id for row in system.rows if not row.thread_id.startswith(TEMPLATES)}
        missing, unknown = len(ids - scored), len(scored - ids)
        notes = [f"{system.name} has no score of {missing} of {len(ids)} threads: never flagged."] if missing else []
        return [*notes, f"{system.name} has scores of {unknown} threads that are not judged."] if unknown else notes
    if system is None:
        return []
    try:
        check_unseen(system, sources)
    except DataError as error:
        if not allow_seen:
            raise
        return [f"These figures are no measure of quality: {error}."]
    return []


def _doubts(pool: Pool, main: str) -> list[str]:
    """Return notes on what there is too little of to be measured."""
    notes = []
    if main == fpr_point(SCORED_FPR) and not is_measurable(pool, SCORED_FPR):
        few = int((~pool.risky).sum())
        notes.append(f"With {few} other threads, {main} means that none of them is flagged; the rate may be higher.")
    for name, chosen in (("risky", pool.risky), ("other", ~pool.risky)):
        n = len(set(pool.clusters[chosen]))
        if n < FEW_CLUSTERS:
            notes.append(
                f"The {name} threads are of {n} persons or groups of connected authors: so few that intervals over "
                "them are too narrow. If author ids mean nothing beyond their thread, say so (--authors thread)."
            )
    return notes


def _answers(system: System, pool: Pool, at: str | float) -> tuple[Answers, str]:
    """Return what a system says of the pool, and the name of its main operating point."""
    answers = _asked(system, pool.threads)
    points = dict(answers.points)
    if isinstance(system, Model):
        main = resolve(at, system.operating_points).name or f"threshold {at:g}"
    else:
        main = fpr_point(SCORED_FPR) if isinstance(at, str) else f"threshold {at:g}"
    if isinstance(at, float) and not math.isfinite(at):
        raise PolicyError(f"the threshold is {at!r}; use a number")
    if not isinstance(at, str):
        points[main] = float(at)
    elif main not in points:
        points[main] = least_threshold(answers.values[~pool.risky], SCORED_FPR)
    return replace(answers, points=points), main


def _asked(system: System, threads: Sequence[Thread]) -> Answers:
    if isinstance(system, Model):
        return answers_of(system, threads)
    return answers_of_rows(system.name, system.rows, threads)


def _early_suspects(model: Model, pool: Pool) -> list[Figure]:
    """Return how often the suspect is right after the first messages of longer threads."""
    longer = pool.only(pool.risky & (pool.lengths > EARLY_SUSPECT))
    beginnings = [replace(thread, messages=thread.messages[:EARLY_SUSPECT]) for thread in longer.threads]
    figures = suspect_figures(longer, replace(answers_of(model, beginnings), points={}))
    return [figure._replace(measure=f"suspect named after {EARLY_SUSPECT} messages, of all") for figure in figures]


def _one_side(model: Model, pool: Pool, points: Mapping[str, float]) -> list[Figure]:
    """Return how often one side of a risky thread alone is flagged: that of its suspects, and that of the others.

    A model that flags the others' side as often detects whom the suspects write to, not what they do.
    """
    figures = []
    two_sided = pool.only(pool.risky & np.array([all(sides_of(thread)) for thread in pool.threads], dtype=bool))
    for which, name in enumerate(("suspects'", "partners'")):
        alone = [replace(thread, messages=sides_of(thread)[which]) for thread in two_sided.threads]
        values = answers_of(model, alone).values
        for at, threshold in points.items():
            for source, chosen in by_source(two_sided, two_sided.risky):
                hits, clusters = values[chosen] >= threshold, two_sided.clusters[chosen]
                figures.append(share("suspects", f"flagged, {name} side alone", source, at, hits, clusters))
    return figures


def _given_templates(system: System, threads: Sequence[Thread], points: Mapping[str, float]) -> list[Figure]:
    """Return the figures of generated threads that are among the judged ones, by kind and family."""
    if isinstance(system, Scored):
        scored = {row.thread_id for row in system.rows}
        threads = [thread for thread in threads if thread.thread_id in scored]
    if not threads:
        return []
    answers = _asked(system, threads)
    families: dict[str, list[int]] = {}
    labels = labels_of(threads).tolist()
    for i, thread in enumerate(threads):
        families.setdefault("/".join(thread.thread_id.split("/")[1:3]), []).append(i)
    return [
        figure
        for name, places in families.items()
        for figure in family_figures(name, labels[places[0]], answers.values[places], points)
    ]


def _audit_figures(pool: Pool, seed: int, n_jobs: int, step: Progress) -> list[Figure]:
    """Return what models do that see a shortcut only, and one that never saw the source it scores."""
    clusters = np.unique(pool.clusters, return_inverse=True)[1].astype(np.int64)
    audits = audit(
        pool.threads, list(pool.sources), seed, n_jobs, clusters, lambda done, total: step("audits", done, total)
    )
    figures = []
    for one in audits:
        scored = ~np.isnan(one.scores)
        part = pool.only(scored)
        answers = Answers(one.name, one.scores[scored], one.scores[scored], None, [None] * len(part.threads), {})
        figures += audit_figures(part, answers, seed, by_source=one.name == OTHER_SOURCES)
    return figures


def _described(pool: Pool) -> dict[str, Any]:
    sources = []
    for name, chosen in by_source(pool, np.ones(len(pool.threads), dtype=bool)):
        part = pool.only(chosen)
        sources.append(
            {
                "source": name,
                "threads": len(part.threads),
                "risky": int(part.risky.sum()),
                "persons": len({thread.person for thread in part.threads if thread.person}),
                "messages": int(part.lengths.sum()),
                "clusters": len(set(part.clusters)),
            }
        )
    return {"threads": len(pool.threads), "risky": int(pool.risky.sum()), "sources": sources}
