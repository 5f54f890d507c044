/* Unread count in the tab's title, and its icon, while the page is hidden or not focused. */

const title = document.title;
const link = document.getElementById("icon");
const defaultIcon = link.href;
let unread = 0;

const away = () => document.hidden || !document.hasFocus();

/** Show the count from before an automatic reload. */
export function restore(count) {
  if (count > 0 && away()) show(count);
}

/** Return the number of unread messages. */
export const count = () => unread;

/** Count new messages of others. */
export function add(count) {
  if (count && away()) show(unread + count);
}

function show(count) {
  unread = count;
  document.title = count ? `(${count}) ${title}` : title;
  link.href = count ? link.dataset.new : defaultIcon;
}

addEventListener("focus", () => show(0));
document.addEventListener("visibilitychange", () => away() || show(0));
