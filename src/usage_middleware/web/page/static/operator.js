// The screen of operators: all organisations together, and how recording goes.

import { all, ask, now } from "./api.js";
import { h, s } from "./dom.js";
import { ago, number, start, t } from "./format.js";
import { groupTable, opened, pager, search } from "./lists.js";
import { changeOf, missing, panel } from "./panels.js";
import { groupOf, measured, pageOf } from "./questions.js";
import { headline, main } from "./screens.js";
import { changed, periodOf, zoneOf } from "./state.js";

const ORGS = 20;
/** How many rows the bars have; so many more are only asked for the table. */
const BARS = 5;

export const operator = {
  async ask(shown, early) {
    const workers = ask("health", {});
    if (!start.together) return all({ workers });
    const state = edged(shown);
    const compare = state.compare === "none" ? null : "previous";
    const orgs = (within) => ask("by-group", { ...named(state, within), ...pageOf(state, ORGS), group: "org", compare });
    const found = await measured(state, {}, (within) => ({ orgs: orgs(within), workers }), {
      rows: groupOf(state) === "org" ? ORGS : null, early: (first) => early({ ...first, bars: folded(first.bars) }),
    });
    return { ...found, rows: found.bars.series, bars: folded(found.bars) };
  },
  crumbs: (state) => [[state, t("all_organizations")]],
  show: (state, found, act) => (start.together
    ? [headline(state, found), main(state, found, act), orgsPanel(state, found), workersPanel(found)]
    : [finder(state, act), workersPanel(found)]),
};

/** Ninety days by their edges: /by-group has no such period, and all is compared with the same time before. */
function edged(state) {
  if (periodOf(state) !== "90d") return state;
  const today = Date.parse(new Intl.DateTimeFormat("en-CA", { timeZone: zoneOf(state) }).format(now()));
  return { ...state, start: new Date(today - 90 * 86_400_000).toISOString().slice(0, 10) };
}

/** Other windows by their names: what is before a month, or so many days, is not what is before their edges. */
function named(state, within) {
  const range = periodOf(state);
  return range ? { ...within, start: null, range, end: range === "last_month" ? null : within.end } : within;
}

/** An answer with few rows: the others are in its rest. */
function folded(answer) {
  const rest = answer.series?.slice(BARS) ?? [];
  if (!rest.length || !answer.other) return answer;
  const points = answer.other.points.map(([at, value], index) => [at, rest.reduce((sum, row) => sum + row.points[index][1], value)]);
  const total = rest.reduce((sum, row) => sum + row.total, answer.other.total);
  return { ...answer, series: answer.series.slice(0, BARS), other: { members: answer.other.members + rest.length, total, points } };
}

/** By how much an organisation calls more than in the window before; null where that is not kept. */
const grownSince = ({ calls, previous }) => (previous === 0 && calls ? t("from_none") : changeOf(previous ? calls / previous - 1 : null) ?? "–");

function orgsPanel(state, found) {
  const answer = found.orgs;
  const rows = new Map((answer.totals && groupOf(state) === "org" ? found.rows ?? [] : []).map((row) => [row.name, row]));
  const more = [
    ...(answer.previous ? [{ name: "change", label: t("change"), numeric: true, text: grownSince }] : []),
    ...(start.plans ? [{ name: "over", label: t("limits"), minor: true, text: (row) => (row.over_quota ? h("span", { class: "badge alarm" }, t("over_quota")) : "") }] : []),
    { name: "last", label: t("last_used"), numeric: true, minor: true, text: (row) => ago(row.last_activity, now()) },
    { name: "spark", label: t("over_time"), minor: true, text: (row) => spark(rows.get(row.bucket)) },
  ];
  return panel("orgs", t("organizations"), answer, () => (answer.buckets
    ? [groupTable(t("organizations"), t("organization"), answer, (name) => opened(state, "org", name), more), pager(state, answer.pagination)]
    : missing(answer, "buckets")), [search(t("find_org"))]);
}

/** A row as a small line without numbers; those are in the bars. */
function spark(row) {
  if (!row || row.points.length < 2) return "";
  const most = Math.max(1, ...row.points.map(([, value]) => value));
  const step = 100 / (row.points.length - 1);
  const places = row.points.map(([, value], index) => `${(index * step).toFixed(1)} ${(19 - (18 * value) / most).toFixed(1)}`);
  return s("svg", { class: "spark", viewBox: "0 0 100 20", preserveAspectRatio: "none", "aria-hidden": "true" }, s("path", { d: `M${places.join("L")}` }));
}

/** Where nothing is counted together: the name of one organisation opens it. */
function finder(state, act) {
  const field = h("input", { id: "org", required: true, autocomplete: "off", spellcheck: "false" });
  const open = (event) => {
    event.preventDefault();
    act.go(changed(state, { org: field.value.trim() }));
  };
  return panel("find", t("organization"), null, () => h("form", { class: "finder", submit: open },
    h("label", {}, t("organization_name"), field), h("button", { type: "submit", class: "primary" }, t("show"))));
}

function workersPanel({ workers: answer }) {
  return panel("workers", t("workers"), answer, () => [
    h("p", {}, h("span", { class: `status ${answer.status}` }, t(`status_${answer.status}`)), " ", t("workers_count", { count: number(answer.workers.length) })),
    answer.warnings.length ? h("ul", { class: "warnings" }, answer.warnings.map((one) => h("li", {}, h("code", {}, one.code), " ", one.message))) : null,
  ]);
}
