// Keeps up to date what those who are in did last, by asking every few seconds while the page is looked at.
"use strict";
{
  const english = navigator.languages.find((one) => one.startsWith("en-")) || "en-GB";
  const clock = new Intl.DateTimeFormat(english, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  const places = document.querySelectorAll("[data-last]");
  const ask = async () => {
    if (document.hidden) {
      return;
    }
    const answer = await fetch("/.locum/account/live/last", { cache: "no-store" });
    if (!answer.ok) {
      return;
    }
    const last = await answer.json();
    for (const place of places) {
      const one = last[place.dataset.last];
      if (one) {
        const at = one.at ? `, ${clock.format(new Date(one.at))}` : "";
        const what = document.createElement("bdi");
        what.textContent = one.what;
        place.replaceChildren(what, `${one.said ? ` (${one.said.toLowerCase()})` : ""}${at}`);
      }
    }
  };
  if (places.length) {
    setInterval(() => { ask().catch(() => {}); }, 5000);
  }
}
