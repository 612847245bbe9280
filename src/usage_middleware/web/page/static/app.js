// The page: reads the state from its address, asks, shows, and asks again every minute.

import { frame, isFramed, now } from "./api.js";
import { h, named, replaceChildren } from "./dom.js";
import { ownZone, prepare, start, t, time, zones } from "./format.js";
import { choice, footer, option } from "./panels.js";
import { headline, main, screenOf } from "./screens.js";
import { address, changed, periodOf, periods, read, zoneOf } from "./state.js";

const REFRESH = 60_000;
const RETRY = 10_000;
const page = document.getElementById("main");
const spoken = h("p", { class: "unseen", role: "status", "aria-live": "polite" });
let state = read(location.search);
let screen = null;
let shown = null;
let timer = null;
let turn = 0;

const act = {
  go(next, { replace = false } = {}) {
    history[replace ? "replaceState" : "pushState"](null, "", address(next));
    state = read(location.search);
    refresh();
  },
  zoom(window) {
    if (Date.parse(window.end) > now()) delete window.end;
    act.go(changed(state, { ...window, end: window.end ?? null, period: null, granularity: null }));
  },
  announce(text) {
    spoken.textContent = text;
  },
};

async function refresh() {
  const mine = ++turn;
  clearTimeout(timer);
  page.setAttribute("aria-busy", "true");
  const asked = state;
  try {
    screen = await screenOf(asked);
    if (mine !== turn) return;
    const found = await screen.ask(asked, (first) => mine === turn && begins(first));
    if (mine !== turn) return;
    shown = { state: asked, screen, found, at: now() };
    show(null);
  } catch (error) {
    if (mine !== turn) return;
    // The browser's own zone may be one that the counters can't represent: nobody has asked for it.
    if (error.param === "timezone" && !asked.timezone) return act.go(changed(asked, { timezone: "UTC" }), { replace: true });
    show(error);
    if (error.status === undefined) throw error;
  } finally {
    if (mine === turn) wait(page.dataset.state === "error" ? RETRY : REFRESH);
  }
}

/** The first view has its bars before the rest is there; later ones change when all is. */
function begins(found) {
  if (shown) return;
  settle("loading", () => [header({ screen, found }), headline(state, found), main(state, found, act)]);
  page.setAttribute("aria-busy", "true");
}

function wait(milliseconds) {
  clearTimeout(timer);
  timer = document.hidden ? null : setTimeout(refresh, milliseconds);
}

document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : shown && now() - shown.at > REFRESH ? refresh() : wait(REFRESH)));

const again = () => location.reload();

async function signedOut(error) {
  shown = null;
  await import("./sign_in.js").then(({ signIn }) => settle("signed-out", () => signIn(error)), again);
}

function show(error) {
  if (error?.status === 401) return signedOut(error);
  const usable = shown && (!error || (isPassing(error) && shown.state === state));
  const bar = usable ? shown : { screen, found: null };
  settle(error ? "error" : "ready", () => [
    header(bar),
    error && notice(error),
    ...(usable ? shown.screen.show(shown.state, shown.found, act) : []),
    usable && shown.found.main && footer(shown.found.main, zoneOf(shown.state), now()),
  ]);
}

const isPassing = (error) => error.status === 0 || error.status === 429 || error.status >= 500;

function settle(name, make) {
  replaceChildren(page, () => [h("div", { class: "page" }, make().flat(2).filter(Boolean)), spoken]);
  page.dataset.state = name;
  page.removeAttribute("aria-busy");
}

/** What is wrong, in the API's own words; what can be asked instead, and since when the numbers stand still. */
function notice(error) {
  const since = shown && isPassing(error) && h("span", {}, t("numbers_from", { time: time(shown.at, "second", zoneOf(state)) }));
  const offers = (error.nearest ?? []).map((window) => h("a", { href: address(changed(state, { ...window, period: null })), "data-state": "" },
    `${time(window.start, "full", zoneOf(state))} – ${time(window.end, "full", zoneOf(state))}`));
  return h("div", { class: "notice", role: "alert" }, h("p", {}, error.message), since, offers,
    h("button", { type: "button", click: error.code === "stale" ? again : refresh, id: "retry" }, t("again")));
}

function header({ screen, found }) {
  const crumbs = screen?.crumbs(state, found) ?? [[state, t("title")]];
  if (start.viewer.operator && state.org) crumbs.unshift([changed(state, { org: null, key: null, endpoint: null, group: null }), t("all_organizations")]);
  const last = crumbs.length - 1;
  const trail = crumbs.map(([target, name], index) => h("li", {}, index === last
    ? h("h1", {}, named(name)) : target ? h("a", { href: address(target), "data-state": "" }, named(name)) : named(name)));
  const title = `${crumbs[last][1]} · ${t("title")}`;
  if (title !== document.title) act.announce(document.title = title);
  return h("header", { class: "top" }, h("nav", { "aria-label": t("where") }, h("ol", { class: "crumbs" }, trail)),
    h("div", { class: "choices" }, periodChoice(), compareChoice(), zoneChoice(), signOutButton()));
}

function periodChoice() {
  const custom = state.start ? [["custom", t("custom")]] : [];
  const options = [...custom, ...periods.map((one) => [one, t(`period_${one}`)]), ["dates", t("dates")]];
  const choose = (value) => (value === "dates" ? askDates() : act.go(changed(state, { period: value, start: null, end: null, granularity: null })));
  return choice("period", t("period"), options, periodOf(state) ?? "custom", choose);
}

/** Asks for days; what it asks with is only loaded then. */
async function askDates() {
  await import("./dates.js").then(({ askDates: ask }) => ask(state, act), again);
  document.getElementById("period").value = periodOf(state) ?? "custom";
}

function compareChoice() {
  const options = [["", t("compare_previous")], ["none", t("compare_none")]];
  return choice("compare", t("compare"), options, state.compare ?? "", (value) => act.go(changed(state, { compare: value })));
}

function zoneChoice() {
  const zone = zoneOf(state);
  const some = [...new Set([zone, ownZone, "UTC"])];
  const label = choice("zone", t("time_zone"), some.map((name) => [name, name]), zone, (value) => act.go(changed(state, { timezone: value })));
  // Hundreds of zones are only there for somebody who wants another.
  const others = () => label.lastChild.append(...zones().filter((name) => !some.includes(name)).map((name) => option(name, name)));
  for (const event of ["focusin", "pointerdown"]) label.addEventListener(event, () => label.lastChild.length === some.length && others());
  return label;
}

/** The way out, where there is one. */
function signOutButton() {
  const leave = async () => {
    await fetch("sign-out", { method: "POST" });
    location.assign(location.pathname);
  };
  return start.signs_in && !isFramed && h("button", { type: "button", id: "sign-out", click: leave }, t("sign_out"));
}

document.addEventListener("click", (event) => {
  const target = event.target.closest("a[data-state]");
  if (!target || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  history.pushState(null, "", target.getAttribute("href"));
  state = read(location.search);
  refresh();
});

let typing = null;
document.addEventListener("input", (event) => {
  if (event.target.id !== "q") return;
  clearTimeout(typing);
  typing = setTimeout(() => act.go(changed(state, { q: event.target.value }), { replace: true }), 250);
});

window.addEventListener("popstate", () => {
  state = read(location.search);
  refresh();
});

await frame?.begin();
if (start.error) signedOut(start.error);
else {
  refresh();
  setTimeout(() => prepare(ownZone));
}
