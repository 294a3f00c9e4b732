// Texts of the page in English and Chinese, and numbers and dates as each writes them.

import { EN } from "./messages_en.js";
import { ZH } from "./messages_zh.js";

const MESSAGES = { en: EN, zh: ZH };
const KEY = "keeptune-language";

let current = localStorage.getItem(KEY) ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");

/** The language of the page: `en` or `zh`. */
export function language() {
  return current;
}

/** Changes the language and remembers it in this browser. */
export function setLanguage(name) {
  current = name;
  localStorage.setItem(KEY, name);
}

/** The text with this key; {name} in it is replaced by a value. */
export function t(key, values = {}) {
  const text = MESSAGES[current][key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

/** The text with this key if there is one, or else the word itself: for names that the server sends. */
export function word(prefix, name) {
  return MESSAGES[current][`${prefix}.${name}`] ?? name;
}

/** A share as a percentage; a dash where there is none. */
export function percent(share) {
  return share === null || share === undefined ? "–" : `${(100 * share).toFixed(1)} %`;
}

/** A number with separators and at most `digits` decimals; a dash where there is none. */
export function number(value, digits = 0) {
  if (value === null || value === undefined) return "–";
  return new Intl.NumberFormat(current, { maximumFractionDigits: digits }).format(value);
}

/** A date with its time. */
export function moment(text) {
  return new Intl.DateTimeFormat(current, { dateStyle: "medium", timeStyle: "short" }).format(new Date(text));
}

/** Seconds as hours, minutes and seconds; a dash where there are none. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const whole = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (hours) return t("time.hours", { hours, minutes });
  return minutes ? t("time.minutes", { minutes, seconds: rest }) : t("time.seconds", { seconds: rest });
}
