// What the page shows stands in its address: the back button works, and a link shows the same to somebody else.

import { ownZone } from "./format.js";

const PERIODS = ["24h", "7d", "30d", "90d", "month_to_date", "last_month"];
const KNOWN = ["org", "key", "endpoint", "period", "start", "end", "timezone", "group", "compare", "granularity", "measure", "bill", "table", "q", "page"];
/** What is not about numbers and stays in the address whatever is clicked. */
const KEPT = ["lang", "theme", "embed"];

/** The state that an address stands for. */
export function read(search) {
  const query = new URLSearchParams(search);
  const state = Object.fromEntries(KNOWN.filter((name) => query.get(name)).map((name) => [name, query.get(name)]));
  if (!PERIODS.includes(state.period)) delete state.period;
  return state;
}

/** The address of a state, relative to the page. */
export function address(state, search = location.search) {
  const before = new URLSearchParams(search);
  const query = new URLSearchParams();
  for (const name of KNOWN) if (state[name]) query.set(name, state[name]);
  for (const name of KEPT) if (before.get(name)) query.set(name, before.get(name));
  const text = query.toString();
  return text ? `?${text}` : location.pathname;
}

/** A state with some of it changed: null takes something out. A new question begins at the first page of a list. */
export function changed(state, changes) {
  const next = { ...state, page: null, ...changes };
  return Object.fromEntries(Object.entries(next).filter(([, value]) => value));
}

export const periods = PERIODS;
export const zoneOf = (state) => state.timezone ?? ownZone;
export const periodOf = (state) => (state.start ? null : (state.period ?? "30d"));
