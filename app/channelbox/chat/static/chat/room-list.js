/* Script of the page that lists all rooms. */
import { PageUpdate } from "../channelbox/page-update.js";
import { page } from "../channelbox/ui.js";
import { Rooms } from "./rooms.js";

const list = document.querySelector(".room-list");
if (list) {
  const update = new PageUpdate({ version: page.version, canReload });
  new Rooms({ list, row: document.getElementById("room-row"), onVersion: (version) => update.heard(version) });
}

/**
 * Return whether nothing has been typed, no menu is open, and the page is not the response to a form, which a reload
 * would submit again.
 */
function canReload() {
  const fields = [...document.querySelectorAll(".open-room input:not([type=hidden])")];
  const typed = fields.some((field) => field.value !== field.defaultValue || field.getAttribute("aria-invalid") === "true");
  return !typed && !document.querySelector("details[open]");
}
