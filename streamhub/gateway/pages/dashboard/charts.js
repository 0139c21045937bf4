/** Small charts of the last minutes, by uPlot. Each is told in words, too. */
import { html, useEffect, useRef, useState } from "./htm-preact.js";

const HEIGHT = 120;
const TONES = ["--accent", "--good", "--fair"];

/** The scheme's colours are the style sheet's; a canvas has to be told them. */
const colour = (name) => {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
};

/** `times` in seconds of the Unix epoch; `series`: `[{name, values}]`; `shown` writes a value. */
export function Chart({ title, times, series, shown }) {
  const box = useRef();
  const plot = useRef(null);
  const [isDark, setIsDark] = useState(() => matchMedia("(prefers-color-scheme: dark)").matches);
  useEffect(() => {
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    const change = () => setIsDark(scheme.matches);
    scheme.addEventListener("change", change);
    return () => scheme.removeEventListener("change", change);
  }, []);
  useEffect(() => {
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false },
      font: "11px system-ui" };
    plot.current = new window.uPlot({
      width: Math.max(box.current.clientWidth, 100), height: HEIGHT, legend: { show: false }, cursor: { show: false },
      padding: [8, 26, 0, 0],
      scales: { x: { time: true }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.15 : 1] } },
      axes: [{ ...axis, space: 70, size: 22, values: (_, at) => at.map(minute) },
        { ...axis, space: 32, size: 52, values: (_, at) => at.map((value) => shown(value)) }],
      series: [{}, ...series.map(({ name }, n) => ({ label: name, stroke: colour(TONES[n]), width: 1.5,
        points: { show: false } }))],
    }, [times, ...series.map(({ values }) => values)], box.current);
    const sized = new ResizeObserver(() => plot.current.setSize({ width: box.current.clientWidth, height: HEIGHT }));
    sized.observe(box.current);
    return () => {
      sized.disconnect();
      plot.current.destroy();
    };
  }, [isDark, series.length]);
  useEffect(() => {
    plot.current.setData([times, ...series.map(({ values }) => values)]);
  }, [times]);
  return html`<figure class="chart">
    <figcaption>${title}<span class="legend">${series.map(({ name, values }, n) => html`
      <span key=${name} class="line${n}">${series.length > 1 && html`${name} `}
        <b>${valueOf(values, shown)}</b></span>`)}
    </span></figcaption>
    <div ref=${box} aria-hidden="true" class="plot"></div>
  </figure>`;
}

const minute = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 19);

function valueOf(values, shown) {
  const last = values.at(-1);
  return last === null || last === undefined ? "–" : shown(last);
}
