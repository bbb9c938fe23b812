"""Live threads: what they say after each message, what their state holds, and which states are refused."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from builders import CANARY, bundled, error_of, labelled_threads, model_of_words, needs_bundled_model, small_model
from hypothesis import given
from hypothesis import strategies as st
from strategies import conversations, texts
from test_segments import rules

from grooming_flag import DataError, FeatureExtractor, Message, Model, ModelError, Thread, live
from grooming_flag.live import MAX_AUTHORS, ThreadState
from grooming_flag.segments import SegmentRule

pytestmark = pytest.mark.usefixtures("backend")

RULES = [
    SegmentRule(),
    SegmentRule(3, 2),
    SegmentRule(4, 0),
    SegmentRule(1, 1),
    SegmentRule(5, 5),
    SegmentRule(6, 3, 60.0),
]
TIMES = st.sampled_from([None, 0.0, 30.0, 61.0, 500.0])


@st.composite
def long_conversations(draw: st.DrawFn) -> list[Message]:
    """Return messages of a few authors and words, with times that leave gaps."""
    words = st.lists(st.sampled_from(["tea", "kettle", "garden", "puzzle", "pebble", "lantern"]), max_size=4)
    message = st.builds(Message, st.sampled_from("abc"), words.map(" ".join), TIMES)
    return draw(st.lists(message, max_size=40))


def resumed(watch: ThreadState, model: Model) -> ThreadState:
    return model.resume(watch.to_bytes(), at=0.3)


def assert_follows(model: Model, messages: Sequence[Message], resumes: Sequence[bool] = ()) -> None:
    """Check the answer after each message, with a state that goes through bytes where it is said."""
    watch = model.watch("t", at=0.3)
    assert watch.assessment == model.assess(Thread("t", []), at=0.3)
    for k, message in enumerate(messages, 1):
        expected = model.assess(Thread("t", messages[:k]), at=0.3)
        assert watch.add(message) == expected
        if k <= len(resumes) and resumes[k - 1]:
            watch = resumed(watch, model)
        assert watch.assessment == expected


@given(conversations(max_size=8), st.sampled_from(RULES), st.lists(st.booleans(), max_size=8))
def test_the_answer_after_each_message_is_that_for_the_messages_so_far(
    messages: list[Message], rule: SegmentRule, resumes: list[bool]
) -> None:
    assert_follows(small_model(rule=rule, sparse=True), messages, resumes)


@given(long_conversations(), st.one_of(rules(), st.sampled_from(RULES)), st.lists(st.booleans(), max_size=40))
def test_segments_close_join_and_settle_as_they_do_in_a_whole_thread(
    messages: list[Message], rule: SegmentRule, resumes: list[bool]
) -> None:
    assert_follows(small_model(rule=rule), messages, resumes)


@given(st.lists(texts(), min_size=1, max_size=4), st.integers(0, 3))
def test_a_found_bucket_is_weighted_and_found_once(found: list[str], seed: int) -> None:
    model = small_model(sparse=True, seed=seed)
    for text in found:
        buckets, n = model.scanner.find(text)
        numbers = [int(number) for number in buckets[: 2 * n]]
        found_buckets = numbers[::2]
        row = model.extractor.transform([Thread("t", [Message("a", text)])]).indices
        weighted = {int(bucket) for bucket in row if model.weights[bucket].any()}
        assert sorted(found_buckets) == sorted(weighted)
        assert numbers[1::2] == [model.scanner.packed_weights[bucket] for bucket in found_buckets]


def test_a_strong_segment_stays_the_strongest_and_of_equal_ones_the_first() -> None:
    model = model_of_words({"tea": 900, "kettle": -900}, segment_rule=SegmentRule(2, 1))
    said = [Message("a", text) for text in ("tea", "", "kettle", "", "tea", "", "", "", "")]
    assert_follows(model, said)
    watch = model.watch("t")
    assert [watch.add(message).segment for message in said][-1] == (0, 2)


def test_a_room_of_many_authors_is_followed() -> None:
    chance = random.Random(7)
    rule = SegmentRule(30, 10)
    said = [Message(f"author {chance.randrange(60)}", f"tea {chance.randrange(9)}") for _ in range(150)]
    assert_follows(small_model(rule=rule), said, [i % 7 == 0 for i in range(150)])


def test_a_message_that_cannot_be_added_changes_nothing() -> None:
    model = small_model()
    watch = model.watch("t", at=0.3)
    watch.add(Message("a", "tea and a kettle"))
    before = watch.to_bytes()
    with pytest.raises((TypeError, AttributeError)):
        watch.add(Message("a", None))  # type: ignore[arg-type]
    assert watch.to_bytes() == before


def test_a_state_whose_message_was_interrupted_says_so_rather_than_something_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = small_model()
    watch = model.watch("t", at=0.3)
    watch.add(Message("a", "tea"))
    kept = watch.to_bytes()

    def interrupt(*_: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr("grooming_flag.live._hash", interrupt)
    with pytest.raises(KeyboardInterrupt):
        watch.add(Message("b", "kettle"))
    monkeypatch.undo()
    for use in (watch.to_bytes, lambda: watch.assessment, lambda: watch.add(Message("a", "tea"))):
        assert "interrupted" in str(error_of(use, DataError))
    assert model.resume(kept, at=0.3).assessment.n_messages == 1


def test_a_number_that_no_author_has_is_refused_by_the_tally() -> None:
    tally = live.Tally(12)
    for number in (1, -1, 7):
        with pytest.raises(IndexError):
            tally.add(number, memoryview(bytearray(8)).cast("i"), 0)


def test_equal_states_give_equal_bytes_whatever_way_they_came_about() -> None:
    model = small_model(rule=SegmentRule(8, 4))
    messages = labelled_threads(1, n_messages=24)[0].messages
    straight, often = model.watch("t", at=0.3), model.watch("t", at=0.3)
    for message in messages:
        straight.add(message)
        often.add(message)
        often = resumed(often, model)
    assert straight.to_bytes() == often.to_bytes()


def test_a_state_does_not_grow_with_the_length_of_its_thread() -> None:
    model = small_model(rule=SegmentRule(20, 5))
    watch = model.watch("t", at=0.3)
    sizes = []
    for i in range(20 * 30):
        watch.add(Message("ab"[i % 2], f"kettle number {i % 20} of the garden {i % 13}"))
        sizes.append(len(watch.to_bytes()))
    assert max(sizes[300:]) <= max(sizes[:300]) + 8  # digits of counts


def test_a_state_holds_no_text_and_shows_none() -> None:
    model = small_model()
    watch = model.watch("t", at=0.3)
    watch.add(Message("a", f"{CANARY} and tea"))
    assert CANARY.encode() not in watch.to_bytes()
    assert CANARY not in repr(watch)
    assert repr(watch) == "ThreadState(thread_id='t', n_messages=1)"


def test_ids_that_are_no_utf_8_and_numbers_beyond_floats_are_kept() -> None:
    model = small_model(rule=SegmentRule(4, 1, 60.0))
    watch = model.watch("t\ud800", at=0.3)
    watch.add(Message("a\udfff", "tea", 1e300))
    again = resumed(watch, model)
    assert again.thread_id == "t\ud800"
    assert again.assessment == watch.assessment


def test_authors_are_counted_up_to_a_bound() -> None:
    model = small_model(rule=SegmentRule(2, 1))
    watch = model.watch("t", at=0.3)
    for i in range(MAX_AUTHORS + 5):
        found = watch.add(Message(str(i), ""))
        assert found.n_authors == min(i + 1, MAX_AUTHORS)
    assert resumed(watch, model).assessment == found
    assert found.n_messages == MAX_AUTHORS + 5


# --- which states are taken --------------------------------------------------------------------------------------


def state(model: Model | None = None, messages: int = 5) -> bytes:
    watch = (model or small_model()).watch("t", at=0.3)
    for i in range(messages):
        watch.add(Message("ab"[i % 2], f"kettle number {i}"))
    return watch.to_bytes()


def test_a_state_goes_on_with_another_prior_and_other_points() -> None:
    model = small_model()
    other = model.with_prior(0.01)
    watch = other.resume(state(model), at="sensitive")
    assert watch.assessment.operating_point == "sensitive"
    messages = [Message("ab"[i % 2], f"kettle number {i}") for i in range(5)]
    assert watch.assessment == other.assess(Thread("t", messages), at="sensitive")


@pytest.mark.parametrize(
    "other",
    [
        lambda: small_model(seed=1),
        lambda: small_model(rule=SegmentRule(100, 10)),
        lambda: small_model().replace(extractor=FeatureExtractor(2**12, char_ngrams=(4, 4), key="secret")),
        lambda: small_model().replace(extractor=FeatureExtractor(2**12, char_ngrams=(4, 4), seed=5)),
        lambda: small_model().replace(extractor=FeatureExtractor(2**12, char_ngrams=(3, 4))),
    ],
    ids=["weights", "segments", "key", "seed", "features"],
)
def test_a_state_of_another_model_is_refused(other: object) -> None:
    assert callable(other)
    error = error_of(lambda: other().resume(state()), ModelError)
    assert "is of another model than small; begin the thread anew" in str(error)


def test_every_changed_byte_and_every_cut_of_a_state_is_refused() -> None:
    model, good = small_model(), state()
    for i in range(len(good)):
        for changed in (good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :], good[:i]):
            error_of(lambda bad=changed: model.resume(bad), DataError)  # type: ignore[misc]
    error_of(lambda: model.resume(good + b"\0"), DataError)


HEAD = len(live.MAGIC) + 1 + live.CHECKSUM


def signed(digested: bytes) -> bytes:
    """Return a state whose checksum is right."""
    checksum = hashlib.blake2b(digested, digest_size=live.CHECKSUM).digest()
    return live.MAGIC + bytes([live.VERSION]) + checksum + digested


@given(st.binary(max_size=64), st.integers(0, 30))
def test_bytes_that_pass_the_checksum_are_still_checked(data: bytes, at: int) -> None:
    """Whatever comes of entries that nobody packed, it is an answer or an error of ours."""
    model = small_model(sparse=True)
    digested = state(model)[HEAD:]
    place = len(model.scoring_digest) + at
    digested = digested[:place] + data + digested[place + len(data) :]
    try:
        watch = model.resume(signed(digested), at=0.3)
    except (DataError, ModelError):
        return
    watch.add(Message("a", "tea"))
    watch.to_bytes()


def test_a_state_whose_segment_has_more_authors_than_messages_is_refused() -> None:
    """Else there could come to be more authors than entries can number."""
    model = small_model()
    size = len(model.scoring_digest)
    digested = state(model)[HEAD:]
    body = live._decoder.decode(digested[size:])
    assert model.resume(signed(digested[:size] + msgspec.msgpack.encode(body)), at=0.3)
    body.n_messages = body.open.start + len(body.open.authors) - 1
    error_of(lambda: model.resume(signed(digested[:size] + msgspec.msgpack.encode(body))), DataError)


def test_a_state_of_another_version_is_refused() -> None:
    good = state()
    error = error_of(lambda: small_model().resume(good[:4] + b"\7" + good[5:]), DataError)
    assert "version" in str(error)


def test_a_model_with_more_than_a_state_can_keep_cannot_be_watched_with() -> None:
    model = small_model(n_features=2**16, rule=SegmentRule(2**16, 1))
    assert "too long segments" in str(error_of(lambda: model.watch("t", at=0.3), ModelError))


def test_the_operating_point_is_checked_at_once() -> None:
    error_of(lambda: small_model().watch("t", at="nowhere"))
    error_of(lambda: small_model().resume(state(), at=1.5))


# --- together ----------------------------------------------------------------------------------------------------


def test_threads_of_execution_that_share_a_state_lose_no_message() -> None:
    model = small_model(rule=SegmentRule(5000, 1))
    watch = model.watch("t", at=0.3)
    said = [[Message(f"author {k}", f"kettle {k} {i}") for i in range(50)] for k in range(4)]

    def say(messages: list[Message]) -> None:
        for message in messages:
            watch.add(message)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(say, said))
    together = model.assess(Thread("t", [message for messages in said for message in messages]), at=0.3)
    now = watch.assessment
    assert (now.score, now.n_messages, now.n_authors) == (together.score, 200, 4)
    assert {risk.author: risk.score for risk in now.authors} == {risk.author: risk.score for risk in together.authors}


def test_tasks_that_take_turns_on_many_states_mix_nothing_up() -> None:
    model = small_model()
    threads = labelled_threads(6)

    async def follow(thread: Thread) -> None:
        watch = model.watch(thread.thread_id, at=0.3)
        for k, message in enumerate(thread.messages, 1):
            assert watch.add(message) == model.assess(Thread(thread.thread_id, thread.messages[:k]), at=0.3)
            await asyncio.sleep(0)

    async def follow_all() -> None:
        await asyncio.gather(*map(follow, threads))

    asyncio.run(follow_all())


@needs_bundled_model
def test_the_bundled_model_follows_a_thread_of_several_segments() -> None:
    model = bundled()
    messages = [message for thread in labelled_threads(30, n_messages=16) for message in thread.messages][:450]
    watch = model.watch("t")
    for k, message in enumerate(messages, 1):
        found = watch.add(message)
        if k % 23 == 0 or k > 430:
            assert found == model.assess(Thread("t", messages[:k]))
            watch = model.resume(watch.to_bytes())
