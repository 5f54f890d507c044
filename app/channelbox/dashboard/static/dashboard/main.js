/* Script of the dashboard: connects the WebSocket, the tiles, the charts, the process table and the age display. */
import { page } from "../channelbox/ui.js";
import { PageUpdate } from "../channelbox/page-update.js";
import { Socket } from "../channelbox/socket.js";
import { Connection } from "../client/connection.js";
import { ConnectionStatus } from "../channelbox/connection-status.js";
import { Charts } from "./charts.js";
import { Freshness, STALE_SECONDS } from "./freshness.js";
import { Processes } from "./processes.js";
import { Series } from "./series.js";
import { Tiles } from "./tiles.js";
import "./wall.js";

const $ = (selector) => document.querySelector(selector);
const allTiles = document.querySelectorAll(".tile");
const series = new Series();
const tiles = new Tiles(document.querySelectorAll(".tiles .tile"));
const charts = new Charts(document.querySelectorAll(".chart"), series);
const processes = new Processes({ body: $(".processes tbody"), summary: $(".summary") });
const freshness = new Freshness($(".dead"));
const status = new ConnectionStatus({ notice: $(".connection"), connect: () => socket.connect() });
// A reload would leave full screen, and nobody may be there to enter it again.
const update = new PageUpdate({
  version: page.version,
  canReload: () => !document.fullscreenElement && !document.querySelector("details[open]"),
});
let newest = null;

const socket = new Socket({
  machine: new Connection({ silence: 5 }), // figures arrive every second
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
      freshness.received(newest.at);
      if (status.name === "quiet" && freshness.age < STALE_SECONDS) status.show("connected");
      series.add(newest);
      tiles.show(newest.totals);
      processes.show(newest.processes, newest.at);
    }
  },
});

function show() {
  freshness.show(allTiles, tiles.ages());
  // An open connection without new figures is not live.
  if (status.name === "connected" && freshness.age > STALE_SECONDS) status.show("quiet");
  if (document.hidden) return;
  tiles.showSparklines(series);
  // The time axis advances without new figures too, so that the interruption is visible.
  if (series.at.length) charts.show(newest ? Date.parse(newest.at) / 1_000 + freshness.age : series.at.at(-1));
}

setInterval(show, 1_000);
socket.connect();
