// Questions to the usage API, which lies beside the page.

import { instant, start } from "./format.js";
import { periodOf, zoneOf } from "./state.js";
import { granularityOf, wider } from "./scales.js";

const token = new URLSearchParams(location.hash.slice(1)).get("token");
if (token) history.replaceState(null, "", location.pathname + location.search);

/** Whether the page is inside of another site's. Then what shows that page's token with each question is loaded, too. */
export const isFramed = Boolean(start.embedded);
export const frame = isFramed ? (await import("./frame.js")).inside(token, start) : null;
const get = frame?.get ?? ((address) => fetch(address, { headers: { Accept: "application/json" }, cache: "no-cache" }));

const skew = Date.parse(start.now) - Date.now();
/** Calls of the last seconds may be on their way: a minute is asked for when it has been over for a while. */
const SETTLED = 10_000;
const SPANS = { "24h": 1, "7d": 7, "30d": 31, "90d": 91, month_to_date: 31, last_month: 31 };

/** The time of the server. */
export const now = () => new Date(Date.now() + skew);

/** An error in the API's own words. */
export class Refused extends Error {
  constructor(status, envelope) {
    super(envelope.message);
    Object.assign(this, { status, code: envelope.code, param: envelope.param, nearest: envelope.nearest });
  }
}

/** A module that only some need; a page that was open while the server got other ones has to be loaded again. */
export function load(module) {
  return module.catch(() => {
    throw new Refused(0, { code: "stale", message: start.words.unreachable });
  });
}

/** The address of a question, relative to the page. */
export function path(view, parameters, more = {}) {
  const given = Object.entries({ ...parameters, ...more }).filter(([, value]) => value !== null && value !== undefined);
  return `${view}?${new URLSearchParams(given)}`;
}

/** The answer to a question. */
export async function ask(view, parameters) {
  let reply;
  try {
    reply = await get(path(view, parameters));
  } catch {
    throw new Refused(0, { code: "unreachable", message: start.words.unreachable });
  }
  const body = await reply.json().catch(() => null);
  if (!reply.ok) throw new Refused(reply.status, body ?? { code: "internal_error", message: start.words.unreachable });
  return body;
}

/** The window of a state as every view of it is asked for: a period until the minute that is over, or start and end. */
export function windowOf(state) {
  const zone = { timezone: zoneOf(state), org: state.org };
  const latest = Math.floor((now() - SETTLED) / 60_000) * 60_000;
  if (state.start) return { start: iso(instant(state.start, zone.timezone)), end: iso(Math.min(latest, ended(state))), ...zone };
  const period = periodOf(state);
  return period === "last_month" ? { period, ...zone } : { period, end: iso(latest), ...zone };
}

const iso = (at) => (at ? new Date(at).toISOString().replace(".000", "") : at);
const ended = (state) => (state.end ? instant(state.end, zoneOf(state)) : Infinity);

/** How fine the bars of a state are, unless it says so. */
export function granularity(state) {
  if (state.granularity) return state.granularity;
  const custom = state.start && Math.min(now(), ended(state)) - instant(state.start, zoneOf(state));
  return granularityOf(custom || SPANS[periodOf(state)] * 86_400_000);
}

/** A question about numbers over time; where its buckets are not kept, wider ones are asked for. */
export async function series(parameters, size, view = "series") {
  try {
    return await ask(view, { ...parameters, granularity: size });
  } catch (error) {
    if (error.code === "invalid_granularity" && wider[size]) return series(parameters, wider[size], view);
    throw error;
  }
}

/** Several questions at once: answers, and in place of those that were refused their errors. */
export async function all(questions) {
  const names = Object.keys(questions);
  const answers = await Promise.all(names.map((name) => Promise.resolve(questions[name]).catch((error) => error)));
  return Object.fromEntries(names.map((name, index) => [name, answers[index]]));
}

/** The same question for a terminal; the key is a variable, never a secret. */
export function curl(relative) {
  const header = start.header === "authorization" ? "Authorization: Bearer" : `${start.header || "X-API-Key"}:`;
  return `curl -H "${header} $API_KEY" '${new URL(relative, location.href).href.replaceAll("'", "%27")}'`;
}
