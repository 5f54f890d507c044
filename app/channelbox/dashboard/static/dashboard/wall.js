/* Wall mode: a layout for a wall screen, with only what can be read from five metres. Keeps the screen awake. */
import { hoursMinutesSeconds } from "../channelbox/times.js";

const body = document.body;
const button = document.querySelector(".wall-switch");
const clock = document.querySelector(".wall-clock");
let wakeLock = null;

async function keepAwake() {
  if (wakeLock || !body.classList.contains("wall") || document.hidden) return;
  try {
    wakeLock = (await navigator.wakeLock?.request("screen")) ?? null; // available only over https
    wakeLock?.addEventListener("release", () => (wakeLock = null));
  } catch {
    /* the battery is low, or a policy of the computer forbids it */
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
  else wakeLock?.release();
}

button.addEventListener("click", async () => {
  const on = !body.classList.contains("wall");
  show(on);
  try {
    if (on) await document.documentElement.requestFullscreen();
    else if (document.fullscreenElement) await document.exitFullscreen();
  } catch {
    /* the browser refuses full screen; the wall layout is used all the same */
  }
});
document.addEventListener("fullscreenchange", () => document.fullscreenElement || show(false));
addEventListener("keydown", (event) => event.key === "Escape" && body.classList.contains("wall") && show(false));
document.addEventListener("visibilitychange", keepAwake);
setInterval(() => (clock.textContent = hoursMinutesSeconds(new Date())), 1_000);
keepAwake();
