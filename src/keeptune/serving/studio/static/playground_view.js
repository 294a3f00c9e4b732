// One prompt to base and tuned, side by side.

import { AnswerPanel } from "./answer_panel.js";
import { get, post, streamChat } from "./api.js";
import { differences } from "./diff.js";
import { alert, announce, element, field, fill } from "./dom.js";
import { t } from "./i18n.js";

const MODELS = ["base", "tuned"];
const ALTERNATIVES = 3;
const WAIT = 500;

export async function playgroundView({ content, parameters, signal }) {
  const page = new Playground(parameters.run, signal);
  fill(content, page.node);
  page.showModel(await get("api/model", {}, signal));
}

class Playground {
  constructor(run, signal) {
    this.run = run;
    this.signal = signal;
    this.requests = null;
    signal.addEventListener("abort", () => this.stop());
    this.model = element("p", { class: "muted", id: "model-state" });
    this.message = element("div");
    this.panels = MODELS.map((model) => new AnswerPanel(model, () => this.compare()));
    this.prompt = element("details", { hidden: true }, element("summary", {}, t("play.prompt")));
    this.node = element(
      "div", {},
      this.form(), this.model, this.message, this.prompt, this.options(),
      element("div", { class: "columns" }, this.panels.map(({ node }) => node)),
    );
    this.answers = this.node.lastChild;
    this.answers.classList.add("show-confidence", "show-differences");
  }

  form() {
    const input = (attributes) => element("input", { type: "number", required: true, ...attributes });
    this.question = element("textarea", {
      rows: "4", required: true, onkeydown: (event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.formNode.requestSubmit();
      },
    });
    this.temperature = input({ min: "0", max: "2", step: "any", value: "0" });
    this.maxTokens = input({ min: "1", step: "1", value: "256" });
    this.seed = input({ step: "1", value: "0" });
    this.askButton = element("button", { class: "primary" }, t("play.ask"));
    this.stopButton = element("button", { type: "button", disabled: true, onclick: () => this.stop() }, t("play.stop"));
    this.formNode = element(
      "form", { class: "card", onsubmit: (event) => { event.preventDefault(); this.ask(); } },
      field(t("play.question"), this.question, "wide"),
      element(
        "div", { class: "row" },
        field(t("play.temperature"), this.temperature, "short"),
        field(t("play.max_tokens"), this.maxTokens, "short"),
        field(t("play.seed"), this.seed, "short"),
        this.askButton, this.stopButton,
      ),
      element("p", { class: "muted hint" }, t("play.hint")),
    );
    return this.formNode;
  }

  options() {
    const box = (key, name) => element(
      "label", { class: "check" },
      element("input", { type: "checkbox", checked: true, onchange: (event) => this.answers.classList.toggle(name, event.target.checked) }),
      t(key),
    );
    return element(
      "div", { class: "row options" },
      box("play.show_differences", "show-differences"), box("play.show_confidence", "show-confidence"),
      element("ul", { class: "legend" }, ["p0", "p1", "p2", "p3", "p4"].map(
        (name) => element("li", {}, element("span", { class: `token-key ${name}` }, t(`play.${name}`))))),
    );
  }

  showModel({ run, state, message }) {
    const isOurs = run === this.run;
    this.model.textContent = t(isOurs ? `model.${state}` : "model.none");
    fill(this.message, isOurs && message && alert(message));
  }

  async ask() {
    if (this.requests) return;
    this.requests = new AbortController();
    this.setBusy(true);
    this.panels.forEach((panel) => panel.clear());
    fill(this.message);
    try {
      await this.load();
      const messages = [{ role: "user", content: this.question.value }];
      this.showPrompt(await post("api/prompt", { run: this.run, messages }));
      await Promise.all(this.panels.map((panel) => panel.read(this.stream(panel.model, messages))));
      announce(t("play.done"));
    } catch (error) {
      if (error.name !== "AbortError") fill(this.message, alert(error.message));
    }
    this.requests = null;
    this.setBusy(false);
  }

  stream(model, messages) {
    const body = {
      model, messages, temperature: this.temperature.valueAsNumber, max_tokens: this.maxTokens.valueAsNumber,
      seed: this.seed.valueAsNumber, logprobs: true, top_logprobs: ALTERNATIVES,
    };
    return streamChat(this.run, body, this.requests.signal);
  }

  /** Loads the model of the run, and waits until it is ready. */
  async load() {
    let model = await post("api/model", { run: this.run });
    this.showModel(model);
    while (model.state === "loading" && model.run === this.run) {
      await new Promise((resolve) => setTimeout(resolve, WAIT));
      this.requests.signal.throwIfAborted();
      model = await get("api/model", {}, this.requests.signal);
      this.showModel(model);
    }
    if (model.state === "failed") throw new Error(model.message);
  }

  showPrompt({ tokens }) {
    this.prompt.hidden = false;
    const parts = tokens.map((text) => element("span", { class: "prompt-token" }, text));
    fill(
      this.prompt,
      element("summary", {}, t("play.prompt_tokens", { count: tokens.length })),
      element("pre", { class: "log", tabindex: "0", "aria-label": t("play.prompt") }, parts),
    );
  }

  compare() {
    const [base, tuned] = this.panels;
    if (!base.spans.length || !tuned.spans.length) return;
    const texts = this.panels.map(({ spans }) => spans.map((span) => span.textContent));
    const marks = differences(...texts);
    this.panels.forEach((panel, place) => panel.mark(marks[place]));
  }

  setBusy(isBusy) {
    this.askButton.disabled = isBusy;
    this.stopButton.disabled = !isBusy;
  }

  stop() {
    this.requests?.abort();
  }
}
