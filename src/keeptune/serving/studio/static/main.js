// Shows the view that the address names: #/ or #/view?parameters.

import { answersView } from "./answers_view.js";
import { takeToken } from "./api.js";
import { compareView } from "./compare_view.js";
import { alert, element, fill } from "./dom.js";
import { language, setLanguage, t } from "./i18n.js";
import { overviewView } from "./overview_view.js";
import { playgroundView } from "./playground_view.js";
import { reportView } from "./report_view.js";
import { runsView } from "./runs_view.js";

const VIEWS = {
  "": runsView, overview: overviewView, playground: playgroundView, answers: answersView, report: reportView,
  compare: compareView,
};
const RUN_VIEWS = ["overview", "playground", "answers", "report"];

let leave = new AbortController();

function route() {
  const [name, query] = location.hash.replace(/^#\/?/, "").split("?");
  return { name, parameters: Object.fromEntries(new URLSearchParams(query)) };
}

/** The address of a view. */
function address(name, parameters = {}) {
  const query = new URLSearchParams(parameters).toString();
  return `#/${name}${query ? `?${query}` : ""}`;
}

function link(name, parameters, text, isCurrent) {
  return element("a", { href: address(name, parameters), "aria-current": isCurrent ? "page" : null }, text);
}

function runTabs(name, run) {
  return element(
    "nav", { class: "tabs", "aria-label": t("nav.run") },
    RUN_VIEWS.map((view) => link(view, { run }, t(`nav.${view}`), view === name)),
  );
}

async function show() {
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  const { name, parameters } = route();
  const view = VIEWS[name] ?? runsView;
  const main = document.getElementById("main");
  showFrame(name);
  const content = element("div", { class: "view" });
  const heading = element("h1", { tabindex: "-1" }, parameters.run ?? t(name === "compare" ? "nav.compare" : "nav.runs"));
  fill(main, heading, RUN_VIEWS.includes(name) && runTabs(name, parameters.run), content);
  document.title = `${heading.textContent} · keeptune studio`;
  heading.focus({ preventScroll: true });
  try {
    await view({ content, parameters, signal, go: (changes) => history.replaceState(null, "", address(name, changes)) });
  } catch (error) {
    if (!signal.aborted) content.prepend(alert(error.message));
  }
}

function showFrame(name) {
  document.documentElement.lang = language() === "zh" ? "zh-Hans" : "en";
  document.getElementById("skip").textContent = t("skip");
  const button = document.getElementById("language");
  const other = language() === "zh" ? "en" : "zh";
  button.textContent = other === "zh" ? "中文" : "English";
  button.lang = other === "zh" ? "zh-Hans" : "en";
  button.onclick = () => {
    setLanguage(other);
    show();
  };
  const nav = document.getElementById("nav");
  nav.setAttribute("aria-label", t("nav.main"));
  fill(nav, link("", {}, t("nav.runs"), name === ""), link("compare", {}, t("nav.compare"), name === "compare"));
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the part of the address behind # names the view
  document.getElementById("main").focus();
});
takeToken();
addEventListener("hashchange", () => {
  takeToken();
  show();
});
show();
