// Times as the server sends them: RFC 3339 with up to nine digits of fraction, always kept as text so that
// nothing is rounded. For geometry they become milliseconds since the epoch as a float, which is exact to
// about a quarter of a microsecond.

export type Zone = "utc" | "local";

const shape = /^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(Z|[+-]\d{2}:\d{2})$/;

/** ms gives milliseconds since the epoch; NaN for "" and for anything that is not a time. */
export function ms(time: string): number {
  const m = shape.exec(time);
  if (!m) return Number.NaN;
  return Date.parse(m[1]! + m[3]!) + Number(`0.${m[2] ?? "0"}`) * 1000;
}

/** compare orders two times, exactly to the nanosecond. Missing times come last. */
export function compare(a: string, b: string): number {
  const [x, y] = [shape.exec(a), shape.exec(b)];
  if (!x || !y) return x ? -1 : y ? 1 : 0;
  const seconds = Date.parse(x[1]! + x[3]!) - Date.parse(y[1]! + y[3]!);
  if (seconds !== 0) return seconds;
  return Number((x[2] ?? "").padEnd(9, "0")) - Number((y[2] ?? "").padEnd(9, "0"));
}

function fields(at: number, zone: Zone) {
  const d = new Date(at);
  const utc = zone === "utc";
  const two = (n: number) => String(n).padStart(2, "0");
  return {
    day: utc
      ? `${d.getUTCFullYear()}-${two(d.getUTCMonth() + 1)}-${two(d.getUTCDate())}`
      : `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`,
    clock: utc
      ? `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}:${two(d.getUTCSeconds())}`
      : `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`,
  };
}

/** clock is the time of day with milliseconds: 20:55:02.377. */
export function clock(time: string, zone: Zone, digits = 3): string {
  const at = ms(time);
  if (Number.isNaN(at)) return "";
  const fraction = (shape.exec(time)![2] ?? "").padEnd(9, "0").slice(0, digits);
  return fields(at, zone).clock + (digits > 0 ? `.${fraction}` : "");
}

/** clockOf is the time of day of a float of milliseconds, for axes and sliders. */
export function clockOf(at: number, zone: Zone, digits = 0): string {
  if (!Number.isFinite(at)) return "";
  const fraction = String(Math.floor(((at % 1000) + 1000) % 1000)).padStart(3, "0");
  return fields(at, zone).clock + (digits > 0 ? `.${fraction.slice(0, digits)}` : "");
}

export function date(time: string, zone: Zone): string {
  const at = ms(time);
  return Number.isNaN(at) ? "" : fields(at, zone).day;
}

/** full is date, time with nanoseconds and zone. */
export function full(time: string, zone: Zone): string {
  const at = ms(time);
  return Number.isNaN(at) ? "" : `${fields(at, zone).day} ${clock(time, zone, 9)} ${zoneName(zone)}`;
}

export function zoneName(zone: Zone): string {
  if (zone === "utc") return "UTC";
  const minutes = -new Date().getTimezoneOffset();
  const two = (n: number) => String(Math.floor(Math.abs(n))).padStart(2, "0");
  return minutes === 0 ? "local" : `UTC${minutes < 0 ? "-" : "+"}${two(minutes / 60)}:${two(minutes % 60)}`;
}

/** duration writes a length of time in its two largest units: 3 min 12 s. */
export function duration(milliseconds: number): string {
  if (!Number.isFinite(milliseconds) || milliseconds < 0) return "";
  if (milliseconds < 1) return "< 1 ms";
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const s = Math.round(milliseconds / 1000);
  if (s < 60) return milliseconds < 10_000 ? `${(milliseconds / 1000).toFixed(1)} s` : `${s} s`;
  const units: [number, string][] = [
    [86_400, "d"],
    [3600, "h"],
    [60, "min"],
    [1, "s"],
  ];
  const i = units.findIndex(([size]) => s >= size);
  const [big, bigName] = units[i]!;
  const [small, smallName] = units[i + 1]!;
  const rest = Math.floor((s % big) / small);
  return `${Math.floor(s / big)} ${bigName}${rest > 0 ? ` ${rest} ${smallName}` : ""}`;
}

/** ago is the distance to a later moment, in one unit. */
export function ago(time: string, now: number): string {
  const s = Math.max(0, Math.round((now - ms(time)) / 1000));
  if (!Number.isFinite(s)) return "";
  if (s < 5) return "now";
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86_400)} d`;
}

/** A closed stretch of time in milliseconds. */
export interface Range {
  from: number;
  to: number;
}

/** touches tells whether something that lasted from `first` to `last` lies at least partly inside a range. */
export function touches(range: Range | null, first: string, last: string): boolean {
  if (!range) return true;
  const a = ms(first);
  const b = ms(last);
  const from = Number.isNaN(a) ? b : a;
  const to = Number.isNaN(b) ? a : b;
  return Number.isNaN(from) || (from <= range.to && to >= range.from);
}
