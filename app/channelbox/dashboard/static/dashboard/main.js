/* The dashboard: joins the connection, the figures, the charts, the table and the age of it all. */
import { page } from "../channelbox/words.js";
import { PageUpdate } from "../channelbox/page-update.js";
import { Socket } from "../channelbox/socket.js";
import { Connection } from "../client/connection.js";
import { ConnectionStatus } from "../channelbox/connection-status.js";
import { Charts } from "./charts.js";
import { Freshness, STALE } from "./freshness.js";
import { Processes } from "./processes.js";
import { Series } from "./series.js";
import { Tiles } from "./tiles.js";
import "./wall.js";

const $ = (selector) => document.querySelector(selector);
const all = document.querySelectorAll(".tile");
const series = new Series();
const tiles = new Tiles(document.querySelectorAll(".tiles .tile"));
const charts = new Charts(document.querySelectorAll(".chart"), series);
const processes = new Processes({ body: $(".processes tbody"), summary: $(".summary") });
const freshness = new Freshness($(".dead"));
const status = new ConnectionStatus({ notice: $(".connection"), now: () => socket.connect() });
// In full screen a reload would leave it, and nobody may be there to go back.
const update = new PageUpdate({
  version: page.version,
  quiet: () => !document.fullscreenElement && !document.querySelector("details[open]"),
});
let newest = null;

const socket = new Socket({
  machine: new Connection({ silence: 5 }), // figures come every second
  address: page.socket,
  apply(effect) {
    if (effect.do === "state") status.connection(effect);
    const frame = effect.frame ?? {};
    if (frame.type === "welcome") {
      series.begin(frame.series);
      update.heard(frame.version);
      status.show("connected");
    } else if (frame.data) {
      newest = frame.data;
      freshness.heard(newest.at);
      if (status.name === "quiet" && freshness.age < STALE) status.show("connected");
      series.add(newest);
      tiles.show(newest.totals);
      processes.show(newest.processes, newest.at);
    }
  },
});

function show() {
  freshness.show(all, tiles.ages());
  // Connected is not live.
  if (status.name === "connected" && freshness.age > STALE) status.show("quiet");
  if (document.hidden) return;
  tiles.sparks(series);
  // The time axis goes on while no figures come: the hole is seen.
  if (series.at.length) charts.show(newest ? Date.parse(newest.at) / 1_000 + freshness.age : series.at.at(-1));
}

setInterval(show, 1_000);
socket.connect();
