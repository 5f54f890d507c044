/* Table of the processes, with the unwell ones first. A process that stopped reporting and was not replaced stays at
   the top for a while. */
import { element, translate } from "../channelbox/ui.js";
import { fullTime } from "../channelbox/times.js";
import { now, since } from "./freshness.js";
import { duration, number } from "./numbers.js";

const GONE_SECONDS = 300; // for which a process that stopped reporting is shown as gone

/** The process table and its summary. */
export class Processes {
  #body; #summary; #rows = new Map(); #gone = new Map(); #last = [];

  /**
   * @param {object} options
   * @param {HTMLElement} options.body Body of the table.
   * @param {HTMLElement} options.summary Element for the summary.
   */
  constructor({ body, summary }) {
    this.#body = body;
    this.#summary = summary;
  }

  /**
   * Show the processes.
   * @param {any[]} processes From the server's update.
   * @param {string} at Server time of the update.
   */
  show(processes, at) {
    const here = new Set(processes.map(unitKey));
    for (const process of this.#last) {
      const key = unitKey(process);
      if (process.state === "stale" && !here.has(key)) this.#gone.set(key, { process, at: now() });
    }
    for (const [key, { at: moment }] of this.#gone) {
      if (here.has(key) || since(moment) > GONE_SECONDS) this.#gone.delete(key);
    }
    this.#last = processes;
    const gone = [...this.#gone.values()].map(({ process, at: moment }) => ({
      ...process,
      state: "gone",
      age_s: process.age_s + since(moment),
      connections: null, rooms: null, messages_per_s: null, delivered_per_s: null, lag_ms: null, memory_mb: null,
    }));
    this.#render([...gone, ...processes], new Date(at));
  }

  #render(processes, at) {
    const rows = processes.map((process) => {
      const key = `${unitKey(process)} ${process.up_since}`;
      const row = this.#rows.get(key) ?? createRow();
      this.#rows.set(key, row);
      fillRow(row, process, at);
      return [key, row];
    });
    const wanted = rows.map(([, row]) => row);
    if (wanted.length !== this.#body.children.length || wanted.some((row, n) => row !== this.#body.children[n])) {
      this.#body.replaceChildren(...wanted);
    }
    this.#rows = new Map(rows);
    const unwell = processes.filter(({ state }) => state !== "well").length;
    this.#summary.textContent = !processes.length
      ? translate("none")
      : unwell
        ? translate("some_unwell", { n: unwell, all: processes.length })
        : translate("all_well", { n: processes.length });
    this.#summary.classList.toggle("unwell", unwell > 0);
  }
}

const unitKey = ({ node, unit }) => `${node} ${unit}`;

function createRow() {
  const row = element("tr");
  const unit = element("th");
  unit.scope = "row";
  const state = element("td");
  state.append(element("span", "dot"), element("span"));
  row.append(unit, state);
  for (let n = 0; n < 10; n += 1) row.append(element("td", n < 3 ? "" : "number"));
  return row;
}

function fillRow(row, process, at) {
  const up = new Date(process.up_since);
  const texts = [
    process.unit,
    null, // the state's cell has a dot too; filled below
    process.node,
    process.version,
    duration((at.getTime() - up.getTime()) / 1_000),
    ...(process.kind === "web" ? [number(process.connections), number(process.rooms)] : ["", ""]),
    number(process.messages_per_s),
    process.kind === "web" ? number(process.delivered_per_s) : "",
    number(process.lag_ms),
    number(process.memory_mb),
    duration(process.age_s),
  ];
  row.dataset.state = process.state;
  texts.forEach((text, n) => {
    const cell = row.children[n];
    if (text !== null && cell.textContent !== text) cell.textContent = text;
  });
  row.children[4].title = fullTime(up);
  const state = row.children[1].lastElementChild;
  const name = translate(`state_${process.state}`);
  if (state.textContent !== name) state.textContent = name;
}
