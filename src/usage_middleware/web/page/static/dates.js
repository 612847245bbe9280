// Days to choose from and to. Only loaded when somebody wants to.

import { now } from "./api.js";
import { h } from "./dom.js";
import { instant, t } from "./format.js";
import { changed, zoneOf } from "./state.js";

/** Asks for the first and the last day, and goes there. */
export function askDates(state, act) {
  const field = (id, value) => h("input", { type: "date", id, required: true, value });
  const zone = zoneOf(state);
  const today = dayOf(now(), zone);
  const from = field("date-start", state.start && dayOf(instant(state.start, zone), zone));
  // The end of a window is not in it.
  const to = field("date-end", state.start && (state.end ? dayOf(instant(state.end, zone) - 1, zone) : today));
  from.max = to.max = today;
  const follow = () => (to.min = from.value);
  from.addEventListener("input", follow);
  follow();
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

/** The date of a time in a zone; nothing of what is no time. */
function dayOf(at, zone) {
  try {
    return new Intl.DateTimeFormat("en-CA", { timeZone: zone }).format(at);
  } catch {
    return null;
  }
}

/** The date so many days after another. */
function dayAfter(date, days) {
  const found = new Date(`${date}T00:00:00Z`);
  found.setUTCDate(found.getUTCDate() + days);
  return found.toISOString().slice(0, 10);
}
