// Shows the page anew once what is the viewer's own has changed, or says so where they have begun to fill in a form;
// without it the page stays as it was loaded. Where no stream gets through it asks every few seconds.
"use strict";
{
  const POLL_MILLISECONDS = 10000;
  const live = document.getElementById("live");
  const changed = document.getElementById("changed");
  const lost = document.getElementById("lost");
  const here = location.pathname + location.search;
  let source = null;
  let timer = null;
  let touched = !("loadsItself" in live.dataset);
  let over = false;
  if (!touched) {
    for (const link of live.querySelectorAll("[data-again]")) {
      link.href = here;
    }
  }
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
    if (touched) {
      // Nothing that somebody has begun to write is taken away from them.
      changed.hidden = false;
    } else {
      location.replace(here);
    }
  };
  const ask = async () => {
    const asked = timer;
    let answer = null;
    try {
      const response = await fetch(`${live.dataset.live}&once=on`, { cache: "no-store" });
      // Whoever is signed out has another page.
      answer = response.ok ? await response.json() : response.status === 403 ? { changed: true } : null;
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
