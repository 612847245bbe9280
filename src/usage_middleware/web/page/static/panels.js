// The parts of a screen: a panel around anything, cards of the headline, charts from answers, the footer.

import "./chart.js";
import { curl, path } from "./api.js";
import { h, named } from "./dom.js";
import { isFramed } from "./frame.js";
import { ago, compact, grown, milliseconds, number, t, time } from "./format.js";
import { address } from "./state.js";
import { chartTable } from "./tables.js";

const COLORS = ["c0", "c1", "c2", "c3", "c4"];
const charts = new Map();

/** A link to another state of the page. */
export function link(state, text, more = {}) {
  return h("a", { href: address(state), "data-state": "", ...more }, text);
}

/** A part of the screen with a heading; an error takes the place of its content. */
export function panel(id, title, answer, content, tools = []) {
  const inside = answer instanceof Error ? refusal(answer) : content(answer);
  return h("section", { class: "panel", "aria-labelledby": `${id}-title`, id },
    h("header", {}, h("h2", { id: `${id}-title` }, title), h("div", { class: "tools" }, tools)), inside);
}

/** What the API says of a question that it refuses. */
export function refusal(error) {
  return h("p", { class: "note" }, error.message);
}

/** What is null in an answer, and why. */
export function missing(answer, field) {
  return h("p", { class: "note" }, answer.unavailable?.[field]?.message ?? t("nothing"));
}

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

const starts = (rows) => rows[0]?.points.map(([at]) => at) ?? [];

/** What a chart needs of an answer of /series that adds up: the rows, the rest, and the period before. */
export function barsOf(answer, zone, { title, name = (row) => row, colors = COLORS } = {}) {
  const rows = (answer.series ?? []).map((row, index) => ({ name: name(row.name), key: row.name, total: row.total, values: values(row), color: colors[index % colors.length] }));
  if (answer.other?.members) rows.push({ name: t("others", { count: number(answer.other.members) }), key: null, total: answer.other.total, values: values(answer.other), color: "rest" });
  return shaped(answer, rows, zone, { title, format: number, short: compact, previous: answer.previous?.points?.map(([, value]) => value) ?? null });
}

/** What a chart needs of several answers of /series as lines. */
export function linesOf(answers, zone, { title, name }) {
  const rows = answers.map((answer, index) => ({ name: name(answer.measure), key: null, total: answer.totals[answer.measure], values: values(answer.series[0] ?? { points: [] }), color: COLORS[index] }));
  return { ...shaped(answers[0], rows, zone, { title, format: milliseconds, short: compact, previous: null }), kind: "lines" };
}

const values = (row) => row.points.map(([, value]) => value);

function shaped(answer, rows, zone, more) {
  const at = starts(answer.series?.length ? answer.series : answer.other ? [answer.other] : []);
  const size = answer.granularity;
  const ends = Date.parse(answer.window.end);
  const last = Date.parse(at.at(-1));
  return {
    rows, at, size, ...more,
    labels: at.map((one) => time(one, size, zone)),
    ticks: at.map((one) => time(one, size === "minute" || (size === "hour" && at.length < 30) ? "clock" : "tick", zone)),
    open: at.length > 0 && ends < last + LENGTHS[size],
    previous: more.previous?.slice(0, at.length) ?? null,
    ends: answer.window.end,
  };
}

/** How long a bucket is at least, with an hour less for the change of clocks. */
const LENGTHS = { minute: 60_000, hour: 3_600_000, day: 82_800_000, week: 601_200_000, month: 2_415_600_000 };

/** A chart that stays the same element while the page is refreshed; as a table where that is asked for. */
export function chart(id, data, { asTable, onZoom, onOpen }) {
  if (!data.labels.length || !data.rows.length) return h("p", { class: "empty" }, t("no_calls"));
  if (asTable) return chartTable(data);
  if (!charts.has(id)) charts.set(id, h("usage-chart", { id }));
  const found = charts.get(id);
  found.handlers?.abort();
  found.handlers = new AbortController();
  const { signal } = found.handlers;
  const edge = (index) => data.at[index] ?? data.ends;
  const zoomed = (first, last) => onZoom?.({ start: new Date(edge(first)).toISOString(), end: new Date(edge(last + 1)).toISOString() });
  found.addEventListener("zoom", ({ detail }) => zoomed(detail.first, detail.last), { signal });
  found.addEventListener("open", ({ detail }) => (onOpen ?? ((index) => zoomed(index, index)))(detail.index ?? detail.first), { signal });
  found.data = data;
  return [found, h("p", { class: "unseen", id: `${id}-help` }, t("chart_help"))];
}

/** The names under a chart, with their totals; each opens what it names. */
export function legend(data, opens) {
  return h("ul", { class: "legend" }, data.rows.map((row) => {
    const content = [h("i", { class: `swatch ${row.color}` }), named(row.name), h("b", {}, data.format(row.total))];
    const target = row.key !== null && opens?.(row.key);
    return h("li", {}, target ? link(target, content) : h("span", {}, content));
  }));
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
    isFramed ? null : h("a", { href: path(view, parameters, { format: "csv" }), download: "", class: "tool" }, "CSV"),
    h("button", { type: "button", id: "curl", class: "tool", click: copy, title: t("curl_help") }, "curl"),
  ];
}

/** Whether it is right and current. */
export function footer(answer, zone, now) {
  const parts = [
    answer.complete_through ? t("complete", { time: time(answer.complete_through, "second", zone), ago: ago(answer.complete_through, now) }) : t("no_workers"),
    answer.dropped_calls === null ? null : t("dropped", { count: number(answer.dropped_calls) }),
    t("zone", { zone }),
    t("range", { start: time(answer.window.start, "full", zone), end: time(answer.window.end, "full", zone) }),
  ];
  return h("footer", { class: "page-footer" }, parts.filter(Boolean).map((part) => h("span", {}, part)));
}
