/** The settings of an endpoint as a form, for a new one and for one that is there. */
import { html, useEffect, useRef, useState } from "./htm-preact.js";
import { FieldFilters, fieldsOf, pairsOf } from "./filters.js";
import { Field, Named, Problem, plural, useLoaded } from "./parts.js";

export const SCOPE = "webhooks:manage";

const NEW = { url: "", events: ["*"], filters: {}, order: "none", max_in_flight: 10, rate: null, headers: {},
  auto_disable: true, description: null, owner_email: null };
const PLAIN = ["resource_type_eq", "resource_id_in", "path_prefix"]; // filters that are on no field
const ALWAYS_SEEN = new Set(["url", "events", "description"]);

/** `endpoint`: the one to change, none for a new one. `onSaved` gets what the hub answered, and its
 * warnings. */
export function Settings({ session, endpoint, onSaved, onCancel }) {
  const [types] = useLoaded((signal) => session.data("/types", { signal }).catch(() => []), [session]);
  const [before] = useState(endpoint ?? NEW); // it may change meanwhile: what is not touched here is not sent
  const [given, setGiven] = useState(() => givenOf(before));
  const [error, setError] = useState(null);
  const [isAsking, setIsAsking] = useState(false);
  const form = useRef();
  const more = useRef();
  useEffect(() => form.current.querySelector("input").focus(), []);
  useEffect(() => form.current.querySelector("[aria-invalid]")?.focus(), [error]);
  const submit = async (event) => {
    event.preventDefault();
    setIsAsking(true);
    setError(null);
    try {
      if (documentOf(given).events.length === 0) throw noTypes();
      const body = changed(before, given, endpoint === undefined);
      const path = endpoint ? `/webhooks/${encodeURIComponent(endpoint.id)}` : "/webhooks";
      const isSame = Object.keys(body).length === 0;
      const method = endpoint ? "PATCH" : "POST";
      const { data, warnings = [] } = isSame ? { data: endpoint } : await session.answer(path, { method, body });
      onSaved(data, warnings.map(({ detail }) => `${detail[0].toUpperCase()}${detail.slice(1)}.`));
      return;
    } catch (failure) {
      if (membersIn(failure).some(([name]) => !ALWAYS_SEEN.has(name))) more.current.open = true;
      setError(failure);
    }
    setIsAsking(false);
  };
  const refused = endpoint ? "Nothing was changed" : "The endpoint was not made";
  const change = (members) => setGiven({ ...given, ...members });
  const set = (name) => (event) => change({ [name]: event.target.value });
  const wrong = (...place) => detailOf(error, place);
  const text = (name, placeholder, attributes = {}) => (tie) => html`<input ...${tie} type="text" spellcheck=${false}
    autocomplete="off" value=${given[name]} placeholder=${placeholder} onInput=${set(name)} ...${attributes} />`;
  const field = (name, label, placeholder, { hint, ...attributes } = {}) => html`<${Field} label=${label} name=${name}
    hint=${hint} error=${wrong(name)} render=${text(name, placeholder, attributes)} />`;
  return html`<form class="panel spaced form" ref=${form} onSubmit=${submit}
      onInvalidCapture=${({ target }) => { if (more.current.contains(target)) more.current.open = true; }}>
    <h2>${endpoint ? "Settings" : "A new endpoint"}</h2>
    ${field("url", "URL", "https://shop.example.com/hooks", { required: true })}
    <${Events} types=${types ?? []} given=${given} change=${change} error=${wrong("events")} />
    ${field("description", "Description", "optional")}
    <details class="more" ref=${more} open=${endpoint !== undefined}>
      <summary>Filters, order, limits, headers, owner</summary><div class="form">
      <${FilterSet} given=${given} change=${change} wrong=${wrong} />
      <div class="row">
        <${Field} label="Order" name="order" error=${wrong("order")} render=${(tie) => html`
          <select ...${tie} value=${given.order} onChange=${set("order")}>
            <option value="none">none, the fastest</option>
            <option value="resource">one resource's events one by one</option></select>`} />
        ${field("max_in_flight", "Deliveries at once", "10", { inputmode: "numeric" })}
        ${field("rate", "Attempts per second", "no limit", { inputmode: "numeric" })}
        ${field("owner_email", "Owner's e-mail", "optional", { hint: "Is told when the endpoint is disabled." })}
      </div>
      <${Headers} value=${given.headers} onChange=${(headers) => change({ headers })} wrong=${wrong} />
      <label class="choice"><input type="checkbox" checked=${given.auto_disable}
        onChange=${(event) => change({ auto_disable: event.target.checked })} />
        <span>Disable the endpoint once a delivery has failed for the last time${" "}
          <${Named} name="auto_disable" /></span></label>
      <p class="hint">The hub's schedule says how often it tries: by default six times, over about 27 hours.</p>
    </div></details>
    ${error?.errors?.length > 0 && membersIn(error).length === error.errors.length
      ? html`<p class="wrong" role="alert">${refused}: ${plural(error.errors.length, "fault")}, told above.</p>`
      : html`<${Problem} error=${error} session=${session} scope=${SCOPE} title=${refused} />`}
    <p class="actions"><button class="primary" disabled=${isAsking}>${endpoint ? "Save" : "Create"}</button>
      <button type="button" onClick=${onCancel}>Cancel</button></p>
  </form>`;
}

function Events({ types, given, change, error }) {
  const { all, picked, others } = given;
  const toggle = (type) => (event) => change({
    picked: event.target.checked ? [...picked, type] : picked.filter((each) => each !== type),
  });
  return html`<fieldset aria-describedby=${error ? "events-wrong" : undefined}>
    <legend>Events <${Named} name="events" /></legend>
    <label class="choice"><input type="radio" name="which" checked=${all} onChange=${() => change({ all: true })} />
      All events</label>
    <label class="choice"><input type="radio" name="which" checked=${!all} onChange=${() => change({ all: false })} />
      These types</label>
    ${!all && html`<div class="types">${[...new Set([...given.were, ...types])].map((type) => html`
        <label class="choice" key=${type}>
        <input type="checkbox" checked=${picked.includes(type)} onChange=${toggle(type)} />
        <span class="mono">${type}</span></label>`)}
      ${types.length === 0 && html`<p class="hint">No type was seen in the last 30 days, or the token does not open
        their list (scope <code>events:read</code>).</p>`}</div>
      <${Field} label="Others" hint="Also types that had no event yet, and patterns such as skus.*"
        render=${(tie) => html`<input ...${tie} type="text" spellcheck=${false} autocomplete="off" value=${others}
          aria-invalid=${error ? "true" : undefined} placeholder="skus.*, *.destroy"
          onInput=${(event) => change({ others: event.target.value })} />`} />`}
    ${error && html`<p class="wrong" id="events-wrong">${error}</p>`}
  </fieldset>`;
}

function FilterSet({ given, change, wrong }) {
  const whole = wrong("filters", null);
  return html`<fieldset><legend>Filters <${Named} name="filters" /></legend>
    <p class="hint">Of the events chosen above, those for which all of these hold.</p>
    <div class="row">
      ${[["resource_type_eq", "Resource type", "any"], ["resource_id_in", "Resource ids", "any, or id,id"],
        ["path_prefix", "Path begins with", "any, or /docs/"]].map(([name, label, placeholder]) => html`
        <${Field} key=${name} label=${label} name=${name} error=${wrong("filters", name)} render=${(tie) => html`
          <input ...${tie} type="text" spellcheck=${false} autocomplete="off" value=${given[name]}
            placeholder=${placeholder} onInput=${(event) => change({ [name]: event.target.value })} />`} />`)}
    </div>
    <div class="filters"><${FieldFilters} value=${given.fields} onChange=${(fields) => change({ fields })}
      wrong=${(name) => wrong("filters", name)} /></div>
    ${whole && html`<p class="wrong">${whole}</p>`}
  </fieldset>`;
}

function Headers({ value, onChange, wrong }) {
  const names = value.map(({ name }) => name.trim().toLowerCase());
  const set = (n, member) => (event) => onChange(value.with(n, { ...value[n], [member]: event.target.value }));
  const whole = wrong("headers", null);
  return html`<fieldset><legend>Headers <${Named} name="headers" /></legend>
    <p class="hint">Up to ten that each delivery carries, such as a key of the receiver's.</p>
    ${value.map(({ key, name, text }, n) => {
      const error = wrong("headers", name.trim());
      const twice = names.indexOf(names[n]) < n ? "There is a header of this name above." : "";
      return html`<div class="fieldfilter" role="group" aria-label="Header" key=${key}>
        <input type="text" aria-label="Name" spellcheck=${false} autocomplete="off" placeholder="X-Shop" required
          value=${name} onInput=${set(n, "name")} aria-invalid=${error ? "true" : undefined}
          aria-describedby=${error ? `header-${key}` : undefined} ref=${(input) => input?.setCustomValidity(twice)} />
        <input type="text" aria-label="Value" spellcheck=${false} autocomplete="off" placeholder="42" required
          value=${text} onInput=${set(n, "text")} />
        <button type="button" class="small" aria-label="Remove this header" onClick=${() =>
          onChange(value.toSpliced(n, 1))}>Remove</button>
        ${error && html`<p class="wrong" id="header-${key}">${error}</p>`}</div>`;
    })}
    <p><button type="button" class="small" onClick=${() =>
      onChange([...value, { key: Math.random(), name: "", text: "" }])}>Add a header</button></p>
    ${whole && html`<p class="wrong">${whole}</p>`}
  </fieldset>`;
}

// -- between the form and the API

/** An endpoint as the form's controls have it. */
function givenOf({ url, events, filters, order, headers, max_in_flight: inFlight, rate, ...rest }) {
  const all = events.includes("*");
  return {
    url, order, auto_disable: rest.auto_disable, all, were: all ? [] : events, picked: all ? [] : events, others: "",
    ...Object.fromEntries(PLAIN.map((name) => [name, String(filters[name] ?? "")])),
    fields: fieldsOf(Object.entries(filters).filter(([name]) => !PLAIN.includes(name))),
    headers: Object.entries(headers).map(([name, text]) => ({ key: Math.random(), name, text: String(text) })),
    max_in_flight: String(inFlight), rate: rate === null ? "" : String(rate),
    description: rest.description ?? "", owner_email: rest.owner_email ?? "",
  };
}

/** The form as the API has it. What is no number is sent as it is: the hub says what would be right. */
function documentOf(given) {
  const others = given.others.split(",").map((each) => each.trim()).filter(Boolean);
  const number = (text) => (/^\s*\d+\s*$/.test(text) ? Number(text) : text);
  const plain = PLAIN.map((name) => [name, given[name].trim()]).filter(([, text]) => text);
  return {
    url: given.url.trim(),
    events: given.all ? ["*"] : [...new Set([...given.picked, ...others])],
    filters: Object.fromEntries([...plain, ...pairsOf(given.fields)]),
    order: given.order,
    max_in_flight: given.max_in_flight.trim() ? number(given.max_in_flight) : NEW.max_in_flight,
    rate: given.rate.trim() ? number(given.rate) : null,
    headers: Object.fromEntries(given.headers.map(({ name, text }) => [name.trim(), text.trim()])),
    auto_disable: given.auto_disable,
    description: given.description.trim() || null,
    owner_email: given.owner_email.trim() || null,
  };
}

/** The members that the form has changed; of a new endpoint `url` and `events`, too, as they have no default. */
function changed(before, given, isNew) {
  const was = documentOf(givenOf(before));
  return Object.fromEntries(Object.entries(documentOf(given)).filter(([name, value]) =>
    isNew && (name === "url" || name === "events") || JSON.stringify(value) !== JSON.stringify(was[name])));
}

/** A fault at `events`, as the hub would tell it, in words of the form. */
function noTypes() {
  const detail = "Tick at least one type, or choose all events.";
  return Object.assign(new TypeError(detail), { errors: [{ detail, source: { pointer: "/events" } }] });
}

// -- what the hub says

/** Of each fault the member that it names, as the parts of its pointer (RFC 6901), and its words. */
function membersIn(error) {
  return (error?.errors ?? []).filter(({ source }) => source?.pointer).map(({ source, detail }) => {
    const [name, below = null] = source.pointer.split("/").slice(1)
      .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
    return [name, below, detail];
  });
}

/** What is said of `[member]` and all below it, or of `[member, below]` alone: null below is the member itself. */
function detailOf(error, [name, ...below]) {
  const found = membersIn(error).filter(([member, part]) =>
    member === name && (below.length === 0 || part === below[0]));
  return found.map(([, , detail]) => detail).join(" ") || null;
}
