/* The tab's title and icon tell of new messages while nobody looks. */

const title = document.title;
const link = document.getElementById("icon");
const calm = link.href;
let unread = 0;

const away = () => document.hidden || !document.hasFocus();

/** Shows how many were unread before a reload that nobody asked for. */
export function restore(count) {
  if (count > 0 && away()) show(count);
}

/** How many are unread now. */
export const count = () => unread;

/** So many messages of others came. */
export function heard(count) {
  if (count && away()) show(unread + count);
}

function show(count) {
  unread = count;
  document.title = count ? `(${count}) ${title}` : title;
  link.href = count ? link.dataset.new : calm;
}

addEventListener("focus", () => show(0));
document.addEventListener("visibilitychange", () => away() || show(0));
