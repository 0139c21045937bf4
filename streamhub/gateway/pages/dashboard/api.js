/** The session: whose token was pasted, and requests with it. The token is in this page's memory and nowhere else. */
import { StreamHub, StreamHubError } from "../client.js";
import { parsed } from "./exact.js";

export const BASE = new URL("../..", import.meta.url); // where the hub is, also below a path of a proxy
const OVER = new Set(["EXPIRED_TOKEN", "INVALID_TOKEN", "MISSING_TOKEN"]);
const API_KEY = "sh_ak_";
const MOST_LOOK_UPS = 1_000; // more than the hub lists

/** What the pages need, all of them together. The replay needs an integration's token, which this makes, too. */
export const tokenCommand = (org, isTest = false) =>
  `streamhub token --org ${org} --scope events:read,webhooks:manage,operations:read${isTest ? " --test" : ""}`;

export const isApiKey = (token) => token.startsWith(API_KEY);

/** What a JWT says of itself; null for anything else. The hub judges it, this is for showing alone. */
export function claimsOf(token) {
  try {
    const payload = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(payload), (each) => each.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null;
  }
}

export class Session {
  lookUps = new Set(); // the replays that answered a question of a page: the newest of them
  #token;
  #onOver;

  /** `onOver` is called with the refusal once the hub no longer takes the token. Throws TypeError with what to do. */
  constructor(token, org, onOver) {
    this.#token = token.trim();
    this.#onOver = onOver;
    const claims = claimsOf(this.#token);
    if (claims === null && !isApiKey(this.#token)) {
      throw new TypeError("This is neither a JWT nor an API key (sh_ak_…). Paste the whole token.");
    }
    this.org = claims?.organization?.slug ?? org.trim();
    if (!this.org) throw new TypeError("An API key does not tell its organization: give the slug, too.");
    this.isApiKey = claims === null;
    this.kind = claims === null ? "API key" : claims.application?.kind ?? "token";
    this.isTest = claims?.test === true;
    this.scopes = claims === null ? null : String(claims.scope ?? "").split(" ").filter(Boolean);
    this.expiresAt = claims?.exp ? claims.exp * 1000 : null;
  }

  get isIntegration() {
    return this.kind === "integration";
  }

  /** False where it is known to lack the scope; an API key's scopes are the hub's to know. */
  maybeHas(scope) {
    return this.scopes === null || this.scopes.includes(scope);
  }

  /** Streams, by the hub's own client. */
  streams() {
    return new StreamHub(BASE, { org: this.org, token: this.#token, parse: parsed });
  }

  /** A replay that its owner did not ask for as such. */
  looksUp(job) {
    this.lookUps.add(job);
    if (this.lookUps.size > MOST_LOOK_UPS) this.lookUps.delete(this.lookUps.values().next().value);
  }

  /** What a stream's error handler got. */
  judge(error) {
    if (OVER.has(error.code)) this.#onOver(error);
    return error;
  }

  /** The response; a refusal is thrown as StreamHubError, with all its errors. */
  async request(path, { method = "GET", query = [], body, headers = {}, signal } = {}) {
    const url = new URL(`${encodeURIComponent(this.org)}${path}`, BASE);
    url.search = new URLSearchParams(query).toString();
    return await this.#fetched(url, { method, body, headers, signal });
  }

  /** `data` of the answer; null where there is none. */
  async data(path, options) {
    return (await this.answer(path, options)).data;
  }

  /** The answer whole: `warnings` may stand beside its `data`. */
  async answer(path, options) {
    const response = await this.request(path, options);
    return response.status === 204 ? { data: null } : response.json();
  }

  /** As `data`, of one of the hub's own pages. */
  async own(path) {
    return (await (await this.#fetched(new URL(`-/${path}`, BASE), {})).json()).data;
  }

  async #fetched(url, { method, body, headers = {}, signal }) {
    const all = { Authorization: `Bearer ${this.#token}`, ...headers };
    if (body !== undefined) all["Content-Type"] = "application/json";
    const response = await fetched(url, {
      method, signal, headers: all, body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store", credentials: "omit", redirect: "error",
    });
    if (!response.ok) throw this.judge(await refusalOf(response));
    return response;
  }
}

/** A page of the operators, which asks for no token. */
export async function operations(path, signal) {
  return await fetched(new URL(`-/${path}`, BASE), { cache: "no-store", credentials: "omit", signal });
}

/** What a browser says of an answer that did not come is its own, and no two say the same. */
async function fetched(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(`No answer came from ${url.host}. It may be starting again, or a proxy before it leads elsewhere.`);
  }
}

async function refusalOf(response) {
  let errors = [];
  try {
    ({ errors } = await response.json());
  } catch {
    // a proxy's page
  }
  if (!Array.isArray(errors) || errors.length === 0) {
    const said = `the answer was ${response.status} ${response.statusText}`.trim();
    return new StreamHubError(response.status, `HTTP_${response.status}`, said);
  }
  const detail = errors.map((error) => error.detail ?? "").join(" ");
  return new StreamHubError(response.status, String(errors[0].code), detail, { errors });
}
