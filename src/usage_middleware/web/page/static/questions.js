// What the screens ask: one window for all, in few questions.

import { all, ask, granularity, now, series, windowOf } from "./api.js";
import { start } from "./format.js";
import { periodOf, zoneOf } from "./state.js";

/** The edges of an answer, for the questions that must be about the same calls. */
const exact = ({ window }, state) => ({ start: window.start, end: window.end, align: "exact", timezone: zoneOf(state), org: state.org });

/** The groups that a screen offers, the usual one first. */
export function groupsOf(state) {
  const declared = start.groups.filter((name) => !["endpoint", "key", "method", "status", "org"].includes(name));
  if (start.viewer.operator && !state.org) return ["org", "endpoint", "method", "status", ...declared, "none"];
  if (state.endpoint) return ["status", "key", "none"];
  return [...(ofKey(state) ? ["endpoint"] : ["endpoint", "key"]), "status", "method", ...declared, "none"];
}

const ofKey = (state) => state.key || start.viewer.key;

/** What the bars are grouped by. */
export function groupOf(state) {
  const allowed = groupsOf(state);
  return allowed.includes(state.group) ? state.group : allowed[0];
}

/** Whether a measure is kept of a group. */
export function fits(state, group, measure) {
  if (group === "none" || measure === "calls") return true;
  if (measure === "errors") return group !== "status";
  return ["endpoint", "key", "method"].includes(group) && !ofKey(state) && !state.endpoint;
}

/** What the bars may be of. */
export const measures = () => ["calls", "errors", "bytes", ...start.counters.map((name) => `c.${name}`)];

/**
 * Asks for a screen: `main` gives the window, all other questions are about the same. `about` narrows what is counted, `more`
 * makes questions of the window, `rows` is how many of the group there are; `early` is told what comes first.
 */
export async function measured(state, about, more, { early, rows = null } = {}) {
  const given = { ...windowOf(state), ...about };
  const compare = state.compare === "none" ? null : "previous";
  const group = groupOf(state);
  const isCalls = !measures().slice(1).includes(state.measure);
  const bars = { ...given, group, compare, limit: rows };
  const first = isCalls ? await withRows(series(bars, granularity(state)), given, compare) : await series({ ...given, compare }, granularity(state));
  const size = first.granularity;
  const within = exact(first, state);
  const asked = { ...given, compare, granularity: size, group, measure: isCalls ? null : state.measure };
  if (isCalls) early?.({ main: first, bars: first, failed: {}, p95: {}, asked });
  const found = await all({
    failed: about.endpoint ? series({ ...given, measure: "errors", compare }, size) : details(state, given, compare),
    bars: isCalls ? first : series({ ...bars, measure: state.measure }, size),
    ...speeds(state, first, given, { ...within, ...about }, compare),
    ...more(within, size),
  });
  return { ...found, main: first, asked };
}

/** An answer whose rows are not kept in these buckets is asked for without rows. */
async function withRows(main, given, compare) {
  const first = await main;
  if (first.series) return first;
  const together = await series({ ...given, group: "none", compare }, "hour");
  return { ...together, instead: first.unavailable.series?.message };
}

/** The errors in all, and what there is to say of plans. */
function details(state, { period, ...given }, compare) {
  const only = { include_endpoints: false, include_latency: false, limit: 1 };
  return series({ ...given, timeframe: state.start ? null : periodOf(state), compare, ...only }, "month", "./");
}

/** Which calls failed, by status. */
export const statuses = (within, about, size) => ({ status: series({ ...within, ...about, group: "status", limit: 50 }, size) });

/** How long calls took: percentiles where they are kept, else the average. */
function speeds(state, first, given, within, compare) {
  const size = first.granularity;
  if (!hasPercentiles(state, first)) return { average: series({ ...given, measure: "latency_ms", compare }, size) };
  const p95 = { p95: series({ ...given, measure: "p95", compare }, size) };
  if (start.viewer.operator && !state.org) return p95;
  return { p50: series({ ...within, measure: "p50" }, size), ...p95, p99: series({ ...within, measure: "p99" }, size) };
}

/** Whether histograms are kept that tell the buckets of an answer apart. */
function hasPercentiles(state, { window, granularity: size }) {
  const kept = start.kept[ofKey(state) ? "key_board" : "board"] * 1000;
  const isWhole = ["day", "week", "month"].includes(size) && zoneOf(state) === "UTC" && Date.parse(window.start) % 86_400_000 === 0;
  return isWhole || Date.parse(window.start) >= now() - kept;
}

/** The page of a list that a state is about. */
export const pageOf = (state, limit) => ({ limit, offset: limit * (Number(state.page) || 0), q: state.q });
