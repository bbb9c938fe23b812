"""Systems to compare with: what a few lines of scikit-learn, a list of phrases or the form of a thread alone can do.

Nothing here is part of a model. The list of phrases in particular is what anybody would think of first: it is here to
be measured, and the scoring path has none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from threadpoolctl import threadpool_limits

from grooming_flag.errors import DataError
from grooming_flag.evaluation.form import form
from grooming_flag.evaluation.splits import folds, labels_of
from grooming_flag.records import Thread

Threads = Sequence[Thread]

BATCH = 2_000_000  # characters of text whose features are in memory at once
PREFIXES = 200

PHRASES = (
    "how old are you",
    "how old r u",
    "what age are you",
    "what grade are you",
    "when is your birthday",
    "old enough",
    "for your age",
    "do not tell",
    "dont tell",
    "our secret",
    "our little secret",
    "keep it secret",
    "between us",
    "nobody has to know",
    "no one has to know",
    "delete this",
    "delete the chat",
    "get in trouble",
    "home alone",
    "are you alone",
    "all alone",
    "by yourself",
    "anyone else home",
    "come alone",
    "your mum",
    "your mom",
    "your dad",
    "your parents",
    "meet up",
    "meet me",
    "meet in person",
    "come over",
    "pick you up",
    "send a pic",
    "send me a pic",
    "send me a picture",
    "a photo of you",
    "what do you look like",
    "turn on your camera",
    "your address",
    "where do you live",
    "which school",
    "your number",
    "trust me",
    "a present for you",
)
_PHRASES = [f" {phrase} " for phrase in PHRASES]
_WORD, _APOSTROPHE = re.compile(r"\w+"), re.compile("['\u2019]")


class _Steps(Pipeline):  # type: ignore[misc]
    """A pipeline from threads to a classifier that gives the same bits whatever the number of processors."""

    def fit(self, X: Threads, y: ArrayLike) -> Self:
        """Fit all steps.

        Raises
        ------
        DataError
            If there are not as many labels as threads, or all are the same.
        """
        labels = np.asarray(y)
        if len(labels) != len(X):
            raise DataError(f"there are {len(X)} threads but {len(labels)} labels")
        if len(np.unique(labels)) != 2:
            raise DataError(f"the threads have labels {np.unique(labels).tolist()}; both 0 and 1 are needed")
        with threadpool_limits(1):
            return super().fit(X, labels)  # type: ignore[no-any-return]

    def decision_function(self, X: Threads) -> NDArray[np.float64]:
        """Return the log-odds of each thread, shape (n_threads,)."""
        with threadpool_limits(1):
            return super().decision_function(X)  # type: ignore[no-any-return]

    def predict_proba(self, X: Threads) -> NDArray[np.float64]:
        """Return the probability of both classes, shape (n_threads, 2)."""
        with threadpool_limits(1):
            return super().predict_proba(X)  # type: ignore[no-any-return]


def words(seed: int) -> Pipeline:
    """Hashed words and pairs of the whole thread, presence, L2 norm, logistic regression with C = 10."""
    return _of_text(HashingVectorizer(ngram_range=(1, 2), binary=True, alternate_sign=False), seed)


def characters(seed: int) -> Pipeline:
    """Hashed runs of 3 to 5 characters within words, else as `words`."""
    return _of_text(HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), binary=True, alternate_sign=False), seed)


def keywords(seed: int) -> Pipeline:
    """Count the different phrases of an obvious list: logistic regression on that one number."""
    return _Steps([("phrases", FunctionTransformer(count_phrases)), ("head", LogisticRegression(random_state=seed))])


def behavior(seed: int) -> Pipeline:
    """Who writes how much and when, without a word of what: gradient boosting on what `form` gives."""
    head = HistGradientBoostingClassifier(early_stopping=False, random_state=seed)
    return _Steps([("form", FunctionTransformer(form)), ("head", head)])


def _of_text(vectorizer: HashingVectorizer, seed: int) -> Pipeline:
    head = LogisticRegression(C=10.0, max_iter=1000, solver="liblinear", random_state=seed)
    return _Steps([("text", FunctionTransformer(texts)), ("rows", vectorizer), ("head", head)])


BASELINES: dict[str, Callable[[int], Pipeline]] = {
    make.__name__: make for make in (words, characters, keywords, behavior)
}
"""Makers of unfitted classifiers of sequences of Thread, by name; the argument is the seed."""


def fit_baseline(name: str, threads: Threads, seed: int) -> Pipeline:
    """Return the baseline of that name, fitted on labelled threads.

    Raises
    ------
    DataError
        If a thread has no label, or all have the same.

    Examples
    --------
    >>> from grooming_flag import Message, Thread
    >>> said = ["come alone", "nice goal"] * 20
    >>> threads = [Thread(f"t{i}", [Message("a", text)], label=1 - i % 2) for i, text in enumerate(said)]
    >>> fit_baseline("words", threads, seed=0).predict(threads[:2])
    array([1, 0])
    """
    return BASELINES[name](seed).fit(threads, labels_of(threads))


def fitted_folds(
    name: str, threads: Threads, groups: NDArray[np.int64] | None = None, n_folds: int = 5, seed: int = 0
) -> Iterator[tuple[NDArray[np.int64], Pipeline]]:
    """Yield the indices of the threads of each fold, and the baseline fitted on all others; see `cross_scores`."""
    fold = folds(threads, n_folds, seed, groups=groups)
    for k in range(n_folds):
        others = [thread for thread, other in zip(threads, fold, strict=True) if other != k]
        yield np.flatnonzero(fold == k), fit_baseline(name, others, seed)


def cross_scores(
    name: str, threads: Threads, groups: NDArray[np.int64] | None = None, n_folds: int = 5, seed: int = 0
) -> NDArray[np.float64]:
    """Return the probability of each thread, by a baseline that was fitted without its person, shape (n_threads,).

    Parameters
    ----------
    name : str
        One of `BASELINES`.
    threads : sequence of Thread, length n_threads
        Labelled.
    groups : ndarray of int, shape (n_threads,), optional
        What must stay in one fold; by default as `splits.folds` says.
    n_folds : int
    seed : int

    Raises
    ------
    DataError
        If a thread has no label, or there would be a fold without threads of both labels.
    """
    probabilities = np.empty(len(threads))
    for test, estimator in fitted_folds(name, threads, groups, n_folds, seed):
        probabilities[test] = estimator.predict_proba([threads[i] for i in test])[:, 1]
    return probabilities


def score_threads(
    estimator: Pipeline, threads: Iterable[Thread], prefixes: bool = False
) -> Iterator[tuple[Thread, NDArray[np.float64]]]:
    """Yield each thread with the log-odds that a fitted baseline gives it; lazy, in order, in batches of bounded text.

    Parameters
    ----------
    estimator : Pipeline
    threads : iterable of Thread
    prefixes : bool
        Give one number for each of the first 200 messages of a thread, that of all messages up to it, instead of one
        number for the thread.

    Yields
    ------
    thread : Thread
    scores : ndarray of float64, shape (1,) or (min(n_messages, 200),)
    """
    for batch in _batches(threads, prefixes):
        scores = estimator.decision_function([part for _, parts in batch for part in parts])
        ends = np.cumsum([len(parts) for _, parts in batch])
        yield from zip([thread for thread, _ in batch], np.split(scores, ends[:-1]), strict=True)


def _batches(threads: Iterable[Thread], prefixes: bool) -> Iterator[list[tuple[Thread, list[Thread]]]]:
    """Yield threads, each with what is to be scored of it, so many at a time that their text is bounded."""
    batch: list[tuple[Thread, list[Thread]]] = []
    size = 0
    for thread in threads:
        parts = _prefixes(thread) if prefixes else [thread]
        batch.append((thread, parts))
        size += sum(len(message.text) for part in parts for message in part.messages)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _prefixes(thread: Thread) -> list[Thread]:
    lengths = range(1, min(len(thread.messages), PREFIXES) + 1)
    return [Thread(thread.thread_id, thread.messages[:n]) for n in lengths]


def texts(threads: Threads) -> list[str]:
    """Return the text of each thread, a message a line; lone surrogates, which no vectorizer takes, are replaced."""
    whole = ("\n".join(message.text for message in thread.messages) for thread in threads)
    return [text.encode("utf-8", "replace").decode() for text in whole]


def count_phrases(threads: Threads) -> NDArray[np.float64]:
    """Return how many of `PHRASES` occur in each thread, in any case and spacing, shape (n_threads, 1)."""
    counts = []
    for text in texts(threads):
        words = _WORD.findall(_APOSTROPHE.sub("", text.lower()))
        folded = f" {' '.join(words)} "
        counts.append([sum(phrase in folded for phrase in _PHRASES)])
    return np.array(counts, dtype=np.float64)
