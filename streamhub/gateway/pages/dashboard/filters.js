/** Which events: types, one resource type, resources, and field filters. Shared by the tail and by replays. */
import { html, useState } from "./htm-preact.js";
import { Field } from "./parts.js";

const PREDICATES = [
  ["eq", "is"], ["not_eq", "is not"], ["in", "is one of"], ["not_in", "is none of"], ["lt", "<"], ["lteq", "≤"],
  ["gt", ">"], ["gteq", "≥"], ["start", "begins with"], ["present", "is there"], ["null", "is null"],
  ["changed", "has changed"],
];
const OF_TRUTH = new Set(["present", "null", "changed"]);

export const NOTHING_ASKED = { types: "", resourceType: "", resourceIds: "", fields: [] };

/** As the streams' client takes it: members that are empty are left out. */
export function choiceOf({ types, resourceType, resourceIds, fields }) {
  const choice = {};
  const listed = (text) => text.split(",").map((each) => each.trim()).filter(Boolean).join(",");
  if (listed(types)) choice.types = listed(types);
  if (resourceType.trim()) choice.resourceTypeEq = resourceType.trim();
  if (listed(resourceIds)) choice.resourceIdIn = listed(resourceIds);
  const filters = fields.filter(({ path }) => path.trim())
    .map(({ path, predicate, value }) => [`${path.trim()}_${predicate}`, value]);
  if (filters.length > 0) choice.filters = Object.fromEntries(filters);
  return choice;
}

/** How many conditions it has. */
export function conditions(choice) {
  const { filters = {}, ...others } = choice;
  return Object.keys(others).length + Object.keys(filters).length;
}

/** The controls of one choice. `types` are those to pick from. */
export function Filters({ value, onChange, types = [] }) {
  const [list] = useState(() => `types-${Math.random().toString(36).slice(2)}`);
  const set = (member) => (event) => onChange({ ...value, [member]: event.target.value });
  const fields = (changed) => onChange({ ...value, fields: changed });
  const text = (member, placeholder, more = {}) => (tie) => html`<input ...${tie} type="text" spellcheck=${false}
    autocomplete="off" placeholder=${placeholder} value=${value[member]} onInput=${set(member)} ...${more} />`;
  return html`<div class="filters">
    <div class="row">
      <${Field} label="Types" render=${text("types", "all, or skus.*, *.create", { list })} />
      <${Field} label="Resource type" render=${text("resourceType", "any")} />
      <${Field} label="Resource ids" render=${text("resourceIds", "any, or id,id")} />
    </div>
    <datalist id=${list}>${types.map((type) => html`<option key=${type} value=${type} />`)}</datalist>
    ${value.fields.map((each, n) => html`<${FieldFilter} key=${each.key} value=${each}
      onChange=${(changed) => fields(value.fields.with(n, changed))}
      onRemove=${() => fields(value.fields.toSpliced(n, 1))} />`)}
    <button type="button" class="small" onClick=${() => fields([...value.fields,
      { key: Math.random(), path: "", predicate: "eq", value: "" }])}>Add a field filter</button>
  </div>`;
}

function FieldFilter({ value, onChange, onRemove }) {
  const set = (member) => (event) => onChange({ ...value, [member]: event.target.value });
  const choose = (event) => {
    const predicate = event.target.value;
    const isOfTruth = OF_TRUTH.has(predicate);
    const kept = isOfTruth === OF_TRUTH.has(value.predicate) ? value.value : isOfTruth ? "true" : "";
    onChange({ ...value, predicate, value: kept });
  };
  return html`<div class="fieldfilter" role="group" aria-label="Field filter">
    <input type="text" aria-label="Path" spellcheck=${false} autocomplete="off" placeholder="resource.status"
      value=${value.path} onInput=${set("path")} />
    <select aria-label="Condition" value=${value.predicate} onChange=${choose}>
      ${PREDICATES.map(([name, words]) => html`<option key=${name} value=${name}>${words}</option>`)}</select>
    ${OF_TRUTH.has(value.predicate)
      ? html`<select aria-label="Value" value=${value.value} onChange=${set("value")}>
          <option value="true">true</option><option value="false">false</option></select>`
      : html`<input type="text" aria-label="Value" spellcheck=${false} autocomplete="off" placeholder="paid"
          value=${value.value} onInput=${set("value")} />`}
    <button type="button" class="small" aria-label="Remove this filter" onClick=${onRemove}>Remove</button>
  </div>`;
}
