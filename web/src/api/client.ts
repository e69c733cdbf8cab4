// Calls of the server: Connect unary calls with JSON bodies, relative to where the page is served from.

import { frame, Splitter } from "./frames";

/** ApiError is what the server answered in place of a result. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly requestId: string;

  constructor(status: number, code: string, message: string, requestId: string) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.requestId = requestId;
  }
}

/** The folder the page is served from, always with a slash at the end. */
export function baseURL(): string {
  return new URL(".", document.baseURI).href;
}

/** call posts one request and returns the decoded JSON body. It rejects with ApiError or AbortError. */
export async function call(method: string, request: unknown, signal?: AbortSignal): Promise<unknown> {
  let response: Response;
  try {
    response = await fetch(new URL(`clew.v1.${method}`, baseURL()), {
      method: "POST",
      headers: { "Content-Type": "application/json", "Connect-Protocol-Version": "1" },
      body: JSON.stringify(request),
      credentials: "same-origin",
      cache: "no-store",
      redirect: "error",
      signal: signal ?? null,
    });
  } catch (cause) {
    if (cause instanceof DOMException && cause.name === "AbortError") throw cause;
    throw new ApiError(0, "unavailable", "The server cannot be reached.", "");
  }
  const requestId = response.headers.get("X-Request-Id") ?? "";
  const body: unknown = await response.json().catch(() => null);
  if (!response.ok) {
    const error = (typeof body === "object" && body !== null ? body : {}) as {
      code?: unknown;
      message?: unknown;
    };
    throw new ApiError(
      response.status,
      typeof error.code === "string" ? error.code : `status ${response.status}`,
      typeof error.message === "string"
        ? error.message
        : `The server answered with status ${response.status}.`,
      requestId,
    );
  }
  return body;
}

/**
 * stream opens a server stream and hands over each message as it comes. It resolves when the server ends the
 * stream and rejects with ApiError when it cannot be opened or breaks.
 */
export async function stream(
  method: string,
  request: unknown,
  onMessage: (message: unknown) => void,
  signal: AbortSignal,
): Promise<void> {
  let response: Response;
  try {
    response = await fetch(new URL(`clew.v1.${method}`, baseURL()), {
      method: "POST",
      headers: { "Content-Type": "application/connect+json", "Connect-Protocol-Version": "1" },
      body: frame(request),
      credentials: "same-origin",
      cache: "no-store",
      redirect: "error",
      signal,
    });
  } catch {
    throw new ApiError(0, "unavailable", "The server cannot be reached.", "");
  }
  if (!response.ok || response.body === null) throw new ApiError(response.status, "stream", "No stream.", "");
  const reader = response.body.getReader();
  const splitter = new Splitter();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      for (const f of splitter.push(value)) {
        if (f.end) {
          const last = JSON.parse(f.text) as { error?: { code?: string; message?: string } };
          if (last.error) throw new ApiError(200, last.error.code ?? "unknown", last.error.message ?? "", "");
          return;
        }
        onMessage(JSON.parse(f.text));
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
