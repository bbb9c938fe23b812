"""How early: every thread is replayed message by message, and the system sees only the past."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from grooming_flag.evaluation.answers import Answers, Floats, Replay
from grooming_flag.evaluation.detection import Curve, is_measurable, split_curves
from grooming_flag.evaluation.figures import Figure, share
from grooming_flag.evaluation.metrics import f_beta, least_threshold
from grooming_flag.evaluation.pool import Pool
from grooming_flag.evaluation.resampling import Intervals, Label, labeled, resampled
from grooming_flag.model import Model
from grooming_flag.records import Thread

ERDE = (5, 50)
BY_MESSAGE = (10, 20, 50)
STREAM_FPR = 1e-3
GRID = np.unique(np.round(np.logspace(0, 3, 40))).astype(np.int64)
BATCH = 256
Segment = tuple[float, int, float]


def replay(model: Model, threads: Sequence[Thread]) -> list[Replay]:
    """Return the probability after each message of each thread: what `assess` gives for the messages so far.

    Each message is read once or twice, not once for every later message: sums of a segment grow with it.
    """
    return [of_one for i in range(0, len(threads), BATCH) for of_one in _replay_batch(model, threads[i : i + BATCH])]


def _replay_batch(model: Model, threads: Sequence[Thread]) -> Iterator[Replay]:
    walks = [list(model.segment_rule.walk(thread.messages)) for thread in threads]
    stops = [_stops(walk) for walk in walks]
    runs = [
        thread.messages[start:stop] for thread, of in zip(threads, stops, strict=True) for start, stop in of.items()
    ]
    sums = iter([tuple(column.tolist() for column in columns) for columns in model.running_inputs(runs)])
    for walk, of_thread in zip(walks, stops, strict=True):
        running = {start: next(sums) for start in of_thread}
        values = np.full(len(walk), -np.inf)
        settled: list[Segment] = []  # the strongest segment that can no longer change
        before = 0
        for i, (closed, start) in enumerate(walk):
            if closed > before:
                settled = [_strongest([*settled, _at(running, before, closed)])]
                before = closed
            last = [_at(running, a, b) for a, b in model.segment_rule.ends(closed, start, i + 1)]
            score, amount, lead = _strongest([*settled, *last])
            if amount >= model.min_amount:
                values[i] = model.calibration.probability(score, amount, lead)
        yield Replay(np.arange(1, len(walk) + 1), values)


def _stops(walk: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Return how far each segment may reach, by its first message."""
    stops: dict[int, int] = {}
    for i, (closed, start) in enumerate(walk):
        stops[closed] = stops[start] = i + 1
    return stops


def _at(running: dict[int, tuple[list[float], list[int], list[float]]], start: int, stop: int) -> Segment:
    scores, amounts, leads = running[start]
    return scores[stop - start - 1], amounts[stop - start - 1], leads[stop - start - 1]


def _strongest(segments: Sequence[Segment]) -> Segment:
    return max(segments, key=lambda of_one: of_one[0])  # the first one of equals, as in an assessment


def first_flags(replays: Sequence[Replay], threshold: float) -> Floats:
    """Return after how many messages each thread is first flagged, infinity where it never is."""
    firsts = np.full(len(replays), np.inf)
    for i, (messages, values) in enumerate(replays):
        flagged = values >= threshold
        if flagged.any():
            firsts[i] = messages[flagged.argmax()]
    return firsts


def stream_threshold(pool: Pool, replays: Sequence[Replay], fpr: float = STREAM_FPR) -> float:
    """Return the least threshold with this false-positive rate when every message is looked at."""
    highest = np.array([of_one.values.max(initial=-np.inf) for of_one in replays])
    return least_threshold(highest[~pool.risky], fpr)


def early_figures(pool: Pool, answers: Answers, seed: int = 0) -> tuple[list[Figure], dict[str, Curve]]:
    """Return how early risky threads are flagged, and how many others ever are, at the operating points.

    With k the number of messages at the first flag:

    - ERDE_o (Losada and Crestani 2016): mean cost, 0..1. A false alarm costs the share of risky threads, a miss 1, a
      find ``1 - 1 / (1 + e^(k - o))``, the rest nothing.
    - Latency-weighted F1 (Sadeque et al. 2018): F1 times speed, where speed is 1 minus the median over the found of
      ``-1 + 2 / (1 + e^(-p (k - 1)))``, and p makes that .5 at the median length of risky threads.
    - Share of final recall by message 10, 20, 50: risky threads flagged by then, over those flagged at their end. It
      passes 1 where flags are taken back.
    - False-positive rate over the stream: other threads that are flagged after any of their messages.
    """
    if answers.replays is None or not pool.risky.any():
        return [], {}
    points = dict(answers.points)
    if is_measurable(pool, STREAM_FPR):
        points[f"stream FPR {STREAM_FPR:g} (set here)"] = stream_threshold(pool, answers.replays)
    p = penalty_scale(pool)
    figures = [Figure("early", "p of the latency penalty", "all", "", "thread", p, p, p, int(pool.risky.sum()))]
    curves: dict[str, Curve] = {}
    for at, threshold in points.items():
        firsts = first_flags(answers.replays, threshold)
        at_end = answers.values >= threshold
        ever = np.isfinite(firsts)
        clusters = pool.clusters[pool.risky]
        figures.append(share("early", "recall over the stream", "all", at, ever[pool.risky], clusters))
        figures.append(share("early", "false-positive rate over the stream", "all", at, ever[~pool.risky]))
        of_point, curve = _at_point(pool, firsts, at_end, p, at, seed)
        figures += of_point
        curves |= curve
    return figures, curves


def penalty_scale(pool: Pool) -> float:
    """Return the p of the latency penalty: that which makes it .5 at the median length of risky threads.

    ``-1 + 2 / (1 + e^(-p (m - 1))) = .5`` at ``p = ln 3 / (m - 1)``.
    """
    return float(np.log(3.0) / max(np.median(pool.lengths[pool.risky]) - 1.0, 1.0))


def _at_point(
    pool: Pool, firsts: Floats, at_end: NDArray[np.bool_], p: float, at: str, seed: int
) -> tuple[list[Figure], dict[str, Curve]]:
    risky = pool.risky
    ever = np.isfinite(firsts)
    hits = risky & ever
    costs = [erde_costs(firsts, risky, o) for o in ERDE]
    penalties = latency_penalty(firsts[hits], p)
    minutes = minutes_until(pool.threads, firsts)[hits]

    by_message = [risky & (firsts <= k) for k in BY_MESSAGE]
    places = np.searchsorted(GRID, firsts)

    def flagged_by(w: Floats) -> Floats:
        return np.cumsum(np.bincount(places, weights=w, minlength=len(GRID) + 1)[:-1])

    def statistics(w: Floats) -> Floats:
        n_risky, n_benign = w[risky].sum(), w[~risky].sum()
        tp, fp, final = w[hits].sum(), w[~risky & ever].sum(), w[risky & at_end].sum()
        speed = 1.0 - weighted_median(penalties, w[hits])
        f1 = f_beta(tp / (tp + fp), tp / n_risky, 1.0) if tp else 0.0
        return np.array(
            [
                *(np.average(cost, weights=w) for cost in costs),
                speed,
                f1 * speed if tp else 0.0,
                weighted_median(firsts[hits], w[hits]),
                weighted_median(minutes, w[hits]),
                *(w[early].sum() / final if final else np.nan for early in by_message),
                *(flagged_by(w * risky) / n_risky),
                *(flagged_by(w * ~risky) / n_benign if n_benign else np.full(len(GRID), np.nan)),
            ]
        )

    n, n_found, n_final = len(risky), int(hits.sum()), int((risky & at_end).sum())
    names: list[tuple[str, int]] = [(f"ERDE_{o}", n) for o in ERDE]
    names += [("speed", n_found), ("latency-weighted F1", n), ("median messages to the first flag", n_found)]
    names += [("median minutes to the first flag", int(np.isfinite(minutes).sum()))]
    names += [(f"share of final recall by message {k}", n_final) for k in BY_MESSAGE]
    intervals = resampled(statistics, pool, seed)
    labels = [Label("early", name, "all", at, "thread", of) for name, of in names]
    grid = GRID.astype(np.float64)
    grids = {f"risky threads flagged by message, {at}": grid, f"other threads flagged by message, {at}": grid}
    rest = Intervals(*(column[len(labels) :] for column in intervals))
    return labeled(labels, intervals), split_curves(grids, rest)


def erde_costs(firsts: Floats, risky: NDArray[np.bool_], o: int) -> Floats:
    """Return the cost of each thread in ERDE_o, 0..1, by the messages until its first flag; see `early_figures`."""
    found = expit(firsts - o)  # 1 - 1 / (1 + e^(k - o)); 1 where it is never flagged
    return np.where(risky, found, np.where(np.isfinite(firsts), risky.mean(), 0.0))


def latency_penalty(firsts: Floats, p: float) -> Floats:
    """Return ``-1 + 2 / (1 + e^(-p (k - 1)))`` for a first flag after k messages, 0..1."""
    penalty: Floats = 2.0 * expit(p * (firsts - 1.0)) - 1.0
    return penalty


def minutes_until(threads: Sequence[Thread], firsts: Floats) -> Floats:
    """Return the minutes from the first message to the one after which a thread is flagged; NaN if unknown or never."""
    minutes = np.full(len(threads), np.nan)
    for i, (thread, first) in enumerate(zip(threads, firsts, strict=True)):
        if np.isfinite(first):
            start, end = thread.messages[0].sent_at, thread.messages[int(first) - 1].sent_at
            if start is not None and end is not None:
                minutes[i] = (end - start) / 60.0
    return minutes


def weighted_median(values: Floats, weights: Floats) -> float:
    """Return the median of values that count so many times each; NaN values do not count."""
    known = ~np.isnan(values) & (weights > 0)
    if not known.any():
        return float("nan")
    order = np.argsort(values[known], kind="stable")
    ordered, mass = values[known][order], np.cumsum(weights[known][order])
    low, high = (ordered[np.searchsorted(mass, mass[-1] / 2, side)] for side in ("left", "right"))
    return float((low + high) / 2)
