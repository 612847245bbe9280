// Inside of another site's page: the token comes from the page around it, and is shown with each question. It is in no address,
// and nothing keeps it.

import { start } from "./format.js";

const PATIENCE = 5000;
let token = new URLSearchParams(location.hash.slice(1)).get("token");
if (token) history.replaceState(null, "", location.pathname + location.search);

/** Whether the page is inside of another one. */
export const isFramed = Boolean(start.embedded);

/** A question, with the token where there is one; a token that is over is renewed once. */
export async function authorized(address) {
  const reply = await get(address);
  if (!isFramed || reply.status !== 401 || !start.framed_by) return reply;
  token = await renewed();
  return token ? get(address) : reply;
}

const get = (address) => fetch(address, { headers: { Accept: "application/json", ...(token && { Authorization: `Bearer ${token}` }) }, cache: "no-cache" });

/** What the page starts from, which a frame learns only with its token. */
export async function begin() {
  const reply = await get("dashboard/start");
  if (reply.ok) Object.assign(start, await reply.json());
  else start.error = await reply.json().catch(() => ({ message: start.words.unreachable }));
}

let asking = null;

/** A new token of the page around it; several questions ask for one together. */
function renewed() {
  asking ??= new Promise((done) => {
    const listen = new AbortController();
    const end = (found) => {
      listen.abort();
      clearTimeout(late);
      asking = null;
      done(found);
    };
    const late = setTimeout(() => end(null), PATIENCE);
    addEventListener("message", ({ origin, source, data }) => {
      const isOurs = origin === start.framed_by && source === parent && data?.type === "usage:token";
      if (isOurs && typeof data.token === "string") end(data.token);
    }, { signal: listen.signal });
    parent.postMessage({ type: "usage:renew" }, start.framed_by);
  });
  return asking;
}
