// Text and numbers as nodes of the page: all of it is set as text, never as markup.

const NAME_LIMIT = 80; // characters of an id
const SHORT_NAME = 24; // where it stands in a table

const $ = (id) => document.getElementById(id);

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
  return h("bdi", {}, line ? [...visible(line, NAME_LIMIT), ...cut] : "(empty id)");
}

/** A name whose middle is left out where it is long, since ids often differ at their ends; all of it in its title. */
function shortName(text) {
  const characters = [...text.replace(/[\n\t]+/g, " ")];
  if (characters.length <= SHORT_NAME) return name(text);
  const cut = `${characters.slice(0, SHORT_NAME - 8).join("")}…${characters.slice(-7).join("")}`;
  return h("bdi", { title: name(text).textContent }, visible(cut));
}

const count = (n, one) => `${n.toLocaleString("en")} ${one}${n === 1 ? "" : "s"}`;

function probability(p) {
  if (p < 0.0001) return "below 0.0001";
  if (p > 0.9999) return "above 0.9999";
  return p.toFixed(p < 0.01 || p > 0.99 ? 4 : 2);
}

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
