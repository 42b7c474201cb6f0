// What pages gain where scripts run: times that stay true, parts that renew themselves, confirmations that close.
// Nothing here is needed to read a page or to act on it.
"use strict";

(() => {
  const steps = [[60, 1, "s"], [3600, 60, "min"], [86400, 3600, "h"], [Infinity, 86400, "d"]];

  function ago(at) {
    const seconds = (Date.now() - at) / 1000;
    const [, unitSeconds, unit] = steps.find(([limit]) => Math.abs(seconds) < limit);
    const count = Math.floor(Math.abs(seconds) / unitSeconds);
    if (seconds < 0) return `in ${count} ${unit}`;
    return unit === "s" && count < 2 ? "just now" : `${count} ${unit} ago`;
  }

  function renewTimes() {
    for (const shown of document.querySelectorAll("[data-ago]")) {
      const text = ago(Date.parse(shown.dataset.ago));
      if (shown.textContent !== text) shown.textContent = text;
    }
  }

  // <section data-live="/console/…/events" hx-get="…" hx-select="#this" hx-trigger="live">: every event of the stream
  // makes the part ask for itself anew, half a second at the soonest, so that a busy till does not make a busy page.
  const renewWithinMs = 500;
  const streams = new Map();

  function listen() {
    for (const [part, stream] of streams) {
      if (!part.isConnected) { stream.close(); streams.delete(part); }
    }
    for (const part of document.querySelectorAll("[data-live]")) {
      if (streams.has(part)) continue;
      let due = null;
      const renew = () => {
        if (due) return;
        due = setTimeout(() => { due = null; window.htmx.trigger(part, "live"); }, renewWithinMs);
      };
      const stream = new EventSource(part.dataset.live);
      for (const name of (part.dataset.events || "message").split(" ")) stream.addEventListener(name, renew);
      stream.onerror = () => say("Live updates are interrupted; trying again.");
      stream.onopen = () => say("");
      streams.set(part, stream);
    }
  }

  function say(text) {
    const place = document.getElementById("connection");
    if (place && place.textContent !== text) place.textContent = text;
  }

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const open = event.target.closest?.("details.confirm[open]");
    if (!open) return;
    open.open = false;
    open.querySelector("summary").focus();
  });

  // One open confirmation at a time; its first field is where typing goes.
  document.addEventListener("toggle", (event) => {
    const opened = event.target;
    if (!opened.open || !opened.matches("details.confirm")) return;
    for (const other of document.querySelectorAll("details.confirm[open]")) if (other !== opened) other.open = false;
    opened.querySelector("select, textarea, input:not([type=hidden])")?.focus();
  }, true);

  // A second press of the same button is no second request.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post" || form.hasAttribute("hx-post")) return;
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "yes";
  });
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  });

  // Fields that were left empty do not belong into the address, which is kept and passed on.
  document.addEventListener("submit", (event) => {
    if (event.target.method !== "get") return;
    const empty = [...event.target.elements].filter((field) => field.name && field.name !== "q" && field.value === "");
    for (const field of empty) field.disabled = true;
    setTimeout(() => { for (const field of empty) field.disabled = false; });
  });

  document.addEventListener("htmx:afterSettle", () => { renewTimes(); listen(); });
  document.addEventListener("htmx:sendError", () => say("The service does not answer; what is shown may be old."));
  document.addEventListener("htmx:responseError", () => say("This part could not be renewed; load the page anew."));
  document.addEventListener("htmx:afterOnLoad", () => { if (!streams.size) say(""); });
  setInterval(renewTimes, 5000);
  renewTimes();
  listen();
})();
