/* Script of every page: closes menus and shows times in the reader's time zone. */
import { shortTime } from "./times.js";

for (const menu of document.querySelectorAll("details.menu")) {
  addEventListener("click", (event) => {
    if (!menu.contains(event.target)) menu.open = false;
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  menu.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false;
  });
}

for (const time of document.querySelectorAll("time[datetime]")) {
  const date = new Date(time.dateTime);
  time.textContent = shortTime(date);
  time.title = date.toLocaleString(document.documentElement.lang);
}
