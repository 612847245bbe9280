// The screens of a customer: which questions each asks, and what it makes of the answers.

import { LENGTHS, barsOf, legend, linesOf } from "./answers.js";
import { ask, curl, load } from "./api.js";
import { h } from "./dom.js";
import { bytes, grown, milliseconds, number, percent, percentPoints, start, t } from "./format.js";
import { endpointsPanel, keysPanel, opened } from "./lists.js";
import { card, changeOf, chart, choice, link, missing, panel, tools } from "./panels.js";
import { fits, groupOf, groupsOf, measured, measures, pageOf, statuses } from "./questions.js";
import { changed, zoneOf } from "./state.js";

export const PAGE = 20;
const MOST_BARS = 800;
const ERROR_COLORS = ["e0", "e1", "c3", "e3", "rest"];
const isError = (row) => Number(row.name) >= 400;

/** Which screen a state is about; all but the usual one are only loaded where they are shown. */
export async function screenOf(state) {
  if (start.viewer.operator && !state.org) return (await load(import("./operator.js"))).operator;
  if (state.endpoint && !start.viewer.key) return (await load(import("./endpoint.js"))).endpoint;
  return state.key ? (await load(import("./key.js"))).key : customer;
}

/** What there is to say of plans: filled by the module that is only sent where there are some. */
export const plans = {};

const customer = {
  ask: (state, early) => measured(state, {}, (within, size) => {
    const keys = ask("by-key", { ...within, ...pageOf(state, PAGE), endpoints_per_key: 0, include_flags: start.plans || null });
    return { ...statuses(within, {}, size), keys, endpoints: ask("by-group", { ...within, group: "endpoint", limit: PAGE }), cost: plans.cost?.(state, keys) };
  }, { early }),
  crumbs: (state, found) => (start.viewer.key ? [[null, orgOf(state, found)], [state, namesOf(found).get(start.viewer.key) ?? start.viewer.key]] : [[state, orgOf(state, found)]]),
  show: (state, found, act) => [headline(state, found), main(state, found, act), h("div", { class: "pair" },
    !start.viewer.key && keysPanel(state, found, plans.keyColumns?.(found.keys)), endpointsPanel(state, found)), plans.panels?.(state, found), health(state, found, act)],
};

/** The names of the keys that an answer lists. */
const namesOf = (found) => new Map(found?.keys?.keys?.map((row) => [row.key_id, row.name]));

/** Whose numbers they are: the answers know, also if somebody else has signed in since. */
export const orgOf = (state, found) => state.org ?? found?.main?.org_id ?? start.viewer.org;

/** The numbers in large, each against the period before. */
export function headline(state, found) {
  const { main: calls, failed } = found;
  const speed = found.p95 ?? found.average;
  const total = calls.totals.calls;
  const errors = (failed.usage ?? failed.totals)?.errors;
  const rate = errors === undefined ? null : total && errors / total;
  const before = calls.previous?.totals.calls;
  const was = before && failed.previous ? failed.previous.totals.errors / before : null;
  return h("dl", { class: "cards", id: "headline" },
    card(t("calls"), h("span", { id: "total", "data-value": total }, number(total)), changeOf(calls.previous?.change.calls)),
    card(t("errors"), percent(rate), was === null || rate === null ? null : changeOf(rate - was, percentPoints, 1),
      rate !== null && h("span", { class: "more" }, t("errors_count", { count: number(errors), calls: number(total) }))),
    card(found.p95 ? "p95" : t("average"), milliseconds(speed.totals?.[speed.measure]), changeOf(speed.previous?.change[speed.measure], grown, 1)),
    plans.card?.(state, found));
}

/** Statuses in colours of their own: errors in those that they have among what fails. */
function statusColors(answer) {
  const colors = { true: [...ERROR_COLORS], false: ["c1", "c0", "c4", "c2", "rest"] };
  return answer.series.map((row) => colors[isError(row)].shift());
}

/** The bars: a measure over time, of a group. */
export function main(state, found, act) {
  const { bars: answer, main: first } = found;
  const { group = groupOf(state), measure = state.measure ?? "calls" } = answer;
  const name = nameOf(measure);
  const go = (changes) => act.go(changed(state, changes));
  const by = groupOf(state);
  const choices = [
    choice("group", t("group_by"), groupsOf(state).map((one) => [one, groupName(one)]), by, (one) => go({ group: one, measure: fits(state, one, measure) ? measure : null })),
    choice("measure", t("measure"), measures().map((one) => [one, nameOf(one)]), measure, (one) => go({ measure: one, group: fits(state, by, one) ? by : "none" })),
    choice("size", t("granularity"), sizesOf(first).map((one) => [one, t(`size_${one}`)]), first.granularity, (one) => go({ granularity: one })),
  ];
  return panel("usage", name, answer, () => {
    if (!answer.series) return missing(answer, "series");
    const title = group === "none" ? name : t("by", { name, group: groupName(group) });
    const names = namesOf(group === "key" && found);
    const data = barsOf(answer, zoneOf(state), { title, name: (row) => (group === "none" ? name : names.get(row) ?? row), colors: group === "status" ? statusColors(answer) : undefined, format: measure === "bytes" ? bytes : number });
    const opens = (row, content) => {
      const target = opened(state, group, row);
      return target && link(target, content);
    };
    return [
      first.totals.calls ? chart("calls", data, { asTable: state.table, onZoom: act.zoom }) : empty(state, found),
      legend(data, opens), first.instead && h("p", { class: "note" }, first.instead), first.totals.calls > 0 && !state.table && data.previous && h("p", { class: "hint" }, h("i", { class: "dashes" }), t("dashed")),
    ];
  }, [...choices, ...tools(state, "series", found.asked, act.announce)]);
}

/** How wide bars may be: at most so many that each can be seen, or nearly. */
function sizesOf({ window, granularity: size }) {
  const span = Date.parse(window.end) - Date.parse(window.start);
  return Object.keys(LENGTHS).filter((one) => one === size || span / LENGTHS[one] <= MOST_BARS);
}

const groupName = (name) => start.words[`group_${name}`] ?? name;
const nameOf = (measure = "calls") => (measure.startsWith("c.") ? measure.slice(2) : t(measure));

/** Why there are no bars. */
function empty(state, found) {
  const used = (found.row ?? found.keys)?.keys?.some((row) => row.last_activity);
  if (found.keys?.total_keys === 0) return h("p", { class: "empty" }, t("no_keys"));
  if (used === false) return h("div", { class: "empty" }, h("p", {}, t("never_used")), h("code", {}, curl("/")));
  return h("p", { class: "empty" }, t("no_calls"));
}

/** What fails, and how fast it is. */
export function health(state, found, act) {
  const shown = { asTable: state.table, onZoom: act.zoom };
  const { status } = found;
  const lines = [found.p50, found.p95, found.p99, found.average].filter(Boolean);
  const zone = zoneOf(state);
  const failures = panel("failures", t("what_fails"), status, () => {
    if (!status.series) return missing(status, "series");
    const rows = status.series.filter(isError);
    const data = barsOf({ ...status, series: rows, other: null }, zone, { title: t("errors_by_status"), colors: ERROR_COLORS });
    return rows.length ? [chart("failed", { ...data, low: true }, shown), legend(data)] : h("p", { class: "empty" }, t("no_errors"));
  });
  const speed = panel("speed", t("how_fast"), lines.find((one) => one instanceof Error) ?? lines[0], () => {
    if (!found.main.totals.calls) return h("p", { class: "empty" }, t("no_calls"));
    const lacking = lines.find((one) => !one.series);
    if (lacking) return missing(lacking, "series");
    const data = linesOf(lines, zone, { title: t("how_fast"), name: (measure) => (measure === "latency_ms" ? t("average") : measure) });
    return [chart("speeds", { ...data, low: true }, shown), legend(data), found.average && h("p", { class: "hint" }, t("only_average"))];
  });
  return h("div", { class: "pair" }, failures, speed);
}
