// Keeps the page of an unfinished generation up to date: its progress and its JSON, and at the end all of it.
"use strict";

const PAUSE_MS = 1000;
const PARTS = ["[data-live]", ".response-info"];

async function refresh(url) {
  const answer = document.hidden ? null : await fetch(url, { headers: { Accept: "text/html" } }).catch(() => null);
  if (answer && answer.status < 500) {
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!page.querySelector("[data-live]")) {
      window.location.replace(url);
      return;
    }
    for (const part of PARTS) {
      const [old, fresh] = [document, page].map((where) => where.querySelector(part));
      if (old.textContent !== fresh.textContent) {
        old.replaceWith(fresh);
      }
    }
    window.prettyPrint();
  }
  setTimeout(refresh, PAUSE_MS, url);
}

const live = document.querySelector("[data-live]");
if (live) {
  setTimeout(refresh, PAUSE_MS, live.dataset.live);
}
