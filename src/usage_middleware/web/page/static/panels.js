// The parts of a screen: a panel around anything, cards of the headline, charts from answers, the footer.

import "./chart.js";
import { curl, isFramed, path } from "./api.js";
import { h } from "./dom.js";
import { ago, grown, number, t, time } from "./format.js";
import { address } from "./state.js";
import { chartTable } from "./tables.js";

const charts = new Map();

/** A link to another state of the page. */
export function link(state, text, more = {}) {
  return h("a", { href: address(state), "data-state": "", ...more }, text);
}

/** A part of the screen with a heading; an error takes the place of its content. */
export function panel(id, title, answer, content, tools = []) {
  const inside = answer instanceof Error ? h("p", { class: "note" }, answer.message) : content(answer);
  return h("section", { class: "panel", "aria-labelledby": `${id}-title`, id },
    h("header", {}, h("h2", { id: `${id}-title` }, title), h("div", { class: "tools" }, tools)), inside);
}


/** What is null in an answer, and why. */
export function missing(answer, field) {
  return h("p", { class: "note" }, answer.unavailable?.[field]?.message ?? t("nothing"));
}

/** One of several to choose from; `options` are pairs of a value and its text. */
export function choice(id, label, options, value, change) {
  return h("label", { class: "choice" }, h("span", { class: "unseen" }, label),
    h("select", { id, change: (event) => change(event.target.value) }, options.map((one) => option(...one, value))));
}

export const option = (value, text, chosen) => h("option", { value, selected: value === chosen }, text);

/** A number of the headline, and by how much it has grown. */
export function card(label, value, change = null, more = null) {
  return h("div", { class: "card" }, h("dt", {}, label), h("dd", {}, h("span", { class: "value" }, value), change, more));
}

/** A change against the period before; `worse` is the direction that nobody wants: 1, -1, or 0. */
export function changeOf(value, text = grown, worse = 0) {
  if (value === null || value === undefined) return null;
  const tone = worse && value ? (Math.sign(value) === worse ? "worse" : "better") : "even";
  return h("span", { class: `change ${tone}`, title: t("against_before") }, text(value), h("span", { class: "unseen" }, ` ${t("against_before")}`));
}

/** A chart that stays the same element while the page is refreshed; as a table where that is asked for. */
export function chart(id, data, { asTable, onZoom }) {
  if (!data.labels.length || !data.rows.length) return h("p", { class: "empty" }, t("no_calls"));
  if (asTable) return chartTable(`${id}-table`, data);
  if (!charts.has(id)) charts.set(id, h("usage-plot", { id }));
  const found = charts.get(id);
  found.handlers?.abort();
  found.handlers = new AbortController();
  const { signal } = found.handlers;
  const edge = (index) => data.at[index] ?? data.ends;
  const zoomed = (first, last) => onZoom?.({ start: new Date(edge(first)).toISOString(), end: new Date(edge(last + 1)).toISOString() });
  found.addEventListener("zoom", ({ detail }) => zoomed(detail.first, detail.last), { signal });
  found.addEventListener("open", ({ detail }) => zoomed(detail.first, detail.first), { signal });
  found.data = data;
  return found;
}

/** The same numbers elsewhere: as a table, as CSV, in a terminal. */
export function tools(state, view, parameters, announce) {
  const question = path(view, parameters);
  const copy = async () => {
    await navigator.clipboard.writeText(curl(question));
    announce(t("copied"));
  };
  return [
    link({ ...state, table: state.table ? null : "1" }, state.table ? t("as_chart") : t("as_table"), { id: "as-table", class: "tool" }),
    !isFramed && h("a", { href: path(view, parameters, { format: "csv" }), download: "", id: "csv", class: "tool" }, "CSV"),
    h("button", { type: "button", id: "curl", class: "tool", click: copy, title: t("curl_help") }, "curl"),
  ];
}

/** Whether it is right and current. */
export function footer(answer, zone, now) {
  const parts = [
    answer.complete_through ? t("complete", { time: time(answer.complete_through, "second", zone), ago: ago(answer.complete_through, now) }) : t("no_workers"),
    answer.dropped_calls !== null && t("dropped", { count: number(answer.dropped_calls) }),
    t("zone", { zone }),
    t("every_minute"),
    t("range", { start: time(answer.window.start, "full", zone), end: time(answer.window.end, "full", zone) }),
  ];
  return h("footer", { class: "page-footer" }, parts.filter(Boolean).map((part) => h("span", {}, part)));
}
