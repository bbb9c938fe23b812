// The queue, verdicts and keys. Verdicts are kept in memory alone until they are saved to a file.

const data = JSON.parse($("data").textContent);
$("data").remove();
const reviews = data.cases.flatMap((one, place) =>
  one.reviews.map((review, member) => ({ ...review, place, member, case: one })));
const given = new Map(); // by place of the review: verdict, reasons, reviewed_at
const history = []; // what was given before, to undo
const read = new Set(); // places of reviews whose text was shown
let at = 0;
let view;
let last = { name: null, content: "" }; // the file saved last

// --- the queue ---

function go(place) {
  at = place;
  view = {
    isShown: false, // all text, but that of the others
    others: new Set(),
    isWhole: !named().above.length,
    more: new Set(), // places shown beside the evidence
    full: new Set(), // places of long messages shown whole
    strongest: review().messages.reduce((most, { contribution }) => Math.max(most, Math.abs(contribution ?? 0)), 1e-9),
  };
  draw();
}

function move(place) {
  go(place);
  $("queue").scrollIntoView();
  $("title").focus({ preventScroll: true });
  say(`${where()}: ${told(given.get(at))}.`);
}

const told = (verdict) => (verdict ? [verdict.verdict, ...verdict.reasons].join(", ") : "no verdict yet");

function where() {
  const one = review();
  const of = one.case.reviews.length > 1 ? `, thread ${one.member + 1} of ${one.case.reviews.length}` : "";
  return `Case ${one.place + 1} of ${data.cases.length}${of}`;
}

function draw() {
  const one = review();
  $("place").textContent = where();
  $("title").replaceChildren("Thread ", name(one.thread_id));
  $("previous").disabled = at === 0;
  $("next").disabled = at === reviews.length - 1;
  const siblings = one.case.reviews.length < 2 ? [] : one.case.reviews.map((_, i) => sibling(at - one.member + i, i));
  $("siblings").replaceChildren(...siblings);
  drawFacts();
  drawMessages();
  drawSide();
  drawVerdict();
}

function sibling(place, i) {
  const verdict = given.get(place)?.verdict;
  const label = `Thread ${i + 1}${verdict ? `: ${verdict}` : ""}`;
  const button = h("button", { type: "button", "aria-current": place === at }, label);
  button.addEventListener("click", () => move(place));
  return button;
}

// --- verdicts ---

function drawVerdict() {
  const verdict = given.get(at);
  for (const button of document.querySelectorAll("[data-verdict]")) {
    button.setAttribute("aria-pressed", button.dataset.verdict === verdict?.verdict);
    button.setAttribute("aria-disabled", !read.has(at));
  }
  const reasons = verdict ? data.reasons[verdict.verdict] : [];
  $("reasons").replaceChildren(...reasons.map((reason, i) => {
    const isGiven = String(verdict.reasons.includes(reason));
    const button = h("button", { type: "button", "aria-pressed": isGiven, "aria-keyshortcuts": i + 1 },
      h("kbd", {}, String(i + 1)), ` ${reason}`);
    button.addEventListener("click", () => giveReason(i));
    return button;
  }));
  $("progress").value = given.size;
  $("progress-text").textContent = `${given.size} of ${reviews.length} reviewed`;
  $("undo").disabled = !history.length;
  $("save").disabled = !given.size && !last.content;
}

function put(verdict) {
  history.push([at, given.get(at)]);
  given.set(at, verdict);
}

function giveVerdict(verdict) {
  if (!read.has(at)) return say("Show the text first (r): a verdict is about what was read.");
  if (given.get(at)?.verdict === verdict) return;
  put({ verdict, reasons: [], reviewed_at: Date.now() / 1000 });
  const row = document.activeElement.closest(".message")?.id;
  draw();
  if (row) $(row).querySelector("button").focus();
  const left = reviews.length - given.size;
  const revealed = data.blind ? ` ${revelation()}` : "";
  return say(`${verdict}.${revealed} ${left ? `${count(left, "thread")} left.` : "All reviewed: save the verdicts."}`);
}

function revelation() {
  const { probability: p, selection } = review();
  const said = p === null ? "The model abstains" : `Probability ${probability(p)}`;
  return `${said}, ${selection === "sample" ? "drawn at random" : "flagged"}.`;
}

function giveReason(i) {
  const before = given.get(at);
  const reason = before && data.reasons[before.verdict][i];
  if (!reason) return;
  const had = before.reasons.includes(reason);
  const reasons = data.reasons[before.verdict].filter((one) => (one === reason ? !had : before.reasons.includes(one)));
  put({ ...before, reasons, reviewed_at: Date.now() / 1000 });
  const wasFocused = $("reasons").contains(document.activeElement);
  drawVerdict();
  if (wasFocused) $("reasons").children[i].focus();
  say(`${had ? "Not" : "Reason"}: ${reason}.`);
}

function undo() {
  if (!history.length) return say("Nothing to undo.");
  const [place, before] = history.pop();
  if (before) given.set(place, before); else given.delete(place);
  move(place);
  return say(`Undone. ${where()}: ${told(before)}.`);
}

/** The verdicts as the lines of a file, in the order of the queue. */
function content() {
  const rows = reviews.flatMap((one, place) => given.has(place) ? [{
    thread_id: one.thread_id,
    ...given.get(place),
    suspect: one.suspect,
    probability: one.probability,
    model: data.model,
    selection: one.selection,
    selection_probability: one.selection_probability,
  }] : []);
  return rows.map((row) => `${JSON.stringify(row)}\n`).join("");
}

function save() {
  if (!given.size && !last.content) return say("There are no verdicts yet.");
  const before = last;
  const time = new Date().toISOString().slice(0, 23).replaceAll(":", "").replace(".", "-");
  last = { name: `verdicts-${time}.jsonl`, content: content() };
  const url = URL.createObjectURL(new Blob([last.content], { type: "application/jsonl" }));
  h("a", { href: url, download: last.name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
  $("save").disabled = !last.content;
  const outdated = before.content && before.content !== last.content ? ` It replaces ${before.name}: delete that.` : "";
  return say(`${count(given.size, "verdict")} to ${last.name}: see that it is there.${outdated} ` +
    "They stay in this page until it is closed.");
}

// --- what people do ---

function say(text) {
  $("status").textContent = text;
}

function step(by) {
  const place = at + by;
  if (place in reviews) return move(place);
  return say(`This is the ${by > 0 ? "last" : "first"} thread.`);
}

function onward() {
  for (let by = 1; by <= reviews.length; by++) {
    const place = (at + by) % reviews.length;
    if (!given.has(place)) return move(place);
  }
  return say("All reviewed: save the verdicts.");
}

function reveal() {
  view.isShown = !view.isShown;
  view.others.clear();
  drawMessages();
  noteRead();
  say(view.isShown ? "Text shown." : "Text hidden.");
}

function noteRead() {
  if (read.has(at)) return;
  read.add(at);
  drawVerdict();
}

function whole() {
  view.isWhole = !view.isWhole;
  drawMessages();
  say($("messages-title").textContent);
}

function showKeys() {
  $("keys").showModal();
  $("keys-title").focus(); // not the box that switches all keys off
}

const ACTS = {
  j: () => step(1), k: () => step(-1), n: onward, r: reveal, w: whole, z: undo, s: save,
  c: () => giveVerdict("confirmed"), d: () => giveVerdict("dismissed"), u: () => giveVerdict("unsure"),
  "?": showKeys,
};
const BUTTONS = {
  next: "j", previous: "k", onward: "n", reveal: "r", whole: "w", undo: "z", save: "s", "open-keys": "?",
};

function onKey(event) {
  const isOurs = $("shortcuts").checked && !$("keys").open && !event.isComposing;
  if (!isOurs || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
  const act = /^[1-8]$/.test(key) ? () => giveReason(key - 1) : ACTS[key];
  if (!act || (event.repeat && !"jk".includes(key))) return;
  event.preventDefault();
  act();
}

window.addEventListener("beforeunload", (event) => {
  if (content() !== last.content) event.preventDefault();
});

if (window.matchMedia("(max-width: 48rem)").matches) {
  $("about").after(...document.querySelectorAll("header > .more"));
}
if (reviews.length) {
  document.addEventListener("keydown", onKey);
  for (const [id, key] of Object.entries(BUTTONS)) $(id).addEventListener("click", ACTS[key]);
  for (const button of document.querySelectorAll("[data-verdict]")) {
    button.addEventListener("click", () => giveVerdict(button.dataset.verdict));
  }
  go(0);
} else {
  document.querySelectorAll("main .line, .columns, #verdict").forEach((part) => { part.hidden = true; });
}
