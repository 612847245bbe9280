// The screens of a customer: which questions each asks, and what it makes of the answers.

import { LENGTHS, barsOf, legend, linesOf } from "./answers.js";
import { ask, load, series } from "./api.js";
import { h } from "./dom.js";
import { bytes, grown, milliseconds, number, percent, percentPoints, start, t } from "./format.js";
import { about, busiest, endpointsPanel, keysPanel, opened } from "./lists.js";
import { card, changeOf, chart, choice, link, missing, panel, tools } from "./panels.js";
import { fits, groupOf, groupsOf, measured, measures, pageOf, statuses } from "./questions.js";
import { changed, zoneOf } from "./state.js";
import { table } from "./tables.js";

const PAGE = 20;
const MOST_BARS = 800;
const ERROR_COLORS = ["e0", "e1", "e2", "e3", "e4"];
const isError = (row) => Number(row.name) >= 400;

/** Which screen a state is about; that of operators is only loaded for them. */
export async function screenOf(state) {
  if (start.viewer.operator && !state.org) return (await load(import("./operator.js"))).operator;
  if (state.endpoint && !start.viewer.key) return endpoint;
  return state.key ? key : customer;
}

/** What there is to say of plans: nothing, and nothing to load, where there are none. */
const plansOf = () => (start.plans ? load(import("./plans.js")) : null);

const customer = {
  async ask(state, early) {
    const plans = await plansOf();
    const found = await measured(state, {}, (within, size) => {
      const keys = ask("by-key", { ...within, ...pageOf(state, PAGE), endpoints_per_key: 0, include_flags: plans ? true : null });
      return { ...statuses(within, {}, size), keys, endpoints: ask("by-group", { ...within, group: "endpoint", limit: PAGE }), cost: plans?.cost(state, keys) };
    }, { early });
    return { ...found, plans };
  },
  crumbs: (state) => [[state, orgOf(state)]],
  show: (state, found, act) => [headline(state, found), main(state, found, act), h("div", { class: "pair" },
    start.viewer.key ? null : keysPanel(state, found, found.plans?.keyColumns(found.keys)), endpointsPanel(state, found)), found.plans?.planPanels(state, found), health(state, found)],
};

const key = {
  async ask(state, early) {
    const plans = await plansOf();
    const only = { key_id: state.key };
    const found = await measured(state, only, (within, size) => ({
      ...statuses(within, only, size),
      row: ask("by-key", { ...within, q: state.key.slice(0, 128), limit: 50, include_revoked: true, endpoints_per_key: 0 }),
      endpoints: ask("by-group", { ...within, ...only, group: "endpoint", limit: PAGE }),
    }), { early });
    return { ...found, plans };
  },
  crumbs: (state, found) => [[changed(state, { key: null }), orgOf(state)], [state, rowOf(state, found)?.name ?? state.key]],
  show: (state, found, act) => [about(rowOf(state, found)), headline(state, found), main(state, found, act), endpointsPanel(state, found), found.plans?.planPanels(state, found), health(state, found)],
};

const endpoint = {
  ask(state, early) {
    const only = { endpoint: state.endpoint };
    return measured(state, only, (within, size) => ({
      ...statuses(within, only, size),
      keys: ask("series", { ...lately(within), ...only, group: "key", limit: PAGE }),
      ...Object.fromEntries(start.counters.map((name) => [`c.${name}`, series({ ...within, ...only, measure: `c.${name}` }, "month")])),
    }), { early });
  },
  crumbs: (state) => [[changed(state, { key: null, endpoint: null }), orgOf(state)], [state, state.endpoint]],
  show: (state, found, act) => [headline(state, found), main(state, found, act), counters(found), busiest(state, found), health(state, found)],
};

const orgOf = (state) => state.org ?? start.viewer.org ?? t("all_organizations");
const rowOf = (state, found) => found?.row?.keys?.find((row) => row.key_id === state.key);

/** The key endpoints of a month: for more there are no boards under keys. */
function lately(within) {
  const earliest = Date.parse(within.end) - 31 * 86_400_000;
  return Date.parse(within.start) >= earliest ? within : { ...within, start: new Date(earliest).toISOString(), align: "outward" };
}

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
      rate === null ? null : h("span", { class: "more" }, t("errors_count", { count: number(errors) }))),
    card(found.p95 ? "p95" : t("average"), milliseconds(speed.totals?.[speed.measure]), changeOf(speed.previous?.change[speed.measure], grown, 1)),
    found.plans?.planCard(state, found));
}

const STATUS_COLORS = (answer) => answer.series.map((row) => ({ 2: "c1", 3: "c4", 4: "e1", 5: "e0" })[row.name[0]] ?? "c3");

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
    const data = barsOf(answer, zoneOf(state), { title, name: (row) => (group === "none" ? name : row), colors: group === "status" ? STATUS_COLORS(answer) : undefined, format: measure === "bytes" ? bytes : number });
    const opens = (row, content) => {
      const target = opened(state, group, row);
      return target && link(target, content);
    };
    return [
      first.totals.calls ? chart("calls", data, { asTable: state.table, onZoom: act.zoom }) : empty(state, found),
      legend(data, opens), first.instead ? h("p", { class: "note" }, first.instead) : null, data.previous ? h("p", { class: "hint" }, h("i", { class: "dashes" }), t("dashed")) : null,
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
  if (used === false) return h("div", { class: "empty" }, h("p", {}, t("never_used")), h("code", {}, `curl -H "X-API-Key: $API_KEY" ${location.origin}/`));
  return h("p", { class: "empty" }, t("no_calls"));
}

/** The counters of an endpoint, and what is declared to be made of them. */
function counters(found) {
  if (!start.counters.length) return null;
  const total = (name) => found[`c.${name}`].totals?.[`c.${name}`];
  const rates = Object.entries(start.rates).map(([name, [part, whole]]) => [name, percent(total(whole) ? total(part) / total(whole) : null)]);
  const rows = [...start.counters.map((name) => [name, number(total(name))]), ...rates];
  const columns = [{ label: t("counter"), text: ([name]) => name }, { label: t("total"), numeric: true, text: ([, value]) => value }];
  return panel("counters", t("counters"), found, () => table(t("counters"), columns, rows));
}

/** What fails, and how fast it is. */
function health(state, found) {
  const { status } = found;
  const lines = [found.p50, found.p95, found.p99, found.average].filter(Boolean);
  const zone = zoneOf(state);
  const failures = panel("failures", t("what_fails"), status, () => {
    if (!status.series) return missing(status, "series");
    const rows = status.series.filter(isError);
    const data = barsOf({ ...status, series: rows, other: null }, zone, { title: t("errors_by_status"), colors: ERROR_COLORS });
    return rows.length ? [chart("failures", { ...data, low: true }, { asTable: state.table }), legend(data)] : h("p", { class: "empty" }, t("no_errors"));
  });
  const speed = panel("speed", t("how_fast"), lines.find((one) => one instanceof Error) ?? lines[0], () => {
    const lacking = lines.find((one) => !one.series);
    if (lacking) return missing(lacking, "series");
    const data = linesOf(lines, zone, { title: t("how_fast"), name: (measure) => (measure === "latency_ms" ? t("average") : measure) });
    return [chart("speed", { ...data, low: true }, { asTable: state.table }), legend(data), found.average ? h("p", { class: "hint" }, t("only_average")) : null];
  });
  return h("div", { class: "pair" }, failures, speed);
}
