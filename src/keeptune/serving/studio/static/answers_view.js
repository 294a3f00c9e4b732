// Every answer of base and tuned in a run.

import { fill } from "./dom.js";
import { t } from "./i18n.js";
import { PairsList } from "./pairs_list.js";

export async function answersView({ content, parameters, signal, go }) {
  const { run, ...filters } = parameters;
  const list = new PairsList({
    path: "api/answers", base: { run }, labels: [t("who.base"), t("who.tuned")], filters, signal,
    onfilters: (changed) => go({ run, ...changed }),
  });
  fill(content, list.node);
  await list.start();
}
