// One model's streamed answer: its tokens as they arrive, and figures about them.

import { words } from "./diff.js";
import { alert, element, fill, table } from "./dom.js";
import { number, percent, t, word } from "./i18n.js";
import { confidenceClass, TokenList } from "./tokens.js";

/** The panel of a model. `model` is `base` or `tuned`. */
export class AnswerPanel {
  constructor(model, onchange) {
    this.model = model;
    this.onchange = onchange;
    this.text = element("div", { class: "answer", "aria-label": t(`who.${model}`) });
    this.figures = element("p", { class: "muted" });
    this.error = element("div");
    this.table = element("div");
    const details = element(
      "details", { ontoggle: () => this.showTable(details.open) },
      element("summary", {}, t("play.tokens")), this.table,
    );
    this.details = details;
    this.node = element(
      "section", { class: "card panel", "aria-labelledby": `panel-${model}` },
      element("h2", { id: `panel-${model}` }, t(`who.${model}`)), this.error, this.text, this.figures, details,
    );
    this.clear();
  }

  clear() {
    this.tokens = new TokenList();
    this.spans = [];
    this.written = "";
    fill(this.text);
    fill(this.error);
    fill(this.figures);
    this.showTable(this.details.open);
    this.node.setAttribute("data-state", "empty");
  }

  /** Reads a stream of chunks to its end. */
  async read(stream) {
    this.node.setAttribute("data-state", "streaming");
    const started = performance.now();
    let [usage, reason] = [null, null];
    try {
      for await (const chunk of stream) {
        usage = chunk.usage ?? usage;
        for (const choice of chunk.choices) {
          reason = choice.finish_reason ?? reason;
          this.written += choice.delta.content ?? "";
          choice.logprobs?.content?.forEach((entry) => this.tokens.add(entry));
        }
        this.showNewTokens();
      }
      this.finish(usage, reason, (performance.now() - started) / 1000);
      this.node.setAttribute("data-state", "done");
    } catch (error) {
      this.node.setAttribute("data-state", "failed");
      if (error.name === "AbortError") fill(this.figures, t("play.stopped"));
      else fill(this.error, alert(error.message));
    }
    this.showTable(this.details.open);
  }

  showNewTokens() {
    for (const part of this.tokens.parts.slice(this.spans.length)) {
      const span = element("span", { class: confidenceClass(part.probability), title: percent(part.probability) }, part.text);
      this.spans.push(span);
      this.text.append(span);
    }
    this.onchange();
  }

  finish(usage, reason, seconds) {
    this.tokens.flush();
    this.showNewTokens();
    // Some vocabularies decode a single token without its space. The text of the answer is right in any case.
    if (this.text.textContent !== this.written) {
      alignSpaces(this.spans, this.written);
      if (this.text.textContent !== this.written) this.showWords();
      this.onchange(); // the marks compare what is shown
    }
    if (!this.written) fill(this.text, element("em", { class: "muted" }, t("play.empty")));
    fill(this.figures, t("play.figures", {
      tokens: number(usage?.completion_tokens), seconds: number(seconds, 1), reason: word("reason", reason),
      confidence: percent(this.tokens.meanProbability()),
    }));
  }

  /** Shows the words of the answer instead of tokens that do not give its text, such as parts of characters. */
  showWords() {
    this.spans = words(this.written).map((word) => element("span", {}, word));
    fill(this.text, this.spans);
  }

  /** Marks the tokens for which `marks` is true. */
  mark(marks) {
    this.spans.forEach((span, place) => span.classList.toggle("differs", marks[place] ?? false));
  }

  showTable(isOpen) {
    const rows = isOpen ? this.tokens.parts : [];
    fill(this.table, rows.length > 0 && table(
      t("play.tokens"), [t("play.token"), t("play.probability"), t("play.alternatives")],
      rows.map(({ text, probability, alternatives }) => [
        element("code", {}, JSON.stringify(text)),
        percent(probability),
        alternatives.map(({ token, probability: share }) => `${JSON.stringify(token)} ${percent(share)}`).join("  "),
      ]),
    ));
  }
}

/** Gives each span the spaces that stand before its text in the whole text. */
function alignSpaces(spans, whole) {
  let end = 0;
  for (const span of spans) {
    const text = span.textContent;
    const start = whole.indexOf(text, end);
    if (start < 0) return;
    if (!whole.slice(end, start).trim()) span.textContent = whole.slice(end, start) + text;
    end = start + text.length;
  }
}
