// Plans: what is left and what was asked of it, where the API has them.

import { ask, now } from "./api.js";
import { h } from "./dom.js";
import { number, percent, start, t, time } from "./format.js";
import { card } from "./panels.js";

/** The questions about plans; none where the API has no plans. */
export function plans(state) {
  return start.plans ? { limits: ask("limits", { org: state.org }) } : {};
}

/** The quota that is nearest to its end, with what is to come. */
export function planCard(answer) {
  const quota = answer?.limits?.filter((one) => one.kind === "quota").sort((one, other) => (other.used_ratio ?? 0) - (one.used_ratio ?? 0))[0];
  if (!quota) return null;
  const ratio = quota.used_ratio ?? 0;
  const meter = h("meter", { min: 0, max: 1, high: 0.8, optimum: 0, value: Math.min(ratio, 1), "aria-label": quota.name });
  const until = quota.period_end ? t("resets", { time: time(quota.period_end, "tick", "UTC") }) : null;
  const projected = quota.projected ? t("projected", { value: number(quota.projected.value) }) : null;
  return card(quota.name, `${percent(ratio)}`, null, h("span", { class: "more" }, meter, t("of", { limit: number(quota.limit) }), until && ` · ${until}`, projected && ` · ${projected}`));
}

export { now };
