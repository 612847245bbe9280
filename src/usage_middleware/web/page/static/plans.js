// Plans: what is left, what was warned of, and what it costs. Only sent where there are plans.

import { ask, path } from "./api.js";
import { h, named } from "./dom.js";
import { bytes, language, number, percent, start, t, time } from "./format.js";
import { card, link, panel } from "./panels.js";
import { plans } from "./screens.js";
import { changed, zoneOf } from "./state.js";
import { bar, table } from "./tables.js";

/** How many keys may carry a cost one by one; more are told by their owners. */
const MOST_KEYS = 100;
const ROWS = 20;

/** The question what a billing period costs, where anything has a price. */
function cost(state, keys) {
  if (!start.prices) return null;
  const asked = { org: state.org, period: state.bill ?? "current" };
  const by = keys.then((found) => (found.total_keys > MOST_KEYS ? "owner" : "key"), () => "owner");
  return by.then((one) => ask("cost", { ...asked, by: one }));
}

const amount = (row, value) => (row.unit === "bytes" ? bytes(value) : number(value));
const ratio = (row) => row.used_ratio ?? (row.used ? 1 : 0);

function meter(row) {
  return h("meter", { max: 1, low: 0.8, high: 0.999, optimum: 0, value: Math.min(ratio(row), 1), "aria-label": `${row.name}: ${percent(ratio(row))}` });
}

/** What becomes of a quota: when it begins anew, and how much it will be. */
function ahead(state, row) {
  return [t("resets", { time: time(row.period_end, "hour", zoneOf(state)) }),
    row.projected && t("projected", { value: amount(row, row.projected.value) })].filter(Boolean).join(" · ");
}

/** The quota that is nearest to its end: of all keys together, where there is one. */
function planCard(state, { failed }) {
  const rank = (row) => (row.key_id ? 0 : 1e9) + ratio(row);
  const quota = failed.rate_limits?.filter((row) => row.kind === "quota").sort((one, other) => rank(other) - rank(one))[0];
  if (!quota) return null;
  return card(`${t("limits")}: ${quota.name}`, percent(ratio(quota)), over(quota), h("span", { class: "more" }, meter(quota), t("used_of", { used: amount(quota, quota.used), limit: amount(quota, quota.limit) }), ` · ${ahead(state, quota)}`));
}

const over = (row) => (row.over ? h("span", { class: "badge alarm" }, t("over_quota")) : null);

/** Limits, warnings and cost, as far as there are any. */
function planPanels(state, { failed, cost: bill }) {
  const says = [...(failed.alerts ?? []), ...(failed.recommendations ?? [])];
  return [
    failed.rate_limits?.length ? panel("limits", t("limits"), failed, () => limits(state, failed.rate_limits)) : null,
    says.length ? panel("alerts", t("alerts"), failed, () => h("ul", { class: "warnings" }, says.map((one) => said(state, one)))) : null,
    bill && (bill instanceof Error || bill.currency) ? costPanel(state, bill) : null,
  ];
}

function limits(state, rows) {
  const columns = [
    { label: t("limit"), text: (row) => [named(row.name), row.key_id && [" ", link(changed(state, { key: row.key_id }), named(row.key_id))], row.kind === "quota" ? over(row) : null] },
    { label: t("used"), numeric: true, text: (row) => t("used_of", { used: amount(row, row.used), limit: amount(row, row.limit) }) },
    { label: t("share"), numeric: true, text: (row) => [h("span", {}, percent(ratio(row))), meter(row)] },
    { label: t("ahead"), minor: true, text: (row) => (row.kind === "quota" ? ahead(state, row) : minutes(state, row)) },
  ];
  return table(t("limits"), columns, rows);
}

/** How it went with a limit a minute. */
function minutes(state, row) {
  return [
    t("this_minute"),
    row.peak_at && t("peak", { value: amount(row, row.peak), time: time(row.peak_at, "hour", zoneOf(state)) }),
    row.refused && t("refused", { count: number(row.refused) }),
    row.would_refuse && t("beyond", { count: amount(row, row.would_refuse) }),
  ].filter(Boolean).join(" · ");
}

function said(state, one) {
  return h("li", {}, h("span", { class: `badge ${one.severity === "info" ? "" : "alarm"}` }, t(`severity_${one.severity}`)), " ",
    one.key_id && !state.key ? [link(changed(state, { key: one.key_id }), named(one.key_id)), " "] : null, named(one.message));
}

/** What is odd about keys, and what they cost; no column that would be empty. */
function keyColumns(answer) {
  const rows = answer.keys ?? [];
  const flags = { name: "flags", label: t("flags"), minor: true, text: (row) => row.flags.map((one) => h("span", { class: `badge ${one.severity === "info" ? "" : "alarm"}`, title: one.message }, t(`flag_${one.code}`))) };
  const costs = { name: "cost", label: t("cost"), numeric: true, text: (row) => (row.cost ? [money(row.cost.amount, row.cost.currency), row.share === null ? null : h("span", { class: "minor" }, ` ${percent(row.share)}`)] : "–") };
  return [...(rows.some((row) => row.flags?.length) ? [flags] : []), ...(rows.some((row) => row.cost) ? [costs] : [])];
}

function costPanel(state, answer) {
  const bill = state.bill ?? "current";
  const other = bill === "current" ? "previous" : "current";
  const asked = { org: state.org, period: bill, by: answer.by, format: "csv" };
  return panel("cost", t("cost"), answer, () => [
    h("p", { class: "about" }, h("b", { id: "cost-total", class: "value" }, money(answer.total, answer.currency)), h("span", { class: "badge" }, t(`state_${answer.state}`)),
      t("range", { start: time(answer.period.start, "full", zoneOf(state)), end: time(answer.period.end, "full", zoneOf(state)) }),
      answer.other_totals.map((one) => h("span", {}, `+ ${money(one.total, one.currency)}`))),
    h("div", { class: "pair" }, lines(answer, state), carriers(answer, state)),
    answer.corrected.map((one) => h("p", { class: "note" }, t("corrected", { price: one.price, amount: money(one.amount, answer.currency) }))),
  ], [link({ ...state, bill: other === "current" ? null : other }, t(`bill_${other}`), { class: "tool", id: "bill" }),
    h("a", { href: path("cost", asked), download: "", class: "tool" }, "CSV")]);
}

function lines(answer, state) {
  const columns = [
    { name: "price", label: t("price"), text: (row) => [named(row.price), row.carried ? h("span", { class: "badge" }, t("carried", { time: time(row.carried_from, "tick", zoneOf(state)) })) : null] },
    { name: "quantity", label: t("quantity"), numeric: true, minor: true, text: (row) => number(row.quantity) },
    { name: "amount", label: t("amount"), numeric: true, text: (row) => money(row.amount, row.currency) },
  ];
  return h("div", { id: "cost-lines" }, table(t("prices"), columns, answer.lines, [{ price: t("total"), amount: money(answer.total, answer.currency) }]));
}

/** Who carries it: the first of them, and the others together. */
function carriers(answer, state) {
  const rows = answer.rows.slice(0, ROWS);
  const rest = answer.rows.slice(ROWS);
  const columns = [
    { name: "who", label: t(answer.by === "key" ? "key" : "owner"), text: (row) => (row.key_id && !row.key_id.startsWith("(") ? link(changed(state, { key: row.key_id }), named(row.name ?? row.key_id)) : named(row.value ?? row.key_id)) },
    { name: "amount", label: t("amount"), numeric: true, text: (row) => money(row.amount, answer.currency) },
    { name: "share", label: t("share"), numeric: true, minor: true, text: (row) => bar(Number(row.amount), Number(answer.total)) },
  ];
  const others = rest.length ? [{ who: t("others", { count: number(rest.length) }), amount: money(sumOf(rest), answer.currency) }] : [];
  return h("div", { id: "cost-rows" }, table(t("carriers"), columns, rows, [...others, { who: t("total"), amount: money(answer.total, answer.currency) }]));
}

/** An amount of money: text with as many digits as the currency has. */
export function money(amount, currency) {
  const digits = amount.split(".")[1]?.length ?? 0;
  return new Intl.NumberFormat(language(), { style: "currency", currency, minimumFractionDigits: digits, maximumFractionDigits: digits }).format(amount);
}

/** Amounts of a currency together. */
function sumOf(rows) {
  const digits = rows[0].amount.split(".")[1]?.length ?? 0;
  return rows.reduce((sum, row) => sum + Number(row.amount), 0).toFixed(digits);
}

Object.assign(plans, { cost, card: planCard, panels: planPanels, keyColumns });
