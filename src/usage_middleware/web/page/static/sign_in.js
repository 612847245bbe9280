// Signed out: what the API says.

import { h } from "./dom.js";
import { t } from "./format.js";

/** What somebody sees who is nobody. */
export function signIn(error) {
  return [h("div", { class: "sign-in" }, h("h1", {}, t("title")), h("p", {}, error.message), h("p", {}, t("signed_out")))];
}

/** The way out, where there is one. */
export function signOutButton() {
  return null;
}
