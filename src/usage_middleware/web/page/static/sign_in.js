// Signing in with an API key, where the page does that. Only loaded when somebody is nobody. The key is in no address, and nothing keeps it.

import { h } from "./dom.js";
import { start, t } from "./format.js";
import { isFramed } from "./api.js";

/** What somebody sees who is nobody: the form, or what the API says. */
export function signIn(error) {
  const isUnknown = error.code === "unauthenticated";
  if (!start.signs_in || isFramed || !isUnknown) return [h("div", { class: "sign-in" }, h("h1", {}, t("title")), h("p", {}, isUnknown ? t("signed_out") : error.message))];
  const field = h("input", { type: "password", id: "key", required: true, autocomplete: "current-password", spellcheck: "false", "aria-describedby": "sign-in-says" });
  const says = h("p", { id: "sign-in-says", role: "alert" }, start.viewer || start.had_session ? t("session_over") : null);
  const submit = async (event) => {
    event.preventDefault();
    says.textContent = (await enter(field.value)) ?? "";
    field.select();
  };
  queueMicrotask(() => field.focus());
  // Password managers want a name beside the key.
  const nobody = h("input", { type: "text", autocomplete: "username", hidden: true });
  return [h("div", { class: "sign-in" }, h("h1", {}, t("title")), h("p", {}, t("sign_in_with")), h("form", { submit }, nobody,
    h("label", {}, t("api_key"), field), says, h("button", { type: "submit", class: "primary" }, t("sign_in"))))];
}

/** Signs in; what went wrong, or nothing. */
async function enter(key) {
  const headers = new Headers();
  try {
    headers.set("Authorization", `Bearer ${key.trim()}`);
  } catch {
    return t("no_such_key");
  }
  const reply = await fetch("sign-in", { method: "POST", headers }).catch(() => null);
  if (!reply) return t("unreachable");
  if (reply.status === 401) return t("no_such_key");
  if (!reply.ok) return (await reply.json().catch(() => ({}))).message ?? t("unreachable");
  const page = await fetch(location.href, { method: "HEAD" });
  if (page.status === 401) return t("no_cookie");
  location.reload();
  return null;
}
