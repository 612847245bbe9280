// Tables, and the numbers of a chart as one.

import { h, named } from "./dom.js";
import { percent, t } from "./format.js";

/**
 * A table. `columns` are {name, text(row), label, numeric, minor}; the first names its row. `footer` are rows of the same
 * columns. On a narrow screen, minor columns go.
 */
export function table(caption, columns, rows, footer = []) {
  const cell = (row, isFooter) => (column, index) => {
    const kind = { class: kindOf(column), scope: index === 0 ? "row" : null };
    return h(index === 0 ? "th" : "td", kind, isFooter ? (row[column.name] ?? "") : column.text(row));
  };
  return h("table", {},
    h("caption", { class: "unseen" }, caption),
    h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col", class: kindOf(column) }, column.label)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, columns.map(cell(row, false))))),
    footer.length > 0 && h("tfoot", {}, footer.map((row) => h("tr", {}, columns.map(cell(row, true))))));
}

const kindOf = (column) => [column.numeric && "number", column.minor && "minor"].filter(Boolean).join(" ") || null;

/** A share of a whole as a number with a bar under it. */
export function bar(value, whole) {
  const part = whole ? value / whole : 0;
  return [h("span", {}, percent(part)), h("span", { class: "share", "aria-hidden": "true", "--part": `${Math.max(part * 100, value ? 0.5 : 0)}%` })];
}

/** The numbers of a chart, with their sums: what it draws, no less. */
export function chartTable(id, data) {
  const names = data.rows.map((row, index) => ({ name: `r${index}`, label: named(row.name), numeric: true }));
  const adds = data.kind !== "lines";
  const columns = [
    { name: "label", label: t("time"), text: (row) => row.label },
    ...names.map((column, index) => ({ ...column, text: (row) => data.format(data.rows[index].values[row.index]) })),
    ...(adds ? [{ name: "sum", label: t("total"), numeric: true, text: (row) => data.format(total(data.rows.map((one) => one.values[row.index]))) }] : []),
  ];
  const sums = Object.fromEntries(data.rows.map((row, index) => [`r${index}`, data.format(total(row.values))]));
  const footer = adds ? [{ label: t("total"), ...sums, sum: data.format(total(data.rows.flatMap((row) => row.values))) }] : [];
  const rows = data.labels.map((label, index) => ({ label, index }));
  return h("div", { class: "scroll", id, tabindex: "0", role: "region", "aria-label": data.title }, table(data.title, columns, rows, footer));
}

const total = (values) => values.reduce((all, one) => all + (one ?? 0), 0);
