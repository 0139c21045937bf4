/**
 * A client of a Streamhub for browsers: one ES module without dependencies. Types and descriptions are in client.d.ts.
 *
 *     import { StreamHub } from "https://hub.example.com/-/client.js";
 *
 *     const hub = new StreamHub("https://hub.example.com", { org: "my-org", token: () => fetchToken() });
 *     const off = hub.realtime({ types: "ticket.*" }).on("ticket.created", (event) => show(event.resource));
 *
 * It reads with fetch, as an EventSource cannot send a token. What a stream delivers is handled before more is read:
 * a slow handler holds back the hub through TCP, and nothing is queued but what one read brought.
 */

const BROADCAST_WATCHDOG = 75_000; // milliseconds without a byte: two pings and a half
const LIVE_WATCHDOG = 30_000; // three heartbeats
const STEADY = 10_000; // after a connection that lasted for longer, or brought an event, pauses begin again
const LONGEST_WAIT = 600_000; // no answer makes a client wait for longer
const LONGEST_MESSAGE = 64 * 1024 * 1024; // characters: four times a hub's largest event
const LONGEST_REFUSAL = 1024 * 1024; // bytes
const JITTER = 0.25;
const EVENT_STREAM = "text/event-stream";
const WORTH_ANOTHER_TRY = new Set([408, 409, 425, 429]);

/** The hub said no, or a stream cannot go on. */
export class StreamHubError extends Error {
  name = "StreamHubError";

  constructor(status, code, detail, { errors = [], retryAfter, cause } = {}) {
    super(`${code}: ${detail}`, cause === undefined ? undefined : { cause });
    this.status = status;
    this.code = code;
    this.detail = detail;
    this.errors = errors;
    this.retryAfter = retryAfter;
  }

  get isFinal() {
    return this.status > 0 && this.status < 500 && !WORTH_ANOTHER_TRY.has(this.status);
  }
}

/** Server-sent events of one response, from chunks of any size, as the HTML standard interprets them (9.2.6). */
export class EventParser {
  #decoder = new TextDecoder(); // it leaves out a byte order mark, and keeps the rest of a cut character
  #rest = ""; // a line without its end
  #isAfterCr = false; // an LF that comes now belongs to the CR before it
  #event = "";
  #data = [];
  #dataLength = 0;
  #id;

  constructor(lastEventId = "") {
    this.#id = this.lastEventId = lastEventId;
    this.retry = undefined;
  }

  feed(chunk) {
    let text = this.#decoder.decode(chunk, { stream: true });
    if (this.#isAfterCr && text) {
      this.#isAfterCr = false;
      if (text.startsWith("\n")) text = text.slice(1);
    }
    if (text.includes("\r")) {
      this.#isAfterCr = text.endsWith("\r");
      text = text.replace(/\r\n?/g, "\n");
    }
    const lines = text.split("\n");
    lines[0] = this.#rest + lines[0];
    this.#rest = lines.pop();
    const messages = [];
    for (const line of lines) {
      if (line) this.#field(line);
      else this.#dispatch(messages);
    }
    if (this.#rest.length + this.#dataLength > LONGEST_MESSAGE) {
      throw new Error(`a message of over ${LONGEST_MESSAGE} characters`);
    }
    return messages;
  }

  #dispatch(messages) {
    this.lastEventId = this.#id;
    if (this.#data.length > 0) {
      messages.push({ event: this.#event || "message", lastEventId: this.#id, data: this.#data.join("\n") });
      this.#data = [];
      this.#dataLength = 0;
    }
    this.#event = "";
  }

  /** A line that begins with a colon has an empty name: a comment. */
  #field(line) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "data") {
      this.#data.push(value);
      this.#dataLength += value.length;
    } else if (name === "event") {
      this.#event = value;
    } else if (name === "id") {
      if (!value.includes("\0")) this.#id = value;
    } else if (name === "retry" && /^[0-9]{1,9}$/.test(value)) {
      this.retry = Number(value);
    }
  }
}

/** Streams of one organization. Nothing connects before a handler is added or a stream is iterated. */
export class StreamHub {
  #endpoint;
  #given;

  constructor(url, options) {
    const { org, token, firstPause = 1_000, longestPause = 30_000, parse = JSON.parse } = known(
      options, ["org", "token", "firstPause", "longestPause", "parse"], "StreamHub",
    );
    if (typeof parse !== "function") throw new TypeError(`parse is ${shown(parse)}; give a function of a text`);
    if (!(firstPause > 0 && longestPause >= firstPause)) {
      const wrong = `firstPause is ${firstPause} and longestPause ${longestPause}`;
      throw new TypeError(`${wrong}; give milliseconds, the first above 0 and not above the longest`);
    }
    this.#endpoint = new Endpoint(url, org, token);
    this.#given = { firstPause, longestPause, parse: (text) => parse(text) };
  }

  realtime(options = {}) {
    const query = queryOf(options);
    return new Realtime((hooks) => new Stream(this.#endpoint, ["events", "stream"], {
      query, lastEventId: positionOf(options.lastEventId), watchdog: BROADCAST_WATCHDOG, ...this.#given, ...hooks,
    }));
  }

  live(options = {}) {
    const { lastEventId, ...handlers } = known(
      options, ["lastEventId", "onGap", "onError", "onConnectionChange"], "live",
    );
    return new Live((hooks) => new Stream(this.#endpoint, [], {
      query: [], lastEventId: positionOf(lastEventId), watchdog: LIVE_WATCHDOG, ...this.#given, ...hooks,
    }), handlers);
  }
}

/** Handlers by type of event, over a broadcast stream. They run one after the other, in the order of the events. */
export class Realtime {
  #stream;
  #handlers = new Set();
  #gapHandlers = new Set();
  #errorHandlers = new Set();
  #connectionHandlers = new Set();
  #isStarted = false;

  /** Of `StreamHub.realtime` alone. */
  constructor(streamOf) {
    this.#stream = streamOf({
      report: (error) => this.#report(error),
      onConnectionChange: (connected) => this.#callAll(this.#connectionHandlers, connected),
    });
  }

  get connected() {
    return this.#stream.connected;
  }

  get lastEventId() {
    return this.#stream.lastEventId;
  }

  on(types, handler) {
    const matches = matcherOf(types);
    return this.#added(this.#handlers, handler, (event) => matches(typeOf(event)));
  }

  onAny(handler) {
    return this.#added(this.#handlers, handler, () => true);
  }

  onGap(handler) {
    return this.#added(this.#gapHandlers, handler);
  }

  onError(handler) {
    return this.#added(this.#errorHandlers, handler);
  }

  onConnectionChange(handler) {
    return this.#added(this.#connectionHandlers, handler);
  }

  destroy() {
    this.#stream.close();
  }

  /** The same function may be there several times. */
  #added(handlers, handler, matches = undefined) {
    if (typeof handler !== "function") throw new TypeError(`the handler is ${shown(handler)}; give a function`);
    if (this.#stream.isClosed) throw new Error("this subscription has ended; make another one");
    const entry = { handler, matches };
    handlers.add(entry);
    if (matches !== undefined && !this.#isStarted) {
      this.#isStarted = true;
      void this.#run();
    }
    return () => {
      handlers.delete(entry);
    };
  }

  async #run() {
    await undefined; // so that handlers that are added in the same breath miss nothing
    try {
      for await (const { event, gap } of this.#stream.items()) {
        if (gap === undefined) await this.#handle(event);
        else await this.#missed(gap);
      }
    } catch (error) {
      await this.#report(error);
    } finally {
      this.#stream.close();
    }
  }

  async #handle(text) {
    let event;
    try {
      event = this.#stream.parsed(text);
    } catch (error) {
      await this.#report(error);
      return;
    }
    await this.#callAll(this.#handlers, event);
  }

  async #missed(gap) {
    if (this.#gapHandlers.size === 0) warnOfGap(gap);
    await this.#callAll(this.#gapHandlers, gap);
  }

  async #callAll(handlers, argument) {
    for (const entry of [...handlers]) {
      if (this.#stream.isClosed) return;
      if (!handlers.has(entry)) continue; // an earlier one took it off
      try {
        if (entry.matches === undefined || entry.matches(argument)) await entry.handler(argument);
      } catch (error) {
        await this.#report(error);
      }
    }
  }

  async #report(error) {
    if (this.#errorHandlers.size === 0) console.error(error);
    for (const { handler } of [...this.#errorHandlers]) {
      try {
        await handler(error);
      } catch (another) {
        console.error(another);
      }
    }
  }
}

/** The live stream of an organization: one consumer, every event, in order. */
export class Live {
  #stream;
  #onGap;
  #isIterated = false;

  /** Of `StreamHub.live` alone. */
  constructor(streamOf, { onGap, onError = console.error, onConnectionChange = () => {} }) {
    this.#onGap = onGap ?? warnOfGap;
    const report = async (error) => {
      try {
        await onError(error);
      } catch (another) {
        console.error(another); // into the loop goes what ends the stream alone
      }
    };
    this.#stream = streamOf({ report, onConnectionChange });
  }

  get connected() {
    return this.#stream.connected;
  }

  get lastEventId() {
    return this.#stream.lastEventId;
  }

  close() {
    this.#stream.close();
  }

  async *[Symbol.asyncIterator]() {
    if (this.#isIterated) throw new Error("this stream was iterated before; make another one");
    this.#isIterated = true;
    try {
      for await (const { event, gap } of this.#stream.items()) {
        if (gap === undefined) yield this.#stream.parsed(event);
        else await this.#onGap(gap);
      }
    } finally {
      this.#stream.close();
    }
  }
}

/** Where an organization's streams are, the token, and requests that are answered or refused. */
class Endpoint {
  #base;
  #org;
  #token;

  constructor(url, org, token) {
    const base = addressOf(url);
    if (typeof org !== "string" || !org) {
      throw new TypeError(`org is ${shown(org)}; give the organization's slug, such as "my-org"`);
    }
    if (typeof token !== "function" && !isToken(token)) {
      throw new TypeError(`token is ${kindOf(token)}; give a JWT or an API key, or a function that returns one`);
    }
    this.#base = base;
    this.#org = org;
    this.#token = token;
  }

  /** Whether another token may follow one that has expired. */
  get hasTokens() {
    return typeof this.#token === "function";
  }

  pathOf(parts) {
    return `/${[this.#org, ...parts].map(encodeURIComponent).join("/")}`;
  }

  /** The response of a stream, null for 204: nothing is left. Where the token has expired, a function is asked for
   * another one, once. Throws StreamHubError for any other answer, and what fetch throws where there is none. */
  async open(path, query, lastEventId, signal) {
    try {
      return await this.#open(path, query, lastEventId, signal);
    } catch (error) {
      if (!(this.hasTokens && error.code === "EXPIRED_TOKEN")) throw error;
    }
    return await this.#open(path, query, lastEventId, signal);
  }

  async #open(path, query, lastEventId, signal) {
    const headers = { Accept: EVENT_STREAM, Authorization: `Bearer ${await this.#currentToken(signal)}` };
    if (lastEventId) headers["Last-Event-ID"] = lastEventId;
    const text = new URLSearchParams(query).toString();
    const response = await fetch(`${this.#base}${path}${text && `?${text}`}`, {
      headers, signal, cache: "no-store", credentials: "omit", redirect: "manual",
    });
    if (response.status === 204) return null;
    if (response.status === 200 && mediaTypeOf(response) === EVENT_STREAM) return response;
    throw await refusalOf(response);
  }

  async #currentToken(signal) {
    if (typeof this.#token === "string") return this.#token.trim();
    let token;
    try {
      token = await until(signal, this.#token());
    } catch (cause) {
      throw new StreamHubError(0, "TOKEN_FAILED", `the token function failed: ${reasonOf(cause)}`, { cause });
    }
    if (isToken(token)) return token.trim();
    const detail = `the token function returned ${kindOf(token)}; return a JWT or an API key`;
    throw new StreamHubError(0, "TOKEN_FAILED", detail);
  }
}

/** One request that is made again until its stream is finished, refused for good or closed. */
class Stream {
  isClosed = false;
  connected = false;
  #endpoint;
  #path;
  #query;
  #watchdog;
  #backoff;
  #report;
  #onConnectionChange;
  #parse;
  #retry = 0; // milliseconds: the least pause that the hub asked for
  #attempt = new AbortController();
  #wake = () => {};

  constructor(endpoint, parts, {
    query, lastEventId, watchdog, firstPause, longestPause, parse, report, onConnectionChange,
  }) {
    this.lastEventId = lastEventId;
    this.#endpoint = endpoint;
    this.#path = endpoint.pathOf(parts);
    this.#query = query;
    this.#watchdog = watchdog;
    this.#backoff = new Backoff(firstPause, longestPause);
    this.#report = report;
    this.#onConnectionChange = onConnectionChange;
    this.#parse = parse;
  }

  /** An event, of its text. */
  parsed(text) {
    try {
      return this.#parse(text);
    } catch (cause) {
      throw new StreamHubError(200, "INVALID_JSON", `an event is no JSON: ${text.slice(0, 80)}`, { cause });
    }
  }

  close() {
    this.isClosed = true;
    this.connected = false;
    this.#attempt.abort();
    this.#wake();
  }

  /** `{event}`, the text of an event, or `{gap}`, in order. That the next one is asked for says that the one before is
   * handled. Throws StreamHubError where the hub refuses for good. */
  async *items() {
    while (!this.isClosed) {
      this.#attempt = new AbortController();
      const { signal } = this.#attempt;
      let failure;
      let connectedAt = Infinity;
      try {
        const response = await this.#within(this.#endpoint.open(this.#path, this.#query, this.lastEventId, signal));
        if (response === null) return;
        connectedAt = performance.now();
        await this.#tell(true);
        const reader = response.body.getReader();
        const parser = new EventParser(this.lastEventId);
        while (!signal.aborted) {
          const { done, value } = await this.#within(reader.read());
          if (done) throw new Error("the connection ended");
          const messages = parser.feed(value);
          this.#retry = Math.min(parser.retry ?? this.#retry, LONGEST_WAIT);
          yield* this.#taken(messages);
          if (!this.isClosed) this.lastEventId = parser.lastEventId;
        }
      } catch (error) {
        if (error.isFinal && !this.isClosed) throw error;
        failure = signal.aborted && !(error instanceof StreamHubError) ? signal.reason : error;
      } finally {
        this.#attempt.abort();
        if (!this.isClosed) await this.#tell(false);
      }
      if (!this.isClosed) await this.#pause(failure, performance.now() - connectedAt > STEADY);
    }
  }

  *#taken(messages) {
    for (const { event, lastEventId, data } of messages) {
      if (event === "heartbeat") continue;
      if (event === "stream_error") {
        const { code, detail, resumable } = JSON.parse(data);
        const isOver = !resumable || (code === "EXPIRED_TOKEN" && !this.#endpoint.hasTokens);
        throw isOver ? new StreamHubError(200, code, detail) : new Error(`${code}: ${detail}`);
      }
      if (event === "gap") {
        yield { gap: JSON.parse(data) };
      } else if (lastEventId !== this.lastEventId) {
        this.#backoff.reset();
        yield { event: data };
      } // else it has no id of its own: a control frame that a later hub may send
      if (this.isClosed) return;
      this.lastEventId = lastEventId;
    }
  }

  /** Give the request up where nothing comes in time. */
  async #within(promise) {
    const attempt = this.#attempt;
    const late = () => attempt.abort(new Error(`no byte came in ${this.#watchdog / 1000} s`));
    const timer = setTimeout(late, this.#watchdog);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
    }
  }

  async #pause(failure, wasSteady) {
    if (wasSteady) this.#backoff.reset();
    const { retryAfter } = failure;
    const asked = (retryAfter ?? this.#retry) * (1 + JITTER * Math.random());
    const isNamed = failure.status === 409 && retryAfter !== undefined; // the hub knows when the stream is free
    const pause = isNamed ? asked : Math.max(asked, this.#backoff.next());
    console.warn(`${this.#path}: ${reasonOf(failure)}; the next try is in ${(pause / 1000).toFixed(1)} s`);
    if (failure.code === "TOKEN_FAILED") await this.#report(failure);
    if (this.isClosed) return;
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, pause);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async #tell(connected) {
    if (connected === this.connected) return;
    this.connected = connected;
    try {
      await this.#onConnectionChange(connected);
    } catch (error) {
      await this.#report(error);
    }
  }
}

/** The pause before a try: it doubles up to a bound, and has jitter, so that many do not come back together. */
class Backoff {
  #first;
  #longest;
  #next;

  constructor(first, longest) {
    this.#first = this.#next = first;
    this.#longest = longest;
  }

  reset() {
    this.#next = this.#first;
  }

  next() {
    const pause = this.#next;
    this.#next = Math.min(pause * 2, this.#longest);
    return pause * (1 - JITTER + 2 * JITTER * Math.random());
  }
}

// -- what an answer says

async function refusalOf(response) {
  const { status } = response;
  if (response.type === "opaqueredirect") {
    return new StreamHubError(300, "REDIRECTED", "the answer is a redirect; give the address that it leads to");
  }
  if (status === 200) {
    const found = mediaTypeOf(response);
    return new StreamHubError(200, "HTTP_200", `the answer is ${found}, not ${EVENT_STREAM}: is this a hub?`);
  }
  const retryAfter = millisecondsOf(response.headers.get("Retry-After"));
  const errors = errorsIn(await textOf(response));
  if (errors.length === 0) {
    return new StreamHubError(status, `HTTP_${status}`, `${status} ${response.statusText}`.trim(), { retryAfter });
  }
  const detail = errors.map((error) => error.detail ?? "").join(" ");
  return new StreamHubError(status, String(errors[0].code ?? `HTTP_${status}`), detail, { errors, retryAfter });
}

/** At most LONGEST_REFUSAL bytes of it. */
async function textOf(response) {
  if (response.body === null) return "";
  const decoder = new TextDecoder();
  let text = "";
  let length = 0;
  const reader = response.body.getReader();
  while (length < LONGEST_REFUSAL) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.length;
    text += decoder.decode(value, { stream: true });
  }
  await reader.cancel();
  return text;
}

/** Of a JSON:API document; empty for anything else, such as a proxy's page. */
function errorsIn(text) {
  try {
    const { errors } = JSON.parse(text);
    return errors.filter((error) => typeof error === "object" && error !== null);
  } catch {
    return [];
  }
}

/** Of a `Retry-After`, which is a number of seconds or a date; undefined where it is neither. */
function millisecondsOf(text) {
  if (!text) return undefined;
  const milliseconds = /^[0-9.]+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isNaN(milliseconds) ? undefined : Math.min(Math.max(milliseconds, 0), LONGEST_WAIT);
}

function mediaTypeOf(response) {
  return (response.headers.get("Content-Type") ?? "of no type").split(";")[0].trim().toLowerCase();
}

// -- what a caller gives

function addressOf(url) {
  let found;
  try {
    found = new URL(url, globalThis.location?.href);
  } catch {
    throw new TypeError(`the hub's address is ${shown(url)}; give one such as "https://hub.example.com"`);
  }
  if (found.username || found.password) {
    throw new TypeError("the hub's address holds a user or a password; give a token instead");
  }
  if (found.protocol !== "https:" && found.protocol !== "http:") {
    throw new TypeError(`the hub's address is ${shown(url)}; give one such as "https://hub.example.com"`);
  }
  return `${found.origin}${found.pathname.replace(/\/+$/, "")}`;
}

function queryOf(options) {
  const names = {
    types: "types",
    resourceTypeEq: "resource_type_eq",
    resourceIdIn: "resource_id_in",
    pathPrefix: "path_prefix",
    latest: "latest",
  };
  const { filters = {}, envelope = "change" } = known(
    options, [...Object.keys(names), "filters", "envelope", "lastEventId"], "realtime",
  );
  const query = Object.entries(names).filter(([name]) => options[name] !== undefined)
    .map(([name, parameter]) => [parameter, listed(name, options[name])]);
  const fields = Object.entries(filters).map(([name, value]) => [name, listed(name, value)]);
  return [...query, ...fields, ["envelope", envelope]];
}

/** A list is written with commas. */
function listed(name, value) {
  const values = Array.isArray(value) ? value : [value];
  for (const each of values) {
    if (!["string", "number", "boolean"].includes(typeof each)) {
      throw new TypeError(`${name} is ${shown(each)}; give text or a list of texts`);
    }
  }
  return values.join(",");
}

/** An option that is spelled wrong would be left out in silence, and the stream would bring other events. */
function known(options, names, of) {
  if (typeof options !== "object" || options === null) {
    throw new TypeError(`the options of ${of} are ${shown(options)}; give an object`);
  }
  for (const name of Object.keys(options)) {
    if (!names.includes(name)) throw new TypeError(`${name} is no option of ${of}; it has ${names.join(", ")}`);
  }
  return options;
}

/** `*` stands for any text within one segment; a pattern that is `*` alone stands for every type. */
function matcherOf(types) {
  const patterns = listed("types", types).split(",");
  if (patterns.some((pattern) => !pattern || pattern !== pattern.trim())) {
    const right = 'such as "skus.update", "ticket.*" or "*", separated by commas';
    throw new TypeError(`types is ${shown(types)}; give types ${right}`);
  }
  if (patterns.includes("*")) return () => true;
  const escaped = patterns.map((pattern) => pattern.replace(/[\\^$.+?()[\]{}|]/g, "\\$&").replace(/\*+/g, "[^.]*"));
  const expression = new RegExp(`^(?:${escaped.join("|")})$`);
  return (type) => expression.test(type);
}

/** A page of HTML, which a login may answer with, is none. */
function isToken(value) {
  return typeof value === "string" && /^[\x21-\x7e]+$/.test(value.trim());
}

/** Without the value, which may hold a secret. */
function kindOf(value) {
  return typeof value === "string" ? "a text that is no token" : `a value of type ${typeof value}`;
}

function positionOf(value) {
  const position = value ?? "";
  if (typeof position === "string" && /^[\x21-\x7e]*$/.test(position)) return position;
  throw new TypeError(`lastEventId is ${shown(position)}; give the id of an event`);
}

// -- small things

/** In every envelope. */
function typeOf(event) {
  return event.type ?? event.event_type;
}

function warnOfGap(gap) {
  console.warn(`events from ${gap.from} to ${gap.to} are left out; a replay returns them: ${gap.replay.join(", ")}`);
}

function reasonOf(error) {
  return error instanceof Error ? error.message || error.name : String(error);
}

function shown(value) {
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}

/** What the promise brings, unless the signal comes first. */
function until(signal, promise) {
  return new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    Promise.resolve(promise).then(resolve, reject);
  });
}
