"use strict";
// Everything shown is set as text, never as markup; verdicts are kept in memory alone until they are saved to a file.

const CONTEXT = 1; // messages shown before and after one of the evidence
const LIMIT = 2000; // characters of a message shown at first
const NAME_LIMIT = 80;
const LEVELS = 4;

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
$("data").remove();
const reviews = data.cases.flatMap((one, place) =>
  one.reviews.map((review, member) => ({ ...review, place, member, case: one })));
const given = new Map(); // by place of the review: verdict, reasons, reviewed_at
const history = []; // what was given before, to undo
let at = 0;
let view;
let unsaved = false;

// --- text ---

function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.flat());
  return element;
}

// joiners are part of words and emoji; no script stacks more than four marks
const UNSEEN = /((?![\n\t\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}])\1*|(?<=\p{M}{4})\p{M}+/gu;

/** Text as nodes in which what could not be seen, or would turn or cover other text, is named instead. */
function visible(text, limit = Infinity) {
  const kept = text.slice(0, limit).replace(/[\ud800-\udbff]$/, "").replaceAll("\r\n", "\n");
  const nodes = [];
  let end = 0;
  for (const found of kept.matchAll(UNSEEN)) {
    const times = [...found[0]].length;
    const what = found[1] ? `U+${found[1].codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}` : "marks";
    nodes.push(kept.slice(end, found.index), h("span", { class: "control" }, times > 1 ? `${what} × ${times}` : what));
    end = found.index + found[0].length;
  }
  nodes.push(kept.slice(end));
  return nodes;
}

function name(text) {
  const line = text.replace(/[\n\t]+/g, " ");
  const cut = line.length > NAME_LIMIT ? [`… (${count(line.length, "character")})`] : [];
  return h("bdi", {}, visible(line, NAME_LIMIT), cut);
}

const count = (n, one) => `${n.toLocaleString("en")} ${one}${n === 1 ? "" : "s"}`;
const probability = (p) => p.toFixed(p < 0.01 || p > 0.99 ? 4 : 2);

function signed(value, digits) {
  const size = Math.abs(value).toFixed(digits);
  return Number(size) ? (value < 0 ? "−" : "+") + size : "0";
}

function since(seconds) {
  const sign = seconds < 0 ? "−" : "+";
  const s = Math.round(Math.abs(seconds));
  if (s < 60) return `${sign}${s} s`;
  if (s < 3600) return `${sign}${Math.floor(s / 60)} min`;
  if (s < 172800) return `${sign}${Math.floor(s / 3600)}:${String(Math.floor((s % 3600) / 60)).padStart(2, "0")} h`;
  return `${sign}${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

// --- a thread ---

const isBlind = () => data.blind && !given.has(at);
const review = () => reviews[at];

function go(place) {
  at = place;
  view = {
    isShown: false, // all text, but that of the others
    others: new Set(),
    isWhole: !review().evidence.length,
    more: new Set(), // places shown beside the evidence
    full: new Set(), // places of long messages shown whole
    strongest: review().messages.reduce((most, message) => Math.max(most, Math.abs(message.contribution ?? 0)), 1e-9),
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
  const first = at - one.member;
  $("siblings").replaceChildren(...(one.case.reviews.length < 2 ? [] : one.case.reviews.map((_, i) => {
    const verdict = given.get(first + i)?.verdict;
    const button = h("button", { type: "button", "aria-current": i === one.member }, `Thread ${i + 1}${verdict ? `: ${verdict}` : ""}`);
    button.addEventListener("click", () => move(first + i));
    return button;
  })));
  drawFacts();
  drawMessages();
  drawSide();
  drawVerdict();
}

function fact(title, value, note) {
  return h("div", {}, h("dt", {}, title), h("dd", {}, h("strong", {}, value), h("small", {}, note)));
}

function drawFacts() {
  const one = review();
  const facts = [];
  if (isBlind()) {
    facts.push(fact("Probability", "hidden", "until your verdict, since some threads here were drawn at random"));
  } else if (one.probability === null) {
    facts.push(fact("Probability", "none", "the model abstains: too little text"));
  } else {
    facts.push(fact("Probability", probability(one.probability), `if ${data.prior} threads shows the pattern`));
  }
  if (one.suspect !== null) {
    const sure = isBlind() ? "the author most likely to drive it" : `${probability(one.suspect_probability)} that this author drives it, given the pattern`;
    facts.push(fact("Suspect", name(one.suspect), sure));
  }
  const [start, stop] = one.segment;
  facts.push(fact("Messages", one.messages.length.toLocaleString("en"), `scored: ${start + 1} to ${stop}`));
  if (data.blind && !isBlind()) {
    facts.push(fact("Selected", one.selection, one.selection === "sample" ? "drawn at random, not flagged" : "not drawn at random"));
  }
  if (!isBlind() && one.case.n_more) {
    facts.push(fact("More", one.case.n_more.toLocaleString("en"), "flagged threads of this suspect outside this case"));
  }
  $("facts").replaceChildren(...facts);
}

// --- its messages ---

/** How much a message contributes: in log-odds, or while that is hidden as a share of the strongest one. */
function amount(contribution) {
  if (!isBlind()) return signed(contribution, 2);
  return `${signed((100 * contribution) / view.strongest, 0)} %`;
}

function level(contribution) {
  return Math.sign(contribution) * Math.ceil((LEVELS * Math.abs(contribution)) / view.strongest - 0.25);
}

const isOpen = (place) => view.isShown !== view.others.has(place);

function shownPlaces() {
  const one = review();
  if (view.isWhole) return one.messages.map((_, place) => place);
  const places = new Set([...one.against, ...view.more]);
  for (const place of one.evidence) {
    for (let near = place - CONTEXT; near <= place + CONTEXT; near++) places.add(near);
  }
  return [...places].filter((place) => place >= 0 && place < one.messages.length).sort((a, b) => a - b);
}

function drawMessages() {
  const rows = [];
  let next = 0;
  for (const place of [...shownPlaces(), review().messages.length]) {
    if (place > next) rows.push(gap(next, place));
    if (place < review().messages.length) rows.push(messageRow(place));
    next = place + 1;
  }
  $("messages").replaceChildren(...rows);
  $("messages-title").textContent = view.isWhole ? "Whole thread" : "Evidence in context";
  $("whole").setAttribute("aria-pressed", view.isWhole);
  $("reveal").setAttribute("aria-pressed", view.isShown);
}

function gap(start, stop) {
  const button = h("button", { type: "button", class: "plain" }, `Show ${count(stop - start, "message")} more`);
  button.addEventListener("click", () => {
    for (let place = start; place < stop; place++) view.more.add(place);
    drawMessages();
    focusMessage(start);
  });
  return h("li", { class: "gap" }, button);
}

function messageRow(place) {
  const message = review().messages[place];
  const scored = message.contribution !== null;
  const shade = scored ? level(message.contribution) : 0;
  const kind = review().evidence.includes(place) ? "for" : review().against.includes(place) ? "against" : "";
  const who = h("div", { class: "who" },
    h("span", { class: "number" }, String(place + 1)), h("span", { class: "author" }, name(message.author)), " ",
    message.by_suspect ? [h("span", { class: "tag" }, "suspect"), " "] : [],
    message.after === null ? "" : h("span", { class: "after" }, since(message.after)));
  const notes = h("div", { class: "amount" },
    scored ? `${kind} ${amount(message.contribution)} ` : "not scored ",
    isOpen(place) ? change(place, ["Hide"], "plain", () => toggle(place)) : []);
  const classes = ["message", kind, message.by_suspect && "suspect", !scored && "unscored"].filter(Boolean).join(" ");
  return h("li", { class: classes, id: `m${place}`, "data-level": shade || null }, who, textOf(place), notes, tacticsOf(place));
}

function textOf(place) {
  const { text } = review().messages[place];
  const isCut = text.length > LIMIT && !view.full.has(place);
  const words = visible(text, isCut ? LIMIT : Infinity);
  if (!isOpen(place)) {
    const blurred = h("span", { class: "blurred", "aria-hidden": "true", dir: "auto" }, words);
    return h("div", { class: "text" }, change(place, [blurred, hidden("Show")], "cover", () => toggle(place)));
  }
  const all = `Show all ${count(text.length, "character")}`;
  const rest = isCut ? ["… ", change(place, [all], "plain", () => view.full.add(place))] : [];
  return h("div", { class: "text" }, h("bdi", { dir: "auto" }, words), rest);
}

function tacticsOf(place) {
  const { tactics } = review().messages[place];
  return tactics.length ? h("div", { class: "tactics" }, tactics.flatMap((one) => [h("span", { class: "tag" }, one), " "])) : [];
}

const hidden = (text) => h("span", { class: "hidden" }, text);

/** A button that changes how a message is shown. */
function change(place, label, kind, act) {
  const button = h("button", { type: "button", class: kind }, label, hidden(` message ${place + 1}`));
  button.addEventListener("click", () => {
    act();
    $(`m${place}`).replaceWith(messageRow(place));
    focusMessage(place);
  });
  return button;
}

function toggle(place) {
  if (!view.others.delete(place)) view.others.add(place);
}

function focusMessage(place) {
  $(`m${place}`).querySelector("button").focus();
}

function jump(place) {
  if (!$(`m${place}`)) {
    view.isWhole = true;
    drawMessages();
  }
  $(`m${place}`).scrollIntoView({ block: "center" });
  focusMessage(place);
}

// --- what the model says of it ---

function links(places, nothing) {
  if (!places.length) return [h("p", {}, nothing)];
  return [h("ol", { role: "list" }, places.map((place) => {
    const message = review().messages[place];
    const button = h("button", { type: "button", class: "plain" }, `message ${place + 1}`);
    button.addEventListener("click", () => jump(place));
    return h("li", {}, `${amount(message.contribution)} `, button, " by ", name(message.author));
  }))];
}

function drawSide() {
  const one = review();
  $("for").replaceChildren(...links(one.evidence, "None: no message speaks for the pattern."));
  $("against").replaceChildren(...links(one.against, "None: no message speaks against the pattern."));
  const shown = new Map();
  for (const message of one.messages) {
    for (const tactic of message.tactics) shown.set(tactic, (shown.get(tactic) ?? 0) + 1);
  }
  const hints = [...shown].sort().map(([tactic, n]) => h("li", {}, `${tactic}: ${count(n, "message")}`));
  $("tactics").replaceChildren(...(hints.length
    ? [h("ul", {}, hints), h("p", {}, "Hints, in no order; no score depends on them.")]
    : [h("p", {}, "No message shows one by itself.")]));
  $("trend").replaceChildren(...trend());
}

function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** The probability after each message, on a scale of log-odds, since most of its rise is far below one half. */
function trend() {
  if (isBlind()) return [h("p", {}, "Hidden until your verdict.")];
  const { trend: values, segment: [start, stop] } = review();
  const known = values.map((value, i) => [i, value]).filter(([, value]) => value !== null);
  if (!known.length) return [h("p", {}, "None: the model abstains after every message.")];
  const [left, right, top, bottom] = [40, 312, 8, 128];
  const odds = (p) => Math.log(p / (1 - p));
  const [low, high] = [odds(0.0002), odds(0.998)];
  const x = (i) => left + ((right - left) * i) / Math.max(values.length - 1, 1);
  const y = (p) => bottom - ((bottom - top) * (Math.min(Math.max(odds(p), low), high) - low)) / (high - low);
  const line = (kind, p) => svg("path", { class: kind, d: `M${left} ${y(p)}H${right}` });
  const drawn = svg("svg", { viewBox: "0 0 320 148", role: "img", "aria-label": inWords(known, start) },
    ...[0.001, 0.01, 0.1, 0.5, 0.9, 0.99].flatMap((p) => [
      line("grid", p), svg("text", { x: left - 4, y: y(p) + 4, "text-anchor": "end" }, String(p))]),
    svg("text", { x: left, y: 144 }, `message ${start + 1}`),
    svg("text", { x: right, y: 144, "text-anchor": "end" }, String(stop)),
    ...(data.threshold === null ? [] : [line("cut", data.threshold)]),
    svg("polyline", { class: "rise", points: known.map(([i, p]) => `${x(i).toFixed(1)},${y(p).toFixed(1)}`).join(" ") }),
    svg("circle", { cx: x(known.at(-1)[0]), cy: y(known.at(-1)[1]), r: 3 }));
  const cut = data.threshold === null ? "" : ` Dashed: flagged from ${probability(data.threshold)}.`;
  return [drawn, h("p", {}, `${inWords(known, start)}.${cut}`)];
}

function inWords(known, start) {
  const few = [known[0], known[Math.floor((known.length - 1) / 2)], known.at(-1)];
  const said = new Set(few.map(([i, value]) => `${probability(value)} after message ${start + i + 1}`));
  const reached = data.threshold === null ? null : known.find(([, value]) => value >= data.threshold);
  const first = reached ? `; first at the threshold after message ${start + reached[0] + 1}` : "";
  return `Probability ${[...said].join(", ")}${first}`;
}

// --- verdicts ---

function drawVerdict() {
  const verdict = given.get(at);
  for (const button of document.querySelectorAll("[data-verdict]")) {
    button.setAttribute("aria-pressed", button.dataset.verdict === verdict?.verdict);
  }
  $("reasons").replaceChildren(...(verdict ? data.reasons[verdict.verdict].map((reason, i) => {
    const button = h("button", { type: "button", "aria-pressed": verdict.reasons.includes(reason), "aria-keyshortcuts": i + 1 },
      h("kbd", {}, String(i + 1)), ` ${reason}`);
    button.addEventListener("click", () => giveReason(i));
    return button;
  }) : []));
  $("progress").value = given.size;
  $("progress-text").textContent = `${given.size} of ${reviews.length} reviewed`;
  $("undo").disabled = !history.length;
  $("save").disabled = !given.size;
}

function put(verdict) {
  history.push([at, given.get(at)]);
  given.set(at, verdict);
  unsaved = true;
}

function giveVerdict(verdict) {
  if (given.get(at)?.verdict === verdict) return;
  put({ verdict, reasons: [], reviewed_at: Date.now() / 1000 });
  const row = document.activeElement.closest(".message")?.id;
  draw();
  if (row) $(row).querySelector("button").focus();
  const left = reviews.length - given.size;
  say(`${verdict}. ${left ? `${count(left, "thread")} left.` : "All reviewed: save the verdicts."}`);
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
  unsaved = given.size > 0;
  move(place);
  return say(`Undone. ${where()}: ${told(before)}.`);
}

function save() {
  if (!given.size) return say("There are no verdicts yet.");
  const rows = reviews.flatMap((one, place) => given.has(place) ? [{
    thread_id: one.thread_id,
    ...given.get(place),
    suspect: one.suspect,
    probability: one.probability,
    model: data.model,
    selection: one.selection,
    selection_probability: one.selection_probability,
  }] : []);
  const url = URL.createObjectURL(new Blob(rows.map((row) => `${JSON.stringify(row)}\n`), { type: "application/jsonl" }));
  const time = new Date().toISOString().slice(0, 19).replaceAll(":", "");
  h("a", { href: url, download: `verdicts-${time}.jsonl` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
  unsaved = false;
  return say(`Saved ${count(rows.length, "verdict")}.`);
}

// --- what people do ---

function say(text) {
  $("status").textContent = text;
}

function step(by) {
  const place = at + by;
  if (place < 0 || place >= reviews.length) return say(by > 0 ? "This is the last thread." : "This is the first thread.");
  return move(place);
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
  say(view.isShown ? "Text shown." : "Text hidden.");
}

function whole() {
  view.isWhole = !view.isWhole;
  drawMessages();
  say($("messages-title").textContent);
}

const ACTS = {
  j: () => step(1), k: () => step(-1), n: onward, r: reveal, w: whole, z: undo, s: save,
  c: () => giveVerdict("confirmed"), d: () => giveVerdict("dismissed"), u: () => giveVerdict("unsure"),
  "?": () => $("keys").showModal(),
};
const BUTTONS = { next: "j", previous: "k", onward: "n", reveal: "r", whole: "w", undo: "z", save: "s", "open-keys": "?" };

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
  if (unsaved) event.preventDefault();
});

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
