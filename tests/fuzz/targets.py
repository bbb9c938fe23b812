"""What is fuzzed: for each format a few inputs to begin with, and what must hold for any bytes.

Whatever the bytes are, a reader gives a right result or a `GroomingFlagError` that quotes no text. Where there is a
second way to the same result, both are taken and compared: compiled and interpreted code, columns and objects, written
and read again. `run` drives the targets with libFuzzer; tests/test_fuzz.py runs them on their seeds and on the corpus.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cache, partial
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import oracle
import pyarrow.parquet
import pytest
import zstandard
from builders import CANARY, PATTERN, bare, lines_of, small_model, thread, threads_of
from conftest import interpreted_module

from grooming_flag import (
    FeatureExtractor,
    GroomingFlagError,
    Message,
    Model,
    Thread,
    features,
    live,
    load_model,
    model,
    read_threads,
    save_model,
)
from grooming_flag.artifact import SUMS, digest, load_card
from grooming_flag.features import OWN, POOLED, Packed
from grooming_flag.fingerprints import Fingerprints
from grooming_flag.io import columns
from grooming_flag.io.flat import read_flat, read_flat_columns
from grooming_flag.io.messages import read_fields, read_message
from grooming_flag.io.pan12 import read_pan12
from grooming_flag.io.scores import encode_row, read_flags, read_scores, score_row
from grooming_flag.io.threads import encode_thread, read_columns
from grooming_flag.io.verdicts import read_verdicts
from grooming_flag.live import CHECKSUM, MAGIC, VERSION
from grooming_flag.policy import FlagState, point_of, read_policy
from grooming_flag.records import ThreadColumns
from grooming_flag.segments import SegmentRule
from grooming_flag.tactics import Tactics

SCRATCH = tempfile.TemporaryDirectory(prefix="grooming_flag-")
FOLDER = Path(SCRATCH.name)
RULE = SegmentRule(4, 2)
GAPS = SegmentRule(4, 2, 3600.0)
TEXT = f"how old are you {CANARY} h3llo, he.llo h e l l o H*LLO tea\u0301 \u2615 @bob www.a.example a@b.example 07700"


class Target(NamedTuple):
    """Inputs to begin with, what must hold for any, and how many bytes of input are enough.

    The check of an input may be thorough, and then also takes the ways to the result that are slow.
    """

    seeds: Callable[[], Sequence[bytes]]
    check: Callable[[bytes, bool], None]
    longest: int = 1024


@contextmanager
def interpreted() -> Iterator[None]:
    """Run what is compiled as Python does without a compiler."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "_kernel", interpreted_module("_kernel"))
        patch.setattr(live, "Tally", interpreted_module("_tally").Tally)
        patch.setattr(live, "pack", interpreted_module("_tally").pack)
        patch.setattr(model, "Answerer", interpreted_module("_answers").Answerer)
        patch.setattr(columns, "Unpacker", interpreted_module("io/_messages").Unpacker)
        yield


@cache
def interpreted_model(rule: SegmentRule) -> Model:
    with interpreted():
        return small_model(2**10, rule).replace()


def told_by(error: BaseException) -> str:
    """Return what an error says, having checked that neither it nor what caused it quotes what was read."""
    caused: BaseException | None = error
    while caused is not None:
        assert CANARY not in str(caused)
        caused = caused.__cause__ or caused.__context__
    return str(error)


def result_of(call: Callable[[], Any]) -> Any:
    """Return what the call gives, or what its error says."""
    try:
        return call()
    except GroomingFlagError as error:
        return told_by(error)


def file_of(name: str, data: bytes) -> Path:
    path = FOLDER / name
    path.write_bytes(data)
    return path


def all_of(read: Callable[..., Iterator[Any]], path: Path) -> tuple[Any, list[str]]:
    """Return what is read of a file, with the errors of what was left out."""
    errors: list[str] = []
    return result_of(lambda: list(read(path, on_bad=lambda error: errors.append(told_by(error))))), errors


def threads_in(batches: list[ThreadColumns]) -> list[Thread]:
    return [one for batch in batches for one in threads_of(batch)]


# --- the kernel --------------------------------------------------------------------------------------------------

SETTINGS = [
    oracle.Settings(2**10),
    oracle.Settings(2**8, char_ngrams=None),
    oracle.Settings(2**10, word_ngrams=1, char_ngrams=(2, 16)),
    oracle.Settings(2**10, char_ngrams=(3, 5)),
]


def kernel_seeds() -> list[bytes]:
    texts = [*TEXT.split(), TEXT, "\U0001f1eb\ufdfa\u200b" * 9, "k" * 40, "t3a" * 99, "o o o o", "www.w://", "\xa0"]
    return [bytes([i]) + "\0".join(texts[i:]).encode() for i in range(len(texts))]


@cache
def scanner(number: int, backend: str) -> features.Scanner:
    """Return a scanner for some settings, which is then used on this backend alone."""
    settings = SETTINGS[number]
    chance = np.random.default_rng(number)
    weights = chance.integers(-(2**15), 2**15, (settings.n_features, 2), np.int16)
    weights *= chance.integers(0, 2, weights.shape, np.int16)
    return FeatureExtractor(settings.n_features, settings.word_ngrams, settings.char_ngrams).scanner(weights)


def packed_of(messages: Sequence[bytes]) -> Packed:
    """Pack messages of two authors who take turns, four a segment."""
    numbers = np.arange(len(messages), dtype=np.int32)
    slots = numbers // 4 * 2 + numbers % 2
    segments = np.arange(slots.max() + 1, dtype=np.int32) // 2
    offsets = np.append(0, np.cumsum(list(map(len, messages)))).astype(np.int64)
    return Packed(b"".join(messages), offsets, slots, segments, [], int(segments[-1]) + 1)


def scanned(packed: Packed, texts: Sequence[str], of: features.Scanner) -> list[Any]:
    """Return all that the kernel says, having compared the quick way to sums with the one that defines the features."""
    weights = np.asarray(of.packed_weights)
    sums = of.sums(packed)
    said: list[Any] = [sums.pooled, sums.own, sums.new]
    for by, column, owners, size in (
        (POOLED, weights << 16 >> 16, packed.segments, packed.n_segments),
        (OWN, weights >> 16, np.arange(len(packed.segments)), len(packed.segments)),
    ):
        counts, buckets, spans = of.emit(packed, by)
        places = np.repeat(owners, counts.new if by == POOLED else counts.distinct)
        expected = np.bincount(places, column[buckets], size)
        assert (sums.pooled if by == POOLED else sums.own).tolist() == expected.tolist()
        said += [counts.new, counts.distinct, buckets, spans]
    found = [buckets[: 2 * n].tolist() for buckets, n in map(of.find, texts)]
    return [*(one.tolist() for one in said), *found]


def check_kernel(data: bytes, thorough: bool) -> None:
    number = data[0] % len(SETTINGS) if data else 0
    messages = data[1:].split(b"\0")
    packed, texts = packed_of(messages), [message.decode("utf-8", "replace") for message in messages]
    compiled = scanned(packed, texts, scanner(number, "compiled"))
    if not thorough:
        return
    with interpreted():
        assert scanned(packed, texts, scanner(number, "interpreted")) == compiled
    weights = np.asarray(scanner(number, "compiled").packed_weights)
    for text, found in zip(texts, compiled[-len(texts) :], strict=True):
        buckets = oracle.buckets([text], SETTINGS[number])
        assert sorted(found[::2]) == sorted(bucket for bucket in buckets if weights[bucket])


# --- threads and messages ----------------------------------------------------------------------------------------


def thread_seeds() -> list[bytes]:
    usual = {"sent_at": 1700000000, "message_id": "m1"}
    dated = {"sent_at": "2030-12-31T23:59:59.999+01:00", "message_id": 7}
    messages = [{"author": "a0", "text": TEXT, **usual}, {"author": "a1", "text": 'hi\n"\\', **dated}]
    row = {"thread_id": "t1", "messages": messages, "label": 1, "suspects": ["a0"], "person": "p", "other": [{}, 1e3]}
    lines = [json.dumps(row).encode(), json.dumps(row, ensure_ascii=False).encode()]
    short = lines_of([thread("hi", "tea", thread_id="t2"), thread("\ud800", thread_id="t3")])
    return [lines[0], lines[1] + b"\n" + short, short + lines[0][:-9] + b"\n" + short, *short.splitlines(True)]


def check_threads(data: bytes, thorough: bool) -> None:
    path = file_of("threads.jsonl", data)
    found, errors = all_of(read_threads, path)
    ways = (nullcontext, small_model(2**10, RULE)), (interpreted, interpreted_model(RULE))
    for use, by in ways[: 1 + thorough]:
        with use():
            batches, others = all_of(read_columns, path)
            assert others == errors
            assert threads_in(batches) == list(map(bare, found))
            answers = list(by.assess_columns(batches))
            assert repr(answers) == repr(list(small_model(2**10, RULE).assess_many(found)))
    if found:
        again, _ = all_of(read_threads, file_of("again.jsonl", b"".join(map(encode_thread, found))))
        assert again == found


def message_seeds() -> list[bytes]:
    row = {"thread_id": "t", "author": "a", "text": TEXT, "sent_at": "2030-12-31T23:59:59Z", "message_id": 1}
    return [json.dumps(row | more).encode() for more in ({}, {"sent_at": 1.5, "surface": "dm"}, {"text": 'ca\ud800"'})]


def check_message(data: bytes, thorough: bool) -> None:
    found = result_of(partial(read_message, data))
    if not isinstance(found, str):
        row = msgspec.to_builtins(found.message) | found.context | {"thread_id": found.thread_id}
        assert read_message(json.dumps(row).encode()) == found
    names = [b"thread_id", b"author", b"text", b"sent_at", b"message_id", b"surface"]
    result_of(partial(read_fields, dict(zip(names, data.split(b"\0"), strict=False))))


# --- other files -------------------------------------------------------------------------------------------------

COMPRESSED = (".gz", ".zst")


def compressed_seeds() -> list[bytes]:
    lines = thread_seeds()[1]
    return [b"\0" + gzip.compress(lines), b"\1" + zstandard.compress(lines), b"\1" + zstandard.compress(lines) * 2]


def check_compressed(data: bytes, thorough: bool) -> None:
    all_of(read_threads, file_of(f"threads.jsonl{ending_of(data, COMPRESSED)}", data[1:]))


def ending_of(data: bytes, endings: Sequence[str]) -> str:
    """Return the ending that the first byte stands for."""
    return endings[data[0] % len(endings) if data else 0]


FLAT = (".csv", ".tsv", ".jsonl", ".parquet", ".arrow")


def flat_seeds() -> list[bytes]:
    rows = [
        {"thread_id": "t1", "author": "a0", "sent_at": "1700000000", "text": TEXT},
        {"thread_id": "t2", "author": "a1", "sent_at": "2030-12-31T23:59:59Z", "text": 'one, "two"'},
        {"thread_id": "t1", "author": "a1", "sent_at": None, "text": ""},
    ]
    table = pyarrow.Table.from_pylist(rows)
    parquet, arrow = BytesIO(), BytesIO()
    pyarrow.parquet.write_table(table, parquet)
    with pyarrow.ipc.new_stream(arrow, table.schema) as stream:
        stream.write_table(table)
    files = []
    for delimiter in ",\t":
        text = StringIO()
        writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
        files.append(text.getvalue().encode())
    files += ["\n".join(map(json.dumps, rows)).encode(), parquet.getvalue(), arrow.getvalue()]
    return [bytes([i]) + file for i, file in enumerate(files)]


def check_flat(data: bytes, thorough: bool) -> None:
    path = file_of(f"log{ending_of(data, FLAT)}", data[1:])
    found, errors = all_of(read_flat, path)
    for use in (nullcontext, interpreted)[: 1 + thorough]:
        with use():
            batches, others = all_of(read_flat_columns, path)
            if isinstance(found, str):
                assert isinstance(batches, str)
            else:
                assert threads_in(batches) == list(map(bare, found))
                assert others == errors


def pan12_seeds() -> list[bytes]:
    text = TEXT.replace("*", "&amp;lt;")
    said = f'<message line="1"><author>a0</author><time>23:59</time><text>{text}</text></message>'
    more = '<message line="2"><author>a1</author><time>00:01</time><text></text></message>'
    whole = f'<conversations><conversation id="t1">{said}{more}</conversation><conversation id="t2"/></conversations>'
    return [f'<?xml version="1.0" encoding="UTF-8"?>\n{whole}'.encode(), whole.encode("utf-16"), whole[:-9].encode()]


def check_pan12(data: bytes, thorough: bool) -> None:
    found = result_of(lambda: list(read_pan12(file_of("corpus.xml", data), {"a0"})))
    if not isinstance(found, str):
        again, errors = all_of(read_threads, file_of("again.jsonl", b"".join(map(encode_thread, found))))
        assert again == found
        assert not errors


def verdict_seeds() -> list[bytes]:
    row = {"thread_id": "t1", "verdict": "confirmed", "reasons": ["age", "gifts"], "suspect": "a0", "probability": 0.5}
    more = {"selection": "sample", "selection_probability": 0.1, "reviewed_at": 1.5, "model": "en"}
    return [json.dumps(one).encode() for one in (row, row | more, row | more | {"verdict": "unsure", "reasons": []})]


def check_verdicts(data: bytes, thorough: bool) -> None:
    found = result_of(lambda: list(read_verdicts(file_of("verdicts.jsonl", data))))
    if not isinstance(found, str):
        path = file_of("again.jsonl", b"\n".join(map(msgspec.json.encode, found)))
        assert list(read_verdicts(path)) == found


SCORES = (".jsonl", ".csv", ".parquet")


def score_seeds() -> list[bytes]:
    rows = list(map(score_row, small_model(2**10, RULE).assess_many([thread("hi", "tea", thread_id=i) for i in "ab"])))
    evidence = {"evidence": [{"message_id": "m1", "author": "a0", "contribution": 0.5, "tactics": ["gifts"]}]}
    table = BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), table)
    lines = "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)])
    return [
        b"\0" + b"".join(encode_row(row | evidence) for row in rows),
        b"\1" + lines.encode(),
        b"\2" + table.getvalue(),
    ]


def check_scores(data: bytes, thorough: bool) -> None:
    path = file_of(f"scores{ending_of(data, SCORES)}", data[1:])
    for read in (read_scores, read_flags):
        result_of(lambda read=read: list(read(path)))


# --- states, models and policies ---------------------------------------------------------------------------------


def state_seeds() -> list[bytes]:
    seeds = []
    for n in (0, 1, 5, 9):
        watch = small_model(2**10, GAPS).watch("t1")
        for i in range(n):
            watch.add(Message("ab\ud800"[i % 3], PATTERN[i], 9e3 * i))
        state = watch.to_bytes()
        seeds += [b"\0" + state, b"\1" + state[HEAD:]]
    return seeds


HEAD = len(MAGIC) + 1 + CHECKSUM + 16


def check_state(data: bytes, thorough: bool) -> None:
    """Check bytes as they are, or, after a first byte that is odd, with a head that lets them pass."""
    state = data[1:]
    if data[:1] and data[0] % 2:
        state = small_model(2**10, GAPS).scoring_digest + state
        state = MAGIC + bytes([VERSION]) + hashlib.blake2b(state, digest_size=CHECKSUM).digest() + state
    compiled = result_of(lambda: resumed(small_model(2**10, GAPS), state))
    if not thorough:
        return
    with interpreted():
        assert result_of(lambda: resumed(interpreted_model(GAPS), state)) == compiled


def resumed(by: Model, state: bytes) -> list[str]:
    """Return what a state goes on to say, having checked that it comes back from bytes as it is."""
    watch = by.resume(state)
    said = [repr(watch.assessment)]
    for i in range(6):
        said.append(repr(watch.add(Message("abcdef"[i], PATTERN[i], 1e3 * i))))
        again = by.resume(watch.to_bytes())
        assert repr(again.assessment) == said[-1]
        assert again.to_bytes() == watch.to_bytes()
    return said


BETWEEN = b"\n----\n"
MODEL_FILES = ("config.json", "weights.safetensors", "fingerprints.safetensors", "metrics.json", SUMS)


def model_seeds() -> list[bytes]:
    tactics = Tactics(["gifts"], np.arange(9, dtype=np.int32), np.ones((9, 1), np.int16), np.zeros(1, np.int64))
    known = Fingerprints.of([thread(TEXT, person="p")])
    seeds = []
    for i, one in enumerate((small_model(2**8), small_model(2**8, RULE).replace(tactics=tactics, fingerprints=known))):
        save_model(one, FOLDER / "seed", metrics={"a": 1} if i else None)
        files = [FOLDER / "seed" / name for name in MODEL_FILES[: 2 + 3 * i]]
        seeds.append(BETWEEN.join(file.read_bytes() for file in files))
    return [*seeds, BETWEEN.join(seeds[1].split(BETWEEN)[:4])]


def check_model(data: bytes, thorough: bool) -> None:
    """Check files of a model folder, with sums that are right unless there are some."""
    folder = FOLDER / "model"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    files = dict(zip(MODEL_FILES, data.split(BETWEEN), strict=False)) | {"README.md": b""}
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())
    for name, content in ({SUMS: sums.encode()} | files).items():
        (folder / name).write_bytes(content)
    result_of(lambda: load_card(folder))
    found = result_of(lambda: load_model(folder))
    if isinstance(found, str):
        return
    said = thread("hi", TEXT, "tea", "garden")
    answer = found.assess(said, 0.5)
    assert answer.probability is None or 0.0 <= answer.probability <= 1.0
    found.explain(said)
    watch = result_of(lambda: found.watch("t", 0.5))
    if not isinstance(watch, str):
        assert repr([watch.add(message) for message in said.messages][-1]) == repr(replace(answer, thread_id="t"))
    save_model(found, folder)
    assert digest(load_model(folder)) == digest(found)


POLICY = """format = 1
[default]
at = "balanced"
min_messages = 10
hysteresis = 0.5
[[rule]]
name = "direct messages"
when = { surface = ["dm"], age_band = "13-15" }
threshold = 0.25
cooldown_hours = 1.5
[[shadow]]
name = "stricter"
at = "sensitive"
model = "models/other"
"""


def policy_seeds() -> list[bytes]:
    return [POLICY.encode(), b'format = 1\ndefault.at = "none"\n']


def check_policy(data: bytes, thorough: bool) -> None:
    found = result_of(lambda: read_policy(data.decode("utf-8", "replace")))
    if isinstance(found, str):
        return
    rule = found.rule_for({"surface": "dm", "age_band": "13-15"})
    for one in (rule, *found.rules, *(shadow.rule for shadow in found.shadows)):
        point = result_of(lambda one=one: point_of(one, small_model(2**10, RULE).operating_points))
        if not isinstance(point, str):
            flag = FlagState()
            for probability in (None, 0.9, 0.0, 1.0):
                flag = one.look(flag, probability, point.threshold, 99, 1e6)


TARGETS = {
    "kernel": Target(kernel_seeds, check_kernel, 512),
    "threads": Target(thread_seeds, check_threads),
    "messages": Target(message_seeds, check_message),
    "states": Target(state_seeds, check_state),
    "models": Target(model_seeds, check_model, 8192),
    "policies": Target(policy_seeds, check_policy),
    "verdicts": Target(verdict_seeds, check_verdicts),
    "scores": Target(score_seeds, check_scores, 8192),
    "flat": Target(flat_seeds, check_flat, 8192),
    "pan12": Target(pan12_seeds, check_pan12),
    "compressed": Target(compressed_seeds, check_compressed),
}
