// Says each time of the page in the viewer's own zone, and how much of an assumption is left; without it the times are
// in UTC, and no time that is left is said.
"use strict";
const english = navigator.languages.find((one) => one.startsWith("en-")) || "en-GB";
for (const element of document.querySelectorAll("time[datetime]")) {
  const at = new Date(element.dateTime);
  if (!Number.isNaN(at.getTime())) {
    element.title = element.textContent;
    const year = at.getFullYear() === new Date().getFullYear() ? undefined : "numeric";
    element.textContent = new Intl.DateTimeFormat(english, {
      weekday: "short", day: "numeric", month: "short", year, hour: "2-digit", minute: "2-digit", hour12: false,
    }).format(at);
  }
}
const zone = document.getElementById("zone");
if (zone) {
  zone.textContent = `Times are in ${Intl.DateTimeFormat().resolvedOptions().timeZone}`;
}
const left = document.querySelectorAll("[data-until]");
const say = (seconds) => {
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (days) {
    return `${days} d ${hours} h left`;
  }
  if (hours) {
    return `${hours} h ${minutes} min left`;
  }
  return minutes >= 5 ? `${minutes} min left` : `${minutes}:${String(seconds % 60).padStart(2, "0")} min left`;
};
const tick = () => {
  for (const element of left) {
    const seconds = Math.floor((new Date(element.dataset.until).getTime() - Date.now()) / 1000);
    element.textContent = seconds > 0 ? say(seconds) : "Over";
    element.classList.toggle("soon", seconds < 300);
    element.hidden = false;
  }
};
if (left.length) {
  tick();
  setInterval(tick, 1000);
}
