// Says each time of the page in the viewer's own zone, and shows it anew once something has changed; without it the
// times are in UTC, and a link shows it anew. Where no stream gets through it asks every few seconds.
"use strict";
// The page is in English, and says its days as the viewer's own English does.
const english = navigator.languages.find((one) => one.startsWith("en-")) || "en-GB";
for (const element of document.querySelectorAll("time[datetime]")) {
  const at = new Date(element.dateTime);
  if (!Number.isNaN(at.getTime())) {
    element.title = element.textContent;
    element.textContent = new Intl.DateTimeFormat(english, {
      weekday: "short", day: "numeric", month: "long", year: "numeric", hour: "2-digit", minute: "2-digit", hour12: false, timeZoneName: "short",
    }).format(at);
  }
}
const zone = document.getElementById("zone");
if (zone) {
  zone.textContent = `Times are in ${Intl.DateTimeFormat().resolvedOptions().timeZone}`;
}
if (new URLSearchParams(location.search).has("live")) {
  // Whoever loads it again from now on means to.
  history.replaceState(null, "", location.pathname);
}
const live = document.getElementById("live");
if (live) {
  const POLL_MILLISECONDS = 10000;
  const lost = document.getElementById("lost");
  let source = null;
  let timer = null;
  let touched = false;
  let over = false;
  document.getElementById("by-itself")?.remove();
  const tell = () => {
    if (touched || document.querySelector("details[open]")) {
      // Nothing that somebody has begun to choose is taken away from them.
      document.getElementById("changed").hidden = false;
    } else {
      // By itself, so it is no use of a session of ours.
      location.replace(`${location.pathname}?live=on`);
    }
  };
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
    tell();
  };
  const ask = async () => {
    const asked = timer;
    let answer = null;
    try {
      const response = await fetch(`${live.dataset.live}&once=on`, { cache: "no-store" });
      answer = response.ok ? await response.json() : null;
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
    source = new EventSource(live.dataset.live);
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
}
