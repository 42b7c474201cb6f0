// The page of an open payment renews its parts as things happen, and leaves alone what somebody is at work on.
"use strict";

(() => {
  // Parts that were left as they were, because a form in them was open.
  let isBehind = false;

  document.addEventListener("htmx:oobBeforeSwap", (event) => {
    const { target, fragment } = event.detail;
    const wanted = fragment.querySelector ? fragment : target;
    const goesOn = isBehind || wanted.querySelector("[data-live]");
    if (target.id === "payment-live" && target.querySelector("[data-live]") && goesOn) {
      event.detail.shouldSwap = false; // the stream that is open goes on, until everything is caught up with
    } else if (target.querySelector("details.confirm[open]")) {
      event.detail.shouldSwap = false;
      isBehind = true;
    } else {
      for (const open of target.querySelectorAll("details[id]")) {
        const again = wanted.querySelector(`#${CSS.escape(open.id)}`);
        if (again) again.open = open.open;
      }
    }
  });

  // Once the form is closed, catch up.
  document.addEventListener("toggle", (event) => {
    if (event.target.open || !isBehind || !event.target.matches("details.confirm")) return;
    isBehind = false;
    const live = document.querySelector("#payment-live [data-live]");
    if (live) window.htmx.trigger(live, "live");
  }, true);
})();
