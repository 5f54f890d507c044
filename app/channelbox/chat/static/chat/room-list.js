/* The page of all rooms. */
import { PageUpdate } from "../channelbox/page-update.js";
import { page } from "../channelbox/words.js";
import { Rooms } from "./rooms.js";

const list = document.querySelector(".room-list");
if (list) {
  const update = new PageUpdate({ version: page.version, quiet });
  new Rooms({ list, row: document.getElementById("room-row"), heard: (version) => update.heard(version) });
}

/** Whether nothing is typed, no menu is open, and the page is not the answer to a form: a reload would send that again. */
function quiet() {
  const fields = [...document.querySelectorAll(".open-room input:not([type=hidden])")];
  const typed = fields.some((field) => field.value !== field.defaultValue || field.getAttribute("aria-invalid") === "true");
  return !typed && !document.querySelector("details[open]");
}
