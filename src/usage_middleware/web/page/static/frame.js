// Inside of another site's page: the token comes from the page around it, and is shown with each question. It is in no address,
// and nothing keeps it. Only loaded there.

const PATIENCE = 5000;

/** What asks with a token, and what the page starts from: `start` learns that only with the token. */
export function inside(first, start) {
  let token = first;
  let asking = null;
  const ask = (address) => fetch(address, { headers: { Accept: "application/json", ...(token && { Authorization: `Bearer ${token}` }) }, cache: "no-cache" });

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

  return {
    /** An answer; a token that is over is renewed once. */
    async get(address) {
      const reply = await ask(address);
      if (reply.status !== 401 || !start.framed_by) return reply;
      token = await renewed();
      return token ? ask(address) : reply;
    },
    async begin() {
      const reply = await ask("dashboard/start");
      if (reply.ok) Object.assign(start, await reply.json());
      else start.error = await reply.json().catch(() => ({ message: start.words.unreachable }));
    },
  };
}
