// Requests to the server of this page.

const TOKEN_KEY = "keeptune-token";

/** Takes the token from an address that ends with #token=…, and keeps it until the tab is closed. */
export function takeToken() {
  const match = /^#token=([\w-]+)$/.exec(location.hash);
  if (!match) return;
  sessionStorage.setItem(TOKEN_KEY, match[1]);
  history.replaceState(null, "", "#/");
}

/** An error that the server has explained. */
export class ServerError extends Error {
  constructor(message, code, status) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

/** The JSON at a path, with query parameters. */
export async function get(path, parameters = {}, signal = undefined) {
  return (await checked(fetch(`${path}?${new URLSearchParams(parameters)}`, { signal }))).json();
}

/** Sends a JSON object; returns the JSON of the answer. */
export async function post(path, body) {
  return (await send(path, body)).json();
}

function send(path, body, signal) {
  const headers = { "Content-Type": "application/json", "X-Keeptune-Token": sessionStorage.getItem(TOKEN_KEY) ?? "" };
  return checked(fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal }));
}

async function checked(request) {
  const response = await request;
  if (response.ok) return response;
  const tree = await response.json().catch(() => null);
  throw new ServerError(tree?.error?.message ?? `HTTP ${response.status}`, tree?.error?.code ?? null, response.status);
}

/** Yields the chunks of a streamed answer of /v1/chat/completions. */
export async function* streamChat(run, body, signal) {
  const path = `v1/chat/completions?${new URLSearchParams({ run })}`;
  const response = await send(path, { ...body, stream: true, stream_options: { include_usage: true } }, signal);
  let buffer = "";
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const events = (buffer + value).split("\n\n");
      buffer = events.pop();
      for (const event of events) {
        const data = event.replace(/^data: /, "");
        if (data === "[DONE]") return;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new ServerError(chunk.error.message, chunk.error.code, 200);
        yield chunk;
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // an aborted stream is canceled already
  }
}
