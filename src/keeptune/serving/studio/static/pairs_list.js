// A filtered, searchable, paged list of items with two answers each.

import { get } from "./api.js";
import { differences, words } from "./diff.js";
import { alert, announce, chip, element, field, fill, select, setOptions, table } from "./dom.js";
import { number, percent, t, word } from "./i18n.js";

const PAGE = 20;
const LONG = 600;
const MOST_DIFFERING = 0.6;
const TYPING_PAUSE = 250;
const OUTCOMES = ["all", "lost", "gained", "wrong", "right", "differs", "same"];
const ORDERS = ["stored", "longest", "change"];

export class PairsList {
  /**
   * @param path the address of the pairs; `${path}/summary` has their summary
   * @param base the parameters that name the runs
   * @param labels the names of the two sides
   * @param filters the first filters, from the address of the page
   * @param onfilters called with the filters when they change
   */
  constructor({ path, base, labels, filters, onfilters, signal }) {
    Object.assign(this, { path, base, labels, onfilters, signal });
    this.filters = { source: "", kind: "", outcome: "all", order: "stored", text: "", offset: 0, ...filters };
    this.filters.offset = Number(this.filters.offset);
    this.summary = element("div");
    this.count = element("p", { class: "muted", role: "status" });
    this.items = element("ol", { class: "pairs" });
    this.pager = element("nav", { class: "row pager", "aria-label": t("answers.pages") });
    this.node = element("div", {}, this.summary, this.form(), this.count, this.items, this.pager);
  }

  form() {
    const change = (name) => (value) => this.change({ [name]: value });
    const named = (prefix, names) => names.map((name) => [name, t(`${prefix}.${name}`)]);
    const { source, kind, outcome, order, text } = this.filters;
    this.source = select([["", t("answers.all")]], "", (value) => {
      this.change({ source: value, kind: "" });
      this.showKinds();
    });
    this.kind = select([["", t("answers.all")]], kind, change("kind"));
    this.search = element("input", { type: "search", value: text, oninput: () => this.typed() });
    this.wanted = source;
    return element(
      "form", { class: "card row filters", role: "search", onsubmit: (event) => event.preventDefault() },
      field(t("answers.source"), this.source), field(t("answers.kind"), this.kind),
      field(t("answers.outcome"), select(named("outcome", OUTCOMES), outcome, change("outcome"))),
      field(t("answers.order"), select(named("order", ORDERS), order, change("order"))),
      field(t("answers.search"), this.search, "wide"),
    );
  }

  async start() {
    const { sources } = await get(`${this.path}/summary`, this.base, this.signal);
    this.sources = sources;
    if (!sources.length) {  // filters and pages of nothing only distract
      fill(this.node, element("p", {}, t("answers.none")));
      return;
    }
    setOptions(
      this.source, [["", t("answers.all")], ...sources.map(({ source, n }) => [source, `${word("source", source)} (${n})`])], this.wanted);
    this.showKinds();
    fill(this.summary, this.summaryTable());
    await this.load();
  }

  summaryTable() {
    const rows = this.sources.map(({ source, n, score, loss, lost, gained }) => [
      word("source", source), number(n), mean(score, loss, "before"), mean(score, loss, "after"), number(lost), number(gained)]);
    return element(
      "details", { class: "card" },
      element("summary", {}, t("answers.summary")),
      table(t("answers.summary"), [t("suite.questions"), "n", ...this.labels, t("outcome.lost"), t("outcome.gained")], rows),
    );
  }

  showKinds() {
    const { kinds } = this.sources.find(({ source }) => source === this.source.value) ?? { kinds: {} };
    setOptions(this.kind, [["", t("answers.all")], ...Object.entries(kinds).map(([kind, n]) => [kind, `${kind} (${n})`])], this.filters.kind);
    this.kind.disabled = !Object.keys(kinds).length;
  }

  typed() {
    clearTimeout(this.pause);
    this.pause = setTimeout(() => this.change({ text: this.search.value }), TYPING_PAUSE);
  }

  change(changes, offset = 0) {
    this.filters = { ...this.filters, ...changes, offset };
    this.onfilters(Object.fromEntries(Object.entries(this.filters).filter(([, value]) => value)));
    return this.load();
  }

  async load() {
    this.running?.abort();
    this.running = new AbortController();
    const signal = AbortSignal.any([this.signal, this.running.signal]);
    try {
      const page = await get(this.path, { ...this.base, ...this.filters, limit: PAGE }, signal);
      this.show(page);
    } catch (error) {
      if (!signal.aborted) fill(this.items, element("li", {}, alert(error.message)));
    }
  }

  show({ total, offset, items }) {
    this.count.textContent = total ? t("answers.count", {
      total: number(total), first: number(Math.min(total, offset + 1)), last: number(offset + items.length) }) : t("answers.no_match");
    this.pager.hidden = total <= PAGE;
    this.items.start = offset + 1;
    fill(this.items, items.map((item) => pairItem(item, this.labels)));
    const button = (key, target, isPossible) => element(
      "button", { type: "button", disabled: !isPossible, onclick: () => this.turn(target) }, t(key));
    fill(
      this.pager,
      button("answers.previous", offset - PAGE, offset > 0),
      element("span", {}, t("answers.page", { page: Math.floor(offset / PAGE) + 1, pages: Math.max(1, Math.ceil(total / PAGE)) })),
      button("answers.next", offset + PAGE, offset + PAGE < total),
    );
  }

  async turn(offset) {
    await this.change({}, Math.max(0, offset));
    this.count.scrollIntoView({ block: "start" });
    announce(this.count.textContent);
  }
}

function mean(score, loss, side) {
  if (score) return percent(score[side]);
  return loss ? t("suite.nats", { loss: number(loss[side], 3) }) : "–";
}

function pairItem(item, labels) {
  const outcome = item.change < 0 ? chip("bad", t("outcome.lost")) : item.change > 0 && chip("good", t("outcome.gained"));
  const texts = [item.before.output, item.after.output].map(words);
  const marks = marksOfSimilar(texts);
  return element(
    "li", { class: "card pair" },
    element(
      "div", { class: "row pair-head" },
      element("strong", {}, word("source", item.source)),
      item.kind && element("span", {}, item.kind), outcome,
      element("code", { class: "muted" }, item.id),
    ),
    item.turns.map(({ role, content }) => element(
      "div", { class: "turn" }, role && element("span", { class: "muted" }, `${word("role", role)}: `), clamped([content], content.length))),
    item.facts.length > 0 && element("dl", { class: "item-facts" }, item.facts.map(
      ({ name, value }) => element("div", {}, element("dt", {}, word("fact", name)), element("dd", {}, value)))),
    element("div", { class: "columns show-differences" }, [item.before, item.after].map(
      (side, place) => answer(item.source, labels[place], side, texts[place], marks[place]))),
  );
}

/** The differing parts of two texts; none if most parts differ, because marks would help nobody then. */
function marksOfSimilar(texts) {
  const marks = differences(...texts);
  const differing = marks.flat().filter(Boolean).length;
  return differing <= marks.flat().length * MOST_DIFFERING ? marks : marks.map(() => []);
}

/** What the grader says about an answer, besides right and wrong. */
function resultText(source, result) {
  if (source === "skill") return t("answers.read", { answer: result || "–" });
  return ["right", "wrong"].includes(result) ? null : word("result", result);
}

function answer(source, label, side, parts, marks) {
  const sign = side.is_right === null ? null : side.is_right ? chip("good", t("answers.right")) : chip("bad", t("answers.wrong"));
  const figures = [resultText(source, side.result), side.score !== null && !Number.isInteger(side.score) && t("answers.score", { score: number(side.score, 2) }),
    side.loss !== null && t("suite.nats", { loss: number(side.loss, 3) })];
  const nodes = parts.map((part, place) => (marks[place] ? element("span", { class: "differs" }, part) : part));
  return element(
    "div", { class: "side" },
    element("div", { class: "row" }, element("strong", {}, label), sign),
    side.output ? clamped(nodes, side.output.length) : element("em", { class: "muted" }, t("play.empty")),
    element("p", { class: "muted" }, figures.filter(Boolean).join(" · ")),
  );
}

/** A text that shows its first lines and a button for the rest if it is long. */
function clamped(nodes, length) {
  const text = element("div", { class: "answer" }, nodes);
  if (length <= LONG) return text;
  text.classList.add("clamped");
  const button = element("button", {
    type: "button", class: "link", "aria-expanded": "false", onclick: () => {
      const isClamped = text.classList.toggle("clamped");
      button.textContent = t(isClamped ? "answers.more" : "answers.less");
      button.setAttribute("aria-expanded", String(!isClamped));
    },
  }, t("answers.more"));
  return element("div", {}, text, button);
}
