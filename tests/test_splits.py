"""Splits: nothing that hangs together is in two folds, near-duplicates are found, and the command copies lines."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import CANARY, COMMON, error_of, labelled_threads, lines_of, row_of, sentence, thread, write_threads
from cli import run
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.naive_bayes import BernoulliNB

from grooming_flag import DataError, FeatureExtractor, Message, Thread, read_threads
from grooming_flag.cli.split import split
from grooming_flag.evaluation.splits import (
    CROWD,
    Pair,
    authors_are,
    components,
    folds,
    near_duplicates,
)
from grooming_flag.fingerprints import folded_words

Folds = NDArray[np.int64]


def invented(chance: random.Random, n_words: int = 104) -> list[str]:
    """Return words no two of which are alike, so that the similarity of what is made of them is known."""
    return [f"w{chance.getrandbits(48):x}" for _ in range(n_words)]


def with_changes(words: Sequence[str], n_changes: int, chance: random.Random) -> list[str]:
    """Return the words with every tenth one replaced until there are so many changes; each spoils five shingles."""
    changed = list(words)
    for place in range(7, 7 + 10 * n_changes, 10):
        changed[place] = f"x{chance.getrandbits(48):x}"
    return changed


def said(words: Sequence[str], thread_id: str, **fields: Any) -> Thread:
    texts = [" ".join(words[i : i + 8]) for i in range(0, len(words), 8)]
    return thread(*texts, thread_id=thread_id, **fields)


def partition(threads: Sequence[Thread], groups: Folds) -> set[frozenset[str]]:
    """Return which threads are together, whatever the groups are called."""
    of_group: dict[int, set[str]] = {}
    for one, group in zip(threads, groups.tolist(), strict=True):
        of_group.setdefault(group, set()).add(one.thread_id)
    return {frozenset(ids) for ids in of_group.values()}


def by_id(threads: Sequence[Thread], fold: Folds) -> dict[str, int]:
    return {one.thread_id: number for one, number in zip(threads, fold.tolist(), strict=True)}


# --- author ids --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_threads", "n_with_one_id", "expected"),
    [
        (20, 20, "thread"),
        (20, 10, "thread"),
        (20, 9, "global"),
        (19, 19, "global"),
        (100, 50, "thread"),
        (0, 0, "global"),
    ],
)
def test_an_id_in_half_of_many_threads_means_that_ids_are_given_anew_in_each(
    n_threads: int, n_with_one_id: int, expected: str
) -> None:
    threads = [
        thread("tea", "tea", authors=["a0" if i < n_with_one_id else f"other {i}"], thread_id=str(i))
        for i in range(n_threads)
    ]
    assert authors_are(threads) == expected


# --- components --------------------------------------------------------------------------------------------------


def test_threads_are_linked_by_person_author_and_near_duplicate_through_others_too() -> None:
    threads = [
        thread("tea", authors=["a"], thread_id="0", person="p"),
        thread("tea", authors=["b"], thread_id="1", person="p"),
        thread("tea", "tea", authors=["b", "c"], thread_id="2"),
        thread("tea", authors=["d"], thread_id="3"),
        thread("tea", authors=["e"], thread_id="4"),
        thread("tea", authors=["p"], thread_id="5"),  # an author is no person, though called the same
    ]
    assert components(threads, "global").tolist() == [0, 0, 0, 1, 2, 3]
    assert components(threads, "thread").tolist() == [0, 0, 1, 2, 3, 4]
    assert components(threads, "thread", [Pair(1, 4, 0.9)]).tolist() == [0, 0, 1, 2, 0, 3]
    assert components(threads).tolist() == components(threads, "global").tolist()


def test_whether_authors_link_can_be_said_of_each_thread() -> None:
    threads = [thread("tea", authors=["a0"], thread_id=str(i)) for i in range(4)]
    groups = components(threads, ["thread", "thread", "global", "global"])
    assert partition(threads, groups) == {frozenset("0"), frozenset("1"), frozenset("23")}


def test_ids_that_all_threads_share_link_nothing_by_default() -> None:
    threads = labelled_threads(30)
    assert len(set(components(threads).tolist())) == 30
    assert len(set(components(threads, "global").tolist())) == 1


def test_without_threads_there_are_no_components_and_no_near_duplicates() -> None:
    assert components([]).tolist() == []
    assert near_duplicates([]) == []
    assert near_duplicates([thread("tea"), Thread("u", [])]) == []


# --- folds -------------------------------------------------------------------------------------------------------


@st.composite
def linked_threads(draw: st.DrawFn) -> list[Thread]:
    """Return labelled threads some of which have authors or persons in common."""
    n = draw(st.integers(2, 30))
    return [
        Thread(
            f"t{i}",
            [Message(f"author {draw(st.integers(0, 40))}", "tea") for _ in range(draw(st.integers(1, 2)))],
            draw(st.integers(0, 1)),
            person=draw(st.one_of(st.none(), st.integers(0, 15).map(str))),
        )
        for i in range(n)
    ]


def dealt(threads: Sequence[Thread], n_folds: int, seed: int) -> Folds | None:
    """Return the folds, or None where there are none."""
    try:
        return folds(threads, n_folds, seed)
    except DataError:
        return None


@given(linked_threads(), st.integers(2, 4), st.integers(0, 3))
def test_no_person_and_no_author_is_in_two_folds_and_every_fold_has_both_labels(
    threads: list[Thread], n_folds: int, seed: int
) -> None:
    fold = dealt(threads, n_folds, seed)
    if fold is None:
        return
    homes: dict[tuple[str, str | None], set[int]] = {}
    links = authors_are(threads) == "global"
    for one, number in zip(threads, fold.tolist(), strict=True):
        homes.setdefault(("person", one.person or one.thread_id), set()).add(number)
        for message in one.messages if links else ():
            homes.setdefault(("author", message.author), set()).add(number)
    assert all(len(numbers) == 1 for numbers in homes.values())
    found = {(number, one.label) for one, number in zip(threads, fold.tolist(), strict=True)}
    assert found == {(number, label) for number in range(n_folds) for label in (0, 1)}


@given(linked_threads(), st.integers(2, 3), st.integers(0, 3), st.randoms(use_true_random=False))
def test_folds_do_not_depend_on_the_order_of_threads(
    threads: list[Thread], n_folds: int, seed: int, chance: random.Random
) -> None:
    turned = list(threads)
    chance.shuffle(turned)
    one, other = dealt(threads, n_folds, seed), dealt(turned, n_folds, seed)
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert by_id(threads, one) == by_id(turned, other)


def test_folds_of_a_source_do_not_depend_on_threads_of_other_sources() -> None:
    one, other = labelled_threads(50, prefix="x"), labelled_threads(30, prefix="y")
    alone = folds(one, 3, sources=["x"] * 50)
    both = folds([*other, *one], 3, sources=["y"] * 30 + ["x"] * 50)
    assert both[30:].tolist() == alone.tolist()


def test_one_seed_gives_the_same_folds_and_another_one_others() -> None:
    threads = labelled_threads(60)
    assert folds(threads, 3, 1).tolist() == folds(threads, 3, 1).tolist()
    assert folds(threads, 3, 1).tolist() != folds(threads, 3, 2).tolist()


def test_threads_that_hang_together_in_nothing_are_dealt_out_evenly_in_each_source() -> None:
    threads = labelled_threads(200)
    sources = ["big" if i < 160 else "small" for i in range(200)]
    fold = folds(threads, 4, groups=np.arange(200), sources=sources)
    counts = Counter(zip(sources, (one.label for one in threads), fold.tolist(), strict=True))
    for source, expected in (("big", 20), ("small", 5)):
        assert {counts[source, label, number] for label in (0, 1) for number in range(4)} == {expected}


@pytest.mark.parametrize("share", [0.3, 0.75])
def test_beside_one_huge_component_the_other_folds_are_even(share: float) -> None:
    threads = [replace(one, label=int(i % 20 == 0)) for i, one in enumerate(labelled_threads(1000, n_messages=2))]
    groups = np.arange(1000)
    groups[: int(1000 * share)] = 0
    fold = folds(threads, 5, groups=groups)
    sizes = sorted(np.bincount(fold).tolist())
    risky = sorted(np.bincount(fold, weights=[one.label for one in threads]).tolist())
    assert sizes[3] - sizes[0] <= 2
    assert sizes[4] == 1000 * share
    assert risky[3] - risky[0] <= 1


def test_near_duplicates_are_kept_together_unless_groups_are_given() -> None:
    chance = random.Random(0)
    threads = []
    for i in range(40):
        words = invented(chance)
        threads += [said(with_changes(words, n, chance), f"{i}.{n}", label=i % 2) for n in range(3)]
    fold = folds(threads, 4)
    assert all(len(set(fold[i : i + 3].tolist())) == 1 for i in range(0, 120, 3))
    apart = folds(threads, 4, groups=np.arange(120))
    assert any(len(set(apart[i : i + 3].tolist())) > 1 for i in range(0, 120, 3))


def test_fewer_components_than_folds_is_an_error_that_says_how_to_mend_it() -> None:
    threads = labelled_threads(10)  # too few to see that ids are given anew
    error = error_of(lambda: folds(threads, 3), DataError)
    assert "3 folds of 10 threads that form 1 groups" in str(error)
    assert "fewer folds" in str(error)
    assert "--authors thread" in str(error)


def test_a_fold_of_one_label_is_an_error_that_says_how_to_mend_it() -> None:
    threads = [replace(one, person="p" if one.label else one.person) for one in labelled_threads(40)]
    error = error_of(lambda: folds(threads, 3), DataError)
    assert "has no thread of label 1; those form 1 groups" in str(error)
    assert "fewer folds" in str(error)


@pytest.mark.parametrize(
    ("labels", "part"), [([0] * 30, "both 0 and 1"), ([0, 1] * 14 + [1, None], "t29 has no label")]
)
def test_labels_that_cannot_be_balanced_are_an_error(labels: list[int | None], part: str) -> None:
    threads = [replace(one, label=label) for one, label in zip(labelled_threads(30), labels, strict=True)]
    assert part in str(error_of(lambda: folds(threads, 2), DataError))


# --- leakage -----------------------------------------------------------------------------------------------------


def same_person(chance: random.Random, i: int, label: int) -> list[Thread]:
    own = invented(chance, 12)
    texts = [sentence(chance, [*own, *COMMON], 30) for _ in range(4)]
    return [
        thread(text, authors=["left"], thread_id=f"{i}.{n}", label=label, person=f"p{i}")
        for n, text in enumerate(texts)
    ]


def same_author(chance: random.Random, i: int, label: int) -> list[Thread]:
    return [
        replace(one, person=None, messages=[replace(message, author=f"author {i}") for message in one.messages])
        for one in same_person(chance, i, label)
    ]


def same_text(chance: random.Random, i: int, label: int) -> list[Thread]:
    words = invented(chance)
    return [said(with_changes(words, n % 2, chance), f"{i}.{n}", label=label) for n in range(4)]


def quality(threads: Sequence[Thread], fold: Folds) -> float:
    """Return the ROC-AUC, out of fold, of a model that learns words."""
    rows = FeatureExtractor(2**14, word_ngrams=1, char_ngrams=None).transform(threads)
    labels, scores = np.array([one.label for one in threads]), np.empty(len(threads))
    for number in np.unique(fold):
        fit = BernoulliNB().fit(rows[fold != number], labels[fold != number])
        scores[fold == number] = fit.predict_log_proba(rows[fold == number]) @ [-1.0, 1.0]
    return float(roc_auc_score(labels, scores))


@pytest.mark.parametrize("kind", [same_person, same_author, same_text])
def test_labels_that_are_pure_chance_cannot_be_guessed_across_folds_but_can_without_components(
    kind: Callable[[random.Random, int, int], list[Thread]],
) -> None:
    chance = random.Random(1)
    labels = [0, 1] * 40
    chance.shuffle(labels)
    threads = [one for i, label in enumerate(labels) for one in kind(chance, i, label)]
    assert quality(threads, folds(threads, 5)) < 0.65
    assert quality(threads, folds(threads, 5, groups=np.arange(len(threads)))) > 0.9


# --- near-duplicates ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_changes", [0, 1, 2, 3, 4])
def test_pairs_are_found_if_and_only_if_their_known_similarity_reaches_the_bound(n_changes: int) -> None:
    chance = random.Random(n_changes)
    threads = []
    for i in range(50):
        words = invented(chance)
        threads += [said(words, f"{i} a"), said(with_changes(words, n_changes, chance), f"{i} b")]
    index = (100 - 5 * n_changes) / (100 + 5 * n_changes)  # 100 shingles each
    expected = [Pair(i, i + 1, index) for i in range(0, 100, 2)]
    for bound in (0.5, 0.8, index, 1.0):
        assert near_duplicates(threads, bound) == (expected if index >= bound else [])


def shingles(one: Thread) -> set[tuple[str, ...]]:
    words = folded_words(one)
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}


@given(st.integers(0, 10**6), st.sampled_from([0.3, 0.6, 0.8, 0.95]))
def test_the_search_finds_what_comparing_all_pairs_finds(seed: int, bound: float) -> None:
    chance = random.Random(seed)
    texts = [[chance.choice(COMMON) for _ in range(chance.randint(5, 60))] for _ in range(5)]
    for _ in range(15):
        copy = list(chance.choice(texts))
        for _ in range(chance.randint(0, 3)):
            copy[chance.randrange(len(copy))] = chance.choice(COMMON)
        texts.append(copy[chance.randint(0, 2) :])
    threads = [said(words, str(i)) for i, words in enumerate(texts)]
    sets = [shingles(one) for one in threads]
    expected = {}
    for i, j in combinations(range(len(sets)), 2):
        similarity = len(sets[i] & sets[j]) / max(len(sets[i] | sets[j]), 1)
        if min(len(sets[i]), len(sets[j])) >= 20 and similarity >= bound:
            expected[i, j] = similarity
    found = near_duplicates(threads, bound)
    assert {(pair.i, pair.j): pair.similarity for pair in found} == expected
    assert found == sorted(found)


def test_case_punctuation_authors_and_message_bounds_make_no_difference() -> None:
    words = invented(random.Random(0))
    other = Thread("b", [Message("x", " ".join(words[:50]).upper() + "!!"), Message("y", ",  ".join(words[50:]))])
    assert near_duplicates([said(words, "a"), other]) == [Pair(0, 1, 1.0)]


def test_short_threads_are_no_duplicates_of_each_other() -> None:
    long, short = invented(random.Random(0), 24), invented(random.Random(1), 23)
    repeated = ["tea"] * 500
    threads = [said(words, f"{i} {n}") for i, words in enumerate([long, short, repeated]) for n in range(2)]
    assert near_duplicates(threads) == [Pair(0, 1, 1.0)]


def test_a_crowd_of_copies_hangs_together_and_is_not_compared_pair_by_pair() -> None:
    words, n = invented(random.Random(0)), 500
    threads = [said(words, str(i)) for i in range(n)]
    found = near_duplicates(threads)
    assert len(found) <= CROWD * n
    assert len(set(components(threads, "thread", found).tolist())) == 1


def test_components_of_near_duplicates_do_not_depend_on_the_order_of_threads() -> None:
    chance = random.Random(0)
    stem = invented(chance)
    threads = [said(with_changes(stem, i % 2, chance), f"crowd {i}") for i in range(60)]
    for i in range(20):
        words = invented(chance)
        threads += [said(with_changes(words, n, chance), f"{i} {n}") for n in (0, 1, 4)]
    expected = partition(threads, components(threads, "thread", near_duplicates(threads)))
    for _ in range(3):
        chance.shuffle(threads)
        assert partition(threads, components(threads, "thread", near_duplicates(threads))) == expected


@pytest.mark.parametrize("bound", [0.0, -1.0, 1.01, float("nan")])
def test_a_similarity_that_is_no_share_is_refused(bound: float) -> None:
    assert "min_similarity" in str(error_of(lambda: near_duplicates([], bound), DataError))


# --- the command -------------------------------------------------------------------------------------------------


def read_split(folder: Path) -> tuple[dict[str, Any], list[list[bytes]]]:
    summary = json.loads((folder / "split.json").read_bytes())
    return summary, [
        gzip.decompress((folder / fold["file"]).read_bytes()).splitlines(True) for fold in summary["folds"]
    ]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Return two files of threads, with two near-duplicates across them, fields of others and a line without an end."""
    chance = random.Random(0)
    copies = [said(invented(chance), f"copy {i}", label=1) for i in range(2)]
    first = [*labelled_threads(40, prefix="x"), *copies]
    second = [*labelled_threads(30, prefix="y"), *(replace(one, thread_id=f"{one.thread_id} again") for one in copies)]
    (tmp_path / "first.jsonl").write_bytes(
        b"".join(json.dumps({"moderator": i, **row_of(one)}).encode() + b"\r\n\n" for i, one in enumerate(first))
    )
    (tmp_path / "second.jsonl.gz").write_bytes(gzip.compress(lines_of(second)[:-1]))
    return [tmp_path / "first.jsonl", tmp_path / "second.jsonl.gz"]


def test_folds_hold_the_lines_as_they_were_each_once(files: list[Path], tmp_path: Path) -> None:
    split(files, tmp_path / "out", folds=3)
    _, lines = read_split(tmp_path / "out")
    given_lines = files[0].read_bytes().splitlines(True)[::2]
    given_lines += gzip.decompress(files[1].read_bytes()).splitlines(True)
    given_lines[-1] += b"\n"
    assert Counter(line for fold in lines for line in fold) == Counter(given_lines)
    assert sum(len(list(read_threads(tmp_path / "out" / f"fold-{i}.jsonl.gz"))) for i in (1, 2, 3)) == 74


def test_the_summary_says_what_was_linked_and_what_is_in_each_fold(files: list[Path], tmp_path: Path) -> None:
    split(files, tmp_path / "out", folds=3)
    summary, lines = read_split(tmp_path / "out")
    assert summary["threads"] == 74
    assert summary["persons"] == 70
    assert summary["components"] == 72
    assert summary["largest_component"] == {"threads": 2, "risky": 2}
    assert summary["authors"] == {"first": "thread", "second": "thread"}
    near = summary["near_duplicates"]
    assert (near["pairs"], near["within_files"], near["across_files"]) == (2, 0, 2)
    assert near["by_files"] == [{"files": ["first", "second"], "pairs": 2}]
    assert near["listed"][1] == {
        "threads": ["copy 1", "copy 1 again"],
        "files": ["first", "second"],
        "similarity": 1.0,
    }
    for fold, of_fold in zip(summary["folds"], lines, strict=True):
        rows = [json.loads(line) for line in of_fold]
        assert fold["threads"] == len(rows)
        assert fold["risky"] == sum(row["label"] for row in rows)
        of_first = [row for row in rows if "moderator" in row]
        assert fold["by_source"]["first"]["risky"] == sum(row["label"] for row in of_first)
        assert sum(sum(counts.values()) for counts in fold["by_source"].values()) == len(rows)


def test_near_duplicates_of_two_files_are_in_one_fold(files: list[Path], tmp_path: Path) -> None:
    split(files, tmp_path / "out", folds=3)
    homes: dict[str, set[int]] = {}
    for number, fold in enumerate(read_split(tmp_path / "out")[1]):
        for line in fold:
            homes.setdefault(json.loads(line)["thread_id"].removesuffix(" again"), set()).add(number)
    assert all(len(numbers) == 1 for numbers in homes.values())


def test_splitting_again_gives_the_same_bytes_and_another_seed_others(files: list[Path], tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        split(files, tmp_path / name, folds=3, seed=seed)
    one, two, three = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two", "three")
    )
    assert one == two
    assert one.keys() == three.keys() == {"split.json", "fold-1.jsonl.gz", "fold-2.jsonl.gz", "fold-3.jsonl.gz"}
    assert one != three


def test_no_text_is_in_the_summary_nor_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = [
        replace(one, messages=[replace(message, text=f"{CANARY} {message.text}") for message in one.messages])
        for one in labelled_threads(30)
    ]
    split([write_threads(tmp_path / "in.jsonl", secret)], tmp_path / "out", folds=2)
    shown = capsys.readouterr()
    assert "fold-1.jsonl.gz" in shown.out
    assert CANARY not in shown.out + shown.err + (tmp_path / "out" / "split.json").read_text()


def test_a_component_larger_than_a_fold_is_pointed_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = [replace(one, person="p" if i < 30 else f"q{i}") for i, one in enumerate(labelled_threads(40))]
    split([write_threads(tmp_path / "in.jsonl", threads)], tmp_path / "out", folds=2)
    assert "warning: one component has 75% of the threads" in capsys.readouterr().err


def test_author_ids_are_judged_file_by_file_unless_it_is_said(tmp_path: Path) -> None:
    known = [
        replace(one, messages=[replace(m, author=f"user {i // 2}") for m in one.messages], person=None)
        for i, one in enumerate(labelled_threads(30, prefix="k"))
    ]
    paths = [
        write_threads(tmp_path / "known.jsonl", known),
        write_threads(tmp_path / "anew.jsonl", labelled_threads(30, prefix="n")),
    ]
    split(paths, tmp_path / "auto", folds=2)
    split(paths, tmp_path / "apart", folds=2, authors="thread")
    assert read_split(tmp_path / "auto")[0]["authors"] == {"known": "global", "anew": "thread"}
    assert read_split(tmp_path / "auto")[0]["components"] == 15 + 30
    assert read_split(tmp_path / "apart")[0]["components"] == 60


def test_what_cannot_be_split_leaves_no_file(files: list[Path], tmp_path: Path) -> None:
    doubled = write_threads(tmp_path / "doubled.jsonl", labelled_threads(40, prefix="x"))
    risky = write_threads(tmp_path / "risky.jsonl", [one for one in labelled_threads(40, prefix="z") if one.label])
    for paths, part in (
        ([files[0], doubled], "thread xt0 is in"),
        ([risky], "both 0 and 1 are needed"),
        ([tmp_path / "none.jsonl"], "cannot be read"),
        ([Path("-")], "standard input cannot be read twice"),
    ):
        error = error_of(lambda paths=paths: split(paths, tmp_path / "out", folds=2), DataError)  # type: ignore[misc]
        assert part in str(error)
        assert not (tmp_path / "out").exists()


def test_folds_of_an_earlier_split_are_neither_left_beside_the_new_ones_nor_overwritten_while_read(
    files: list[Path], tmp_path: Path
) -> None:
    split(files, tmp_path / "out", folds=3)
    with pytest.raises(DataError, match=r"fold-3\.jsonl\.gz: is left from a split into more folds"):
        split(files, tmp_path / "out", folds=2)
    with pytest.raises(DataError, match="is an input too"):
        split([tmp_path / "out" / "fold-1.jsonl.gz"], tmp_path / "out", folds=3)
    split(files, tmp_path / "out", folds=3, seed=1)


def test_the_command_exits_with_one_on_bad_data_and_two_on_wrong_usage(files: list[Path], tmp_path: Path) -> None:
    assert run("split", *files, "-o", tmp_path / "out", "--folds", 3, "--authors", "thread").status == 0
    bad = run("split", *files, "-o", tmp_path / "out", "--folds", 3, "--authors", "global")
    assert (bad.status, bad.out) == (1, b"")
    assert [line[:7] for line in bad.error_lines] == ["error: "]
    assert "--authors thread" in bad.err
    for wrong in (("--folds", 1), ("--authors", "some"), ("--seed", -1)):
        assert run("split", *files, "-o", tmp_path / "out", *wrong).status == 2
