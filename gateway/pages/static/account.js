// Says each time of the page in the viewer's own zone, and shows it anew once something has changed; without it the
// times are in UTC, and a link shows it anew. It needs live_page.js.
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
if (document.getElementById("live")) {
  document.getElementById("by-itself")?.remove();
  // Loaded by itself, so it is no use of a session of ours.
  keepUp(`${location.pathname}?live=on`);
}
