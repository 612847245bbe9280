// What a chart needs of answers of /series, and the names under it.

import { h, named } from "./dom.js";
import { compact, milliseconds, number, t, time } from "./format.js";

const COLORS = ["c0", "c1", "c2", "c3", "c4"];
const starts = (rows) => rows[0]?.points.map(([at]) => at) ?? [];

/** What a chart needs of an answer of /series that adds up: the rows, the rest, and the period before. */
export function barsOf(answer, zone, { title, name = (row) => row, colors = COLORS, format = number } = {}) {
  const rows = (answer.series ?? []).map((row, index) => ({ name: name(row.name), key: row.name, total: row.total, values: values(row), color: colors[index % colors.length] }));
  if (answer.other?.members) rows.push({ name: t("others", { count: number(answer.other.members) }), key: null, total: answer.other.total, values: values(answer.other), color: "rest" });
  return shaped(answer, rows, zone, { title, format, short: format === number ? compact : format, previous: answer.previous?.points?.map(([, value]) => value) ?? null });
}

/** What a chart needs of several answers of /series as lines. */
export function linesOf(answers, zone, { title, name }) {
  const rows = answers.map((answer, index) => ({ name: name(answer.measure), key: null, total: answer.totals[answer.measure], values: values(answer.series[0] ?? { points: [] }), color: COLORS[index] }));
  return { ...shaped(answers[0], rows, zone, { title, format: milliseconds, short: milliseconds, previous: null }), kind: "lines" };
}

const values = (row) => row.points.map(([, value]) => value);

function shaped(answer, rows, zone, more) {
  const at = starts(answer.series?.length ? answer.series : answer.other ? [answer.other] : []);
  const size = answer.granularity;
  const ends = Date.parse(answer.window.end);
  const last = Date.parse(at.at(-1));
  return {
    rows, at, size, ...more,
    labels: at.map((one) => time(one, size, zone)),
    ticks: at.map((one) => time(one, size === "minute" || (size === "hour" && at.length < 30) ? "clock" : "tick", zone)),
    open: at.length > 0 && ends < last + LENGTHS[size],
    previous: more.previous?.slice(0, at.length) ?? null,
    ends: answer.window.end,
  };
}

/** How long a bucket is at least, with an hour less for the change of clocks. */
export const LENGTHS = { minute: 60_000, hour: 3_600_000, day: 82_800_000, week: 601_200_000, month: 2_415_600_000 };

/** The names under a chart, with their totals; `opens` makes a link of a name and its content. */
export function legend(data, opens) {
  return h("ul", { class: "legend" }, data.rows.map((row) => {
    const content = [h("i", { class: "swatch", "--color": `var(--${row.color})` }), named(row.name), h("b", {}, data.format(row.total))];
    return h("li", {}, (row.key !== null && opens?.(row.key, content)) || h("span", {}, content));
  }));
}
