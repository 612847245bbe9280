// Days to choose from and to. Only loaded when somebody wants to.

import { h } from "./dom.js";
import { t } from "./format.js";
import { changed } from "./state.js";

/** Asks for the first and the last day, and goes there. */
export function askDates(state, act) {
  const field = (id, value) => h("input", { type: "date", id, required: true, value });
  const from = field("date-start", state.start?.slice(0, 10));
  // The end of a window is not in it: a date alone is the day after the last one.
  const to = field("date-end", state.end && dayAfter(state.end.slice(0, 10), state.end.length === 10 ? -1 : 0));
  const done = (event) => {
    event.preventDefault();
    dialog.close();
    act.go(changed(state, { start: from.value, end: dayAfter(to.value, 1), period: null, granularity: null }));
  };
  const dialog = h("dialog", { "aria-labelledby": "dates-title", close: () => dialog.remove() }, h("form", { submit: done },
    h("h2", { id: "dates-title" }, t("dates")), h("label", {}, t("first_day"), from), h("label", {}, t("last_day"), to),
    h("div", { class: "buttons" }, h("button", { type: "button", click: () => dialog.close() }, t("cancel")), h("button", { type: "submit", class: "primary" }, t("show")))));
  document.body.append(dialog);
  dialog.showModal();
}

/** The date so many days after another. */
function dayAfter(date, days) {
  const found = new Date(`${date}T00:00:00Z`);
  found.setUTCDate(found.getUTCDate() + days);
  return found.toISOString().slice(0, 10);
}
