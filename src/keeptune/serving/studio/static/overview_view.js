// What a run has done so far: progress, losses, dev scores, suite, log; and its control.

import { get, post } from "./api.js";
import { lineChart } from "./chart.js";
import { alert, announce, chip, element, fill, table } from "./dom.js";
import { duration, number, percent, t, word } from "./i18n.js";
import { every } from "./polling.js";
import { stageChip, verdictChip } from "./runs_view.js";

const INTERVAL = 2000;
const END_PIXELS = 40;
const STATUS = { retained: "good", lost: "bad", undecided: "warn" };

export async function overviewView({ content, parameters, signal }) {
  const { run } = parameters;
  const { read_only: isReadOnly } = await get("api/state", {}, signal);
  const parts = Object.fromEntries(["head", "control", "problem", "training", "losses", "suite", "dev", "stages", "log"].map(
    (name) => [name, element("div")],
  ));
  fill(content, Object.values(parts));
  const shown = {};
  const update = (name, data, render) => {
    const text = JSON.stringify(data);
    if (shown[name] === text) return; // what has not changed keeps its focus and its scroll position
    shown[name] = text;
    fill(parts[name], render(data));
  };
  await every(INTERVAL, signal, async () => {
    const state = await get("api/progress", { run }, signal);
    update("head", [state.stage, state.is_running, state.verdict, state.gate?.reason], () => head(state));
    update("control", [state.stage, state.is_running, state.can_stop, isReadOnly], () => !isReadOnly && control(run, state));
    update("problem", [state.problem, state.exit_code], () => problems(run, state));
    update("training", state.training, training);
    update("losses", state.losses, losses);
    update("suite", [state.suite, state.gate], () => suite(run, state));
    update("dev", state.dev, devScores);
    update("stages", state.stages, stages);
    update("log", [state.log, state.output], () => logs(state, parts.log));
  });
}

function head(state) {
  return element(
    "div", { class: "facts" },
    fact(t("runs.stage"), stageChip(state)),
    fact(t("runs.verdict"), verdictChip(state.verdict)),
    state.skill_n !== null && fact(
      t("runs.skill"), `${percent(state.skill_base)} → ${percent(state.skill_tuned)} (n = ${number(state.skill_n)})`),
    state.model && fact(t("overview.model"), state.model),
    state.gate && fact(t("overview.reason"), state.gate.reason),
  );
}

function fact(label, value) {
  return element("div", { class: "fact" }, element("span", { class: "muted" }, label), element("span", {}, value));
}

function control(run, state) {
  const message = element("div");
  const act = async (path, text) => {
    try {
      await post(path, { run });
      fill(message, element("p", {}, text));
      announce(text);
    } catch (error) {
      fill(message, alert(error.message));
    }
  };
  const button = (key, path, kind) => element(
    "button", { type: "button", class: kind, onclick: () => act(path, t(`control.${key}.done`)) }, t(`control.${key}`));
  return element(
    "div", { class: "row" },
    state.can_stop && button("stop", "api/stop", "danger"),
    !state.is_running && state.stage !== "finished" && button("resume", "api/resume", "primary"),
    state.is_running && !state.can_stop && element("p", { class: "muted" }, t("control.elsewhere")),
    message,
  );
}

function problems(run, state) {
  const failed = ![null, 0, 4, 5].includes(state.exit_code);
  return [state.problem && alert(state.problem), failed && alert(t("start.failed", { run, code: state.exit_code }))];
}

function training(amounts) {
  if (!amounts) return null;
  const share = amounts.planned_tokens ? Math.min(1, amounts.tokens / amounts.planned_tokens) : null;
  return element(
    "section", { class: "card" },
    element("h2", {}, t("overview.training")),
    share !== null && element("progress", { value: share, max: "1", "aria-label": t("overview.training") }),
    element(
      "div", { class: "facts" },
      fact(t("overview.step"), number(amounts.step)),
      fact(t("overview.loss"), number(amounts.loss, 4)),
      fact(t("overview.tokens"), share === null
        ? number(amounts.tokens)
        : `${number(amounts.tokens)} / ${number(amounts.planned_tokens)} (${percent(share)})`),
      fact(t("overview.speed"), t("overview.per_second", { speed: number(amounts.tokens_per_second) })),
      fact(t("overview.elapsed"), duration(amounts.seconds)),
      share !== null && fact(t("overview.remaining"), duration(amounts.remaining_seconds)),
    ),
  );
}

function losses(series) {
  if (!Object.keys(series).length) return null;
  return element("section", { class: "card" }, element("h2", {}, t("overview.losses")), lineChart(series, t("overview.losses")));
}

function suite(run, state) {
  if (!state.suite.length) return null;
  const rows = state.suite.map(({ source, base, tuned }) => {
    const status = state.gate?.abilities[source]?.status;
    const parameters = new URLSearchParams({ run, source });
    const name = base && tuned
      ? element("a", { href: `#/answers?${parameters}` }, word("source", source))
      : word("source", source);
    return [name, number((base ?? tuned).n), mean(base), mean(tuned), status ? chip(STATUS[status] ?? "plain", word("status", status)) : "–"];
  });
  return element(
    "section", { class: "card" },
    element("h2", {}, t("overview.suite")),
    table(t("overview.suite"), [t("suite.questions"), "n", t("who.base"), t("who.tuned"), t("suite.status")], rows),
    element("p", { class: "muted" }, t("suite.note")),
  );
}

function mean(figures) {
  if (!figures) return "–";
  return figures.score !== null ? percent(figures.score) : t("suite.nats", { loss: number(figures.loss, 3) });
}

function devScores(scores) {
  if (!scores.length) return null;
  const statuses = (abilities) => Object.entries(abilities).map(
    ([name, status]) => `${word("source", name)}: ${word("status", status)}`).join(", ") || "–";
  const rows = scores.map(({ step, accuracy, n, f1, abilities }) => [
    step ? number(step) : t("who.base"), `${percent(accuracy)} (n = ${number(n)})`, f1.toFixed(1), statuses(abilities)]);
  return element(
    "section", { class: "card" },
    element("h2", {}, t("overview.dev")),
    table(t("overview.dev"), [t("overview.step"), t("source.skill"), t("overview.f1"), t("overview.abilities")], rows),
  );
}

function stages(done) {
  if (!done.length) return null;
  return element(
    "section", { class: "card" },
    element("h2", {}, t("overview.stages")),
    table(t("overview.stages"), [t("runs.stage"), t("overview.elapsed")],
      done.map(({ stage, seconds }) => [word("stage", stage), duration(seconds)])),
  );
}

function logs(state, previous) {
  const part = (title, text) => {
    if (!text) return null;
    const log = element("pre", { class: "log", tabindex: "0", "aria-label": title }, text);
    const old = previous.querySelector(`[aria-label="${CSS.escape(title)}"]`);
    const isAtEnd = !old || old.scrollHeight - old.scrollTop - old.clientHeight < END_PIXELS;
    const top = old?.scrollTop;
    requestAnimationFrame(() => { log.scrollTop = isAtEnd ? log.scrollHeight : top; });
    return element("section", { class: "card" }, element("h2", {}, title), log);
  };
  return [part(t("overview.output"), state.output), part("log.jsonl", state.log.join("\n"))];
}
