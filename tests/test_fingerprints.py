"""Fingerprints: a model knows its training threads and persons again, and evaluation refuses to judge on them."""

from __future__ import annotations

import hashlib
import pickle
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import (
    CANARY,
    COMMON,
    bundled,
    error_of,
    labelled_threads,
    needs_bundled_model,
    sentence,
    small_model,
    thread,
    write_threads,
)
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save
from strategies import WORDS, texts

from grooming_flag import DataError, Message, Model, ModelError, ModelIntegrityError, Thread, load_model, save_model
from grooming_flag.evaluation.leaks import check_unseen, is_seen
from grooming_flag.fingerprints import Fingerprints, folded_words
from grooming_flag.segments import SegmentRule
from grooming_flag.training.train import train_files

pytestmark = pytest.mark.usefixtures("quick_evaluations")

NONE = np.empty(0, dtype=np.uint64)


def talk(*words: str, **fields: str) -> Thread:
    return thread(" ".join(words), **fields)


def reformatted(one: Thread) -> Thread:
    """Return the thread as another publisher might give it: nothing but the words is the same."""
    words = " ".join(message.text for message in one.messages).upper().split()
    said = [Message(f"user {i % 3}", "...  ".join(words[i : i + 5]) + "!", 60.0 * i) for i in range(0, len(words), 5)]
    return Thread(f"copy of {one.thread_id}", said)


# --- folding and hashing -----------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(WORDS), max_size=12), st.randoms(use_true_random=False))
def test_words_are_the_same_whatever_case_punctuation_authors_and_messages(
    words: list[str], chance: random.Random
) -> None:
    said = []
    for word in words:
        text = chance.choice([word, word.upper(), word.title(), f"{word}!?", f'"{word}",', f"  {word}\n", f"_{word}_"])
        if said and chance.random() < 0.5:
            said[-1] = Message(said[-1].author, f"{said[-1].text} {text}")
        else:
            said.append(Message(chance.choice("ab"), text))
    assert folded_words(Thread("t", said)) == [word.lower().replace("'", "") for word in words]


def test_words_in_full_width_and_with_another_apostrophe_are_the_same() -> None:
    assert folded_words(thread("Don\u2019t", "\uff24\uff4f\uff4e\uff07\uff54")) == ["dont", "dont"]
    assert folded_words(thread("cafe\u0301 \ufb01ve")) == folded_words(thread("CAF\u00c9", "five"))


@given(texts())
def test_any_text_has_a_fingerprint_that_fits_its_bytes(text: str) -> None:
    found = Fingerprints.of([thread(text, *COMMON, person=text)])
    assert len(found.threads) == 1
    assert len(found.persons) == bool(text)
    assert max(found.threads.tolist() + found.persons.tolist()) < 2**40


def test_fingerprints_are_the_same_in_every_order_and_on_every_machine() -> None:
    threads = labelled_threads(30)
    found, turned = Fingerprints.of(threads), Fingerprints.of(threads[::-1] + threads)
    assert found.threads.tolist() == turned.threads.tolist() == sorted(set(found.threads.tolist()))
    assert found.persons.tolist() == turned.persons.tolist() == sorted(set(found.persons.tolist()))
    assert (len(found.threads), len(found.persons)) == (30, 30)
    known = Fingerprints.of([talk(*COMMON, person="somebody")])
    digests = [hashlib.blake2b(text, digest_size=5).digest() for text in ("".join(COMMON).encode(), b"somebody")]
    assert [known.threads.tolist(), known.persons.tolist()] == [[int.from_bytes(one, "little")] for one in digests]


def test_a_thread_of_seven_words_leaves_nothing_and_one_of_eight_does() -> None:
    for n in (7, 8):
        found = Fingerprints.of([talk(*COMMON[:n])])
        assert len(found.threads) == (n == 8)
        assert found.seen(talk(*COMMON[:n])) == ("thread" if n == 8 else None)


def test_a_thread_is_known_by_itself_first_then_by_its_person() -> None:
    found = Fingerprints.of([talk(*COMMON, person="p"), talk(*COMMON[::-1])])
    assert found.seen(talk(*COMMON, person="other")) == "thread"
    assert found.seen(talk(*COMMON, person="p")) == "thread"
    assert found.seen(talk("tea", person="p")) == "person"
    assert found.seen(talk("tea", person="P")) is None
    assert found.seen(talk("tea")) is None
    assert found.seen(Thread("t", [])) is None


def test_another_word_more_one_less_or_two_swapped_are_another_thread() -> None:
    found = Fingerprints.of([talk(*COMMON)])
    for words in ([*COMMON, "tea"], COMMON[1:], [COMMON[1], COMMON[0], *COMMON[2:]]):
        assert found.seen(talk(*words)) is None


def test_without_threads_there_are_no_fingerprints_and_nothing_is_known() -> None:
    found = Fingerprints.of([])
    assert (len(found.threads), len(found.persons)) == (0, 0)
    assert found.seen(talk(*COMMON, person="p")) is None


@pytest.mark.parametrize("hashes", [[2, 1], [1, 1]])
def test_hashes_out_of_order_or_given_twice_are_refused(hashes: list[int]) -> None:
    for pair in ((np.array(hashes, np.uint64), NONE), (NONE, np.array(hashes, np.uint64))):
        assert "ascending" in str(error_of(lambda pair=pair: Fingerprints(*pair), DataError))  # type: ignore[misc]
    assert "64 bits" in str(error_of(lambda: Fingerprints(np.array([1, 2]), NONE), DataError))  # type: ignore[arg-type]


def test_hashes_cannot_be_changed_nor_are_they_shown() -> None:
    found = Fingerprints.of(labelled_threads(30))
    with pytest.raises(ValueError, match="read-only"):
        found.threads[0] = 1
    assert repr(found) == "Fingerprints(30 threads, 30 persons)"


# --- in a model and in its folder --------------------------------------------------------------------------------


def knowing(threads: list[Thread]) -> Model:
    return small_model(n_features=2**8, rule=SegmentRule(30, 7, 60.5)).replace(fingerprints=Fingerprints.of(threads))


def hashes_of(model: Model) -> list[list[int]]:
    assert model.fingerprints is not None
    return [model.fingerprints.threads.tolist(), model.fingerprints.persons.tolist()]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(knowing(labelled_threads(50)), tmp_path / "model")
    return tmp_path / "model"


def test_a_model_keeps_its_fingerprints_through_replacement_pickling_and_another_prior() -> None:
    model = knowing(labelled_threads(20))
    for same in (model.replace(name="x"), model.with_prior(0.5), pickle.loads(pickle.dumps(model))):  # noqa: S301
        assert hashes_of(same) == hashes_of(model)
    assert small_model().fingerprints is None


def test_a_folder_gives_back_the_fingerprints_that_were_saved(folder: Path, tmp_path: Path) -> None:
    assert hashes_of(load_model(folder)) == hashes_of(knowing(labelled_threads(50)))
    assert sorted(contents(folder)) == [
        "README.md",
        "SHA256SUMS",
        "config.json",
        "fingerprints.safetensors",
        "weights.safetensors",
    ]
    save_model(load_model(folder), tmp_path / "again")
    assert contents(tmp_path / "again") == contents(folder)


def test_a_hash_takes_five_bytes(folder: Path) -> None:
    tensors = load(contents(folder)["fingerprints.safetensors"])
    assert {name: (found.shape, found.dtype) for name, found in tensors.items()} == {
        "threads": ((50, 5), np.uint8),
        "persons": ((50, 5), np.uint8),
    }


def test_a_model_that_saw_no_threads_that_it_knows_of_comes_back(tmp_path: Path) -> None:
    save_model(knowing([]), tmp_path / "model")
    assert hashes_of(load_model(tmp_path / "model")) == [[], []]


def test_a_model_without_fingerprints_has_no_such_file_also_where_one_was(folder: Path) -> None:
    save_model(small_model(n_features=2**8), folder)
    assert "fingerprints.safetensors" not in contents(folder)
    assert load_model(folder).fingerprints is None


def test_fingerprints_can_be_left_out_of_a_folder_and_nothing_else_changes(folder: Path, tmp_path: Path) -> None:
    save_model(load_model(folder).replace(fingerprints=None), tmp_path / "without")
    save_model(load_model(tmp_path / "without"), tmp_path / "again")
    left = contents(tmp_path / "without")
    assert contents(tmp_path / "again") == left
    assert contents(folder).keys() - left.keys() == {"fingerprints.safetensors"}
    assert all(contents(folder)[name] == left[name] for name in left.keys() - {"SHA256SUMS"})


def test_flipped_bytes_of_the_fingerprints_are_refused(folder: Path) -> None:
    path = folder / "fingerprints.safetensors"
    whole = path.read_bytes()
    chance = random.Random(0)
    for place in [0, 8, len(whole) - 1, *chance.sample(range(len(whole)), 50)]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :])
        assert "fingerprints.safetensors" in str(error_of(lambda: load_model(folder), ModelIntegrityError))
    path.unlink()
    assert "missing" in str(error_of(lambda: load_model(folder), ModelIntegrityError))


def test_fingerprints_that_no_sum_vouches_for_are_not_read(folder: Path) -> None:
    sums = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
    (folder / "SHA256SUMS").write_text("".join(line for line in sums if "fingerprints" not in line))
    assert load_model(folder).fingerprints is None


def test_fingerprints_that_cannot_be_used_are_a_model_error(folder: Path) -> None:
    path = folder / "fingerprints.safetensors"
    good = load(path.read_bytes())
    for raw in (
        b"tea",
        save({"threads": good["threads"]}),
        save({**good, "threads": good["threads"].astype(np.uint16)}),
        save({**good, "threads": np.ascontiguousarray(good["threads"][:, :4])}),
        save({**good, "persons": good["persons"].ravel()}),
        save({**good, "persons": np.ascontiguousarray(good["persons"][::-1])}),
    ):
        path.write_bytes(raw)
        names = [name for name in sorted(contents(folder)) if name != "SHA256SUMS"]
        sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
        (folder / "SHA256SUMS").write_text("".join(sums))
        assert str(folder) in str(error_of(lambda: load_model(folder), ModelError))


# --- refusing to judge -------------------------------------------------------------------------------------------

TRAINED_ON = [
    replace(one, messages=[*one.messages, Message("left", CANARY)]) for one in labelled_threads(100, prefix="train")
]
DEVELOPED_ON = labelled_threads(60, prefix="dev")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model trained by the command's own function."""
    place = tmp_path_factory.mktemp("trained")
    train_files(
        [write_threads(place / "train.jsonl", TRAINED_ON)],
        place / "model",
        [write_threads(place / "dev.jsonl", DEVELOPED_ON)],
    )
    return place / "model"


def test_a_trained_model_refuses_its_training_threads_also_under_other_ids_and_formatted_anew(trained: Path) -> None:
    model = load_model(trained)
    copies = [reformatted(one) for one in TRAINED_ON]
    assert is_seen(model, TRAINED_ON).all()
    assert is_seen(model, copies).all()
    error = error_of(lambda: check_unseen(model, {"copies": copies}), DataError)
    assert "copies: 100 of 100, the first copy of traint0" in str(error)
    assert "leave them out or pass --allow-seen" in str(error)
    assert not any(word in str(error) for word in (CANARY, *COMMON))


def test_a_trained_model_refuses_fresh_threads_of_the_persons_it_was_trained_on(trained: Path) -> None:
    chance = random.Random(0)
    fresh = [replace(one, messages=[Message("left", sentence(chance, COMMON, 30))]) for one in TRAINED_ON]
    assert is_seen(load_model(trained), fresh).all()
    assert not is_seen(load_model(trained), [replace(one, person=None) for one in fresh]).any()


def test_a_trained_model_accepts_development_threads_and_others(trained: Path) -> None:
    model = load_model(trained)
    others = labelled_threads(100, prefix="other")
    assert not is_seen(model, [*DEVELOPED_ON, *others]).any()
    check_unseen(model, {"dev": DEVELOPED_ON, "other": others, "nothing": []})


def test_an_error_counts_by_source_and_names_the_first_thread_that_was_seen(trained: Path) -> None:
    fresh = labelled_threads(40, prefix="other")
    sources = {"a": [*fresh[:20], *TRAINED_ON[3:6]], "b": fresh[20:30], "c": [TRAINED_ON[7], *fresh[30:]]}
    error = error_of(lambda: check_unseen(load_model(trained), sources), DataError)
    assert "a: 3 of 23, the first traint3; c: 1 of 11, the first traint7;" in str(error)
    assert "b:" not in str(error)


def test_a_model_without_fingerprints_accepts_everything() -> None:
    assert is_seen(small_model(), TRAINED_ON).tolist() == [False] * 100
    check_unseen(small_model(), {"train": TRAINED_ON})


def test_neither_words_nor_ids_of_training_threads_are_in_the_fingerprints_and_the_card_speaks_of_them(
    trained: Path,
) -> None:
    raw = (trained / "fingerprints.safetensors").read_bytes()
    assert not any(part.encode() in raw for part in (CANARY, "trainperson", "traint", *COMMON))
    assert "hashed fingerprints of the training threads and persons" in (trained / "README.md").read_text()


@needs_bundled_model
def test_the_bundled_model_knows_what_it_was_trained_on_and_has_not_seen_invented_threads() -> None:
    assert bundled().fingerprints is not None
    n_threads = sum(source["threads"] for source in bundled().lineage["training"].values())
    assert 0.9 * n_threads < len(hashes_of(bundled())[0]) <= n_threads
    assert not is_seen(bundled(), TRAINED_ON).any()
