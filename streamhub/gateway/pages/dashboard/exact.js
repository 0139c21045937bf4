/** JSON whose numbers stay as they are written. JavaScript would show 12345678901234567890 as 12345678901234567000, and
 * 1.10 as 1.1: not what a receiver gets. A browser that cannot keep them shows them as it has them. */
const asWritten = (_name, value, { source }) =>
  (typeof value === "number" && String(value) !== source ? JSON.rawJSON(source) : value);

export const parsed = (text) => (JSON.rawJSON ? JSON.parse(text, asWritten) : JSON.parse(text));
