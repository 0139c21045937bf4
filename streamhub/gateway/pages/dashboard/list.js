/** The list of events. Of thousands of rows only those in sight are in the page. */
import { html, useLayoutEffect, useRef, useState } from "./htm-preact.js";
import { Type, clock, count } from "./parts.js";

const ROW = 30; // pixels, as style.css has it
const TALL_ROW = 50; // with a second line, where the window is narrow
const NARROW = matchMedia("(max-width: 640px)");
const MORE = 10; // rows above and below those in sight

/** `rows` with the oldest first; `total` is the number of the last one. `newestFirst` turns the list. Rows that come
 * above what a reader has scrolled to, or has focused, do not move it; a button tells of them. */
export function List({ rows, total, newestFirst, label, current }) {
  const box = useRef();
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(600);
  const [rowHeight, setRowHeight] = useState(NARROW.matches ? TALL_ROW : ROW);
  const before = useRef(total);
  const seen = useRef(total); // the total when the list was at its top for the last time
  if (top === 0 || total < seen.current) seen.current = total;
  useLayoutEffect(() => {
    const seen = new ResizeObserver(([entry]) => setHeight(entry.contentRect.height));
    seen.observe(box.current);
    return () => seen.disconnect();
  }, []);
  useLayoutEffect(() => {
    const change = () => setRowHeight(NARROW.matches ? TALL_ROW : ROW);
    NARROW.addEventListener("change", change);
    return () => NARROW.removeEventListener("change", change);
  }, []);
  useLayoutEffect(() => {
    const added = total - before.current;
    before.current = total;
    const { activeElement: focused } = document;
    const isHeld = box.current.scrollTop > 0 || focused !== box.current && box.current.contains(focused);
    if (newestFirst && added > 0 && isHeld) {
      if (top === 0) seen.current -= added;
      box.current.scrollTop += added * rowHeight;
    }
  }, [total]);
  const first = Math.max(0, Math.floor(top / rowHeight) - MORE);
  const last = Math.min(rows.length, Math.ceil((top + height) / rowHeight) + MORE);
  const shown = [];
  for (let n = first; n < last; n += 1) shown.push(rows[newestFirst ? rows.length - 1 - n : n]);
  const newer = newestFirst ? total - seen.current : 0;
  const rise = () => {
    box.current.focus({ preventScroll: true });
    box.current.scrollTop = 0;
  };
  return html`<div class="listed">${newer > 0 && html`<button type="button" class="small newer" onClick=${rise}>
      ${count(newer)} newer</button>`}
    <div class="scroll" ref=${box} role="region" aria-label=${label} tabindex="0"
      onScroll=${() => setTop(box.current.scrollTop)}>
    <table class="events" aria-rowcount=${rows.length + 1}>
      <thead><tr aria-rowindex="1"><th scope="col">Time (UTC)</th><th scope="col">Type</th><th scope="col">Resource</th>
        <th scope="col" class="beside">Changes</th><th scope="col" class="beside who">Who</th></tr></thead>
      <tbody>
        <tr class="space" aria-hidden="true"><td style=${{ height: `${first * rowHeight}px` }}></td></tr>
        ${shown.map((row, n) => html`<${Row} key=${row.id} row=${row} index=${first + n + 2}
          isCurrent=${row.id === current} />`)}
        <tr class="space" aria-hidden="true"><td
          style=${{ height: `${(rows.length - last) * rowHeight}px` }}></td></tr>
      </tbody>
    </table>
  </div></div>`;
}

function Row({ row, index, isCurrent }) {
  const open = () => {
    if (getSelection().isCollapsed) location.hash = `#/events/${row.id}`; // else the click ended a selection of text
  };
  return html`<tr class="event" aria-rowindex=${index} aria-current=${isCurrent ? "true" : undefined} onClick=${open}>
    <td class="mono" title=${new Date(row.ms).toISOString()}>${clock(row.ms)}</td>
    <td><a href="#/events/${row.id}" onClick=${(event) => event.stopPropagation()}>
      <${Type} type=${row.type} event=${row.event} /></a></td>
    <td class="mono">${row.resource}</td>
    <td class="mono beside">${row.note}</td>
    <td class="beside who">${row.who}</td>
  </tr>`;
}
