"""PAN-2012: reading the corpus and its lists, the official arithmetic, answers of a model, and the command."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pytest
import zstandard
from builders import CANARY, error_of, model_of_words
from cli import Ran, run
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import fbeta_score

from grooming_flag import DataError, Message, Model, OperatingPoint, Thread, read_threads, save_model
from grooming_flag.evaluation.figures import Figure
from grooming_flag.evaluation.metrics import clopper_pearson
from grooming_flag.evaluation.pan12 import (
    MAX_LINES,
    Retrieval,
    Submission,
    author_figures,
    author_task,
    judge,
    line_figures,
    line_task,
)
from grooming_flag.io.pan12 import read_author_ids, read_line_ids, read_pan12
from grooming_flag.io.threads import read_coded_lines

ANNA, BEN, CARLA, DORA, EMIL = (letter * 32 for letter in "abcde")

CORPUS = f"""<?xml version="1.0" encoding="UTF-8"?>
<conversations>
  <conversation id="c0ffee01">
    <message line="1">
      <author>{ANNA}</author>
      <time>23:58</time>
      <text>how old are you</text>
    </message>
    <message line="2">
      <author>{BEN}</author>
      <time>23:59</time>
      <text>i&amp;apos;m eleven &amp;lt;3 &amp; you?</text>
    </message>
    <message line="3">
      <author>{ANNA}</author>
      <time>00:01</time>
      <text />
    </message>
    <message line="4">
      <author>{ANNA}</author>
      <time>00:02</time>
      <text>don&apos;t tell your mum, tom &amp;amp;amp; jerry</text>
    </message>
  </conversation>
  <conversation id="c0ffee02">
    <message line="1">
      <author>{CARLA}</author>
      <time>09:00</time>
      <text>does the kettle work</text>
    </message>
    <message line="2">
      <author>{DORA}</author>
      <time>09:00</time>
      <text>it works for me</text>
    </message>
    <message line="3">
      <author>{EMIL}</author>
      <time>09:04</time>
      <text>and
for me</text>
    </message>
  </conversation>
  <conversation id="c0ffee03">
    <message line="1">
      <author>{ANNA}</author>
      <time>10:00</time>
      <text>can you come alone</text>
    </message>
  </conversation>
</conversations>
"""


def corpus_file(folder: Path, text: str | bytes = CORPUS, name: str = "corpus.xml") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def conversation(thread_id: str, messages: Iterable[tuple[str, str]], times: Sequence[str] = ()) -> str:
    """Return a conversation of authors and texts in the format of the corpus, all texts escaped once."""
    lines = []
    for i, (author, text) in enumerate(messages):
        time = times[i] if times else f"{i // 60 % 24:02}:{i % 60:02}"
        fields = f"<author>{author}</author><time>{time}</time><text>{escape(text)}</text>"
        lines.append(f'<message line="{i + 1}">{fields}</message>\n')
    return f"<conversation id={quoteattr(thread_id)}>\n{''.join(lines)}</conversation>\n"


def corpus(*conversations: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<conversations>\n{"".join(conversations)}</conversations>\n'


def threads_of(path: Path, suspects: Any = None) -> list[Thread]:
    return list(read_pan12(path, suspects))


def reading(path: Path, suspects: Any = None) -> Callable[[], object]:
    return lambda: threads_of(path, suspects)


# --- the corpus --------------------------------------------------------------------------------------------------


def test_conversations_are_threads_and_line_numbers_message_ids(tmp_path: Path) -> None:
    threads = threads_of(corpus_file(tmp_path))
    assert [thread.thread_id for thread in threads] == ["c0ffee01", "c0ffee02", "c0ffee03"]
    assert [message.message_id for message in threads[0].messages] == [1, 2, 3, 4]
    assert [message.author for message in threads[0].messages] == [ANNA, BEN, ANNA, ANNA]
    assert {message.author for message in threads[1].messages} == {CARLA, DORA, EMIL}


def test_an_empty_text_keeps_its_line(tmp_path: Path) -> None:
    assert threads_of(corpus_file(tmp_path))[0].messages[2] == Message(ANNA, "", 86_460.0, 3)


def test_a_message_without_text_or_time_has_an_empty_one_and_none(tmp_path: Path) -> None:
    text = corpus('<conversation id="c1"><message line="1"><author>a</author></message></conversation>')
    assert threads_of(corpus_file(tmp_path, text))[0].messages == (Message("a", "", None, 1),)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("tea &amp; cake", "tea & cake"),
        ("i&apos;m", "i'm"),
        ("i&amp;apos;m", "i'm"),
        ("i&amp;amp;apos;m", "i'm"),
        ("i&amp;#39;m &amp;#x27;", "i'm '"),
        ("&amp;quot;tea&amp;quot;", '"tea"'),
        ("&lt;3 &amp;lt;3", "<3 <3"),
        ("tom &amp;amp;amp; jerry", "tom & jerry"),
        ("caf&amp;eacute;", "café"),
        ("&amp;notation; &amp;lt &amp;; &amp;#; &amp;#x;", "&notation; &lt &; &#; &#x;"),
        ("?a=1&amp;copy=2&amp;amp", "?a=1&copy=2&amp"),
        ("<![CDATA[<b> & &apos;]]>", "<b> & '"),
        ("&amp;#" + "9" * 30 + ";", "\ufffd"),
        ("&amp;#" + "9" * 5000 + ";", "&#" + "9" * 5000 + ";"),
    ],
)
def test_markup_is_unescaped_however_often_it_was_escaped(tmp_path: Path, written: str, read: str) -> None:
    text = f'<conversation id="c1"><message line="1"><author>a</author><text>{written}</text></message></conversation>'
    assert threads_of(corpus_file(tmp_path, corpus(text)))[0].messages[0].text == read


def test_text_that_was_escaped_very_often_takes_no_longer_than_its_length(tmp_path: Path) -> None:
    text = conversation("c1", [("a", "&" + "amp;" * 1_000_000 + "lt;"), ("a", "&" * 1_000_000)])
    first, second = threads_of(corpus_file(tmp_path, corpus(text)))[0].messages
    assert (first.text, second.text) == ("<", "&" * 1_000_000)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.text(st.characters(categories=["L", "N", "Z", "P"])))))
@example([("a", "&amp;lt;"), ("b", "ünïcode ✓")])
def test_what_is_written_is_read_but_for_references(tmp_path_factory: Any, messages: list[tuple[str, str]]) -> None:
    path = corpus_file(tmp_path_factory.mktemp("any"), corpus(conversation("c1", messages)))
    found = [(message.author, message.text) for thread in threads_of(path) for message in thread.messages]
    plain = [(author, text) for author, text in messages if "&" not in text]
    assert [pair for pair, (_, text) in zip(found, messages, strict=True) if "&" not in text] == plain


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        (["03:20", "03:20", "3:25"], [12_000, 12_000, 12_300]),
        (["23:59", "00:00", "23:58", "00:05"], [86_340, 86_400, 172_680, 173_100]),
        (["22:00", "09:00"], [79_200, 118_800]),
        (["12:05", "12:04", "12:06"], [43_500, 43_500, 43_560]),  # clocks of two programs
        (["00:00", "23:59", "00:01"], [0, 86_340, 86_460]),
        (["12:00", "11:00"], [43_200, 126_000]),
        (["10:00", "soon", "25:00", "", "10:01"], [36_000, None, None, None, 36_060]),
    ],
)
def test_times_never_fall_and_pass_midnight(tmp_path: Path, times: list[str], seconds: list[float | None]) -> None:
    path = corpus_file(tmp_path, corpus(conversation("c1", [("a", "tea")] * len(times), times)))
    assert [message.sent_at for message in threads_of(path)[0].messages] == seconds


def test_the_clock_starts_anew_with_each_conversation(tmp_path: Path) -> None:
    assert threads_of(corpus_file(tmp_path))[2].messages[0].sent_at == 36_000.0


def test_conversations_without_messages_are_left_out(tmp_path: Path) -> None:
    path = corpus_file(tmp_path, corpus(conversation("c1", []), conversation("c2", [("a", "tea")])))
    assert [thread.thread_id for thread in threads_of(path)] == ["c2"]
    assert threads_of(corpus_file(tmp_path, "<conversations/>")) == []


def test_threads_in_which_a_listed_author_wrote_are_labelled_1_wherever_that_is(tmp_path: Path) -> None:
    threads = threads_of(corpus_file(tmp_path), frozenset({ANNA, "nobody"}))
    assert [thread.label for thread in threads] == [1, 0, 1]
    assert [thread.suspects for thread in threads] == [(ANNA,), (), (ANNA,)]
    assert [thread.person for thread in threads] == [ANNA, None, ANNA]


def test_several_listed_authors_of_a_thread_are_one_person_whatever_their_order(tmp_path: Path) -> None:
    for listed in ([EMIL, CARLA], [CARLA, EMIL]):
        thread = threads_of(corpus_file(tmp_path), listed)[1]
        assert (thread.suspects, thread.person) == ((CARLA, EMIL), f"{CARLA}+{EMIL}")


def test_without_a_list_nothing_is_labelled_and_with_an_empty_one_all_are_0(tmp_path: Path) -> None:
    path = corpus_file(tmp_path)
    assert {thread.label for thread in threads_of(path)} == {None}
    assert {thread.label for thread in threads_of(path, frozenset())} == {0}


def test_the_list_may_be_a_file(tmp_path: Path) -> None:
    listed = corpus_file(tmp_path, f"\ufeff{ANNA}\r\n\r\n{EMIL}\r\n", "authors.txt")
    path = corpus_file(tmp_path)
    assert threads_of(path, listed) == threads_of(path, str(listed)) == threads_of(path, {ANNA, EMIL})


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_files_are_read(tmp_path: Path, suffix: str) -> None:
    pack = gzip.compress if suffix == ".gz" else zstandard.ZstdCompressor().compress
    packed = corpus_file(tmp_path, pack(CORPUS.encode()), f"corpus.xml{suffix}")
    assert threads_of(packed) == threads_of(corpus_file(tmp_path))
    cut = corpus_file(tmp_path, packed.read_bytes()[:-20], f"cut.xml{suffix}")
    assert str(error_of(reading(cut), DataError)).startswith(f"{cut}: the compressed file is ")


def test_other_encodings_are_read_if_they_are_declared(tmp_path: Path) -> None:
    text = corpus(conversation("c1", [("a", "café")]))
    latin = corpus_file(tmp_path, text.replace("UTF-8", "ISO-8859-1").encode("latin-1"))
    assert threads_of(latin)[0].messages[0].text == "café"


def test_a_large_corpus_is_read_in_constant_memory(tmp_path: Path) -> None:
    small, large = tmp_path / "small.xml.gz", tmp_path / "large.xml.gz"
    for path, n in ((small, 5_000), (large, 50_000)):
        with gzip.open(path, "wt", compresslevel=1) as file:
            file.write("<conversations>")
            for i in range(n):
                file.write(conversation(f"{i:032x}", [(f"{i}a", "tea " * 20), (f"{i}b", "cake " * 20)]))
            file.write("</conversations>")

    def peak(path: Path) -> tuple[int, int]:
        tracemalloc.start()
        try:
            n = sum(1 for _ in read_pan12(path))
            return n, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    (n_small, memory_small), (n_large, memory_large) = peak(small), peak(large)
    assert (n_small, n_large) == (5_000, 50_000)
    assert memory_large - memory_small < 45_000 * 150  # a hash of each id, against a kilobyte of conversation
    assert memory_large < 8 << 20


def test_a_corpus_on_one_line_is_no_exception(tmp_path: Path) -> None:
    text = corpus(*(conversation(f"c{i}", [("a", "tea " * 50)] * 5) for i in range(3_000))).replace("\n", "")
    path = corpus_file(tmp_path, text)
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_pan12(path)) == 3_000
        assert tracemalloc.get_traced_memory()[1] < len(text) // 2
    finally:
        tracemalloc.stop()


# --- what is refused ---------------------------------------------------------------------------------------------

LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
ATTACKS = {
    "billion laughs": f'<!DOCTYPE x [<!ENTITY l0 "{CANARY}">{LAUGHS}]><conversations>&l11;</conversations>',
    "quadratic": f'<!DOCTYPE x [<!ENTITY a "{CANARY * 1000}">]><conversations>{"&a;" * 1000}</conversations>',
    "external entity": '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]><conversations>&a;</conversations>',
    "external subset": '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd"><conversations/>',
    "parameter entity": '<!DOCTYPE x [<!ENTITY % a SYSTEM "file:///etc/hostname"> %a;]><conversations/>',
    "harmless": "<!DOCTYPE conversations><conversations/>",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_document_types_are_refused_at_once(tmp_path: Path, attack: str) -> None:
    path = corpus_file(tmp_path, f"<?xml version='1.0'?>\n{ATTACKS[attack]}")
    tracemalloc.start()
    try:
        message = str(error_of(reading(path), DataError))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert message.startswith(f"{path}, line 2: declares a document type")


def test_endless_nesting_is_refused_at_once(tmp_path: Path) -> None:
    path = corpus_file(tmp_path, "<conversations>\n" + "<conversations>" * 100_000)
    assert str(error_of(reading(path), DataError)).startswith(f"{path}, line 2: an element that does not belong")


MESSAGE = f"<author>a</author><text>{CANARY}</text>"
WRONG = {
    "no XML": (CANARY, 1),
    "empty": ("", 1),
    "other tags": (f"<a>\n<{CANARY}/></a>", 1),
    "unknown entity": (f"<conversations>\n&{CANARY};</conversations>", 2),
    "unescaped": (corpus(conversation("c", [("a", CANARY)])).replace(CANARY, f"<{CANARY}>"), 4),
    "mismatch": (corpus(conversation("c", [("a", CANARY)])).replace("</text>", f"</{CANARY}>"), 4),
    "bad bytes": (corpus(conversation("c", [("a", CANARY)])).encode().replace(b"</text>", b"\xff</text>"), 4),
    "no id": (f'<conversations>\n<conversation><message line="1">{MESSAGE}', 2),
    "id again": (corpus(conversation("c", [("a", CANARY)]), conversation("c", [("a", CANARY)])), 6),
    "no line number": (f'<conversations>\n<conversation id="c">\n<message>{MESSAGE}</message>', 3),
    "bad line number": (f'<conversations>\n<conversation id="c"><message line="{CANARY}">{MESSAGE}', 2),
    "huge line number": (f'<conversations>\n<conversation id="c"><message line="{"9" * 6000}">{MESSAGE}', 2),
    "no author": (f'<conversations><conversation id="c">\n<message line="1"><text>{CANARY}</text>\n</message>', 3),
    "unknown encoding": (f'<?xml version="1.0" encoding="{CANARY}"?><conversations/>', 1),
    "other encoding": ('<?xml version="1.0" encoding="shift_jis"?><conversations/>', 1),
    "trailing": (f"<conversations/>\n{CANARY}", 2),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_named_by_file_and_line_and_never_by_text(tmp_path: Path, what: str) -> None:
    text, line = WRONG[what]
    path = corpus_file(tmp_path, text)
    error = error_of(reading(path), DataError)
    assert str(error).startswith(f"{path}, line {line}: ")
    chain: BaseException | None = error
    while chain is not None:
        assert CANARY not in f"{chain} {chain!r}"
        chain = chain.__context__


def test_a_file_that_is_cut_short_gives_its_whole_conversations_and_then_an_error(tmp_path: Path) -> None:
    whole = CORPUS[: CORPUS.index("can you")]
    path = corpus_file(tmp_path, whole)
    reader = read_pan12(path)
    assert [next(reader).thread_id, next(reader).thread_id] == ["c0ffee01", "c0ffee02"]
    message = str(error_of(lambda: next(reader), DataError))
    assert message.startswith(f"{path}, line {whole.count(chr(10)) + 1}: cannot be read as XML")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.xml"
    for call in (reading(missing), lambda: read_author_ids(missing), lambda: read_line_ids(missing)):
        assert str(error_of(call, DataError)).startswith(f"{missing}: cannot be read")


# --- the lists ---------------------------------------------------------------------------------------------------


def test_lists_are_read_with_tabs_blanks_and_any_line_ends(tmp_path: Path) -> None:
    path = corpus_file(tmp_path, "c2\t7\r\nc1 12 \n\nc2\t3\n", "lines.txt")
    assert read_line_ids(path) == [("c2", 7), ("c1", 12), ("c2", 3)]
    assert read_author_ids(corpus_file(tmp_path, f" {ANNA} \n{BEN}", "authors.txt")) == {ANNA, BEN}
    assert read_author_ids(corpus_file(tmp_path, "", "authors.txt")) == frozenset()


@pytest.mark.parametrize("line", ["c1", "c1 x", "c1 -3", "c1 3 4", "c1 " + "9" * 6000, "c1 ٣"])
def test_a_list_of_lines_that_is_none_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    path = corpus_file(tmp_path, f"c1\t3\n{line}\n", "lines.txt")
    assert str(error_of(lambda: read_line_ids(path), DataError)).startswith(f"{path}, line 2: ")


def test_a_list_of_authors_with_two_ids_a_line_is_refused(tmp_path: Path) -> None:
    path = corpus_file(tmp_path, f"{ANNA}\nc1\t{BEN}\n", "authors.txt")
    assert str(error_of(lambda: read_author_ids(path), DataError)).startswith(f"{path}, line 2: has 2 fields")


# --- the official arithmetic -------------------------------------------------------------------------------------


def ids(n: int, first: int = 0) -> frozenset[str]:
    return frozenset(f"id {i}" for i in range(first, first + n))


def test_the_published_result_of_the_best_system_is_reproduced() -> None:
    # Villatoro-Tello et al. 2012: 204 authors returned, 200 of them among the 254 listed
    found = author_task(ids(200) | ids(4, 1000), ids(254))
    assert found == Retrieval(204, 200, 254, 0.5)
    assert (f"{found.precision:.4f}", f"{found.recall:.4f}") == ("0.9804", "0.7874")
    assert f"{found.f_beta:.4f}" == "0.9346"


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
@example(0, 0, 0)
@example(0, 5, 5)
@example(5, 0, 0)
def test_the_arithmetic_is_that_of_scikit_learn(correct: int, wrong: int, missed: int) -> None:
    returned, relevant = ids(correct) | ids(wrong, 100), ids(correct) | ids(missed, 200)
    truth = [1] * correct + [0] * wrong + [1] * missed + [0]
    answer = [1] * correct + [1] * wrong + [0] * missed + [0]
    found = author_task(returned, relevant)
    assert (found.returned, found.correct, found.relevant) == (correct + wrong, correct, correct + missed)
    assert found.f_beta == pytest.approx(fbeta_score(truth, answer, beta=0.5, zero_division=0))
    assert found.f1 == pytest.approx(fbeta_score(truth, answer, beta=1.0, zero_division=0))
    lines = line_task({(one, 1) for one in returned}, {(one, 1) for one in relevant})
    assert lines.f_beta == pytest.approx(fbeta_score(truth, answer, beta=3.0, zero_division=0))
    assert (lines.precision, lines.recall) == (found.precision, found.recall)


def test_the_same_line_number_of_another_conversation_is_another_line() -> None:
    assert line_task({("c1", 1), ("c2", 2)}, {("c1", 2), ("c2", 2)}) == Retrieval(2, 1, 2, 3.0)


def by_measure(figures: Iterable[Figure]) -> dict[str, Figure]:
    return {figure.measure: figure for figure in figures}


def test_author_figures_are_those_of_the_task_with_intervals_around_them() -> None:
    returned, relevant = ids(200) | ids(4, 1000), ids(254)
    found, task = by_measure(author_figures(returned, relevant, 200_000, "balanced")), author_task(returned, relevant)
    assert list(found) == ["precision", "recall", "F1", "F0.5"]
    assert {(f.section, f.slice, f.at, f.unit) for f in found.values()} == {
        ("author task", "all", "balanced", "author")
    }
    assert (found["precision"].value, found["recall"].value) == (task.precision, task.recall)
    assert (found["precision"].hits, found["precision"].n) == (200, 204)
    assert (found["recall"].low, found["recall"].high) == clopper_pearson(200, 254)
    assert found["F1"].value == pytest.approx(task.f1)
    assert found["F0.5"].value == pytest.approx(task.f_beta)
    assert found["F0.5"].n == 258


def test_the_interval_of_f_is_that_of_drawing_authors() -> None:
    returned, relevant, n_authors = ids(30) | ids(10, 1000), ids(60), 500
    found = by_measure(author_figures(returned, relevant, n_authors))["F0.5"]
    chance = np.random.default_rng(1)
    kind = np.array([0] * 30 + [1] * 10 + [2] * 30 + [3] * 430)  # correct, wrong, missed, neither
    samples = []
    for _ in range(4000):
        n = np.bincount(chance.choice(kind, n_authors), minlength=4)
        samples.append(Retrieval(n[0] + n[1], n[0], n[0] + n[2], 0.5).f_beta)
    low, high = np.percentile(samples, [2.5, 97.5])
    assert (found.low, found.high) == (pytest.approx(low, abs=0.012), pytest.approx(high, abs=0.012))


def test_figures_are_the_same_each_time_whatever_the_order_of_sets() -> None:
    returned, relevant = sorted(ids(30) | ids(10, 1000)), sorted(ids(60))
    forth = author_figures(frozenset(returned), frozenset(relevant), 500)
    back = author_figures(frozenset(returned[::-1]), frozenset(relevant[::-1]), 500)
    assert forth == back


def test_where_all_or_nothing_is_right_the_interval_is_no_point() -> None:
    perfect = by_measure(author_figures(ids(20), ids(20), 100))
    assert {(f.value, f.low, f.high) for f in perfect.values()} == {(1.0, *clopper_pearson(20, 20))}
    hopeless = by_measure(author_figures(ids(20), ids(10, 50), 100))
    assert (hopeless["F0.5"].value, hopeless["F0.5"].low, hopeless["F0.5"].high) == (0.0, *clopper_pearson(0, 30))


def test_what_is_not_defined_is_none() -> None:
    assert {figure.value for figure in author_figures(frozenset(), frozenset(), 100)} == {None}
    assert by_measure(author_figures(frozenset(), ids(5), 100))["precision"].value is None
    assert by_measure(author_figures(frozenset(), ids(5), 100))["F0.5"].value == 0.0
    assert {figure.value for figure in line_figures([], frozenset(), {}, 0)} == {None}


def test_line_figures_are_those_of_the_task() -> None:
    returned = [("c1", 4), ("c1", 2), ("c2", 1), ("c3", 9)]
    relevant = frozenset({("c1", 2), ("c1", 3), ("c2", 1), ("c4", 1)})
    found = by_measure(line_figures(returned, relevant, {}, 10))
    task = line_task(frozenset(returned), relevant)
    assert (found["precision"].value, found["precision"].hits, found["precision"].n) == (0.5, 2, 4)
    assert (found["recall"].value, found["recall"].hits, found["recall"].n) == (0.5, 2, 4)
    assert found["F1"].value == pytest.approx(task.f1)
    assert found["F3"].value == pytest.approx(task.f_beta)
    assert {figure.unit for figure in found.values()} == {"line"}


def test_first_lines_are_looked_at_in_order_and_missing_ones_are_wrong() -> None:
    returned = [("c1", 4), ("c1", 2), ("c1", 3), ("c1", 5), ("c2", 1), ("c3", 9), ("c2", 2)]
    relevant = frozenset({("c1", 2), ("c1", 3), ("c1", 6), ("c2", 1), ("c4", 1), ("c4", 2)})
    found = by_measure(line_figures(returned, relevant, {}, 10))
    first = {k: (found[f"precision of first {k}"].hits, found[f"precision of first {k}"].n) for k in (1, 3, 5)}
    assert first == {1: (1, 3), 3: (3, 6), 5: (3, 6)}  # c1: no, yes, yes; c2: yes; c4: nothing returned, two wanted


def test_lines_of_one_author_count_as_one_in_intervals() -> None:
    relevant = frozenset((f"c{i}", line) for i in range(20) for line in range(10))
    returned = [line for line in sorted(relevant) if int(line[0][1:]) % 2]
    apart = by_measure(line_figures(returned, relevant, {}, 100))["recall"]
    together = by_measure(line_figures(returned, relevant, {line: f"p{line[0][-1]}" for line in relevant}, 100))[
        "recall"
    ]
    assert apart.value == together.value == 0.5
    assert apart.low is not None
    assert apart.high is not None
    spread = 2 * norm.ppf(0.975) * 0.5 / np.sqrt(20)
    assert apart.high - apart.low == pytest.approx(spread, rel=0.25)
    assert together.high - together.low > apart.high - apart.low  # type: ignore[operator]


# --- what a model answers ----------------------------------------------------------------------------------------


@cache
def model() -> Model:
    words = {"alone": 30_000, "secret": 20_000, "mum": 10_000, "tea": 100, "cake": -100}
    points = {"balanced": OperatingPoint("balanced", 0.5, {"recall": 0.5}), "never": OperatingPoint("never", 1.0)}
    return model_of_words(words, operating_points=points, name="words")


RISKY = [
    (ANNA, "hello"),
    (BEN, "tea"),
    (ANNA, "your mum"),
    (ANNA, "come alone secret"),
    (BEN, "cake"),
    (ANNA, "tea cake"),
]
TALKS = {
    "c1": RISKY,
    "c2": [(CARLA, "tea"), (DORA, "cake tea"), (EMIL, "tea")],
    "c3": [(ANNA, "tea and cake"), (CARLA, "tea")],
    "c4": [(EMIL, "zzz")],  # no word that the model knows
    "c5": [(BEN, "tea"), (ANNA, "alone secret mum")],
}


def talks() -> list[Thread]:
    return [
        Thread(thread_id, [Message(author, text, None, i) for i, (author, text) in enumerate(messages, 1)])
        for thread_id, messages in TALKS.items()
    ]


def test_the_suspects_of_flagged_threads_are_returned_and_every_author_is_counted() -> None:
    answers = judge(model(), talks())
    assert answers.authors == {ANNA}
    assert answers.seen == {ANNA, BEN, CARLA, DORA, EMIL}
    assert (answers.n_threads, answers.n_flagged, answers.n_abstained) == (5, 2, 1)


def test_the_lines_of_the_suspect_are_returned_strongest_first_in_flagged_threads_alone() -> None:
    answers = judge(model(), talks())
    assert [line for line in answers.lines if line[0] == "c1"][:2] == [("c1", 4), ("c1", 3)]
    assert {line[0] for line in answers.lines} == {"c1", "c5"}
    written = {(thread.thread_id, m.message_id): m.author for thread in talks() for m in thread.messages}
    assert {written[line] for line in answers.lines} == {ANNA}
    assert answers.writers == dict.fromkeys(answers.lines, ANNA)


def test_writers_of_relevant_lines_are_told_too() -> None:
    relevant = frozenset({("c1", 2), ("c2", 3), ("c9", 1)})
    writers = judge(model(), talks(), relevant_lines=relevant).writers
    assert (writers[("c1", 2)], writers[("c2", 3)]) == (BEN, EMIL)
    assert ("c9", 1) not in writers


def test_a_higher_threshold_never_returns_more() -> None:
    lower = judge(model(), talks(), 0.0)
    for at in (0.2, 0.5, 0.9, 1.0):
        higher = judge(model(), talks(), at)
        assert higher.authors <= lower.authors
        assert set(higher.lines) <= set(lower.lines)
        lower = higher


def test_no_thread_gives_more_than_so_many_lines() -> None:
    words = [f"q{first}{second}" for first in "abcdefghijk" for second in "abcdefghijk"]
    long = Thread("c", [Message("a", word, None, i) for i, word in enumerate(words, 1)])
    assert len(words) > MAX_LINES
    assert len(judge(model_of_words(dict.fromkeys(words, 100)), [long], 0.0).lines) == MAX_LINES


def test_answers_to_no_threads_are_empty() -> None:
    assert judge(model(), []) == Submission(frozenset(), (), {}, frozenset(), 0, 0, 0)


# --- the command -------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    save_model(model(), tmp_path / "model")
    text = corpus(*(conversation(thread_id, messages) for thread_id, messages in TALKS.items()))
    return {
        "corpus": corpus_file(tmp_path, text),
        "authors": corpus_file(tmp_path, f"{ANNA}\n{EMIL}\n{'f' * 32}\n", "listed.txt"),
        "lines": corpus_file(tmp_path, "c1\t4\nc1\t2\nc9\t1\n", "listed-lines.txt"),
        "model": tmp_path / "model",
        "out": tmp_path / "out",
    }


def answer(files: dict[str, Path], *more: object) -> Ran:
    fixed = (files["corpus"], "--authors", files["authors"], "-o", files["out"], "--model", files["model"])
    return run("pan12", *fixed, *more)


def test_the_command_writes_submissions_and_metrics(files: dict[str, Path]) -> None:
    ran = answer(files, "--lines", files["lines"])
    assert ran.status == 0, ran.err
    assert sorted(path.name for path in files["out"].iterdir()) == ["authors.txt", "lines.txt", "metrics.json"]
    assert (files["out"] / "authors.txt").read_text() == f"{ANNA}\n"
    lines = read_line_ids(files["out"] / "lines.txt")
    assert lines[0] == ("c1", 4)
    assert lines == list(judge(model(), talks()).lines)
    metrics = json.loads((files["out"] / "metrics.json").read_bytes())
    assert metrics["tasks"]["authors"] == {"returned": 1, "correct": 1, "relevant": 3, "beta": 0.5}
    assert metrics["tasks"]["lines"]["relevant"] == 3
    assert (metrics["conversations"], metrics["flagged"], metrics["abstained"], metrics["authors"]) == (5, 2, 1, 6)
    assert (metrics["model"], metrics["at"], metrics["threshold"]) == ("words", "balanced", 0.5)
    assert {figure["unit"] for figure in metrics["figures"]} == {"author", "line"}
    assert all({"value", "low", "high", "n"} <= figure.keys() for figure in metrics["figures"])


def test_the_command_prints_a_table_and_says_what_is_not_in_the_corpus(files: dict[str, Path]) -> None:
    ran = answer(files, "--lines", files["lines"])
    assert b"F0.5" in ran.out
    assert b"F3" in ran.out
    assert "warning: 1 listed authors are not in the corpus" in ran.err
    assert "warning: 1 listed lines are not in the corpus" in ran.err


def test_without_a_list_of_lines_only_authors_are_measured(files: dict[str, Path]) -> None:
    ran = answer(files)
    assert ran.status == 0
    assert b"line task" not in ran.out
    assert (files["out"] / "lines.txt").read_text()
    assert list(json.loads((files["out"] / "metrics.json").read_bytes())["tasks"]) == ["authors"]


def test_two_runs_write_the_same_bytes(files: dict[str, Path]) -> None:
    written = []
    for _ in range(2):
        assert answer(files, "--lines", files["lines"], "--threads", files["out"] / "t.jsonl.gz").status == 0
        written.append({path.name: path.read_bytes() for path in files["out"].iterdir()})
    assert written[0] == written[1]


@pytest.mark.parametrize("name", ["threads.jsonl", "threads.jsonl.gz"])
def test_labelled_conversations_are_written_as_threads_that_read_the_same(files: dict[str, Path], name: str) -> None:
    target = files["out"].parent / name
    assert answer(files, "--threads", target).status == 0
    assert list(read_threads(target)) == threads_of(files["corpus"], files["authors"])
    scored = run("score", target, "-o", "-", "--model", files["model"])
    assert scored.status == 0
    assert len(scored.out.splitlines()) == len(TALKS)


def test_listed_lines_are_marked_in_the_threads(files: dict[str, Path]) -> None:
    target = files["out"].parent / "threads.jsonl"
    assert answer(files, "--lines", files["lines"], "--threads", target).status == 0
    numbers = {t.thread_id: [m.message_id for m in t.messages] for t in read_threads(target)}
    marked = {
        (talk, number)
        for talk, lines in read_coded_lines(target)
        for number, is_marked in zip(numbers[talk], lines, strict=True)
        if is_marked
    }
    assert marked == {("c1", 4), ("c1", 2)}


def test_operating_point_and_threshold_are_chosen(files: dict[str, Path]) -> None:
    assert answer(files, "--at", "never").status == 0
    assert (files["out"] / "authors.txt").read_text() == ""
    assert answer(files, "--threshold", "0").status == 0
    assert json.loads((files["out"] / "metrics.json").read_bytes())["at"] == "threshold 0"
    for wrong in (["--at", "nowhere"], ["--at", "never", "--threshold", "0.5"], ["--threads", "t.parquet"]):
        assert answer(files, *wrong).status == 2


def test_an_input_is_never_overwritten(files: dict[str, Path]) -> None:
    files["out"].mkdir()
    files["authors"] = files["authors"].rename(files["out"] / "authors.txt")
    before = files["authors"].read_bytes()
    ran = answer(files)
    assert ran.status == 1
    assert "is an input too" in ran.err
    assert files["authors"].read_bytes() == before


def test_a_broken_corpus_leaves_no_output_and_shows_no_text(files: dict[str, Path]) -> None:
    whole = files["corpus"].read_text()
    files["corpus"].write_text(whole.replace("tea and cake", CANARY)[:-60])
    ran = answer(files, "--threads", files["out"] / "threads.jsonl")
    assert ran.status == 1
    assert ran.error_lines[-1].startswith(f"error: {files['corpus']}, line ")
    assert list(files["out"].iterdir()) == []
    assert CANARY not in ran.err + ran.out.decode()


def test_no_text_is_in_what_the_command_leaves_but_the_threads(files: dict[str, Path]) -> None:
    files["corpus"].write_text(files["corpus"].read_text().replace("alone", f"alone {CANARY}"))
    ran = answer(files, "--lines", files["lines"])
    assert ran.status == 0
    left = b"".join(path.read_bytes() for path in files["out"].iterdir()) + ran.out + ran.err.encode()
    assert CANARY.encode() not in left
