// Says each time of the page in the viewer's own zone, and how much is newer than what the page shows; without it the
// times are in UTC, and a link shows what is new.
"use strict";
// The page is in English, and says its days as the viewer's own English does.
const english = navigator.languages.find((one) => one.startsWith("en-")) || "en-GB";
const clock = new Intl.DateTimeFormat(english, {
  day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false,
});
for (const element of document.querySelectorAll("time[datetime]")) {
  const at = new Date(element.dateTime);
  if (!Number.isNaN(at.getTime())) {
    element.title = element.textContent;
    element.textContent = clock.format(at);
  }
}
const zone = document.getElementById("zone");
if (zone) {
  zone.textContent = `Times are in ${Intl.DateTimeFormat().resolvedOptions().timeZone}`;
}
const live = document.getElementById("live");
if (live && live.dataset.live && window.EventSource) {
  // Where as many streams are open as may be, or somebody is signed out and maybe in again.
  const AGAIN_MILLISECONDS = 30000;
  const lost = document.getElementById("lost");
  let source = null;
  let timer = null;
  let over = false;
  document.getElementById("by-itself")?.remove();
  const stop = () => {
    clearTimeout(timer);
    if (source) {
      source.close();
      source = null;
    }
  };
  const follow = () => {
    stop();
    source = new EventSource(live.dataset.live);
    source.addEventListener("open", () => { lost.hidden = true; });
    source.addEventListener("newer", (event) => {
      // A number, or one with a plus behind it, after which no more are counted.
      document.getElementById("count").textContent = event.data;
      document.getElementById("newer").hidden = false;
      if (event.data.endsWith("+")) {
        over = true;
        stop();
      }
    });
    source.addEventListener("error", () => {
      // A refusal, after which a browser does not ask again by itself; any other break it gets over.
      if (source && source.readyState === EventSource.CLOSED) {
        stop();
        lost.hidden = false;
        timer = setTimeout(follow, AGAIN_MILLISECONDS);
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
  if (!document.hidden) {
    follow();
  }
}
