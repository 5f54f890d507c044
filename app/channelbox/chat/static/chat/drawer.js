/* Drawer: the list of rooms, which on a narrow screen slides in over the page. */

const drawer = document.getElementById("rooms");
const opener = document.querySelector(".drawer-open");
const narrow = matchMedia("(max-width: 760px)");
const others = [...document.querySelectorAll(".bar, .talk, .people")];

function show(open) {
  document.body.classList.toggle("drawer", open);
  opener.setAttribute("aria-expanded", String(open));
  for (const part of others) part.inert = open;
  drawer.inert = narrow.matches && !open;
}

opener.addEventListener("click", () => {
  show(true);
  (drawer.querySelector("[aria-current]") ?? drawer.querySelector("a, button")).focus();
});

function close() {
  if (!document.body.classList.contains("drawer")) return;
  show(false);
  opener.focus();
}

drawer.addEventListener("keydown", (event) => event.key === "Escape" && close());
document.querySelector(".drawer-close").addEventListener("click", close);
document.querySelector(".drawer-shade").addEventListener("click", close);
narrow.addEventListener("change", () => show(false));
show(false);
