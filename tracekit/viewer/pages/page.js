// Holds one request open for as long as this page is: its end tells the server that the page is gone.
"use strict";
const hold = () => fetch("alive").catch(() => {});
addEventListener("pageshow", event => { if (event.persisted) hold(); });
hold();
