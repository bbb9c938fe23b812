"""The review page as moderators use it, in a browser: by keys and by mouse, blurred, blind, and with hostile text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from builders import CANARY, PATTERN, labelled_threads, model_of_words

from grooming_flag import Message, Model, Thread
from grooming_flag.io.verdicts import REASONS, Verdict, read_verdicts
from grooming_flag.review import Queue, build_queue, render_page

MODEL = model_of_words({**dict.fromkeys(PATTERN, 3000), "kettle": -400, "soup": -300, "garden": 50})
HOSTILE = "</script><!--<script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;{{7*7}}{% raw %}"
UNSEEN = "\u2028\x00\x1b[31m\u202eab\u200b"
MARKS = "Z" + "\u0301\u0489" * 500
Open = Callable[..., Any]


def threads_of(n: int) -> list[Thread]:
    """Return flagged and other threads, each with a word of its own at the end and times."""
    threads = []
    for i, one in enumerate(labelled_threads(n)):
        said = [*one.messages, Message("right", f"{CANARY}{i}")]
        messages = [replace(message, sent_at=1e9 + 70.0 * k) for k, message in enumerate(said)]
        threads.append(Thread(one.thread_id, messages))
    return threads


def queue_of(threads: list[Thread], at: float = 0.3, **settings: Any) -> Queue:
    return build_queue(MODEL.assess_many(threads, at=at), threads, MODEL, **settings)


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Return a function that opens the page of a queue; at the end nothing was complained of and nothing asked for."""
    said: list[str] = []
    asked: list[str] = []
    contexts = []
    path = tmp_path / "page.html"

    def open_queue(queue: Queue, width: int = 1280, scheme: str = "light", model: Model = MODEL) -> Any:
        path.write_bytes(render_page(queue, model).encode())
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(path.as_uri())
        return tab

    yield open_queue
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if url != path.as_uri() and not url.startswith("blob:")] == []


def press(tab: Any, keys: str) -> None:
    for key in keys:
        tab.keyboard.press(key)


def saved(tab: Any, folder: Path) -> list[Verdict]:
    """Return the verdicts of the file that the page gives."""
    with tab.expect_download() as download:
        press(tab, "s")
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    assert re.fullmatch(r"verdicts-[\dT-]+\.jsonl", path.name)
    assert CANARY not in path.read_text(encoding="utf-8")
    return list(read_verdicts(path))


def title(tab: Any) -> str:
    found: str = tab.locator("h2#title").inner_text()
    return found.removeprefix("Thread ")


# --- verdicts ----------------------------------------------------------------------------------------------------


def test_a_whole_queue_is_reviewed_with_the_keyboard_and_read_back(open_page: Open, tmp_path: Path) -> None:
    queue = queue_of(threads_of(30), n_sampled=3, authors="thread", capacity=6)
    tab = open_page(queue)
    given = []
    for place, review in enumerate(queue.reviews):
        assert title(tab) == review.thread_id
        assert tab.locator("#progress-text").inner_text() == f"{place} of 9 reviewed"
        verdict = list(REASONS)[place % 3]
        press(tab, "r" + verdict[0] + "13" + "n")
        given.append((review.thread_id, verdict, (REASONS[verdict][0], REASONS[verdict][2])))
    assert tab.locator("#status").inner_text() == "All reviewed: save the verdicts."
    assert tab.locator("progress").evaluate("bar => bar.value / bar.max") == 1
    found = saved(tab, tmp_path)
    assert [(one.thread_id, one.verdict, one.reasons) for one in found] == given
    for one, review in zip(found, queue.reviews, strict=True):
        assert one == Verdict(
            thread_id=review.thread_id,
            verdict=one.verdict,
            reasons=one.reasons,
            suspect=review.suspect,
            probability=review.assessment.probability,
            model=MODEL.name,
            selection=review.selection,
            selection_probability=review.selection_probability,
            reviewed_at=one.reviewed_at,
        )
        assert one.reviewed_at is not None
        assert 1.6e9 < one.reviewed_at < 1e10


def test_everything_can_be_done_with_the_mouse(open_page: Open, tmp_path: Path) -> None:
    tab = open_page(queue_of(threads_of(20), authors="thread", capacity=2))
    tab.get_by_role("button", name="Show text").click()
    tab.get_by_role("button", name="Dismissed").click()
    tab.get_by_role("button", name="2 peers").click()
    tab.get_by_role("button", name="Next open").click()
    tab.get_by_role("button", name="Show text").click()
    tab.get_by_role("button", name="Confirmed").click()
    tab.get_by_role("button", name="Undo").click()
    tab.get_by_role("button", name="Unsure").click()
    tab.get_by_role("button", name="Previous").click()
    tab.get_by_role("button", name="Next", exact=False).first.click()
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Save verdicts").click()
    download.value.save_as(tmp_path / "v.jsonl")
    assert [(one.verdict, one.reasons) for one in read_verdicts(tmp_path / "v.jsonl")] == [
        ("dismissed", ("peers",)),
        ("unsure", ()),
    ]


def test_undo_takes_back_one_step_at_a_time_where_it_was_made(open_page: Open, tmp_path: Path) -> None:
    queue = queue_of(threads_of(20), authors="thread", capacity=3)
    first, second = (review.thread_id for review in queue.reviews[:2])
    tab = open_page(queue)
    press(tab, "rc2nrd")
    assert title(tab) == second
    press(tab, "zz")
    assert title(tab) == first
    assert tab.locator("#status").inner_text() == "Undone. Case 1 of 3: confirmed."
    assert [(one.thread_id, one.verdict, one.reasons) for one in saved(tab, tmp_path)] == [(first, "confirmed", ())]
    press(tab, "zz")
    assert tab.locator("#progress-text").inner_text() == "0 of 3 reviewed"
    assert saved(tab, tmp_path) == []
    assert tab.get_by_role("button", name="Save verdicts").is_disabled()


def test_another_verdict_drops_the_reasons_of_the_first_and_a_reason_can_be_taken_off(
    open_page: Open, tmp_path: Path
) -> None:
    tab = open_page(queue_of(threads_of(20), authors="thread", capacity=2))
    press(tab, "rc1d12" + "1")
    pressed = [button.get_attribute("aria-pressed") for button in tab.locator("#reasons button").all()]
    assert pressed == ["false", "true", *["false"] * 6]
    assert [(one.verdict, one.reasons) for one in saved(tab, tmp_path)] == [("dismissed", ("peers",))]
    press(tab, "j5")  # no verdict yet, so no reason either
    assert len(saved(tab, tmp_path)) == 1


def test_leaving_with_unsaved_verdicts_is_warned_of(open_page: Open, tmp_path: Path) -> None:
    tab = open_page(queue_of(threads_of(20), authors="thread", capacity=2))
    asked: list[str] = []
    tab.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    press(tab, "j")
    tab.reload()
    assert asked == []
    press(tab, "rc")
    tab.reload()
    assert asked == ["beforeunload"]
    assert tab.locator("#progress-text").inner_text() == "0 of 2 reviewed"  # no trace of it is kept
    press(tab, "rc")
    saved(tab, tmp_path)
    tab.reload()
    assert asked == ["beforeunload"]


def test_no_verdict_is_taken_before_text_was_shown(open_page: Open) -> None:
    tab = open_page(queue_of(threads_of(20), authors="thread", capacity=3))
    status, progress = tab.get_by_role("status"), tab.locator("#progress-text")
    confirmed = tab.get_by_role("button", name="Confirmed")
    press(tab, "c")
    assert status.inner_text() == "Show the text first (r): a verdict is about what was read."
    confirmed.click(force=True)
    assert progress.inner_text() == "0 of 3 reviewed"
    assert confirmed.get_attribute("aria-disabled") == "true"
    press(tab, "r")
    assert confirmed.get_attribute("aria-disabled") == "false"
    press(tab, "rc")  # hidden again, and read
    press(tab, "nd")
    assert progress.inner_text() == "1 of 3 reviewed"
    tab.locator(".message button").first.click()
    press(tab, "dn")
    assert progress.inner_text() == "2 of 3 reviewed"
    press(tab, "ku")  # back at a thread that was read
    assert status.inner_text() == "unsure. 1 thread left."


def test_what_changed_since_the_last_file_is_unsaved_though_it_is_an_undo(open_page: Open, tmp_path: Path) -> None:
    tab = open_page(queue_of(threads_of(20), authors="thread", capacity=2))
    asked: list[str] = []
    tab.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    status = tab.get_by_role("status")
    press(tab, "rd")
    assert len(saved(tab, tmp_path)) == 1
    first = re.findall(r"1 verdict to (\S+\.jsonl): ", status.inner_text())[0]
    assert "until it is closed" in status.inner_text()
    press(tab, "z")
    tab.close(run_before_unload=True)
    tab.wait_for_timeout(200)
    assert asked == ["beforeunload"]
    assert saved(tab, tmp_path) == []
    assert f"It replaces {first}: delete that." in status.inner_text()
    press(tab, "s")
    assert status.inner_text() == "There are no verdicts yet."


def test_nothing_is_stored_in_the_browser(open_page: Open) -> None:
    tab = open_page(queue_of(threads_of(20), authors="thread", capacity=2))
    press(tab, "rc1n")
    assert tab.evaluate("[localStorage.length, sessionStorage.length, document.cookie, location.hash]") == [
        0,
        0,
        "",
        "",
    ]
    assert tab.evaluate("indexedDB.databases().then(found => found.length)") == 0


def test_single_keys_can_be_switched_off(open_page: Open) -> None:
    tab = open_page(queue_of(threads_of(20), authors="thread", capacity=2))
    press(tab, "?")
    tab.get_by_label("Single keys do this").uncheck()
    tab.keyboard.press("Escape")
    tab.get_by_role("button", name="Show text").click()
    press(tab, "cj")
    assert tab.locator("#progress-text").inner_text() == "0 of 2 reviewed"
    tab.keyboard.press("Control+c")
    tab.get_by_role("button", name="Keys").click()
    tab.get_by_label("Single keys do this").check()
    press(tab, "c")  # while the list is open keys do nothing
    assert tab.locator("#progress-text").inner_text() == "0 of 2 reviewed"


def test_the_legend_has_every_key(open_page: Open) -> None:
    tab = open_page(queue_of(threads_of(20), authors="thread", capacity=2))
    assert not tab.get_by_role("dialog").is_visible()
    press(tab, "?")
    listed = set("".join(tab.locator("dialog kbd").all_inner_texts()))
    buttons = tab.locator("[aria-keyshortcuts]")
    keys = {button.get_attribute("aria-keyshortcuts") for button in buttons.all()}
    assert len(keys) == 11
    assert keys <= listed
    tab.keyboard.press("Escape")
    assert not tab.get_by_role("dialog").is_visible()


# --- what is shown -----------------------------------------------------------------------------------------------


def test_only_the_thread_in_view_is_in_the_document(open_page: Open) -> None:
    queue = queue_of(threads_of(40), authors="thread")
    assert len(queue.reviews) > 10
    tab = open_page(queue)
    for review in queue.reviews[:3]:
        press(tab, "w")
        html = tab.evaluate("document.documentElement.outerHTML")
        assert set(re.findall(f"{CANARY}\\d+", html)) == {review.thread.messages[-1].text}
        assert tab.locator(".message").count() == len(review.thread.messages)
        press(tab, "j")


def test_text_is_blurred_until_it_is_asked_for(open_page: Open) -> None:
    tab = open_page(queue_of(threads_of(20), authors="thread", capacity=2))
    rows, blurred = tab.locator(".message"), tab.locator(".blurred")
    n = rows.count()
    assert n > 5
    assert blurred.count() == n
    assert all("blur" in one.evaluate("e => getComputedStyle(e).filter") for one in blurred.all())
    assert all(one.get_attribute("aria-hidden") == "true" for one in blurred.all())
    second = rows.nth(1).get_by_role("button")
    second.focus()
    tab.keyboard.press("Enter")
    assert blurred.count() == n - 1
    assert tab.evaluate("document.activeElement.textContent").startswith("Hide")
    tab.keyboard.press("Enter")
    assert blurred.count() == n
    blurred.first.click()
    assert blurred.count() == n - 1
    press(tab, "r")
    assert blurred.count() == 0
    rows.nth(1).get_by_role("button", name="Hide").click()
    assert blurred.count() == 1
    press(tab, "j")
    assert blurred.count() == rows.count()


def test_evidence_comes_in_context_and_the_rest_on_demand(open_page: Open) -> None:
    said = ["tea"] * 30
    said[10], said[20], said[21], said[28] = "clockwork", "harbour tangerine", "umbrella", "kettle"
    found = Thread("t", [Message("ab"[i % 2], text) for i, text in enumerate(said)])
    tab = open_page(queue_of([found], at=0.0))
    numbers = tab.locator(".message .number")
    assert numbers.all_inner_texts() == ["10", "11", "12", "20", "21", "22", "23", "29"]
    assert tab.locator("#for li").all_inner_texts() == [
        "+0.73 message 21 by a",
        "+0.37 message 11 by a",
        "+0.37 message 22 by b",
    ]
    assert tab.locator("#against li").all_inner_texts() == ["−0.05 message 29 by a"]
    assert [row.get_attribute("data-level") for row in tab.locator(".message.for").all()] == ["2", "4", "2"]
    amounts = tab.locator(".message.for .amount").all_inner_texts()
    assert amounts == ["for +0.37", "for +0.73", "for +0.37"]
    tab.get_by_role("button", name="Show 7 messages more").click()
    assert numbers.count() == 8 + 7
    press(tab, "w")
    assert numbers.count() == 30
    tab.locator("#against").get_by_role("button").click()
    assert tab.evaluate("document.activeElement.closest('.message').id") == "m28"


def test_no_evidence_is_said_to_be_none(open_page: Open) -> None:
    tab = open_page(queue_of([Thread("t", [Message("a", "clockwork")])], at=0.0))
    assert tab.locator("#against").inner_text() == "None: no message speaks against the pattern."
    assert tab.locator("#tactics").inner_text() == "No message shows one by itself."


def test_a_probability_next_to_0_or_1_is_not_rounded_to_it(open_page: Open) -> None:
    sure = MODEL.with_prior(1.0 - 1e-7)
    found = Thread("t", [Message("a", word) for word in PATTERN])
    for model, shown in ((sure, "above 0.9999"), (MODEL.with_prior(1e-7), "below 0.0001")):
        queue = build_queue(model.assess_many([found], at=0.0), [found], model)
        assert f"Probability\n{shown}\n" in open_page(queue, model=model).locator("#facts").inner_text()


def test_the_trend_is_drawn_and_told(open_page: Open) -> None:
    (review,) = (queue := queue_of([Thread("t", [Message("a", word) for word in PATTERN])], at=0.0)).reviews
    drawing = open_page(queue).get_by_role("img")
    told = drawing.get_attribute("aria-label")
    assert told.startswith("Probability ")
    assert f"{review.assessment.probability:.2f} after message 12" in told
    assert len(drawing.locator("polyline").get_attribute("points").split()) == 12


def test_threads_of_one_suspect_are_one_case(open_page: Open) -> None:
    threads = [Thread(f"t{n}", [Message("ann", word) for word in PATTERN[:n]]) for n in (12, 9, 7)]
    tab = open_page(queue_of(threads, at=0.1, capacity=2))
    assert tab.locator("#place").inner_text() == "Case 1 of 1, thread 1 of 2"
    assert "1\nflagged threads of this suspect outside this case" in tab.locator("#facts").inner_text()
    press(tab, "ru")
    tab.get_by_role("button", name="Thread 2").click()
    assert title(tab) == "t9"
    assert tab.locator("#siblings button").all_inner_texts() == ["Thread 1: unsure", "Thread 2"]


def test_a_queue_with_a_sample_is_blind_until_the_verdict(open_page: Open) -> None:
    threads = [*threads_of(20), Thread("short", [Message("left", "tea")])]
    queue = queue_of(threads, n_sampled=99, capacity=4, authors="thread")
    tab = open_page(queue)
    status = tab.get_by_role("status")
    shapes, told = set(), set()
    for review in queue.reviews:
        before = tab.locator("#facts").inner_text()
        shapes.add(re.sub(r"(Suspect\n).*|\d+", r"\1", before))
        assert tab.locator("svg").count() == 0
        assert not re.search(r"[+−]\d*\.\d|%", tab.locator("main").inner_text().replace("+1 min", ""))
        assert tab.locator(".message .tactics").count() == 0
        press(tab, "rd")
        after = tab.locator("#facts").inner_text()
        p = review.assessment.probability
        assert ("the model abstains" if p is None else f"Probability\n{p:.4f}"[:15]) in after
        assert ("The model abstains, " if p is None else "Probability ") in status.inner_text()
        assert ("drawn at random" if review.selection == "sample" else "flagged") in status.inner_text()
        told.add(re.findall("drawn at random, not flagged|not drawn at random", after)[0])
        press(tab, "n")
    assert len(shapes) == 1
    assert len(told) == 2


def outline(tab: Any) -> dict[str, Any]:
    """Return what the page shows of the thread in view but for its words and the places of its messages."""
    press(tab, "w")
    rows = tab.locator(".message")
    return {
        "rows": rows.count(),
        "amounts": sorted(row.strip() for row in rows.locator(".amount").all_inner_texts()),
        "levels": sorted(str(row.get_attribute("data-level")) for row in rows.all()),
        "kinds": sorted(re.sub("message|suspect", "", str(row.get_attribute("class"))).strip() for row in rows.all()),
        "aside": re.sub(r"message \d+ by \w+", "", tab.locator("aside").inner_text()),
    }


def test_a_blind_page_shows_the_same_of_a_thread_whatever_its_score(open_page: Open) -> None:
    said = {
        "all for": PATTERN[:10],
        "all against": ["kettle", "soup"] * 5,
        "nothing": ["tea"] * 10,
        "hints": ["how old are you", "don't tell your mum"] * 5,
        "both": [*PATTERN[:5], *["kettle", "soup"] * 3][:10],
    }
    threads = [Thread(name, [Message("ab"[i % 2], text) for i, text in enumerate(said[name])]) for name in said]
    queue = queue_of(threads, at=0.6, n_sampled=9, authors="thread")
    assert {review.selection for review in queue.reviews} == {"flagged", "sample"}
    tab = open_page(queue)
    shown = []
    for _ in said:
        shown.append(outline(tab))
        press(tab, "j")
    assert shown[1:] == shown[:-1]
    assert shown[0]["amounts"] == sorted(
        [*(f"highest {i}" for i in range(1, 6)), "", "", *("lowest 1", "lowest 2", "lowest 3")]
    )


def test_without_a_sample_nothing_is_hidden(open_page: Open) -> None:
    queue = queue_of(threads_of(20), authors="thread", capacity=1)
    facts = open_page(queue).locator("#facts").inner_text()
    assert f"{queue.reviews[0].assessment.probability:.2f}\nif 1 in 10 threads shows the pattern" in facts
    assert "that this author drives it, given the pattern" in facts


def test_an_empty_queue_says_so(open_page: Open) -> None:
    tab = open_page(queue_of([Thread("t", [Message("a", "tea")])]))
    assert tab.locator("h2#title").inner_text() == "Nothing to review"
    assert not tab.locator("#verdict, #queue, .columns").first.is_visible()
    press(tab, "c")
    assert tab.locator("button:visible").count() == 0


def test_a_verdict_leaves_the_focus_where_it_was(open_page: Open) -> None:
    tab = open_page(queue_of(threads_of(20), authors="thread", capacity=2, n_sampled=1))
    tab.locator(".message button").nth(2).focus()
    row = tab.evaluate("document.activeElement.closest('.message').id")
    press(tab, "r")
    tab.locator(f"#{row} button").focus()
    press(tab, "c")
    assert tab.evaluate("document.activeElement.closest('.message').id") == row
    tab.locator("#reasons button").nth(1).focus()
    press(tab, "s")
    assert tab.evaluate("document.activeElement.textContent") == "2 secrecy"


# --- hostile text ------------------------------------------------------------------------------------------------


def hostile_threads() -> list[Thread]:
    name = HOSTILE[:20] + UNSEEN + MARKS
    said = [f"{HOSTILE} {UNSEEN}", "clockwork", f"{MARKS} velvet", "tea", "x" * 100_000, "\u202e" * 3000, "\ud800 שלום"]
    messages = [Message(name if i % 2 else "b", text, message_id=name + str(i)) for i, text in enumerate(said)]
    return [Thread(name, messages), Thread("plain", [Message("b", "clockwork"), Message("c", "tea")])]


@pytest.mark.parametrize("width", [375, 1280])
def test_hostile_text_is_shown_as_text(open_page: Open, width: int) -> None:
    queue = queue_of(hostile_threads(), at=0.0, authors="thread")
    tab = open_page(queue, width)
    dialogs: list[str] = []
    tab.on("dialog", lambda dialog: (dialogs.append(dialog.type), dialog.dismiss()))
    if title(tab) == "plain":
        press(tab, "j")
    press(tab, "rw")
    first = tab.locator("#m0 .text").inner_text()
    assert first == f"{HOSTILE} U+2028U+0000U+001B[31mU+202EabU+200B"
    assert tab.locator("main img, main script, main iframe").count() == 0
    assert tab.locator("#m5 .text").inner_text().startswith("U+202E × 2000")
    assert "U+D800" in tab.locator("#m6 .text").inner_text()
    assert title(tab).startswith(HOSTILE[:20] + "U+2028U+0000")
    shown = tab.evaluate("document.body.innerText")
    assert not re.search("[\u0301\u0489]{5}", shown)
    assert not {"\u202e", "\u2028", "\x00", "\x1b", "\u200b"} & set(shown)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert tab.locator("#m4 .text").evaluate("e => e.textContent.length") < 2100
    tab.get_by_role("button", name="Show all 100,000 characters").click()
    assert tab.locator("#m4 bdi").last.evaluate("e => e.textContent.length") == 100_000
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert dialogs == []


def test_what_is_stacked_or_turned_stays_in_its_row(open_page: Open) -> None:
    tab = open_page(queue_of(hostile_threads()[:1], at=0.0))
    press(tab, "rw")
    boxes = [row.bounding_box() for row in tab.locator(".message").all()]
    assert all(below["y"] >= above["y"] + above["height"] for above, below in pairwise(boxes))
    styles = tab.locator(".message, .message .who, .message .text").evaluate_all(
        "all => all.map(e => getComputedStyle(e).overflow)"
    )
    assert set(styles) == {"clip"}
    isolated = tab.locator(".message bdi").evaluate_all("all => all.map(e => getComputedStyle(e).unicodeBidi)")
    assert set(isolated) <= {"isolate", "plaintext"}
    tab.locator("#m2").scroll_into_view_if_needed()
    before = [tab.locator(f"#m{place}").screenshot() for place in (1, 3)]
    tab.locator("#m2 .text bdi").evaluate("e => { e.style.visibility = 'hidden' }")
    assert [tab.locator(f"#m{place}").screenshot() for place in (1, 3)] == before


def test_verdicts_on_hostile_ids_are_read_back(open_page: Open, tmp_path: Path) -> None:
    queue = queue_of(hostile_threads(), at=0.0, authors="thread")
    tab = open_page(queue)
    press(tab, "rcnrc")
    assert [one.thread_id for one in saved(tab, tmp_path)] == [review.thread_id for review in queue.reviews]


REFUSED = """async () => {
  const refused = [];
  document.addEventListener("securitypolicyviolation", event => refused.push(event.effectiveDirective));
  const image = new Image();
  image.src = "https://example.org/x.png";
  await fetch("https://example.org/").catch(() => null);
  document.body.append(Object.assign(document.createElement("style"), {textContent: "* { color: red }"}));
  document.body.setAttribute("style", "color: red");
  try { document.body.innerHTML = "<p>"; } catch { refused.push("markup"); }
  try {
    const script = document.createElement("script");
    script.textContent = "window.ran = true";
    document.body.append(script);
  } catch { refused.push("script"); }
  await new Promise(done => setTimeout(done, 50));
  return [[...new Set(refused)].sort(), "ran" in window];
}"""


def test_the_policy_of_the_page_refuses_all_but_its_own_style_and_script(browser: Any, tmp_path: Path) -> None:
    page = render_page(queue_of(threads_of(4), at=0.0), MODEL)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in policy
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    tab = browser.new_page()
    tab.goto((tmp_path / "page.html").as_uri())
    refused, ran = tab.evaluate(REFUSED)
    assert {"connect-src", "img-src", "markup", "script", "style-src-attr", "style-src-elem"} <= set(refused)
    assert not ran
    tab.close()


# --- for everybody -----------------------------------------------------------------------------------------------

NAMES = """() => [...document.querySelectorAll("button, input, progress, a, summary, nav, section, aside, [role]")]
  .filter(one => one.checkVisibility())
  .filter(one => !["list", "status"].includes(one.getAttribute("role")) && !one.closest("aside section"))
  .filter(one => !(one.getAttribute("aria-label") || document.getElementById(one.getAttribute("aria-labelledby"))
    || one.labels?.length || one.textContent).toString().trim())
  .map(one => one.outerHTML)"""
CONTRASTS = """() => {
  const channels = color => color.match(/[\\d.]+/g).map(Number);
  const luminance = color => {
    const linear = c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
    const [r, g, b] = channels(color).map(c => linear(c / 255));
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = one => {
    const color = getComputedStyle(one).backgroundColor;
    return (channels(color)[3] ?? 1) === 1 ? color : ground(one.parentElement);
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    const words = walker.currentNode.data.trim();
    if (!words || !one.checkVisibility() || one.closest(":disabled, .hidden, .skip, script")) continue;
    const color = getComputedStyle(one)[one.closest("svg") ? "fill" : "color"];
    const [light, dark] = [color, ground(one)].map(luminance).sort((a, b) => b - a);
    found.push([(light + .05) / (dark + .05), words.slice(0, 20)]);
  }
  return found;
}"""

STOPS = """[...document.querySelectorAll("a, button, summary, input")]
  .filter(one => one.checkVisibility() && !one.disabled).length"""
FOCUSED = """() => {
  const one = document.activeElement;
  if (one === document.body) return null;
  const box = one.getBoundingClientRect(), style = getComputedStyle(one);
  const all = [...document.querySelectorAll("a, button, summary, input")];
  const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  const isSeen = box.top >= 0 && box.bottom <= innerHeight && (one.contains(top) || top?.contains(one));
  const width = parseFloat(style.outlineWidth), reach = parseFloat(style.outlineOffset) + width;
  const isClipped = one.closest(".message") && reach > 0;
  const isOutlined = width >= 2 && style.outlineStyle !== "none" && !isClipped;
  return [all.indexOf(one), isSeen, isOutlined];
}"""
MOVING = """[...document.querySelectorAll("*")].map(one => getComputedStyle(one)).filter(style =>
  style.transitionDuration !== "0s" || style.animationName !== "none" || style.scrollBehavior !== "auto").length"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_contrast(open_page: Open, scheme: str) -> None:
    said = [*PATTERN, "kettle", "soup", *["kettle soup"] * 3, f"tea {UNSEEN}", "garden", "tea"]
    found = Thread("t", [Message("ab"[i % 2], text, 60.0 * i) for i, text in enumerate(said)])
    tab = open_page(queue_of([found], at=0.0), scheme=scheme)
    tab.locator("summary").click()
    levels = set()
    for keys in ("r", "w", "c1", "?"):
        press(tab, keys)
        if keys != "?":
            tab.get_by_role("button", name="Hide text").hover()
        contrasts = tab.evaluate(CONTRASTS)
        assert len(contrasts) > 60
        assert [what for ratio, what in contrasts if ratio < 4.5] == []
        levels |= {row.get_attribute("data-level") for row in tab.locator(".message").all()}
    assert {"4", None} < levels


def test_controls_and_regions_have_names_and_headings_an_order(open_page: Open) -> None:
    tab = open_page(queue_of(threads_of(20), authors="thread", capacity=2, n_sampled=1))
    for keys in ("", "r", "c", "w"):
        press(tab, keys)
        assert tab.evaluate(NAMES) == []
    levels = tab.evaluate(
        "[...document.querySelectorAll('h1, h2, h3')].filter(e => e.checkVisibility()).map(e => +e.tagName[1])"
    )
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert tab.locator("html").get_attribute("lang") == "en"
    for landmark in ("banner", "main", "navigation", "complementary"):
        assert tab.get_by_role(landmark).count() == 1
    assert tab.get_by_role("region", name="Verdict").count() == 1
    ids = tab.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids))


def test_the_tab_key_goes_through_everything_in_order_and_out_again(open_page: Open) -> None:
    tab = open_page(queue_of(threads_of(20), authors="thread", capacity=2))
    press(tab, "rc")
    expected = tab.evaluate(STOPS)
    seen = []
    for _ in range(expected + 1):
        tab.keyboard.press("Tab")
        seen.append(tab.evaluate(FOCUSED))
    stops = [stop for stop in seen if stop]
    assert len(stops) == expected
    assert [place for place, _, _ in stops] == sorted(place for place, _, _ in stops)
    assert all(is_seen and has_outline for _, is_seen, has_outline in stops)


def test_buttons_say_what_they_do_now(open_page: Open) -> None:
    tab = open_page(queue_of(threads_of(20), authors="thread", capacity=2))
    both = tab.locator("#whole, #reveal")
    assert both.all_inner_texts() == ["w Whole thread", "r Show text"]
    press(tab, "wr")
    assert both.all_inner_texts() == ["w Evidence only", "r Hide text"]
    assert tab.locator("#whole[aria-pressed], #reveal[aria-pressed]").count() == 0  # or both would be said at once


def test_the_list_of_keys_opens_at_its_heading(open_page: Open) -> None:
    tab = open_page(queue_of(threads_of(20), authors="thread", capacity=2))
    press(tab, "? ")
    assert tab.evaluate("document.activeElement.id") == "keys-title"
    assert tab.get_by_label("Single keys do this").is_checked()


def test_a_narrow_page_leaves_room_for_the_thread(open_page: Open) -> None:
    tab = open_page(queue_of(threads_of(20), authors="thread", capacity=2), 390)
    assert tab.locator("header").bounding_box()["height"] < 150
    press(tab, "rc")
    assert tab.locator("#reasons button").count() == 8
    assert tab.locator("#verdict").bounding_box()["height"] < 150
    tab.locator("summary").click()
    assert "keep it as confidential" in tab.locator("header").inner_text()


def test_a_long_name_is_cut_in_the_middle_and_whole_in_its_title(open_page: Open) -> None:
    names = ["q" * 70 + "one", "q" * 70 + "two", ""]
    found = Thread("", [Message(names[i % 3], word) for i, word in enumerate(PATTERN)])
    tab = open_page(queue_of([found], at=0.0))
    assert title(tab) == "(empty id)"
    authors = tab.locator(".message .author bdi")
    assert set(authors.all_inner_texts()) == {"q" * 16 + "…qqqqone", "q" * 16 + "…qqqqtwo", "(empty id)"}
    assert {one.get_attribute("title") for one in authors.all()} == {names[0], names[1], None}


def test_links_outside_of_text_are_large_enough_to_hit(open_page: Open) -> None:
    tab = open_page(queue_of(threads_of(20), authors="thread", capacity=2))
    tab.locator(".skip").focus()
    for one in (tab.locator(".skip"), tab.locator("summary")):
        assert one.bounding_box()["height"] >= 24


def test_moving_on_puts_the_focus_on_the_thread_and_says_where(open_page: Open) -> None:
    tab = open_page(queue_of(threads_of(20), authors="thread", capacity=2))
    status = tab.get_by_role("status")
    press(tab, "j")
    assert tab.evaluate("document.activeElement.id") == "title"
    assert status.inner_text() == "Case 2 of 2: no verdict yet."
    press(tab, "j")
    assert status.inner_text() == "This is the last thread."
    press(tab, "rd")
    assert status.inner_text() == "dismissed. 1 thread left."


@pytest.mark.parametrize("width", [320, 375, 768, 1280, 2560])
def test_the_page_fits_any_width(open_page: Open, width: int) -> None:
    tab = open_page(queue_of(threads_of(20), authors="thread", capacity=2, n_sampled=1), width)
    for keys in ("", "r", "d2", "w"):
        press(tab, keys)
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert tab.locator("#verdict").evaluate("e => e.getBoundingClientRect().height < innerHeight / 3")


def test_nothing_moves_by_itself(open_page: Open) -> None:
    tab = open_page(queue_of(threads_of(20), authors="thread", capacity=2))
    assert tab.evaluate(MOVING) == 0
