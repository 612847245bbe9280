// <usage-plot>: stacked bars or lines over time, as SVG. One tab stop: arrows move, Shift and arrows mark, Enter opens, Escape
// leaves. It sends `zoom` and `open`, both with {first, last}.

import { h, named, s } from "./dom.js";
import { bucketAt, labelStep, stacked, ticks } from "./scales.js";
import { t } from "./format.js";

/** Around the plot, in widths of a letter. */
const MARGIN = { top: 0.7, right: 0.4, bottom: 1.6, left: 3.5 };
const LABEL = 4.3;

class UsagePlot extends HTMLElement {
  #data = null;
  #cursor = null;
  #place = Infinity;
  #mark = null;
  #dragged = null;
  #width = 0;
  #letter = 15;

  constructor() {
    super();
    this.tip = h("div", { class: "tip", "aria-hidden": "true", hidden: true });
    this.spoken = h("div", { class: "unseen", role: "status", "aria-live": "polite" });
    this.plot = h("div", { class: "plot", tabindex: "0", role: "application", "aria-roledescription": t("chart") });
    this.help = h("p", { class: "unseen" }, t("chart_help"));
    this.plot.addEventListener("keydown", (event) => this.#key(event));
    this.plot.addEventListener("focus", () => this.#focus());
    this.plot.addEventListener("blur", () => {
      // What is taken out for a moment, as when the page asks again, goes on where it was.
      this.#place = this.#cursor ?? this.#place;
      this.#show(null);
    });
    for (const name of ["pointermove", "pointerdown", "pointerup", "pointerleave", "pointercancel"]) {
      this.plot.addEventListener(name, (event) => this.#pointer(event));
    }
    this.watch = new ResizeObserver(() => this.#resize());
  }

  connectedCallback() {
    this.replaceChildren(this.plot, this.help, this.tip, this.spoken);
    this.watch.observe(this);
  }

  disconnectedCallback() {
    this.watch.disconnect();
  }

  /**
   * What it shows: `labels` of the buckets, `rows` {name, values, color}, `kind` bars or lines, `previous` values or null,
   * `open` whether the last bucket goes on, `format` of numbers, `tick` texts of buckets, `title`.
   */
  set data(data) {
    this.#data = data;
    this.plot.setAttribute("aria-label", data.title);
    this.plot.id = `${this.id}-plot`;
    this.help.id = `${this.id}-help`;
    this.plot.setAttribute("aria-describedby", this.help.id);
    if (this.#cursor !== null && this.#cursor >= data.labels.length) this.#cursor = null;
    this.#draw();
  }

  get data() {
    return this.#data;
  }

  #resize() {
    const width = Math.floor(this.clientWidth);
    this.#letter = Number.parseFloat(getComputedStyle(this).fontSize) || 15;
    if (width && width !== this.#width) {
      this.#width = width;
      this.#draw();
    }
  }

  get #inner() {
    const em = this.#letter;
    return { width: this.#width - (MARGIN.left + MARGIN.right) * em, height: this.#height - (MARGIN.top + MARGIN.bottom) * em };
  }

  get #left() {
    return MARGIN.left * this.#letter;
  }

  get #height() {
    return (this.#data?.low ? 10 : this.#width < 480 ? 13.3 : 17.3) * this.#letter;
  }

  #draw() {
    const data = this.#data;
    if (!data || !this.#width) return;
    const { width, height } = this.#inner;
    const isBars = data.kind !== "lines";
    const tops = isBars ? stacked(data.rows.map((row) => row.values)) : data.rows.map((row) => row.values);
    const greatest = Math.max(0, ...tops.flat().map((one) => one ?? 0), ...(data.previous ?? []).map((one) => one ?? 0));
    const axis = ticks(greatest, 4, isBars);
    const y = (value) => height - (value / axis.at(-1)) * height;
    const band = width / Math.max(1, data.labels.length);
    const content = [this.#axis(axis, y, width), this.#dates(band, height, width)];
    content.push(...(isBars ? this.#bars(tops, y, band, height) : this.#lines(tops, y, band)));
    if (data.previous) content.push(s("path", { class: "previous", d: line(data.previous, y, band) }));
    this.cursor = s("rect", { class: "cursor", y: 0, height, width: Math.max(band, 1), visibility: "hidden" });
    content.push(this.cursor);
    const svg = s("svg", { width: this.#width, height: this.#height, "aria-hidden": "true", focusable: "false" },
      s("defs", {}, hatch(`${this.id}-hatch`)),
      s("g", { transform: `translate(${this.#left} ${MARGIN.top * this.#letter})` }, content));
    this.plot.replaceChildren(svg);
    this.#show(this.#cursor, false);
  }

  #axis(axis, y, width) {
    return axis.map((value) => s("g", { class: "grid" },
      s("line", { x1: 0, x2: width, y1: y(value), y2: y(value) }),
      s("text", { x: -8, y: y(value), dy: "0.32em", "text-anchor": "end" }, this.#data.short(value))));
  }

  #dates(band, height, width) {
    const step = labelStep(this.#data.labels.length, width, LABEL * this.#letter);
    const shown = this.#data.ticks.map((text, index) => ({ text, index })).filter(({ index }) => index % step === 0);
    return shown.map(({ text, index }) => {
      const x = Math.min(Math.max((index + 0.5) * band, 1.6 * this.#letter), width - 1.6 * this.#letter);
      return s("text", { class: "date", x, y: height + 1.15 * this.#letter, "text-anchor": "middle" }, text);
    });
  }

  #bars(tops, y, band, height) {
    const gap = band > 6 ? Math.min(4, band * 0.2) : band > 3 ? 1 : 0;
    const paths = tops.map((top, row) => {
      const below = tops[row - 1];
      const rects = top.map((value, index) => {
        const from = below ? below[index] : 0;
        if (value === from) return "";
        const bottom = y(from);
        const high = Math.max(bottom - y(value), 0.5);
        return `M${round(index * band + gap / 2)} ${round(bottom)}v${-round(high)}h${round(band - gap)}v${round(high)}z`;
      });
      return s("path", { class: "row", "--color": `var(--${this.#data.rows[row].color})`, d: rects.join("") });
    });
    const last = (tops.at(-1) ?? []).length - 1;
    if (this.#data.open && last >= 0 && tops.at(-1)[last] > 0) {
      const top = y(tops.at(-1)[last]);
      const at = { x: last * band + gap / 2, y: top, width: Math.max(band - gap, 0.5), height: height - top };
      paths.push(s("rect", { class: "open", fill: `url(#${this.id}-hatch)`, ...at }));
    }
    return paths;
  }

  #lines(rows, y, band) {
    return rows.map((values, row) => s("path", { class: "line", "--color": `var(--${this.#data.rows[row].color})`, d: line(values, y, band) }));
  }

  #focus() {
    if (this.#dragged === null && this.#data && this.#data.labels.length) this.#show(Math.min(this.#cursor ?? this.#place, this.#data.labels.length - 1));
  }

  #show(index, speak = true) {
    this.#cursor = index;
    if (index === null) this.#mark = null;
    if (!this.cursor) return;
    if (index === null) {
      this.cursor.setAttribute("visibility", "hidden");
      this.tip.hidden = true;
      return;
    }
    const band = this.#inner.width / this.#data.labels.length;
    const [first, last] = this.#marked();
    this.cursor.setAttribute("visibility", "visible");
    this.cursor.setAttribute("x", first * band);
    this.cursor.setAttribute("width", Math.max((last - first + 1) * band, 1));
    this.#tell(index, first, last, band, speak);
  }

  #marked() {
    const other = this.#mark ?? this.#cursor;
    return [Math.min(other, this.#cursor), Math.max(other, this.#cursor)];
  }

  #tell(index, first, last, band, speak) {
    const { labels, rows, format, kind, previous, open } = this.#data;
    const label = first === last ? labels[index] : `${labels[first]} – ${labels[last]}`;
    const sums = rows.map((row) => (kind === "lines" ? row.values[index] : sum(row.values, first, last)));
    const lines = rows.map((row, at) => ({ row, value: sums[at] })).filter(({ value }) => value);
    const total = kind === "lines" ? null : sums.reduce((all, one) => all + (one ?? 0), 0);
    const before = previous && t("before", { value: format(sum(previous, first, last)) });
    const partial = open && last === labels.length - 1 ? t("so_far") : null;
    if (speak) {
      const parts = lines.map(({ row, value }) => `${row.name} ${format(value)}`);
      this.spoken.textContent = [label, partial, total === null ? null : format(total), ...parts, before].filter(Boolean).join("; ");
    }
    this.tip.replaceChildren(
      h("strong", {}, label, partial && ` (${partial})`),
      ...[...lines].reverse().map(({ row, value }) => h("span", { class: "entry" },
        h("i", { class: "swatch", "--color": `var(--${row.color})` }), h("span", {}, named(row.name)), h("b", {}, format(value)))),
      ...(total === null || lines.length < 2 ? [] : [h("span", { class: "entry sum" }, h("i"), h("span", {}, t("total")), h("b", {}, format(total)))]),
      ...(before ? [h("span", { class: "before" }, before)] : []));
    this.tip.hidden = false;
    const middle = this.#left + ((first + last + 1) / 2) * band;
    const width = this.tip.offsetWidth;
    const left = middle + 14 + width < this.#width ? middle + 14 : middle - 14 - width;
    this.tip.style.setProperty("left", `${Math.max(0, Math.min(left, this.#width - width))}px`);
  }

  #key(event) {
    const last = (this.#data?.labels.length ?? 0) - 1;
    if (last < 0) return;
    const at = this.#cursor ?? last;
    const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last, PageUp: at - 10, PageDown: at + 10 };
    if (event.key in moves) {
      if (!event.shiftKey) this.#mark = null;
      else this.#mark ??= at;
      this.#show(Math.max(0, Math.min(last, moves[event.key])));
    } else if (event.key === "Enter") this.#open();
    else if (event.key === "Escape") this.#escape();
    else return;
    event.preventDefault();
  }

  #escape() {
    if (this.#mark !== null) {
      this.#mark = null;
      this.#show(this.#cursor);
    } else this.plot.blur();
  }

  #open() {
    const [first, last] = this.#marked();
    this.#mark = null;
    const name = first === last ? "open" : "zoom";
    this.dispatchEvent(new CustomEvent(name, { detail: { first, last } }));
  }

  #pointer(event) {
    if (!this.#data?.labels.length) return;
    const x = event.clientX - this.plot.getBoundingClientRect().left - this.#left;
    const index = bucketAt(x, this.#inner.width, this.#data.labels.length);
    if (event.type === "pointerdown" && event.button === 0) {
      this.#dragged = index;
      if (event.pointerType === "mouse") this.plot.setPointerCapture(event.pointerId);
    }
    if (event.type === "pointerup" && this.#dragged !== null) {
      this.#mark = this.#dragged;
      this.#cursor = index;
      this.#dragged = null;
      this.#open();
    } else if (event.type === "pointerleave" || event.type === "pointercancel") {
      this.#dragged = null;
      if (this.getRootNode().activeElement !== this.plot) this.#show(null, false);
    } else {
      this.#mark = this.#dragged;
      this.#show(index, false);
    }
  }
}

const round = (value) => Math.round(value * 100) / 100;
const sum = (values, first, last) => values.slice(first, last + 1).reduce((all, one) => all + (one ?? 0), 0);

/** A line through the middles of buckets, with gaps where there is no number; a number alone is a short line. */
function line(values, y, band) {
  let pen = "M";
  return values.map((value, index) => {
    if (value === null || value === undefined) {
      pen = "M";
      return "";
    }
    const alone = pen === "M" && (values[index + 1] === null || values[index + 1] === undefined);
    const step = `${pen}${round((index + 0.5) * band)} ${round(y(value))}${alone ? "m-2 0h4" : ""}`;
    pen = "L";
    return step;
  }).join("");
}

function hatch(id) {
  return s("pattern", { id, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    s("rect", { width: 3, height: 6, class: "hatching" }));
}

customElements.define("usage-plot", UsagePlot);
