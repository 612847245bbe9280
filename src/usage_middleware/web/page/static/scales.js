// Scales: pure functions from numbers to places and back.

/** Where the ticks of an axis from 0 are: at most `most`, at 1, 2, 2.5 or 5 times a power of ten; the last covers the greatest. */
export function ticks(greatest, most = 4, whole = false) {
  if (!(greatest > 0)) return [0, 1];
  const rough = greatest / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one * most >= greatest * (1 - 1e-9));
  if (whole && step < 1) step = 1;
  const count = Math.ceil(greatest / step - 1e-9);
  return Array.from({ length: count + 1 }, (_, index) => Number((index * step).toPrecision(12)));
}

/** Sums of rows, bucket by bucket: where each row of a stack ends. */
export function stacked(rows) {
  const tops = [];
  let below = rows.length ? rows[0].map(() => 0) : [];
  for (const row of rows) {
    below = row.map((value, index) => below[index] + (value ?? 0));
    tops.push(below);
  }
  return tops;
}

/** The bucket at a place from left to right; always one that exists. */
export function bucketAt(x, width, count) {
  return Math.max(0, Math.min(count - 1, Math.floor((x / width) * count)));
}

/** Every how many buckets there is a label, so that none touches the next. */
export function labelStep(count, width, label = 64) {
  const fitting = Math.max(1, Math.floor(width / label));
  return Math.max(1, Math.ceil(count / fitting));
}

/** The buckets that are wide enough to see and still tell the most: minutes, hours, days, weeks, months. */
export function granularityOf(milliseconds) {
  const hours = milliseconds / 3600000;
  if (hours <= 3) return "minute";
  if (hours <= 96) return "hour";
  return hours <= 24 * 380 ? "day" : "month";
}

/** The wider ones that may be asked for when a granularity is refused. */
export const wider = { minute: "hour", hour: "day", day: "week", week: "month" };
