/** A client of a Streamhub for browsers. It also runs on Node 18 and later, Deno and Bun. */

/** A JWT or an API key, or a function that returns one. The function is called before each connection, and once more
 * where the hub answers that the token has expired. Where it fails, `onError` gets a `TOKEN_FAILED`, and another try
 * follows. */
export type Token = string | (() => string | Promise<string>);

export interface StreamHubOptions {
  /** The organization's slug. */
  org: string;
  token: Token;
  /** Milliseconds before the first try after a connection is lost; the pause doubles, and has jitter. Default 1000. */
  firstPause?: number;
  /** The longest pause in milliseconds, unless the hub asks for a longer one. Default 30000. */
  longestPause?: number;
  /** Makes an event of its text. Default: JSON.parse, which rounds numbers that a JavaScript number does not hold. */
  parse?: (text: string) => unknown;
}

/** Streams of one organization. Nothing connects before a handler is added or a stream is iterated. */
export class StreamHub {
  /** `url` is the hub's address, also relative to the page's: `new StreamHub("/", …)` where the hub serves the page.
   * Throws TypeError for a wrong address or option. */
  constructor(url: string | URL, options: StreamHubOptions);

  /** Handlers for the events that the hub chooses. Each subscription has a connection of its own. The token needs the
   * scope `events:read` or `analytics:read`. Throws TypeError for a wrong option. */
  realtime<E extends keyof Envelopes = "change">(options?: RealtimeOptions<E>): Realtime<Envelopes[E]>;

  /** The live stream: one consumer an organization, every event in order. The token is an integration's. Without
   * `lastEventId` it goes on where the hub saw the last consumer stop. */
  live(options?: LiveOptions): Live;
}

/** What a filter is compared with; a list is sent separated by commas. */
export type FilterValue = string | number | boolean | ReadonlyArray<string | number | boolean>;

export interface RealtimeOptions<E extends keyof Envelopes = "change"> {
  /** Types such as `skus.update`, `ticket.*` or `*`: a list, or text with commas. Default: all. */
  types?: string | readonly string[];
  /** Field filters, which all must hold: `{"resource.status_eq": "open", "resource.price_gt": 10}`. */
  filters?: Readonly<Record<string, FilterValue>>;
  resourceTypeEq?: string;
  resourceIdIn?: string | readonly string[];
  /** Events whose `data.path`, or path of one of `data.entries`, begins with it. */
  pathPrefix?: string;
  /** Of each resource only the newest event, at most once in this time, such as `500ms`. */
  latest?: string;
  /** The form of the events that handlers get. Default `change`. */
  envelope?: E;
  /** Begin after this event instead of now. */
  lastEventId?: string | null;
}

export interface LiveOptions {
  /** Begin after this event. */
  lastEventId?: string | null;
  /** Events that the stream leaves out because they are too old. Without it, gaps are written to the console. */
  onGap?: (gap: Gap) => unknown;
  /** What fails while the stream goes on: the token function, and `onConnectionChange`. Default: console.error. */
  onError?: (error: unknown) => unknown;
  /** True once connected, false once the connection is lost. */
  onConnectionChange?: (connected: boolean) => unknown;
}

/** Takes the handler off again. */
export type Off = () => void;

/**
 * Handlers may be async functions. They run one after the other, in the order of the events: one that awaits holds
 * back those behind it, and the hub. What a handler throws goes to the handlers of `onError`, and stops no other.
 * Handlers may take handlers off, and destroy the subscription.
 *
 * It connects once the first handler of events is there.
 */
export class Realtime<E = Change> {
  private constructor();

  readonly connected: boolean;
  /** The last event whose handlers are done; empty before there is one. */
  readonly lastEventId: string;

  /** Call `handler` with every event of these types: `ticket.created`, `ticket.*`, `*`, several in a list or separated
   * by commas. Throws TypeError for what is no type, and Error once the subscription has ended. */
  on(types: string | readonly string[], handler: (event: E) => unknown): Off;
  /** `on("*", handler)`. */
  onAny(handler: (event: E) => unknown): Off;
  /** What another handler threw, a `TOKEN_FAILED` or `INVALID_JSON` after which the stream goes on, and the
   * StreamHubError that ended it for good. Without any, errors are written to the console. */
  onError(handler: (error: unknown) => unknown): Off;
  /** Events that the hub leaves out because they are too old. Without any, gaps are written to the console. */
  onGap(handler: (gap: Gap) => unknown): Off;
  /** True once connected, false once the connection is lost. */
  onConnectionChange(handler: (connected: boolean) => unknown): Off;
  /** Disconnect, and call no handler again. */
  destroy(): void;
}

/**
 * `for await (const event of hub.live()) …`. It comes back after every cut and every 409, and throws a StreamHubError
 * where the hub refuses for good. An event counts as handled once the loop asks for the next one.
 */
export class Live implements AsyncIterable<Change> {
  private constructor();

  readonly connected: boolean;
  /** The last event that is handled; empty before there is one. */
  readonly lastEventId: string;

  /** Once. A loop that is left by `break` or `return` ends the stream. */
  [Symbol.asyncIterator](): AsyncGenerator<Change, void, undefined>;
  /** End the stream and its loop, and call no handler again. */
  close(): void;
}

/** The hub said no, a stream cannot go on, or the token function failed. */
export class StreamHubError extends Error {
  constructor(
    status: number,
    code: string,
    detail: string,
    more?: { errors?: readonly HubError[]; retryAfter?: number; cause?: unknown },
  );
  /** Of the HTTP answer; 200 where a stream had begun, 0 where nothing was asked. */
  readonly status: number;
  /** The hub's code; `HTTP_<status>` of an answer that is not a hub's; `REDIRECTED`, `INVALID_JSON`, `TOKEN_FAILED`. */
  readonly code: string;
  readonly detail: string;
  /** All that the answer lists. */
  readonly errors: readonly HubError[];
  /** Milliseconds; undefined where the answer named no time. */
  readonly retryAfter: number | undefined;
  /** Whether the same request would be refused again. */
  readonly isFinal: boolean;
}

export interface HubError {
  status: string;
  code: string;
  title: string;
  detail: string;
  source?: { parameter?: string; header?: string; pointer?: string };
  meta?: Record<string, unknown>;
}

/** Events that a stream leaves out because they are older than what it sends again. */
export interface Gap {
  /** The event that they came after. */
  after_id: string | null;
  /** They were published from here … */
  from: string;
  /** … to before here. */
  to: string;
  /** The replays that return them, as paths with queries. */
  replay: string[];
}

// -- events

export type Json = string | number | boolean | null | Json[] | { [name: string]: Json };

export interface Envelopes {
  change: Change;
  event: EventEnvelope;
  engine: EngineEnvelope;
  cloudevents: CloudEvent;
}

/** A change of one resource, or an event that an application published. Columns of the types bigint and numeric are
 * strings. */
export interface Change {
  /** A UUIDv7: the event's position in the order of the whole hub. */
  id: string;
  /** `skus.update`, `ticket.created`, … */
  type: string;
  /** `create`, `update`, `destroy`, …: the last segment of the type unless the capture named it otherwise. */
  event: string;
  resource_type: string | null;
  resource_id: string | null;
  organization: { id: string; slug: string };
  test: boolean;
  created_at: string;
  transaction_id: string;
  /** The row after the change, before it for `destroy`; null of a published event, and of one that is too large. */
  resource: { [column: string]: Json } | null;
  delta: { [column: string]: { from: Json; to: Json } } | null;
  who: Json;
  /** Of a published event. */
  publish_id?: string;
  /** What a publisher gave. */
  data?: Json;
  too_large?: true;
  error?: string;
  backfill?: true;
}

/** In the envelopes, `data` and `payload` are the Change, or what a publisher gave. */
export interface EventEnvelope {
  id: string;
  type: string;
  timestamp: string;
  data: Json | Change;
}

export interface EngineEnvelope {
  event_id: string;
  event_type: string;
  /** Milliseconds since 1970. */
  timestamp: number;
  payload: Json | Change;
}

export interface CloudEvent {
  specversion: "1.0";
  id: string;
  source: string;
  type: string;
  subject?: string | null;
  time: string;
  datacontenttype: "application/json";
  organization: string;
  test: boolean;
  data: Json | Change;
}

// -- for those who read a stream of their own, such as a replay

export interface ServerSentEvent {
  /** The `event` field, `message` where there was none. */
  event: string;
  /** Empty without one. */
  lastEventId: string;
  data: string;
}

/** Server-sent events of one response, as the HTML standard interprets them. */
export class EventParser {
  constructor(lastEventId?: string);
  /** What the next request's `Last-Event-ID` may be. */
  lastEventId: string;
  /** The reconnection time in milliseconds that the server asked for; undefined before it did. */
  retry: number | undefined;
  /** The messages that are complete now. Chunks may have any size. Throws Error for a message of over 64 Mi characters.
   */
  feed(chunk: Uint8Array): ServerSentEvent[];
}
