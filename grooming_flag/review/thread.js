// What is shown of the thread in view: facts, messages, and what the model says of it.

const CONTEXT = 1; // messages shown before and after one of the evidence
const LIMIT = 2000; // characters of a message shown at first
const LEVELS = 4; // of shading

const review = () => reviews[at];
const isBlind = () => data.blind && !given.has(at);

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
    const sure = `${probability(one.suspect_probability)} that this author drives it, given the pattern`;
    facts.push(fact("Suspect", name(one.suspect), isBlind() ? "the author most likely to drive it" : sure));
  }
  const [start, stop] = one.segment;
  facts.push(fact("Messages", one.messages.length.toLocaleString("en"), `scored: ${start + 1} to ${stop}`));
  if (data.blind && !isBlind()) {
    const why = one.selection === "sample" ? "drawn at random, not flagged" : "not drawn at random";
    facts.push(fact("Selected", one.selection, why));
  }
  if (!isBlind() && one.case.n_more) {
    facts.push(fact("More", one.case.n_more.toLocaleString("en"), "flagged threads of this suspect outside this case"));
  }
  $("facts").replaceChildren(...facts);
}

// --- its messages ---

/** The messages that are named: those that speak for and against, or while that is hidden those of the highest and
 * lowest rank, as many of each thread. */
function named() {
  const { evidence, against, highest, lowest } = review();
  return isBlind() ? { above: highest, below: lowest } : { above: evidence, below: against };
}

/** How much a message contributes, or while that is hidden its rank. */
function amount(place) {
  if (!isBlind()) return signed(review().messages[place].contribution, 2);
  const { above, below } = named();
  if (above.includes(place)) return `highest ${above.indexOf(place) + 1}`;
  return below.includes(place) ? `lowest ${below.indexOf(place) + 1}` : "";
}

function level(place) {
  const { contribution } = review().messages[place];
  if (contribution === null) return 0;
  if (!isBlind()) {
    return Math.sign(contribution) * Math.ceil((LEVELS * Math.abs(contribution)) / view.strongest - 0.25);
  }
  const { above, below } = named();
  if (above.includes(place)) return Math.max(LEVELS - above.indexOf(place), 1);
  return below.includes(place) ? below.indexOf(place) - LEVELS : 0;
}

const isOpen = (place) => view.isShown !== view.others.has(place);

function shownPlaces() {
  const { messages } = review();
  if (view.isWhole) return messages.map((_, place) => place);
  const { above, below } = named();
  const places = new Set([...below, ...view.more]);
  for (const place of above) {
    for (let near = place - CONTEXT; near <= place + CONTEXT; near++) places.add(near);
  }
  return [...places].filter((place) => place >= 0 && place < messages.length).sort((a, b) => a - b);
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
  $("whole").lastChild.textContent = view.isWhole ? "Evidence only" : "Whole thread";
  $("reveal").lastChild.textContent = view.isShown ? "Hide text" : "Show text";
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
  const { above, below } = named();
  const kind = above.includes(place) ? "for" : below.includes(place) ? "against" : "";
  const who = h("div", { class: "who" },
    h("span", { class: "number" }, String(place + 1)), h("span", { class: "author" }, shortName(message.author)), " ",
    message.by_suspect ? [h("span", { class: "tag" }, "suspect"), " "] : [],
    message.after === null ? "" : h("span", { class: "after" }, since(message.after)));
  const notes = h("div", { class: "amount" },
    scored ? `${isBlind() ? "" : kind} ${amount(place)} ` : "not scored ",
    isOpen(place) ? change(place, ["Hide"], "plain", () => toggle(place)) : []);
  const classes = ["message", kind, message.by_suspect && "suspect", !scored && "unscored"].filter(Boolean).join(" ");
  const attributes = { class: classes, id: `m${place}`, "data-level": level(place) || null };
  return h("li", attributes, who, textOf(place), notes, tacticsOf(place));
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
  if (isBlind()) return [];
  const tags = review().messages[place].tactics.flatMap((one) => [h("span", { class: "tag" }, one), " "]);
  return tags.length ? h("div", { class: "tactics" }, tags) : [];
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
  noteRead();
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
    const button = h("button", { type: "button", class: "plain" }, `message ${place + 1}`);
    button.addEventListener("click", () => jump(place));
    return h("li", {}, `${amount(place)} `, button, " by ", shortName(review().messages[place].author));
  }))];
}

function drawSide() {
  const { above, below } = named();
  $("for-title").textContent = isBlind() ? "Highest contribution" : "Evidence for";
  $("against-title").textContent = isBlind() ? "Lowest contribution" : "Evidence against";
  $("for").replaceChildren(...links(above, isBlind() ? "None." : "None: no message speaks for the pattern."));
  $("against").replaceChildren(...links(below, isBlind() ? "None." : "None: no message speaks against the pattern."));
  $("tactics").replaceChildren(...tactics());
  $("trend").replaceChildren(...trend());
}

const untilVerdict = () => [h("p", {}, "Hidden until your verdict.")];

function tactics() {
  if (isBlind()) return untilVerdict();
  const shown = new Map();
  for (const message of review().messages) {
    for (const tactic of message.tactics) shown.set(tactic, (shown.get(tactic) ?? 0) + 1);
  }
  const hints = [...shown].sort().map(([tactic, n]) => h("li", {}, `${tactic}: ${count(n, "message")}`));
  return hints.length
    ? [h("ul", {}, hints), h("p", {}, "Hints, in no order; no score depends on them.")]
    : [h("p", {}, "No message shows one by itself.")];
}

function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** The probability after each message, on a scale of log-odds, since most of its rise is far below one half. */
function trend() {
  if (isBlind()) return untilVerdict();
  const { trend: values, segment: [start, stop] } = review();
  const known = values.map((value, i) => [i, value]).filter(([, value]) => value !== null);
  if (!known.length) return [h("p", {}, "None: the model abstains after every message.")];
  const [left, right, top, bottom] = [40, 312, 8, 128];
  const odds = (p) => Math.log(p / (1 - p));
  const [low, high] = [odds(0.0002), odds(0.998)];
  const x = (i) => left + ((right - left) * i) / Math.max(values.length - 1, 1);
  const y = (p) => bottom - ((bottom - top) * (Math.min(Math.max(odds(p), low), high) - low)) / (high - low);
  const line = (kind, p) => svg("path", { class: kind, d: `M${left} ${y(p)}H${right}` });
  const points = known.map(([i, p]) => `${x(i).toFixed(1)},${y(p).toFixed(1)}`).join(" ");
  const drawn = svg("svg", { viewBox: "0 0 320 148", role: "img", "aria-label": inWords(known, start) },
    ...[0.001, 0.01, 0.1, 0.5, 0.9, 0.99].flatMap((p) => [
      line("grid", p), svg("text", { x: left - 4, y: y(p) + 4, "text-anchor": "end" }, String(p))]),
    svg("text", { x: left, y: 144 }, `message ${start + 1}`),
    svg("text", { x: right, y: 144, "text-anchor": "end" }, String(stop)),
    ...(data.threshold === null ? [] : [line("cut", data.threshold)]),
    svg("polyline", { class: "rise", points }),
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
