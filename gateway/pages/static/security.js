// Has the part of a page that shows what is going on fetched anew once something has changed; without it, a
// link does so at any time, and another one has the browser do so now and then.
"use strict";
const live = document.querySelector("[data-live]");
const lost = document.getElementById("lost");
const behind = document.getElementById("changed");
const part = () => document.getElementById("live-part");
let source = null;
let waiting = false;

// Nothing that somebody has begun to do is taken away from them.
const isBusy = () => {
  const shown = part();
  return shown.querySelector("details[open]") !== null || (shown.contains(document.activeElement) && document.activeElement.matches("input, select, textarea"));
};
const refresh = () => {
  waiting = isBusy();
  if (behind) {
    behind.hidden = !waiting;
  }
  if (!waiting) {
    part().dispatchEvent(new CustomEvent("refresh"));
  }
};
const stop = () => {
  if (source) {
    source.close();
    source = null;
  }
};
const follow = () => {
  stop();
  source = new EventSource(live.dataset.live);
  source.addEventListener("changed", refresh);
  source.addEventListener("error", () => {
    // A refusal, after which a browser does not ask again by itself; any other break it gets over.
    if (source && source.readyState === EventSource.CLOSED) {
      stop();
      lost.hidden = false;
    }
  });
};
if (live && part() && window.EventSource) {
  // A page that nobody looks at holds none of the few connections that a browser has for a host.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      stop();
    } else if (lost.hidden) {
      refresh();
      follow();
    }
  });
  document.addEventListener("htmx:response:error", () => {
    stop();
    lost.hidden = false;
  });
  document.addEventListener("toggle", () => {
    if (waiting && !isBusy()) {
      refresh();
    }
  }, true);
  // Where the stream cannot be had, and for ends that come with time alone.
  setInterval(() => {
    if (!document.hidden && lost.hidden) {
      refresh();
    }
  }, 30000);
  if (!document.hidden) {
    follow();
  }
}
