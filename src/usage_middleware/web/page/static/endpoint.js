// The screen of one endpoint. Only loaded where it is shown.

import { ask, series } from "./api.js";
import { number, percent, start, t } from "./format.js";
import { counted, opened, opening, sums } from "./lists.js";
import { missing, panel } from "./panels.js";
import { measured, statuses } from "./questions.js";
import { PAGE, headline, health, main, orgOf } from "./screens.js";
import { changed } from "./state.js";
import { table } from "./tables.js";

export const endpoint = {
  ask(state, early) {
    const only = { endpoint: state.endpoint };
    return measured(state, only, (within, size) => ({
      ...statuses(within, only, size),
      keys: ask("series", { ...lately(within), ...only, group: "key", limit: PAGE }),
      ...Object.fromEntries(start.counters.map((name) => [`c.${name}`, series({ ...within, ...only, measure: `c.${name}` }, "month")])),
    }), { early });
  },
  crumbs: (state, found) => [[changed(state, { key: null, endpoint: null }), orgOf(state, found)], [state, state.endpoint]],
  show: (state, found, act) => [headline(state, found), main(state, found, act), counters(found), busiest(state, found), health(state, found, act)],
};

/** The key endpoints of a month: for more there are no boards under keys. */
function lately(within) {
  const earliest = Date.parse(within.end) - 31 * 86_400_000;
  return Date.parse(within.start) >= earliest ? within : { ...within, start: new Date(earliest).toISOString(), align: "outward" };
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

/** The keys that called an endpoint most. */
function busiest(state, found) {
  const answer = found.keys;
  return panel("keys", t("busiest_keys"), answer, () => {
    if (!answer.series) return missing(answer, "series");
    const columns = [
      { name: "name", label: t("key"), text: (row) => opening(row.name, opened(state, "key", row.name)) },
      ...counted((row) => row.total, null, answer.totals.calls),
    ];
    return table(t("busiest_keys"), columns, answer.series, sums(answer.other, answer.other?.members, answer.totals));
  });
}

