/** Metrics in Prometheus' text format, and what follows from two readings of them. */
const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** name → [{labels, value}]. */
export function parsed(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    const match = line.startsWith("#") ? null : SAMPLE.exec(line);
    if (match === null) continue;
    const [, name, inner = "", value] = match;
    const labels = Object.fromEntries([...inner.matchAll(LABEL)].map(([, key, of]) => [key, of]));
    if (!found.has(name)) found.set(name, []);
    found.get(name).push({ labels, value: value === "+Inf" ? Infinity : Number(value) });
  }
  return found;
}

/** Of all samples of this name that have these labels; undefined where there is none. */
export function sum(metrics, name, labels = {}) {
  const wanted = Object.entries(labels);
  const samples = (metrics.get(name) ?? []).filter((each) => wanted.every(([key, of]) => each.labels[key] === of));
  return samples.length === 0 ? undefined : samples.reduce((all, { value }) => all + value, 0);
}

/** A counter's growth in a second between two readings; null where it cannot be told, as after a restart. */
export function rate(before, now, seconds, name, labels) {
  const [from, to] = [sum(before, name, labels), sum(now, name, labels)];
  return from === undefined || to === undefined || to < from ? null : (to - from) / seconds;
}

/** A quantile of what a histogram observed between two readings, as `histogram_quantile` has it; null for nothing. */
export function quantile(q, before, now, name) {
  const buckets = (now.get(`${name}_bucket`) ?? []).map(({ labels, value }) => {
    const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
    return { bound, count: value - (sum(before, `${name}_bucket`, { le: labels.le }) ?? 0) };
  }).sort((a, b) => a.bound - b.bound);
  const all = buckets.at(-1)?.count ?? 0;
  if (all <= 0) return null;
  let [below, low] = [0, 0];
  for (const { bound, count } of buckets) {
    if (count >= q * all) {
      if (bound === Infinity) return low;
      return low + (bound - low) * ((q * all - below) / Math.max(count - below, 1));
    }
    [below, low] = [count, bound];
  }
  return low;
}
