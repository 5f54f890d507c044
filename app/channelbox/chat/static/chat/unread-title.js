/* Unread count in the tab's title, and its icon, while the page is hidden or not focused. */

const title = document.title;
const link = document.getElementById("icon");
const defaultIcon = link.href;
let unread = 0;

const away = () => document.hidden || !document.hasFocus();

/** Show the count from before an automatic reload. */
export function restore(saved) {
  if (saved > 0 && away()) show(saved);
}

/** Return the number of unread messages. */
export const count = () => unread;

/** Count new messages of others. */
export function add(more) {
  if (more && away()) show(unread + more);
}

function show(total) {
  unread = total;
  document.title = total ? `(${total}) ${title}` : title;
  link.href = total ? link.dataset.new : defaultIcon;
}

addEventListener("focus", () => show(0));
document.addEventListener("visibilitychange", () => away() || show(0));
