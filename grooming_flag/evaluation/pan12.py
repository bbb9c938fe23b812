"""PAN-2012: the author task and the line task, with the official arithmetic, and how a model answers them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from grooming_flag.batch import assessed
from grooming_flag.evaluation.figures import Figure, share
from grooming_flag.evaluation.metrics import RESAMPLES, clopper_pearson, f_beta
from grooming_flag.io.pan12 import Line
from grooming_flag.io.scores import evidence_rows
from grooming_flag.model import Model
from grooming_flag.records import Thread

AUTHOR_BETA, LINE_BETA = 0.5, 3.0
MAX_LINES = 100
FIRST = (1, 3, 5)


class Retrieval(NamedTuple):
    """What was returned, against what should have been (Inches and Crestani 2012).

    Attributes
    ----------
    returned, correct, relevant : int
        Ids returned, those of them that are relevant, and all that are relevant.
    beta : float
        How many times as much as precision the official measure counts recall: 0.5 for authors, 3 for lines.

    Examples
    --------
    >>> found = Retrieval(204, 200, 254, beta=0.5)
    >>> round(found.precision, 4), round(found.recall, 4), round(found.f_beta, 4)
    (0.9804, 0.7874, 0.9346)
    """

    returned: int
    correct: int
    relevant: int
    beta: float

    @property
    def precision(self) -> float:
        """Correct of returned, 0..1; 0 if nothing was returned."""
        return self.correct / max(self.returned, 1)

    @property
    def recall(self) -> float:
        """Correct of relevant, 0..1; 0 if nothing is relevant."""
        return self.correct / max(self.relevant, 1)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 0..1; 0 if nothing is correct."""
        return f_beta(self.precision, self.recall, 1.0)

    @property
    def f_beta(self) -> float:
        """The official measure, (1 + b^2) P R / (b^2 P + R), 0..1; 0 if nothing is correct."""
        return f_beta(self.precision, self.recall, self.beta)


def author_task(returned: Set[str], relevant: Set[str]) -> Retrieval:
    """Compare the authors returned with the listed ones; the official measure is F0.5."""
    return Retrieval(len(returned), len(returned & relevant), len(relevant), AUTHOR_BETA)


def line_task(returned: Set[Line], relevant: Set[Line]) -> Retrieval:
    """Compare the lines returned with the listed ones; the official measure is F3."""
    return Retrieval(len(returned), len(returned & relevant), len(relevant), LINE_BETA)


class Submission(NamedTuple):
    """What a model answers to both tasks on a corpus.

    Attributes
    ----------
    authors : frozenset of str
        Those returned for the author task.
    lines : tuple of Line
        Those returned for the line task, in the order of the corpus, within a conversation the strongest first.
    writers : dict of Line to str
        Who wrote the lines returned, and the relevant ones.
    seen : frozenset of str
        Every author of the corpus.
    n_threads, n_flagged, n_abstained : int
        Conversations: all, flagged, and with too little text.
    """

    authors: frozenset[str]
    lines: tuple[Line, ...]
    writers: dict[Line, str]
    seen: frozenset[str]
    n_threads: int
    n_flagged: int
    n_abstained: int


def judge(
    model: Model, threads: Iterable[Thread], at: str | float = "balanced", relevant_lines: Set[Line] = frozenset()
) -> Submission:
    """Answer both tasks in one pass over the conversations, in constant memory but for ids.

    In two steps: an author is returned who is the suspect of a flagged thread; and of that thread those lines of the
    suspect that contribute most to the score, at most 100. That is most that have evidence of their own, because F3
    counts recall nine times as much as precision; who wants few good lines takes the first.

    Parameters
    ----------
    model : Model
    threads : iterable of Thread
        With line numbers as message ids, as `read_pan12` gives them.
    at : str or float
        Operating point, or threshold on the probability.
    relevant_lines : set of Line
        Lines whose writers are wanted too.
    """
    authors: set[str] = set()
    lines: list[Line] = []
    writers: dict[Line, str] = {}
    seen: set[str] = set()
    n_threads = n_flagged = n_abstained = 0
    for thread, assessment in assessed(model, threads, at):
        n_threads += 1
        n_abstained += assessment.abstained
        for message in thread.messages:
            seen.add(message.author)
            line: Any = (thread.thread_id, message.message_id)
            if line in relevant_lines:
                writers[line] = message.author
        if assessment.flag is not None:
            n_flagged += 1
            suspect = assessment.flag.suspect
            authors.add(suspect)
            strongest = _strongest_lines(model, thread, suspect)
            lines += strongest
            writers |= dict.fromkeys(strongest, suspect)
    return Submission(frozenset(authors), tuple(lines), writers, frozenset(seen), n_threads, n_flagged, n_abstained)


def author_figures(returned: Set[str], relevant: Set[str], n_authors: int, at: str = "") -> list[Figure]:
    """Return precision, recall, F1 and F0.5 of the author task, with 95 % intervals.

    Those of precision and recall are exact, authors being the units; those of F are over authors drawn with
    replacement.

    Parameters
    ----------
    returned, relevant : set of str
    n_authors : int
        Of the whole corpus: none is left out, not even where the model abstained.
    at : str
        Operating point, for the record.
    """
    counts = _counts((author, author in returned, author in relevant) for author in returned | relevant)
    of_task = ("author task", at, "author", counts, n_authors)
    return [
        share("author task", "precision", "all", at, [author in relevant for author in returned], unit="author"),
        share("author task", "recall", "all", at, [author in returned for author in relevant], unit="author"),
        _figure("F1", 1.0, 1.0, *of_task),
        _figure("F0.5", 1.0, AUTHOR_BETA**2, *of_task),
    ]


def line_figures(
    returned: Sequence[Line], relevant: Set[Line], writers: Mapping[Line, str], n_authors: int, at: str = ""
) -> list[Figure]:
    """Return precision, recall, F1 and F3 of the line task, and the precision of the first lines.

    The 95 % intervals are over authors drawn with replacement, since the lines of one author are alike. The precision
    of the first k is over conversations that have relevant lines: the first k returned of each, or as many as are
    relevant if these are fewer; where less was returned, what is missing counts as wrong.

    Parameters
    ----------
    returned : sequence of Line
        The best first within a conversation.
    relevant : set of Line
    writers : mapping of Line to str
        The author of each line; for lines that are not in the corpus their conversation stands in.
    n_authors : int
        Of the whole corpus.
    at : str
        Operating point, for the record.
    """
    chosen = frozenset(returned)
    counts = _counts((writers.get(line, line[0]), line in chosen, line in relevant) for line in chosen | relevant)
    of_task = ("line task", at, "line", counts, n_authors)
    return [
        _figure("precision", 1.0, 0.0, *of_task),
        _figure("recall", 0.0, 1.0, *of_task),
        _figure("F1", 1.0, 1.0, *of_task),
        _figure("F3", 1.0, LINE_BETA**2, *of_task),
        *(_first_lines(k, returned, relevant, writers, at) for k in FIRST),
    ]


def _strongest_lines(model: Model, thread: Thread, suspect: str) -> list[Line]:
    rows = [row for row in evidence_rows(model.explain(thread)) if row["author"] == suspect]
    return [(thread.thread_id, row["message_id"]) for row in rows[:MAX_LINES]]


def _first_lines(k: int, returned: Sequence[Line], relevant: Set[Line], writers: Mapping[Line, str], at: str) -> Figure:
    n_relevant = Counter(conversation for conversation, _ in relevant)
    author_of = {line[0]: writers.get(line, line[0]) for line in sorted(relevant)}
    ranked: dict[str, list[bool]] = {conversation: [] for conversation in author_of}
    for line in dict.fromkeys(returned):
        if line[0] in ranked:
            ranked[line[0]].append(line in relevant)
    hits: list[bool] = []
    clusters: list[str] = []
    for conversation, correct in ranked.items():
        n = min(k, n_relevant[conversation])
        hits += [*correct, *[False] * n][:n]
        clusters += [author_of[conversation]] * n
    return share("line task", f"precision of first {k}", "relevant conversations", at, hits, clusters, unit="line")


def _counts(ids: Iterable[tuple[str, bool, bool]]) -> NDArray[np.int64]:
    """Return how many ids of each author are returned, correct and relevant, shape (n, 3)."""
    counts: dict[str, list[int]] = {}
    for author, returned, relevant in ids:
        of_author = counts.setdefault(author, [0, 0, 0])
        of_author[0] += returned
        of_author[1] += returned and relevant
        of_author[2] += relevant
    return np.array(list(counts.values()), dtype=np.int64).reshape(-1, 3)


def _figure(
    measure: str, v: float, w: float, section: str, at: str, unit: str, counts: NDArray[np.int64], n_authors: int
) -> Figure:
    """Return (v + w) correct / (v returned + w relevant): precision is v, w = 1, 0, recall 0, 1, and F_b 1, b^2.

    The interval is the 2.5th and 97.5th percentile over 2,000 samples of all authors, drawn with replacement (Davison
    and Hinkley 1997, section 3.8). Authors with the same counts, most of whom have none, are drawn together: how many
    of each kind are in a sample is multinomial. Where all or none is correct, beyond which resampling cannot see, the
    interval is that of Clopper and Pearson with the number of authors who count.
    """
    weights = np.array([v, 0.0, w])
    returned, correct, relevant = counts.sum(axis=0).tolist()
    n = returned + relevant - correct if v and w else returned if v else relevant
    hits = None if v and w else correct
    if not n:
        return Figure(section, measure, "all", at, unit, None, None, None, n, hits)
    value = (v + w) * correct / (v * returned + w * relevant)
    involved = int((counts @ weights > 0.0).sum())
    if value in (0.0, 1.0):
        low, high = clopper_pearson(int(value) * involved, involved)
    elif involved < 2:  # one author says nothing of others
        low, high = 0.0, 1.0
    else:
        kinds, times = np.unique(counts, axis=0, return_counts=True)
        n_all = max(n_authors, len(counts))
        drawn = np.random.default_rng(0).multinomial(
            n_all, np.append(times, n_all - len(counts)) / n_all, size=RESAMPLES
        )
        totals = drawn[:, :-1] @ kinds
        totals = totals[totals @ weights > 0.0]
        low, high = np.percentile((v + w) * totals[:, 1] / (totals @ weights), [2.5, 97.5]).tolist()
    return Figure(section, measure, "all", at, unit, value, low, high, n, hits)
