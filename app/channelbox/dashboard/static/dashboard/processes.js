/* The processes, the unwell on top. One that fell silent and was not replaced stays in sight for a while. */
import { element, say } from "../channelbox/words.js";
import { fullTime } from "../channelbox/times.js";
import { now, since } from "./freshness.js";
import { number, span } from "./numbers.js";

const GONE_FOR = 300; // s

export class Processes {
  #body; #summary; #rows = new Map(); #gone = new Map(); #last = [];

  constructor({ body, summary }) {
    this.#body = body;
    this.#summary = summary;
  }

  show(processes, at) {
    const here = new Set(processes.map(place));
    for (const process of this.#last) {
      if (process.state === "stale" && !here.has(place(process))) this.#gone.set(place(process), { process, at: now() });
    }
    for (const [key, { at: moment }] of this.#gone) {
      if (here.has(key) || since(moment) > GONE_FOR) this.#gone.delete(key);
    }
    this.#last = processes;
    const gone = [...this.#gone.values()].map(({ process, at: moment }) => ({
      ...process,
      state: "gone",
      age_s: process.age_s + since(moment),
      connections: null, rooms: null, messages_per_s: null, delivered_per_s: null, lag_ms: null, memory_mb: null,
    }));
    this.#fill([...gone, ...processes], new Date(at));
  }

  #fill(processes, at) {
    const rows = processes.map((process) => {
      const key = `${place(process)} ${process.up_since}`;
      const row = this.#rows.get(key) ?? made();
      this.#rows.set(key, row);
      put(row, process, at);
      return [key, row];
    });
    const wanted = rows.map(([, row]) => row);
    if (wanted.length !== this.#body.children.length || wanted.some((row, n) => row !== this.#body.children[n])) {
      this.#body.replaceChildren(...wanted);
    }
    this.#rows = new Map(rows);
    const unwell = processes.filter(({ state }) => state !== "well").length;
    this.#summary.textContent = !processes.length
      ? say("none")
      : unwell
        ? say("some_unwell", { n: unwell, all: processes.length })
        : say("all_well", { n: processes.length });
    this.#summary.classList.toggle("unwell", unwell > 0);
  }
}

const place = ({ node, unit }) => `${node} ${unit}`;

function made() {
  const row = element("tr");
  const unit = element("th");
  unit.scope = "row";
  const state = element("td");
  state.append(element("span", "dot"), element("span"));
  row.append(unit, state);
  for (let n = 0; n < 10; n += 1) row.append(element("td", n < 3 ? "" : "number"));
  return row;
}

function put(row, process, at) {
  const up = new Date(process.up_since);
  const words = [
    process.unit,
    null,
    process.node,
    process.version,
    span((at - up) / 1_000),
    ...(process.kind === "web" ? [number(process.connections), number(process.rooms)] : ["", ""]),
    number(process.messages_per_s),
    process.kind === "web" ? number(process.delivered_per_s) : "",
    number(process.lag_ms),
    number(process.memory_mb),
    span(process.age_s),
  ];
  row.dataset.state = process.state;
  words.forEach((word, n) => {
    const cell = row.children[n];
    if (word !== null && cell.textContent !== word) cell.textContent = word;
  });
  row.children[4].title = fullTime(up);
  const state = row.children[1].lastElementChild;
  const name = say(`state_${process.state}`);
  if (state.textContent !== name) state.textContent = name;
}
