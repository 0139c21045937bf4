/** Which events: types, one resource type, resources, and field filters. Shared by the tail, replays and webhooks. */
import { html, useState } from "./htm-preact.js";
import { queryOf } from "./history.js";
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
  if (fields.length > 0) choice.filters = Object.fromEntries(pairsOf(fields));
  return choice;
}

/** How many conditions it has. */
export function conditions(choice) {
  const { filters = {}, ...others } = choice;
  return Object.keys(others).length + Object.keys(filters).length;
}

/** What a refusal says of the parameter of this name; null for nothing. */
export function wordsOf(error, name) {
  const found = (error?.errors ?? []).filter(({ source }) => source?.parameter === name);
  return found.map(({ detail }) => detail).join(" ") || null;
}

/** Whether each fault of a refusal is at a parameter of this choice, or at one of `others`: so at a control. */
export function isAtFields(error, choice, others = []) {
  const names = new Set([...queryOf(choice).map(([name]) => name), ...others]);
  return error?.errors?.length > 0 && error.errors.every(({ source }) => names.has(source?.parameter));
}

/** The controls of one choice. `types` are those to pick from; `error` is what the hub refused of it. */
export function Filters({ value, onChange, types = [], error = null }) {
  const wrong = (name) => wordsOf(error, name);
  const [list] = useState(() => `types-${Math.random().toString(36).slice(2)}`);
  const set = (member) => (event) => onChange({ ...value, [member]: event.target.value });
  const text = (member, placeholder, more = {}) => (tie) => html`<input ...${tie} type="text" spellcheck=${false}
    autocomplete="off" placeholder=${placeholder} value=${value[member]} onInput=${set(member)} ...${more} />`;
  return html`<div class="filters">
    <div class="row">
      <${Field} label="Types" name="types" error=${wrong("types")} render=${text("types", "all, or skus.*, *.create", { list })} />
      <${Field} label="Resource type" name="resource_type_eq" error=${wrong("resource_type_eq")}
        render=${text("resourceType", "any")} />
      <${Field} label="Resource ids" name="resource_id_in" error=${wrong("resource_id_in")}
        render=${text("resourceIds", "any, or id,id")} />
    </div>
    <datalist id=${list}>${types.map((type) => html`<option key=${type} value=${type} />`)}</datalist>
    <${FieldFilters} value=${value.fields} wrong=${wrong}
      onChange=${(fields) => onChange({ ...value, fields })} />
  </div>`;
}

/** The parameters of field filters: `[name, value]`. */
export const pairsOf = (fields) => fields.map(({ path, predicate, value }) =>
  [predicate ? `${path.trim()}_${predicate}` : path.trim(), value]);

/** Field filters as controls have them, of `[name, value]`. The longest predicate at the end counts. */
export function fieldsOf(pairs) {
  const predicates = PREDICATES.map(([name]) => name).sort((a, b) => b.length - a.length);
  return pairs.map(([name, value]) => {
    const predicate = predicates.find((each) => name.endsWith(`_${each}`)) ?? "";
    return { key: Math.random(), path: predicate ? name.slice(0, -predicate.length - 1) : name, predicate,
      value: String(value) };
  });
}

/** `wrong(name)`: what the hub says of the filter of that name. */
export function FieldFilters({ value, onChange, wrong = () => null }) {
  const names = pairsOf(value).map(([name]) => name);
  return html`${value.map((each, n) => html`<${FieldFilter} key=${each.key} value=${each}
      isRepeated=${names.indexOf(names[n]) < n} error=${wrong(names[n])}
      onChange=${(changed) => onChange(value.with(n, changed))} onRemove=${() => onChange(value.toSpliced(n, 1))} />`)}
    <button type="button" class="small" onClick=${() => onChange([...value,
      { key: Math.random(), path: "", predicate: "eq", value: "" }])}>Add a field filter</button>`;
}

function FieldFilter({ value, isRepeated, error, onChange, onRemove }) {
  const set = (member) => (event) => onChange({ ...value, [member]: event.target.value });
  const choose = (event) => {
    const predicate = event.target.value;
    const isOfTruth = OF_TRUTH.has(predicate);
    const kept = isOfTruth === OF_TRUTH.has(value.predicate) ? value.value : isOfTruth ? "true" : "";
    onChange({ ...value, predicate, value: kept });
  };
  const twice = isRepeated ? "There is a filter with this path and condition above." : "";
  const id = `field-filter-${value.key}`;
  const tie = { "aria-invalid": error ? "true" : undefined, "aria-describedby": error ? id : undefined };
  return html`<div class="fieldfilter" role="group" aria-label="Field filter">
    <input ...${tie} type="text" aria-label="Path" spellcheck=${false} autocomplete="off"
      placeholder="resource.status" required value=${value.path} onInput=${set("path")}
      ref=${(input) => input?.setCustomValidity(twice)} />
    <select aria-label="Condition" value=${value.predicate} onChange=${choose}>
      ${PREDICATES.map(([name, words]) => html`<option key=${name} value=${name} title=${name}>${words}</option>`)}
    </select>
    ${OF_TRUTH.has(value.predicate)
      ? html`<select aria-label="Value" value=${value.value} onChange=${set("value")}>
          <option value="true">true</option><option value="false">false</option></select>`
      : html`<input type="text" aria-label="Value" spellcheck=${false} autocomplete="off" placeholder="paid"
          value=${value.value} onInput=${set("value")} />`}
    <button type="button" class="small" aria-label="Remove this filter" onClick=${onRemove}>Remove</button>
    ${error && html`<p class="wrong" id=${id}>${error}</p>`}
  </div>`;
}
