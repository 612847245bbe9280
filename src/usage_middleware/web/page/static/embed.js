// <usage-chart src="…/usage/series?group=endpoint" token="…">: one chart inside of another site's page, with its own styles.

import "./chart.js";
import { barsOf, legend, linesOf } from "./answers.js";
import { h } from "./dom.js";
import { bytes, start, t } from "./format.js";
import { words } from "./words.js";

const REFRESH = 60_000;
const lang = document.documentElement.lang.slice(0, 2);
start.language = lang in words ? lang : "en";
Object.assign(start.words, words[start.language]);

const styles = new CSSStyleSheet();
// Nothing is lost where the styles can't be had but the looks.
fetch(new URL("page.css", import.meta.url)).then(async (reply) => styles.replace(await reply.text()), () => null);

class UsageChart extends HTMLElement {
  static observedAttributes = ["src", "token", "heading"];
  #content = h("section", { class: "panel" });
  #plot = h("usage-plot", { id: "chart" });
  #timer = null;
  #turn = 0;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [styles];
    root.append(this.#content);
  }

  connectedCallback() {
    this.#ask();
  }

  disconnectedCallback() {
    this.#turn += 1;
    clearTimeout(this.#timer);
  }

  attributeChangedCallback() {
    if (this.isConnected) this.#ask();
  }

  /** Asks, shows, and asks again every minute; a page with a newer token only has to set it. */
  async #ask() {
    const mine = ++this.#turn;
    clearTimeout(this.#timer);
    const token = this.getAttribute("token");
    const src = this.getAttribute("src");
    if (!src) return;
    const headers = { Accept: "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
    const reply = await fetch(src, { headers, cache: "no-cache" }).catch(() => null);
    const answer = await reply?.json().catch(() => null);
    if (mine !== this.#turn) return;
    this.#timer = setTimeout(() => this.#ask(), REFRESH);
    if (reply?.ok) this.#show(answer);
    else this.#say(answer?.message ?? t("unreachable"));
    if (reply?.status === 401) this.dispatchEvent(new CustomEvent("usage-renew", { bubbles: true }));
  }

  #show(answer) {
    const name = answer.measure.replace(/^c\./, "");
    const title = this.getAttribute("heading") ?? t(name);
    const adds = Boolean(answer.other);
    const made = { title, name: (row) => (answer.group === "none" ? t(name) : row), ...(name === "bytes" && { format: bytes }) };
    const zone = answer.window.timezone;
    if (!answer.series?.[0]?.points.length) return this.#say(answer.unavailable.series?.message ?? t("no_calls"));
    const data = adds ? barsOf(answer, zone, made) : linesOf(rowsOf(answer), zone, made);
    this.#content.replaceChildren(h("header", {}, h("h2", {}, title)), this.#plot, legend(data));
    this.#plot.data = data;
  }

  #say(text) {
    this.#content.replaceChildren(h("p", { class: "note", role: "status" }, text));
  }
}

/** The rows of an answer that doesn't add up, as answers of their own. */
const rowsOf = (answer) => answer.series.map((row) => ({ ...answer, series: [row], measure: row.name, totals: { [row.name]: row.total } }));

customElements.define("usage-chart", UsageChart);
