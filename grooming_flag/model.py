"""The model: threads to assessments and evidence. No file access, no clock, no environment."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, replace
from functools import cached_property, lru_cache
from itertools import islice, pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from grooming_flag._answers import Answerer
from grooming_flag.calibration import Calibration, Inputs
from grooming_flag.errors import ModelError
from grooming_flag.features import OWN, POOLED, FeatureExtractor, Packed, pack_by_author, pack_by_message, pack_columns
from grooming_flag.policy import OperatingPoint, resolve
from grooming_flag.records import Assessment, Evidence, Message, Thread, ThreadColumns
from grooming_flag.segments import SegmentRule, whole_segments
from grooming_flag.tactics import Tactics

if TYPE_CHECKING:  # kept out of the cold start
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from grooming_flag.fingerprints import Fingerprints
    from grooming_flag.live import ThreadState

HEADS = ("risk", "attribution")
BATCH_MESSAGES = 8192
BATCH_THREADS = 512


class SegmentSums(NamedTuple):
    """A segment, from its first message to before `stop`, and what the weights of its buckets add up to, in steps.

    `amount` is the number of its distinct weighted buckets; `own` is the attribution of each of its authors.
    """

    start: int
    stop: int
    risk: int
    amount: int
    own: list[int]
    authors: list[str]


Batch = TypeVar("Batch")
Answer = TypeVar("Answer")


class Model:
    """A trained model. Immutable, and safe to use from several threads of execution.

    Parameters
    ----------
    name : str
    extractor : FeatureExtractor
    weights : ndarray of int16, shape (n_features, 2)
        Weights of the heads `risk` and `attribution`, in steps.
    step : float
        Value of a weight of 1; a power of two, which makes every sum of weights exact.
    intercept : int
        Of the risk head, in steps.
    calibration : Calibration
    attribution_scale : float
        Factor that calibrates differences of attribution scores, above 0.
    segment_rule : SegmentRule
    min_amount : int
        With fewer distinct weighted buckets in the strongest segment the model abstains.
    operating_points : mapping of str to OperatingPoint
        Without any, `assess` needs a threshold.
    lineage : mapping
        What the model was trained on and with.
    tactics : Tactics, optional
        Heads that `explain` names tactics with. No score depends on them.
    fingerprints : Fingerprints, optional
        Hashes of the training threads and persons. No score depends on them.

    Examples
    --------
    >>> from grooming_flag import Message, Thread, load_model
    >>> model = load_model()
    >>> model.assess(Thread("t1", [Message("a", "hi there"), Message("b", "hello")])).abstained
    True
    """

    def __init__(
        self,
        *,
        name: str,
        extractor: FeatureExtractor,
        weights: NDArray[np.int16],
        step: float,
        intercept: int,
        calibration: Calibration,
        attribution_scale: float,
        segment_rule: SegmentRule,
        min_amount: int,
        operating_points: Mapping[str, OperatingPoint],
        lineage: Mapping[str, Any],
        tactics: Tactics | None = None,
        fingerprints: Fingerprints | None = None,
    ) -> None:
        if weights.shape != (extractor.n_features, len(HEADS)) or weights.dtype != np.int16:
            raise ModelError(f"weights are {weights.dtype} {weights.shape}; need int16 ({extractor.n_features}, 2)")
        if math.frexp(step)[0] != 0.5:
            raise ModelError(f"the step of the weights is {step!r}; it must be a power of two")
        if not 0.0 < attribution_scale < math.inf or not 0 <= min_amount < 2**53 or abs(intercept) >= 2**53:
            raise ModelError("attribution_scale, min_amount or intercept is out of range; train the model again")
        tactics = tactics or Tactics.none()
        if tactics.buckets.max(initial=-1) >= extractor.n_features:
            raise ModelError(f"tactics have weights of buckets beyond {extractor.n_features}; train the model again")
        weights = weights.copy()
        weights.setflags(write=False)
        self.name = name
        self.extractor = extractor
        self.weights = weights
        self.step = step
        self.calibration = calibration
        self.attribution_scale = attribution_scale
        self.segment_rule = segment_rule
        self.min_amount = min_amount
        self.operating_points = MappingProxyType(dict(operating_points))
        self.lineage = MappingProxyType(dict(lineage))
        self.tactics = tactics
        self.fingerprints = fingerprints
        self._intercept = intercept
        self._attribution_step = step * attribution_scale  # log-odds of a step of attribution
        self.scanner = extractor.scanner(weights)
        terms = (step, self._attribution_step, intercept, min_amount, calibration.terms)
        self.answer: Callable[[str, SegmentSums, int, int, OperatingPoint], Assessment] = Answerer(name, *terms).answer

    @property
    def intercept(self) -> float:
        """What the score is without any evidence, in log-odds."""
        return self._intercept * self.step

    @property
    def coef(self) -> NDArray[np.float64]:
        """Weights in log-odds, shape (n_features, 2): one column a head."""
        return self.weights * np.float64(self.step)

    def __repr__(self) -> str:
        return f"Model(name={self.name!r}, prior={self.calibration.prior!r})"

    def assess(self, thread: Thread, at: str | float = "balanced") -> Assessment:
        """Assess one thread.

        Parameters
        ----------
        thread : Thread
        at : str or float
            Name of an operating point, or a threshold on the probability, 0..1.

        Raises
        ------
        PolicyError
            If there is no such operating point, or the threshold is outside 0..1.
        """
        return self._assess_batch([thread], resolve(at, self.operating_points))[0]

    def assess_many(
        self, threads: Iterable[Thread], at: str | float = "balanced", n_jobs: int = 1
    ) -> Iterator[Assessment]:
        """Assess threads lazily, in order and in constant memory.

        Parameters
        ----------
        threads : iterable of Thread
        at : str or float
            As in `assess`.
        n_jobs : int
            Threads of execution; the answers do not depend on it.
        """
        point = resolve(at, self.operating_points)
        answers = _in_order(lambda batch: (self._assess_batch(batch, point), False), _batches(threads), n_jobs)
        return _of_whole_threads(answers)

    def assess_columns(
        self, batches: Iterable[ThreadColumns], at: str | float = "balanced", n_jobs: int = 1
    ) -> Iterator[Assessment]:
        """Assess threads that were read as columns, as `assess_many` does; by a model that closes segments by length.

        Raises
        ------
        ModelError
            If the model also closes segments on a gap in time, which columns do not have.
        """
        if self.segment_rule.max_gap is not None:
            raise ModelError(f"{self.name} needs the times of messages; use assess_many")
        point = resolve(at, self.operating_points)
        batches = whole_segments(batches, self.segment_rule.max_messages)
        answers = _in_order(lambda batch: (self._assess_columns(batch, point), batch.goes_on), batches, n_jobs)
        return _of_whole_threads(answers)

    def explain(self, thread: Thread, top: int | None = None) -> list[Evidence]:
        """Return the evidence in the strongest segment, strongest first; all of it adds up to score - intercept.

        Parameters
        ----------
        thread : Thread
        top : int, optional
            How many to return; by default all. The last ones speak against the pattern.
        """
        start, stop = self.assess(thread, at=1.0).segment
        messages = thread.messages[start:stop]
        packed = pack_by_message([messages])
        sums, buckets, spans = self.scanner.emit(packed, POOLED)
        shown = self._tactics_shown(packed)
        steps = self.weights[buckets, 0]
        sources = np.repeat(np.arange(len(messages)), sums.new).tolist()
        strongest = np.argsort(-steps.astype(np.int32), kind="stable").tolist()
        evidence = []
        for i in islice((i for i in strongest if steps[i]), top):
            place = sources[i]
            message = messages[place]
            evidence.append(
                Evidence(
                    message_id=start + place if message.message_id is None else message.message_id,
                    author=message.author,
                    feature=self.extractor.feature_name(int(buckets[i])),
                    span=(int(spans[i, 0]), int(spans[i, 1])),
                    contribution=int(steps[i]) * self.step,
                    tactics=shown[place],
                )
            )
        return evidence

    def watch(self, thread_id: str, at: str | float = "balanced") -> ThreadState:
        """Return the state of a thread without messages, which takes them one by one.

        Parameters
        ----------
        thread_id : str
        at : str or float
            As in `assess`.

        Raises
        ------
        ModelError
            If the model has more buckets, or longer segments, than a state can keep.
        """
        from grooming_flag.live import ThreadState  # which is made for models

        return ThreadState(self, thread_id, resolve(at, self.operating_points))

    def resume(self, state: bytes, at: str | float = "balanced") -> ThreadState:
        """Return the state of a thread from what `ThreadState.to_bytes` made of it.

        Parameters
        ----------
        state : bytes
        at : str or float
            As in `assess`; it is no part of the state.

        Raises
        ------
        DataError
            If these bytes are no state, or were changed.
        ModelError
            If the state is of a model with other features, weights or segments.
        """
        from grooming_flag.live import ThreadState

        return ThreadState.from_bytes(self, state, resolve(at, self.operating_points))

    @cached_property
    def scoring_digest(self) -> bytes:
        """Sixteen bytes that only models have in common whose features, weights and segments are the same."""
        rest = (self.extractor.digest(), astuple(self.segment_rule))
        return hashlib.blake2b(self.weights.tobytes() + repr(rest).encode(), digest_size=16).digest()

    def with_prior(self, prior: float) -> Model:
        """Return the model with probabilities restated for a platform where this share of threads is risky.

        Operating points keep flagging the same threads; what was measured at them stays true.

        Parameters
        ----------
        prior : float
            Above 0 and below 1.
        """
        calibration = self.calibration.with_prior(prior)
        points = {name: p.restated(self.calibration.prior, prior) for name, p in self.operating_points.items()}
        return self.replace(calibration=calibration, operating_points=points)

    def replace(self, **changes: Any) -> Model:
        """Return a copy with some constructor parameters changed."""
        return Model(**{**self._parameters(), **changes})

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the parameters, as joblib's processes need it; models are stored with `save_model`."""
        return _model, (self._parameters(),)

    def _parameters(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "extractor": self.extractor,
            "weights": self.weights,
            "step": self.step,
            "intercept": self._intercept,
            "calibration": self.calibration,
            "attribution_scale": self.attribution_scale,
            "segment_rule": self.segment_rule,
            "min_amount": self.min_amount,
            "operating_points": dict(self.operating_points),
            "lineage": dict(self.lineage),
            "tactics": self.tactics,
            "fingerprints": self.fingerprints,
        }

    def calibration_inputs(self, segments: Sequence[Sequence[Message]]) -> Inputs:
        """Return what the probability of runs of messages is made from."""
        packed = pack_by_author(segments)
        sums = self.scanner.sums(packed)
        amounts = np.zeros(len(segments), dtype=np.int64)
        np.add.at(amounts, packed.segments, sums.new)
        leads = np.full(len(segments), -np.inf)
        np.maximum.at(leads, packed.segments, sums.own * self._attribution_step)
        leads[np.isinf(leads)] = 0.0  # nobody wrote
        return Inputs((sums.pooled + self._intercept) * np.float64(self.step), amounts, leads)

    def known_shares(self, segments: Sequence[Sequence[Message]]) -> NDArray[np.float64]:
        """Return which share of the distinct buckets of runs of messages has a weight, 0..1; 1 where there are none."""
        packed = pack_by_author(segments)
        known, all_ = np.zeros((2, len(segments)))
        np.add.at(known, packed.segments, self.scanner.sums(packed).new)
        np.add.at(all_, packed.segments, self.scanner.counts(packed).new)
        return np.divide(known, all_, out=np.ones(len(segments)), where=all_ > 0)

    def running_inputs(self, runs: Sequence[Sequence[Message]]) -> list[Inputs]:
        """Return what `calibration_inputs` gives after each message of the runs."""
        packed = pack_by_message(runs)
        totals, _, amounts = self._running_totals(packed)
        bounds = np.searchsorted(packed.segments, np.arange(len(runs) + 1)).tolist()
        return [
            Inputs(
                (totals[a + 1 : b + 1] - totals[a] + self._intercept) * np.float64(self.step),
                amounts[a + 1 : b + 1] - amounts[a],
                leads,
            )
            for (a, b), leads in zip(pairwise(bounds), self._running_leads(runs), strict=True)
        ]

    def _running_totals(self, packed: Packed) -> NDArray[np.int64]:
        """Return risk and attribution weights and weighted buckets before and after each slot, shape (3, n_slots + 1).

        A bucket counts in the first slot of its segment that has it.
        """
        sums, buckets, _ = self.scanner.emit(packed, POOLED, with_spans=False)
        found = self.weights[buckets].astype(np.int64)
        ends = np.append(0, np.cumsum(sums.new, dtype=np.int64))
        columns = (found[:, 0], found[:, 1], found.any(axis=1))
        return np.stack([np.append(0, np.cumsum(column))[ends] for column in columns])

    def _running_leads(self, runs: Sequence[Sequence[Message]]) -> Iterator[NDArray[np.float64]]:
        of_author: dict[tuple[int, str], list[Message]] = {}
        for i, run in enumerate(runs):
            for message in run:
                of_author.setdefault((i, message.author), []).append(message)
        totals = self._running_totals(pack_by_message(of_author.values()))[1].tolist()
        places, start = {}, 0
        for author, messages in of_author.items():
            places[author] = iter(range(start + 1, start + len(messages) + 1)), totals[start]
            start += len(messages)
        for i, run in enumerate(runs):
            now: dict[str, int] = {}
            leads = np.empty(len(run))
            for k, message in enumerate(run):
                author_places, before = places[i, message.author]
                now[message.author] = totals[next(author_places)] - before
                leads[k] = max(now.values()) * self._attribution_step
            yield leads

    def own_scores(self, packed: Packed) -> NDArray[np.float64]:
        """Return the attribution score of each slot before `attribution_scale`, for calibration."""
        return self.scanner.sums(packed).own * np.float64(self.step)

    def _assess_batch(self, threads: Sequence[Thread], point: OperatingPoint) -> list[Assessment]:
        bounds = [self._segments(thread.messages) for thread in threads]
        packed = pack_by_author(
            thread.messages[start:stop]
            for thread, of_thread in zip(threads, bounds, strict=True)
            for start, stop in of_thread
        )
        counts = ((thread.thread_id, len(thread.messages), 0) for thread in threads)
        return self._answers(packed, counts, bounds, point)

    def _assess_columns(self, columns: ThreadColumns, point: OperatingPoint) -> list[Assessment]:
        bounds = [_cuts(self.segment_rule, length) for length in columns.lengths]
        counts = zip(columns.thread_ids, columns.lengths, map(len, columns.authors), strict=True)
        return self._answers(pack_columns(columns, bounds), counts, bounds, point)

    def _answers(
        self,
        packed: Packed,
        counts: Iterable[tuple[str, int, int]],
        bounds: Iterable[Sequence[tuple[int, int]]],
        point: OperatingPoint,
    ) -> list[Assessment]:
        """Return the answers for packed threads, given their ids, numbers of messages and authors, and segments.

        Where it says no authors they are counted.
        """
        sums = self.scanner.sums(packed)
        pooled, own, new = sums.pooled.tolist(), sums.own.tolist(), sums.new.tolist()
        starts = np.searchsorted(packed.segments, np.arange(packed.n_segments + 1)).tolist()  # first slot of segments
        answers = []
        first = 0
        for (thread_id, n_messages, n_authors), of_thread in zip(counts, bounds, strict=True):
            strongest, end = first, first + len(of_thread)
            if end > first + 1:
                strongest = max(range(first, end), key=pooled.__getitem__)
            start, stop = starts[strongest], starts[strongest + 1]
            if not n_authors:
                n_authors = stop - start if end == first + 1 else len(set(packed.authors[starts[first] : starts[end]]))
            found = SegmentSums(
                *of_thread[strongest - first],
                pooled[strongest],
                sum(new[start:stop]),
                own[start:stop],
                packed.authors[start:stop],
            )
            answers.append(self.answer(thread_id, found, n_messages, n_authors, point))
            first = end
        return answers

    def _segments(self, messages: Sequence[Message]) -> Sequence[tuple[int, int]]:
        if self.segment_rule.max_gap is None:  # then only the number of messages matters
            return _cuts(self.segment_rule, len(messages))
        return list(self.segment_rule.split(messages))

    def _tactics_shown(self, packed: Packed) -> list[tuple[str, ...]]:
        """Return the tactics that each slot shows by itself."""
        if not self.tactics.names:
            return [()] * len(packed.segments)
        sums, buckets, _ = self.scanner.emit(packed, OWN, with_spans=False)
        return self.tactics.shown(buckets, sums.distinct)


def _model(parameters: Mapping[str, Any]) -> Model:
    return Model(**parameters)


@lru_cache(maxsize=1024)
def _cuts(rule: SegmentRule, n_messages: int) -> Sequence[tuple[int, int]]:
    return list(rule.split([Message("", "")] * n_messages))


def _in_order(assess: Callable[[Batch], Answer], batches: Iterable[Batch], n_jobs: int) -> Iterator[Answer]:
    """Yield the answer for each batch, in order, of which at most a few are under way."""
    if n_jobs == 1:
        yield from map(assess, batches)
        return
    from concurrent.futures import ThreadPoolExecutor  # kept out of the cold start

    with ThreadPoolExecutor(n_jobs) as pool:
        pending: deque[Future[Answer]] = deque()
        for batch in batches:
            pending.append(pool.submit(assess, batch))
            if len(pending) > 2 * n_jobs:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _of_whole_threads(batches: Iterable[tuple[list[Assessment], bool]]) -> Iterator[Assessment]:
    """Yield the answers, those for parts of a thread as one, given them by batch and whether the last one goes on."""
    begun: Assessment | None = None
    for answers, goes_on in batches:
        if begun is not None:
            answers[0] = _of_both(begun, answers[0])
        begun = answers.pop() if goes_on else None
        yield from answers


def _of_both(first: Assessment, second: Assessment) -> Assessment:
    """Return the answer for a thread from those for its first messages and the others."""
    n = first.n_messages
    if second.score > first.score:
        start, stop = second.segment
        first = replace(second, segment=(n + start, n + stop))
    return replace(first, n_messages=n + second.n_messages, n_authors=second.n_authors)


def _batches(threads: Iterable[Thread]) -> Iterator[list[Thread]]:
    batch: list[Thread] = []
    n_messages = 0
    for thread in threads:
        batch.append(thread)
        n_messages += len(thread.messages)
        if n_messages >= BATCH_MESSAGES or len(batch) >= BATCH_THREADS:
            yield batch
            batch, n_messages = [], 0
    if batch:
        yield batch
