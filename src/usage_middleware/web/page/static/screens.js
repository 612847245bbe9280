// The screens: which questions each asks, and what it makes of the answers.

import { all, ask, granularity, now, series, windowOf } from "./api.js";
import { h, named } from "./dom.js";
import { ago, grown, milliseconds, number, percent, percentPoints, start, t, time } from "./format.js";
import { plans, planCard } from "./plans.js";
import { barsOf, card, changeOf, chart, legend, linesOf, link, missing, panel, tools } from "./panels.js";
import { changed, zoneOf } from "./state.js";
import { bar, table } from "./tables.js";

const PAGE = 20;
const ORGS = 50;
const ERROR_COLORS = ["e0", "e1", "e2", "e3", "e4"];
const exact = ({ window }, state) => ({ start: window.start, end: window.end, align: "exact", timezone: zoneOf(state), org: state.org });
const isError = (row) => Number(row.name) >= 400;

/** Which screen a state is about. */
export function screenOf(state) {
  if (start.viewer.operator && !state.org) return operator;
  if (state.endpoint && !start.viewer.key) return endpoint;
  return state.key ? key : customer;
}

/** What the bars are grouped by. */
export function groupOf(state) {
  const allowed = groupsOf(state);
  return allowed.includes(state.group) ? state.group : allowed[0];
}

/** The groups that a screen offers, the usual one first. */
export function groupsOf(state) {
  const declared = start.groups.filter((name) => !["endpoint", "key", "method", "status", "org"].includes(name));
  if (start.viewer.operator && !state.org) return ["org", "endpoint", "method", "status", ...declared];
  if (state.endpoint) return ["status"];
  return state.key || start.viewer.key ? ["endpoint", "status", "method", ...declared] : ["endpoint", "key", "status", "method", ...declared];
}

function questions(state, about) {
  const given = { ...windowOf(state), ...about };
  const compare = state.compare === "none" ? null : "previous";
  const size = granularity(state);
  const main = series({ ...given, group: groupOf(state), compare }, size);
  return { main, given, compare, size };
}

async function measured(state, about, more) {
  const { main, given, compare, size } = questions(state, about);
  const first = await withRows(main, given, compare);
  const within = exact(first, state);
  const found = await all({
    errors: ask("series", { ...given, measure: "errors", compare, granularity: first.granularity }),
    status: series({ ...within, ...about, group: "status", limit: 50 }, first.granularity ?? size),
    ...speeds(state, first, given, { ...within, ...about }, compare),
    ...more(within),
  });
  return { ...found, main: first, asked: { ...given, compare, granularity: first.granularity, group: groupOf(state) } };
}

/** An answer whose rows are not kept in these buckets is asked for without rows. */
async function withRows(main, given, compare) {
  const first = await main;
  if (first.series) return first;
  const together = await series({ ...given, group: "none", compare }, "hour");
  return { ...together, instead: first.unavailable.series?.message };
}

/** How long calls took: percentiles where they are kept, else the average. */
function speeds(state, first, given, within, compare) {
  const size = first.granularity;
  if (!hasPercentiles(state, first)) return { average: series({ ...given, measure: "latency_ms", compare }, size) };
  return {
    p50: series({ ...within, measure: "p50" }, size),
    p95: series({ ...given, measure: "p95", compare }, size),
    p99: series({ ...within, measure: "p99" }, size),
  };
}

/** Whether histograms are kept that tell the buckets of an answer apart. */
function hasPercentiles(state, { window, granularity: size }) {
  const kept = start.kept[state.key || start.viewer.key ? "key_board" : "board"] * 1000;
  const isWhole = ["day", "week", "month"].includes(size) && zoneOf(state) === "UTC" && Date.parse(window.start) % 86_400_000 === 0;
  return isWhole || Date.parse(window.start) >= now() - kept;
}

const page = (state) => ({ limit: PAGE, offset: PAGE * (Number(state.page) || 0), q: state.q });

const customer = {
  async ask(state) {
    const found = await measured(state, {}, (within) => ({
      keys: ask("by-key", { ...within, ...page(state), endpoints_per_key: 0 }),
      endpoints: ask("by-group", { ...within, group: "endpoint", limit: PAGE }),
      ...plans(state),
    }));
    return found;
  },
  crumbs: (state) => [[state, orgOf(state)]],
  show: (state, found, act) => [headline(state, found), main(state, found, act), h("div", { class: "pair" },
    start.viewer.key ? null : keysPanel(state, found), endpointsPanel(state, found)), health(state, found)],
};

const key = {
  ask: (state) => measured(state, { key_id: state.key }, (within) => ({
    row: ask("by-key", { ...within, q: state.key.slice(0, 128), limit: 50, include_revoked: true, endpoints_per_key: 0 }),
    endpoints: ask("by-group", { ...within, key_id: state.key, group: "endpoint", limit: PAGE }),
  })),
  crumbs: (state, found) => [[changed(state, { key: null }), orgOf(state)], [state, rowOf(state, found)?.name ?? state.key]],
  show: (state, found, act) => [about(rowOf(state, found)), headline(state, found), main(state, found, act), endpointsPanel(state, found), health(state, found)],
};

const endpoint = {
  async ask(state) {
    return measured(state, { endpoint: state.endpoint }, (within) => ({
      keys: ask("series", { ...lately(within), endpoint: state.endpoint, group: "key", limit: PAGE }),
    }));
  },
  crumbs: (state) => [
    [changed(state, { key: null, endpoint: null }), orgOf(state)],
    [state, state.endpoint],
  ],
  show: (state, found, act) => [headline(state, found), main(state, found, act), busiest(state, found), health(state, found)],
};

const operator = {
  async ask(state) {
    const { main, given, compare } = questions(state, {});
    const first = await withRows(main, given, compare);
    const within = exact(first, state);
    const found = await all({
      errors: ask("series", { ...given, measure: "errors", compare, granularity: first.granularity }),
      ...(hasPercentiles(state, first) ? { p95: series({ ...given, measure: "p95", compare }, first.granularity) } : { average: series({ ...given, measure: "latency_ms", compare }, first.granularity) }),
      orgs: ask("by-group", { ...within, group: "org", limit: ORGS, offset: ORGS * (Number(state.page) || 0), q: state.q }),
      workers: ask("health", {}),
    });
    return { ...found, main: first, asked: { ...given, compare, granularity: first.granularity, group: groupOf(state) } };
  },
  crumbs: (state) => [[state, t("all_organizations")]],
  show: (state, found, act) => [headline(state, found), main(state, found, act), orgsPanel(state, found), workersPanel(state, found)],
};

const orgOf = (state) => state.org ?? start.viewer.org ?? t("all_organizations");
const rowOf = (state, found) => found?.row?.keys?.find((row) => row.key_id === state.key);

/** The key endpoints of a month: for more there are no boards under keys. */
function lately(within) {
  const earliest = Date.parse(within.end) - 31 * 86_400_000;
  return Date.parse(within.start) >= earliest ? within : { ...within, start: new Date(earliest).toISOString(), align: "outward" };
}

function headline(state, found) {
  const { main: calls, errors } = found;
  const speed = found.p95 ?? found.average;
  const total = calls.totals.calls;
  const change = (answer, name) => answer?.previous?.change?.[name];
  const failed = errors.totals?.errors;
  const rate = total && failed !== undefined ? failed / total : null;
  const was = errors.previous && calls.previous?.totals.calls ? errors.previous.totals.errors / calls.previous.totals.calls : null;
  return h("dl", { class: "cards", id: "headline" },
    card(t("calls"), h("span", { id: "total", "data-value": total }, number(total)), changeOf(change(calls, "calls"))),
    card(t("error_rate"), errors instanceof Error ? "–" : percent(rate ?? 0), was === null || rate === null ? null : changeOf(rate - was, percentPoints, 1),
      errors instanceof Error ? null : h("span", { class: "more" }, t("errors", { count: number(failed) }))),
    speed instanceof Error ? card("p95", "–") : card(speed.measure === "p95" ? "p95" : t("average"), milliseconds(speed.totals[speed.measure]), changeOf(change(speed, speed.measure), grown, 1)),
    planCard(found.limits));
}

function main(state, found, act) {
  const answer = found.main;
  if (!answer.series) return panel("usage", t("calls"), answer, () => missing(answer, "series"));
  const group = answer.group;
  const title = group === "none" ? t("calls") : t("calls_by", { group: groupName(group) });
  const data = barsOf(answer, zoneOf(state), { title, name: (row) => (group === "none" ? t("calls") : row), colors: group === "status" ? STATUS_COLORS(answer) : undefined });
  const opens = (name) => opened(state, group, name);
  const chosen = h("label", { class: "choice" }, h("span", { class: "unseen" }, t("group_by")),
    h("select", { id: "group", change: (event) => act.go(changed(state, { group: event.target.value })) },
      groupsOf(state).map((name) => h("option", { value: name, selected: name === groupOf(state) }, groupName(name)))));
  return panel("usage", t("calls"), answer, () => [
    answer.totals.calls ? chart("calls", data, { asTable: state.table, onZoom: act.zoom }) : empty(state, found),
    legend(data, opens), answer.instead ? h("p", { class: "note" }, answer.instead) : null, data.previous ? h("p", { class: "hint" }, h("i", { class: "dashes" }), t("dashed")) : null,
  ], [chosen, ...tools(state, "series", found.asked, act.announce)]);
}

const STATUS_COLORS = (answer) => answer.series.map((row) => ({ 2: "c1", 3: "c4", 4: "e1", 5: "e0" })[row.name[0]] ?? "c3");

/** The state that a member of a group opens. */
function opened(state, group, name) {
  if (group === "org") return name.startsWith("(") ? null : changed(state, { org: name, group: null, q: null });
  if (group === "key" && !name.startsWith("(")) return changed(state, { key: name, group: null, q: null });
  const hasScreen = group === "endpoint" && !start.viewer.key && (state.org || !start.viewer.operator);
  return hasScreen ? changed(state, { endpoint: name, key: null, group: null, q: null }) : null;
}

const groupName = (name) => start.words[`group_${name}`] ?? name;

function empty(state, found) {
  const used = found.row?.keys?.some((row) => row.last_activity) ?? found.keys?.keys?.some((row) => row.last_activity);
  if (found.keys?.total_keys === 0) return h("p", { class: "empty" }, t("no_keys"));
  if (used === false) return h("div", { class: "empty" }, h("p", {}, t("never_used")), h("code", {}, `curl -H "X-API-Key: $API_KEY" ${location.origin}/`));
  return h("p", { class: "empty" }, t("no_calls"));
}

function keysPanel(state, found) {
  const answer = found.keys;
  return panel("keys", t("keys"), answer, () => {
    if (!answer.keys) return missing(answer, "keys");
    const columns = [
      { name: "name", label: t("key"), text: (row) => [link(changed(state, { key: row.key_id, group: null, q: null }), named(row.name ?? row.key_id)), row.environment && row.environment !== "live" ? h("span", { class: "badge" }, row.environment) : null] },
      { name: "calls", label: t("calls"), numeric: true, text: (row) => number(row.request_count) },
      { name: "share", label: t("share"), numeric: true, minor: true, text: (row) => bar(row.request_count, answer.totals.request_count) },
      { name: "errors", label: t("errors_short"), numeric: true, text: (row) => number(row.error_count) },
      { name: "last", label: t("last_used"), numeric: true, minor: true, text: (row) => (row.last_activity ? ago(row.last_activity, now()) : t("never")) },
    ];
    const other = answer.other.keys ? [{ name: t("others", { count: number(answer.other.keys) }), calls: number(answer.other.request_count), errors: number(answer.other.error_count) }] : [];
    const total = { name: t("total"), calls: number(answer.totals.request_count), errors: number(answer.totals.error_count) };
    return [table(t("keys"), columns, answer.keys, [...other, total]), pager(state, answer.pagination)];
  }, [search(t("find_key"))]);
}

function endpointsPanel(state, found) {
  const answer = found.endpoints;
  return panel("endpoints", t("endpoints"), answer, () => {
    if (!answer.buckets) return missing(answer, "buckets");
    return groupTable(t("endpoints"), t("endpoint"), answer, (name) => opened(state, "endpoint", name));
  });
}

function groupTable(caption, label, answer, opens, more = []) {
  const columns = [
    { name: "name", label, text: (row) => opening(row.bucket, opens(row.bucket)) },
    { name: "calls", label: t("calls"), numeric: true, text: (row) => number(row.calls) },
    { name: "share", label: t("share"), numeric: true, minor: true, text: (row) => bar(row.calls, answer.totals.calls) },
    { name: "errors", label: t("errors_short"), numeric: true, text: (row) => number(row.errors) },
    { name: "ms", label: t("average"), numeric: true, minor: true, text: (row) => milliseconds(row.avg_ms) },
    ...more,
  ];
  const other = answer.other.members ? [{ name: t("others", { count: number(answer.other.members) }), calls: number(answer.other.calls), errors: number(answer.other.errors) }] : [];
  return table(caption, columns, answer.buckets, [...other, { name: t("total"), calls: number(answer.totals.calls), errors: number(answer.totals.errors) }]);
}

const opening = (name, target) => (target ? link(target, named(name)) : named(name));

function busiest(state, found) {
  const answer = found.keys;
  return panel("keys", t("busiest_keys"), answer, () => {
    if (!answer.series) return missing(answer, "series");
    const columns = [
      { name: "name", label: t("key"), text: (row) => opening(row.name, opened(state, "key", row.name)) },
      { name: "calls", label: t("calls"), numeric: true, text: (row) => number(row.total) },
      { name: "share", label: t("share"), numeric: true, minor: true, text: (row) => bar(row.total, answer.totals.calls) },
    ];
    const other = answer.other?.members ? [{ name: t("others", { count: number(answer.other.members) }), calls: number(answer.other.total) }] : [];
    return table(t("busiest_keys"), columns, answer.series, [...other, { name: t("total"), calls: number(answer.totals.calls) }]);
  });
}

function orgsPanel(state, found) {
  const answer = found.orgs;
  return panel("orgs", t("organizations"), answer, () => (answer.buckets
    ? [groupTable(t("organizations"), t("organization"), answer, (name) => opened(state, "org", name)), pager(state, answer.pagination)]
    : missing(answer, "buckets")), [search(t("find_org"))]);
}

function workersPanel(state, found) {
  const answer = found.workers;
  return panel("workers", t("workers"), answer, () => [
    h("p", {}, h("span", { class: `status ${answer.status}` }, t(`status_${answer.status}`)), " ", t("workers_count", { count: number(answer.workers.length) })),
    answer.warnings.length ? h("ul", { class: "warnings" }, answer.warnings.map((one) => h("li", {}, h("code", {}, one.code), " ", one.message))) : null,
  ]);
}

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

function about(row) {
  if (!row) return null;
  return h("p", { class: "about" }, h("code", {}, named(row.key_id)), h("span", { class: "badge" }, row.environment ?? "–"),
    row.revoked_at ? h("span", { class: "badge alarm" }, t("revoked", { time: time(row.revoked_at, "tick") })) : null,
    h("span", {}, row.last_activity ? t("last_used_ago", { ago: ago(row.last_activity, now()) }) : t("never_used")));
}

/** A field that finds rows; what it holds is in the address. */
const search = (label) => h("input", { type: "search", id: "q", name: "q", placeholder: label, "aria-label": label, maxlength: 128, autocomplete: "off", spellcheck: "false", value: new URLSearchParams(location.search).get("q") });

function pager(state, pagination) {
  if (!pagination || pagination.total <= pagination.limit) return null;
  const at = Number(state.page) || 0;
  const shown = { first: number(pagination.offset + 1), last: number(Math.min(pagination.offset + pagination.limit, pagination.total)), total: number(pagination.total) };
  return h("nav", { class: "pager", "aria-label": t("pages") },
    at ? link({ ...state, page: at > 1 ? String(at - 1) : null }, t("back"), { id: "page-back" }) : null,
    h("span", {}, t("page_of", shown)),
    pagination.has_more ? link({ ...state, page: String(at + 1) }, t("next"), { id: "page-next" }) : null);
}

