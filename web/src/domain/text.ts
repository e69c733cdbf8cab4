// Text that an attacker may have chosen: file names, arguments, addresses. It is only ever shown as text, and
// characters that would hide something or reorder what is around them are replaced by visible marks.

/** A run of text, or a mark that stands for one character that must not be shown as itself. */
export interface Piece {
  text: string;
  /** What the mark stands for, in words; "" for plain text. */
  mark: string;
}

/** Longest text that is shown without being asked for, in UTF-16 code units. */
export const shownAtOnce = 4096;

/** Control characters by their standard names: glyphs for them are missing from most fonts. */
const control =
  "NUL SOH STX ETX EOT ENQ ACK BEL BS TAB LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US".split(
    " ",
  );

const named: Record<number, string> = {
  127: "DEL",
  1564: "ALM",
  8203: "ZWSP",
  8204: "ZWNJ",
  8205: "ZWJ",
  8206: "LRM",
  8207: "RLM",
  8232: "LINE SEP",
  8233: "PARA SEP",
  8234: "LRE",
  8235: "RLE",
  8236: "PDF",
  8237: "LRO",
  8238: "RLO",
  8288: "WJ",
  8294: "LRI",
  8295: "RLI",
  8296: "FSI",
  8297: "PDI",
  173: "SHY",
  6158: "MVS",
  65279: "BOM",
  133: "NEL",
};

/** markOf tells how a character is shown in place of itself, or "" when it is harmless. */
function markOf(code: number): string {
  if (code < 0x20) return control[code]!;
  const name = named[code];
  if (name) return name;
  if (code >= 0x80 && code < 0xa0) return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
  // Invisible tag characters and characters for private use.
  if ((code >= 0xe0000 && code <= 0xe0fff) || (code >= 0xe000 && code <= 0xf8ff))
    return `U+${code.toString(16).toUpperCase()}`;
  // Halves of a surrogate pair that stand alone.
  if (code >= 0xd800 && code <= 0xdfff) return "BROKEN";
  return "";
}

/** pieces splits text into plain runs and marks. Joined again, the plain runs and the marked characters are the input. */
export function pieces(text: string): Piece[] {
  const out: Piece[] = [];
  let plain = "";
  for (const char of text) {
    const mark = markOf(char.codePointAt(0)!);
    if (mark === "") {
      plain += char;
      continue;
    }
    if (plain !== "") out.push({ text: plain, mark: "" });
    plain = "";
    out.push({ text: char, mark });
  }
  if (plain !== "") out.push({ text: plain, mark: "" });
  return out;
}

/** visible is the text of one line with every mark written out: for titles, tooltips and accessible names. */
export function visible(text: string): string {
  return pieces(text)
    .map((p) => (p.mark === "" ? p.text : `[${p.mark}]`))
    .join("");
}

/** middle shortens to `max` characters and keeps head and tail, where names differ most. */
export function middle(text: string, max: number): string {
  const chars = Array.from(text);
  if (chars.length <= max || max < 3) return text;
  const tail = Math.ceil((max - 1) * 0.6);
  return `${chars.slice(0, max - 1 - tail).join("")}…${chars.slice(chars.length - tail).join("")}`;
}

/** path shortens a path by dropping folders from its middle; its last part stays whole when it fits. */
export function path(text: string, max: number): string {
  if (text.length <= max || !text.startsWith("/")) return middle(text, max);
  const parts = text.split("/");
  const last = parts[parts.length - 1]!;
  for (let keep = parts.length - 2; keep >= 1; keep--) {
    const short = `${parts.slice(0, Math.ceil(keep / 2) + 1).join("/")}/…/${parts.slice(parts.length - 1 - Math.floor(keep / 2)).join("/")}`;
    if (short.length <= max) return short;
  }
  return last.length + 2 <= max ? `…/${last}` : middle(last, max);
}

/** label shortens what stands on a card: paths at folders, commands between the program and what it works on. */
export function label(text: string, max: number): string {
  return text.startsWith("/") && !text.includes(" ") ? path(text, max) : command(text, max);
}

/** command keeps the program and the end of the last argument: cat … credentials. */
export function command(text: string, max: number): string {
  if (Array.from(text).length <= max) return text;
  const parts = text.split(" ").filter((w) => w !== "");
  const [program = ""] = parts;
  const last = (parts.at(-1) ?? "").replace(/["';)/]+$/, "");
  const name = last.slice(last.lastIndexOf("/") + 1);
  if (parts.length < 2 || name === "" || Array.from(program).length > max - 5) return cut(text, max);
  if (name === program) return program;
  let front = program;
  for (const word of parts.slice(1, -1)) {
    if (Array.from(`${front} ${word} … ${name}`).length > max) break;
    front += ` ${word}`;
  }
  return cut(`${front} … ${name}`, max);
}

function cut(text: string, max: number): string {
  const chars = Array.from(text);
  return chars.length <= max ? text : `${chars.slice(0, max - 1).join("")}…`;
}

/** plural writes a count with its word. */
export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** count groups the digits of a number by thousands, the same for every reader. */
export function count(n: number): string {
  return String(n).replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}

/** words turns an identifier of a closed list into words: ring_full_bulk → ring full bulk. */
export function words(id: string): string {
  return id.replaceAll("_", " ");
}

/** sentenceCase makes the first letter a capital one. */
export function sentenceCase(text: string): string {
  return text === "" ? "" : text[0]!.toUpperCase() + text.slice(1);
}
