// The screen of one API key. Only loaded where it is shown.

import { ask, now } from "./api.js";
import { h, named } from "./dom.js";
import { ago, t, time } from "./format.js";
import { endpointsPanel } from "./lists.js";
import { measured, statuses } from "./questions.js";
import { PAGE, headline, health, main, orgOf, plans } from "./screens.js";
import { changed, zoneOf } from "./state.js";

export const key = {
  ask(state, early) {
    const only = { key_id: state.key };
    return measured(state, only, (within, size) => ({
      ...statuses(within, only, size),
      row: ask("by-key", { ...within, q: state.key.slice(0, 128), limit: 50, include_revoked: true, endpoints_per_key: 0 }),
      endpoints: ask("by-group", { ...within, ...only, group: "endpoint", limit: PAGE }),
    }), { early });
  },
  crumbs: (state, found) => [[changed(state, { key: null }), orgOf(state, found)], [state, rowOf(state, found)?.name ?? state.key]],
  show: (state, found, act) => [about(state, rowOf(state, found)), headline(state, found), main(state, found, act), endpointsPanel(state, found), plans.panels?.(state, found), health(state, found, act)],
};

const rowOf = (state, found) => found?.row?.keys?.find((row) => row.key_id === state.key);

/** What is known of a key. */
function about(state, row) {
  if (!row) return null;
  return h("p", { class: "about" }, h("code", {}, named(row.key_id)), h("span", { class: "badge" }, row.environment ?? "–"),
    row.revoked_at ? h("span", { class: "badge alarm" }, t("revoked", { time: time(row.revoked_at, "tick", zoneOf(state)) })) : null,
    h("span", {}, row.last_activity ? t("last_used_ago", { ago: ago(row.last_activity, now()) }) : `${t("last_used")}: ${t("never")}`));
}

