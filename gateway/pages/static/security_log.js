// Copies a record, follows the log live, and shows how far an export is; without it there are links for all of that.
"use strict";
for (const button of document.querySelectorAll("[data-copy]")) {
  const source = document.getElementById(button.dataset.copy);
  const said = button.parentElement.querySelector("[role=status]");
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(source.textContent);
      said.textContent = "Copied.";
    } catch {
      said.textContent = "It could not be copied: select it instead.";
    }
  });
}

const tail = document.getElementById("tail");
if (tail && window.EventSource) {
  const rows = tail.querySelector("tbody");
  const button = document.getElementById("pause");
  const state = document.getElementById("tail-state");
  const most = Number(tail.dataset.most);
  let cursor = tail.dataset.after;
  let source = null;
  let timer = 0;
  let paused = false;
  let over = false;
  const say = (text) => { state.textContent = text; };
  const stop = () => {
    clearTimeout(timer);
    if (source) {
      source.close();
      source = null;
    }
  };
  const again = (seconds) => {
    stop();
    timer = setTimeout(follow, seconds * 1000);
  };
  function follow() {
    stop();
    const address = new URL(tail.dataset.events, location.href);
    address.searchParams.set("after", cursor);
    source = new EventSource(address);
    source.addEventListener("open", () => say("Live: what happens stands here within some seconds."));
    source.addEventListener("rows", (event) => {
      const told = JSON.parse(event.data);
      cursor = told.cursor;
      const piece = document.createElement("template");
      piece.innerHTML = told.rows;
      rows.prepend(piece.content);
      while (rows.rows.length > most) {
        rows.lastElementChild.remove();
      }
      if (told.skipped) {
        say("More came than can be shown here: some are left out. Search for them, or narrow what you follow.");
      }
    });
    source.addEventListener("over", () => {
      over = true;
      stop();
      button.hidden = true;
      say("It is over: you are not signed in any more, or may not see this.");
    });
    source.addEventListener("next", () => again(0));
    source.addEventListener("error", () => {
      if (source && !over) {
        say("The connection is lost. It is tried again.");
        again(3);
      }
    });
  }
  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    button.textContent = paused ? "Resume" : "Pause";
    if (paused) {
      stop();
      say("Paused. Resume to see what has come meanwhile.");
    } else {
      follow();
    }
  });
  // A page that nobody looks at holds none of the few connections that a browser has for a host.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      stop();
    } else if (!paused && !over) {
      follow();
    }
  });
  if (!document.hidden) {
    follow();
  }
}

const job = document.getElementById("job");
if (job && job.dataset.running) {
  const look = async () => {
    try {
      const answer = await fetch(`${location.pathname}?live=1`, { credentials: "same-origin" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("job");
      if (!fresh) {
        location.reload();
        return;
      }
      const now = document.getElementById("job");
      const focused = now.contains(document.activeElement);
      if (!fresh.dataset.running || !focused) {
        now.replaceWith(fresh);
      } else {
        now.querySelector(".how-far").replaceWith(fresh.querySelector(".how-far"));
      }
      if (fresh.dataset.running) {
        setTimeout(look, 1000);
      }
    } catch {
      setTimeout(look, 5000);
    }
  };
  setTimeout(look, 1000);
}
