// Shows the page anew once what is the viewer's own has changed, or says so where they have begun to fill in a form;
// without it the page stays as it was loaded. It needs live_page.js.
"use strict";
{
  const live = document.getElementById("live");
  const here = location.pathname + location.search;
  const loadsItself = "loadsItself" in live.dataset;
  if (loadsItself) {
    for (const link of live.querySelectorAll("[data-again]")) {
      link.href = here;
    }
  }
  keepUp(here, { touched: !loadsItself, leaves: true });
}
