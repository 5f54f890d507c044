/* For a screen on the wall: only what can be read from five metres, and the machine stays awake. */
import { hoursMinutesSeconds } from "../channelbox/times.js";

const body = document.body;
const button = document.querySelector(".wall-switch");
const clock = document.querySelector(".wall-clock");
let awake = null;

async function keepAwake() {
  if (awake || !body.classList.contains("wall") || document.hidden) return;
  try {
    awake = (await navigator.wakeLock?.request("screen")) ?? null; // only over https
    awake?.addEventListener("release", () => (awake = null));
  } catch {
    /* the battery is low, or the machine's policy forbids it */
  }
}

function show(on) {
  body.classList.toggle("wall", on);
  button.setAttribute("aria-pressed", String(on));
  const address = new URL(location.href);
  if (on) address.searchParams.set("wall", "");
  else address.searchParams.delete("wall");
  history.replaceState(null, "", address);
  if (on) keepAwake();
  else awake?.release();
}

button.addEventListener("click", async () => {
  const on = !body.classList.contains("wall");
  show(on);
  try {
    if (on) await document.documentElement.requestFullscreen();
    else if (document.fullscreenElement) await document.exitFullscreen();
  } catch {
    /* the browser does not want to: the layout is the wall's all the same */
  }
});
document.addEventListener("fullscreenchange", () => document.fullscreenElement || show(false));
addEventListener("keydown", (event) => event.key === "Escape" && body.classList.contains("wall") && show(false));
document.addEventListener("visibilitychange", keepAwake);
setInterval(() => (clock.textContent = hoursMinutesSeconds(new Date())), 1_000);
keepAwake();
