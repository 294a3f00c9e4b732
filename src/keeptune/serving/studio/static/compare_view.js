// The tuned models of two runs, question by question.

import { get } from "./api.js";
import { alert, element, field, fill, select } from "./dom.js";
import { t } from "./i18n.js";
import { PairsList } from "./pairs_list.js";

export async function compareView({ content, parameters, signal, go }) {
  const { runs } = await get("api/runs", {}, signal);
  const finished = runs.filter(({ stage }) => stage === "finished").map(({ id }) => id);
  if (finished.length < 2) {
    fill(content, element("p", {}, t("compare.none")));
    return;
  }
  let { first = finished[0], second = finished[1], ...filters } = parameters;
  const body = element("div");
  const options = finished.map((id) => [id, id]);
  const show = async () => {
    const list = new PairsList({
      path: "api/comparison", base: { first, second }, labels: [first, second], filters, signal,
      onfilters: (changed) => go({ first, second, ...changed }),
    });
    fill(body, list.node);
    try {
      await list.start();
    } catch (error) {
      if (!signal.aborted) fill(body, alert(error.message));
    }
  };
  const choose = (change) => {
    change();
    filters = {};
    go({ first, second });
    return show();
  };
  fill(
    content,
    element(
      "form", { class: "row card", onsubmit: (event) => event.preventDefault() },
      field(t("compare.first"), select(options, first, (value) => choose(() => { first = value; }))),
      field(t("compare.second"), select(options, second, (value) => choose(() => { second = value; }))),
    ),
    element("p", { class: "muted" }, t("compare.note")),
    body,
  );
  await show();
}
