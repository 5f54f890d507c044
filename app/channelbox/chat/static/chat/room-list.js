/* The page of all rooms. */
import { Rooms } from "./rooms.js";

const list = document.querySelector(".room-list");
if (list) new Rooms({ list, row: document.getElementById("room-row") });
