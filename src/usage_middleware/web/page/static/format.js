// Words, numbers and times as people of a language and a zone write them.

/** What the page starts from; nothing inside of another site's page. */
export const start = JSON.parse(document.querySelector("script#usage-start")?.textContent ?? '{"words": {}}');
/** The language of the words, in the region of the viewer. */
export const language = () => navigator.languages.find((one) => one.split("-")[0] === start.language) ?? start.language;

/** A word of the page; `{name}` in it is replaced. */
export function t(name, values = {}) {
  const text = start.words[name] ?? name;
  return text.replace(/\{(\w+)\}/g, (whole, key) => values[key] ?? whole);
}

/** A format of numbers, made when it is first used: that takes longer than to use it a thousand times. */
function numbers(options) {
  let made = null;
  return (value) => (made ??= new Intl.NumberFormat(language(), options)).format(value);
}

const whole = numbers({ maximumFractionDigits: 0 });
const short = numbers({ notation: "compact", maximumFractionDigits: 1 });
const fine = numbers({ maximumSignificantDigits: 3 });
const points = numbers({ maximumFractionDigits: 2, signDisplay: "exceptZero" });

const none = "–";
const or = (format) => (number) => (number === null || number === undefined ? none : format(number));

export const number = or(whole);
export const compact = or((value) => (Math.abs(value) < 1000 ? fine(value) : short(value)));
export const percent = or(numbers({ style: "percent", maximumFractionDigits: 1 }));
export const grown = or(numbers({ style: "percent", maximumFractionDigits: 1, signDisplay: "exceptZero" }));
export const milliseconds = or((value) => (value < 999.5 ? `${fine(value)} ms` : `${fine(value / 1000)} s`));
export const percentPoints = or((value) => t("points", { value: points(value * 100) }));
export const bytes = or((value) => {
  const step = value < 1000 ? 0 : Math.min(Math.floor(Math.log10(value) / 3), 4);
  return `${fine(value / 1000 ** step)} ${["B", "kB", "MB", "GB", "TB"][step]}`;
});

const SHAPES = {
  minute: { hour: "numeric", minute: "2-digit" },
  hour: { day: "numeric", month: "short", hour: "numeric", minute: "2-digit" },
  day: { weekday: "short", day: "numeric", month: "short" },
  week: { day: "numeric", month: "short", year: "numeric" },
  month: { month: "long", year: "numeric" },
  tick: { day: "numeric", month: "short" },
  clock: { hour: "numeric", minute: "2-digit" },
  second: { hour: "numeric", minute: "2-digit", second: "2-digit" },
  full: { dateStyle: "medium", timeStyle: "short" },
};
const made = new Map();

/** A time in a zone; `shape` is one of the above. */
export function time(at, shape, zone) {
  const name = `${shape} ${zone}`;
  if (!made.has(name)) made.set(name, new Intl.DateTimeFormat(language(), { ...SHAPES[shape], timeZone: zone }));
  return made.get(name).format(new Date(at));
}

/** The instant that a text stands for; a date alone begins at midnight in a zone. */
export function instant(text, zone) {
  if (!/^\d{4}-\d{2}-\d{2}$/.test(text)) return Date.parse(text);
  const utc = Date.parse(`${text}T00:00:00Z`);
  const near = utc - offset(utc, zone);
  return utc - offset(near, zone);
}

/** How far a zone is ahead of UTC at a time, milliseconds. */
function offset(at, zone) {
  const parts = zoned(zone)?.formatToParts(at) ?? [];
  const [month, day, year, hour, minute, second] = parts.filter(({ type }) => type !== "literal").map(({ value }) => Number(value));
  return parts.length ? Date.UTC(year, month - 1, day, hour, minute, second) - Math.floor(at / 1000) * 1000 : 0;
}

/** Times in a zone as numbers; of a zone that there is not, the API says so. */
function zoned(timeZone) {
  try {
    return new Intl.DateTimeFormat("en-US", { timeZone, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric" });
  } catch {
    return null;
  }
}

let relative = null;
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];

/** How long ago a time was. */
export function ago(at, now) {
  if (!at) return none;
  const seconds = Math.max(0, (now - new Date(at)) / 1000);
  const [unit, size] = UNITS.find(([, one]) => seconds >= one) ?? ["minute", 60];
  relative ??= new Intl.RelativeTimeFormat(language(), { numeric: "auto" });
  return relative.format(-Math.floor(seconds / size), unit);
}

/** Makes the formats that a first view uses, while the server works. */
export function prepare(zone) {
  for (const format of [number, compact, percent, grown, percentPoints]) format(1);
  for (const shape of ["day", "tick"]) time(0, shape, zone);
  compact(1e4);
  ago(1, 1);
}

/** The viewer's own zone. */
export const ownZone = renamed(new Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC");

/** The zones that a browser knows. */
export const zones = () => [...new Set(Intl.supportedValuesOf("timeZone").map(renamed))];

/** Some browsers know a zone by a name that servers have given up. */
function renamed(zone) {
  const now = { "Asia/Calcutta": "Asia/Kolkata", "Asia/Saigon": "Asia/Ho_Chi_Minh", "America/Buenos_Aires": "America/Argentina/Buenos_Aires" };
  return now[zone] ?? zone;
}
