// The framing of Connect streams: one byte of flags, four bytes of length, the message. The last frame carries
// an error, if there was one.

export interface Frame {
  end: boolean;
  text: string;
}

/** Longest message that is taken from a stream; a longer one ends it. */
export const maxFrame = 16 << 20;

/** frame wraps one request message. */
export function frame(message: unknown): Uint8Array<ArrayBuffer> {
  const body = new TextEncoder().encode(JSON.stringify(message));
  const out = new Uint8Array(5 + body.length);
  new DataView(out.buffer).setUint32(1, body.length);
  out.set(body, 5);
  return out;
}

/** Splitter cuts a stream of bytes into frames, wherever the bytes were cut on the way. */
export class Splitter {
  private rest = new Uint8Array(0);

  /** push takes more bytes and returns the frames that are complete now. It throws on a frame that is too long. */
  push(bytes: Uint8Array): Frame[] {
    const all = new Uint8Array(this.rest.length + bytes.length);
    all.set(this.rest);
    all.set(bytes, this.rest.length);
    const view = new DataView(all.buffer);
    const out: Frame[] = [];
    let at = 0;
    while (all.length - at >= 5) {
      const length = view.getUint32(at + 1);
      if (length > maxFrame) throw new Error(`frame of ${length} bytes`);
      if (all.length - at - 5 < length) break;
      const end = (view.getUint8(at) & 2) !== 0;
      out.push({ end, text: new TextDecoder().decode(all.subarray(at + 5, at + 5 + length)) });
      at += 5 + length;
    }
    this.rest = all.slice(at);
    return out;
  }
}
