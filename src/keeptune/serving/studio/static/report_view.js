// The report of a finished run, in a frame that runs no scripts.

import { get } from "./api.js";
import { element, fill } from "./dom.js";
import { t } from "./i18n.js";

export async function reportView({ content, parameters, signal }) {
  const run = await get("api/progress", { run: parameters.run }, signal);
  if (!run.has_report) {
    fill(content, element("p", {}, t("report.none")));
    return;
  }
  const address = `api/report?${new URLSearchParams({ run: parameters.run })}`;
  fill(
    content,
    element("p", {}, element("a", { href: address, target: "_blank", rel: "noopener" }, t("report.open"))),
    element("iframe", { class: "report", src: address, title: t("nav.report"), sandbox: true }),
  );
}
