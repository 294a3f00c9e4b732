// The list of runs, and the form that starts a new one.

import { get, post } from "./api.js";
import { alert, chip, element, field, fill, select } from "./dom.js";
import { moment, percent, t, word } from "./i18n.js";
import { every } from "./polling.js";

const VERDICTS = { pass: "good", fail: "bad", undecided: "warn" };

export async function runsView({ content, signal }) {
  const list = element("ul", { class: "runs" });
  const state = await get("api/state", {}, signal);
  fill(content, list, !state.read_only && state.recipes.length > 0 && startForm(state.recipes));
  let shown = "";
  await every(5000, signal, async () => {
    const { runs } = await get("api/runs", {}, signal);
    const text = JSON.stringify(runs);
    if (text === shown) return; // so that the focus stays where it is
    shown = text;
    fill(list, runs.length ? runs.map(runItem) : element("li", { class: "empty" }, t("runs.none", { folder: state.folder })));
  });
}

function runItem(run) {
  const parameters = new URLSearchParams({ run: run.id });
  return element(
    "li", {},
    element(
      "div", { class: "run-name" },
      element("a", { href: `#/overview?${parameters}` }, run.id),
      element("span", { class: "muted" }, [run.model && run.name !== run.id && run.name, run.model].filter(Boolean).join(" · ")),
      run.problem && alert(run.problem),
    ),
    labeled(t("runs.stage"), stageChip(run)),
    labeled(t("runs.verdict"), verdictChip(run.verdict)),
    labeled(t("runs.skill"), run.skill_n === null ? "–" : `${percent(run.skill_base)} → ${percent(run.skill_tuned)}`),
    labeled(t("runs.date"), element("time", { datetime: run.changed }, moment(run.changed))),
  );
}

function labeled(label, value) {
  return element("div", { class: "fact" }, element("span", { class: "muted" }, label), element("span", {}, value));
}

/** The stage of a run, and whether it runs. */
export function stageChip(run) {
  if (run.is_running) return chip("live", `${word("stage", run.stage)} · ${t("stage.running")}`);
  return chip("plain", run.stage === "finished" ? word("stage", run.stage) : t("stage.stopped", { stage: word("stage", run.stage) }));
}

/** The verdict of a run. */
export function verdictChip(verdict) {
  return verdict ? chip(VERDICTS[verdict], word("verdict", verdict)) : "–";
}

function startForm(recipes) {
  const recipe = select(recipes.map((name) => [name, name]), recipes[0], () => {});
  const name = element("input", { required: true, pattern: "[A-Za-z0-9][A-Za-z0-9_\\-]*", maxlength: "64", autocomplete: "off" });
  const message = element("div");
  const output = element("pre", { class: "log", tabindex: "0", hidden: true });
  const start = async (event) => {
    event.preventDefault();
    try {
      const { run } = await post("api/start", { recipe: recipe.value, name: name.value });
      fill(message, t("start.started", { run }));
      output.hidden = false;
      followOutput(run, output, message);
    } catch (error) {
      fill(message, alert(error.message));
    }
  };
  return element(
    "section", { class: "card" },
    element("h2", {}, t("start.title")),
    element(
      "form", { class: "row", onsubmit: start },
      field(t("start.recipe"), recipe), field(t("start.name"), name),
      element("button", { class: "primary" }, t("start.button")),
    ),
    message, output,
  );
}

/** Shows what the command prints until its run is in the list, or until it has failed. */
async function followOutput(run, output, message) {
  for (let alive = true; alive && output.isConnected; ) {
    const state = await get("api/output", { run });
    output.textContent = state.output;
    alive = state.is_running;
    if (!alive && ![0, 4].includes(state.exit_code)) fill(message, alert(t("start.failed", { run, code: state.exit_code })));
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}
