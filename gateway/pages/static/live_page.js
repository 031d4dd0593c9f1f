// Loads a page anew once it is out of date, or says so where somebody has begun to choose or to write something on it.
// Where no stream gets through it asks every few seconds.
"use strict";
// `again` is the address to load; with `touched` somebody has begun already, with `leaves` whoever is signed out is shown
// the page that they have then, and without it that this one is not kept up to date.
const keepUp = (again, { touched = false, leaves = false } = {}) => {
  const POLL_MILLISECONDS = 10000;
  const address = document.getElementById("live").dataset.live;
  const changed = document.getElementById("changed");
  const lost = document.getElementById("lost");
  let source = null;
  let timer = null;
  let over = false;
  const stop = () => {
    if (source) {
      source.close();
      source = null;
    }
    clearInterval(timer);
    timer = null;
  };
  const change = () => {
    stop();
    over = true;
    lost.hidden = true;
    if (touched || document.querySelector("details[open]")) {
      changed.hidden = false;
    } else {
      location.replace(again);
    }
  };
  const ask = async () => {
    const asked = timer;
    let answer = null;
    try {
      const response = await fetch(`${address}&once=on`, { cache: "no-store" });
      answer = response.ok ? await response.json() : leaves && response.status === 403 ? { changed: true } : null;
    } catch {
      // Nobody there, or no answer of ours: said below, and asked again.
    }
    // Whoever has looked away meanwhile, or sent a form, is told nothing.
    if (asked === timer && timer !== null) {
      lost.hidden = answer !== null;
      if (answer?.changed) {
        change();
      }
    }
  };
  const poll = () => {
    timer = setInterval(ask, POLL_MILLISECONDS);
    ask();
  };
  const follow = () => {
    stop();
    if (!window.EventSource) {
      poll();
      return;
    }
    source = new EventSource(address);
    source.addEventListener("changed", change);
    source.addEventListener("error", () => {
      // A refusal, after which a browser does not ask again by itself; any other break it gets over.
      if (source && source.readyState === EventSource.CLOSED) {
        stop();
        poll();
      }
    });
  };
  // A page that nobody looks at holds none of the few connections that a browser has for a host.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      stop();
    } else if (!over) {
      lost.hidden = true;
      follow();
    }
  });
  for (const form of document.forms) {
    form.addEventListener("input", () => { touched = true; });
    form.addEventListener("submit", () => { over = true; stop(); });
  }
  if (!document.hidden) {
    follow();
  }
};
