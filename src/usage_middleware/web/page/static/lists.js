// The tables of a screen: keys, endpoints, and what finds and pages their rows.

import { now } from "./api.js";
import { h, named } from "./dom.js";
import { ago, milliseconds, number, start, t, time } from "./format.js";
import { link, missing, panel } from "./panels.js";
import { changed } from "./state.js";
import { bar, table } from "./tables.js";

/** The state that a member of a group opens. */
export function opened(state, group, name) {
  if (group === "org") return name.startsWith("(") ? null : changed(state, { org: name, group: null, q: null });
  if (group === "key" && !name.startsWith("(")) return changed(state, { key: name, group: null, q: null });
  const hasScreen = group === "endpoint" && !start.viewer.key && (state.org || !start.viewer.operator);
  return hasScreen ? changed(state, { endpoint: name, key: null, group: null, q: null }) : null;
}

export const opening = (name, target) => (target ? link(target, named(name)) : named(name));

/** Columns that tables share: of `row` the number of calls, their share of all, failed ones. */
export const counted = (calls, errors, whole) => [
  { name: "calls", label: t("calls"), numeric: true, text: (row) => number(calls(row)) },
  { name: "share", label: t("share"), numeric: true, minor: true, text: (row) => bar(calls(row), whole) },
  ...(errors ? [{ name: "errors", label: t("errors"), numeric: true, text: (row) => number(errors(row)) }] : []),
];

/** The last lines of a table: what it leaves out, and everything. */
export function sums(other, members, total) {
  const line = (name, row) => ({ name, calls: number(row.calls ?? row.request_count ?? row.total), errors: number(row.errors ?? row.error_count) });
  return [...(members ? [line(t("others", { count: number(members) }), other)] : []), line(t("total"), total)];
}

/** The API keys of a customer, used or not; `more` are columns. */
export function keysPanel(state, found, more = []) {
  const answer = found.keys;
  return panel("keys", t("keys"), answer, () => {
    if (!answer.keys) return missing(answer, "keys");
    const columns = [
      { name: "name", label: t("key"), text: (row) => [link(changed(state, { key: row.key_id, group: null, q: null }), named(row.name ?? row.key_id)), row.environment && row.environment !== "live" && h("span", { class: "badge" }, row.environment)] },
      ...counted((row) => row.request_count, (row) => row.error_count, answer.totals.request_count),
      { name: "last", label: t("last_used"), numeric: true, minor: true, text: (row) => (row.last_activity ? ago(row.last_activity, now()) : t("never")) },
      ...more,
    ];
    return [table(t("keys"), columns, answer.keys, sums(answer.other, answer.other.keys, answer.totals)), pager(state, answer.pagination)];
  }, [search(t("find_key"))]);
}

/** The endpoints that were called most. */
export function endpointsPanel(state, found) {
  const answer = found.endpoints;
  return panel("endpoints", t("endpoints"), answer, () => (answer.buckets
    ? groupTable(t("endpoints"), t("endpoint"), answer, (name) => opened(state, "endpoint", name)) : missing(answer, "buckets")));
}

/** The rows of an answer of /by-group; `more` are columns. */
export function groupTable(caption, label, answer, opens, more = []) {
  const columns = [
    { name: "name", label, text: (row) => opening(row.bucket, opens(row.bucket)) },
    ...counted((row) => row.calls, (row) => row.errors, answer.totals.calls),
    { name: "ms", label: t("average"), numeric: true, minor: true, text: (row) => milliseconds(row.avg_ms) },
    ...more,
  ];
  return table(caption, columns, answer.buckets, sums(answer.other, answer.other.members, answer.totals));
}

/** A field that finds rows; what it holds is in the address. */
export const search = (label) => h("input", { type: "search", id: "q", name: "q", placeholder: label, "aria-label": label, maxlength: 128, autocomplete: "off", spellcheck: "false", value: new URLSearchParams(location.search).get("q") });

/** The way through a list that is longer than a page. */
export function pager(state, pagination) {
  if (pagination?.total === 0 && state.q) return h("p", { class: "note" }, t("none_found"));
  if (!pagination || pagination.total <= pagination.limit) return null;
  const at = Number(state.page) || 0;
  const shown = { first: number(pagination.offset + 1), last: number(Math.min(pagination.offset + pagination.limit, pagination.total)), total: number(pagination.total) };
  return h("nav", { class: "pager", "aria-label": t("pages") },
    at > 0 && link({ ...state, page: at > 1 ? String(at - 1) : null }, t("back"), { id: "page-back" }),
    h("span", {}, t("page_of", shown)),
    pagination.has_more && link({ ...state, page: String(at + 1) }, t("next"), { id: "page-next" }));
}
