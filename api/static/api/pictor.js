// Keeps the page of an unfinished generation up to date by its events, or by asking again where there are none.
"use strict";

const PAUSE_MS = 1000;
const PARTS = ["[data-live]", ".response-info"];

// --- The page itself, fetched anew --------------------------------------------------------------------------

async function renew(url) {
  const answer = await fetch(url, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!answer || answer.status >= 500) {
    return;
  }
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

async function poll(url) {
  if (!document.hidden) {
    await renew(url);
  }
  setTimeout(poll, PAUSE_MS, url);
}

// --- Events: docs/events.md ---------------------------------------------------------------------------------

function follow({ live: url, events }) {
  const source = new EventSource(events);
  let preview = null;

  const on = (kind, handle) => source.addEventListener(kind, (event) => handle(JSON.parse(event.data)));
  const isQueued = () => document.querySelector(".status").classList.contains("status-queued");
  const say = (text) => { document.querySelector(".whereabouts").textContent = text; };
  const showPreview = () => {
    if (preview) {
      const figure = document.querySelector(".preview");
      figure.querySelector("img").src = preview;
      figure.hidden = false;
    }
  };

  on("snapshot", async () => { await renew(url); showPreview(); });
  on("status", async () => { await renew(url); showPreview(); });
  on("position", ({ position }) => { if (isQueued()) say(`number ${position} in the queue`); });
  on("progress", ({ step, total, eta_seconds: eta }) => {
    if (!isQueued()) {
      Object.assign(document.querySelector(".generation progress"), { value: step, max: total });
      say(`step ${step} of ${total}` + (eta ? `, about ${Math.ceil(eta)} s left` : ""));
    }
  });
  on("preview", ({ image }) => { preview = image; showPreview(); });
  on("finished", () => { source.close(); window.location.replace(url); });

  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) { // refused; while it only reconnects there is nothing to do
      document.removeEventListener("visibilitychange", pause);
      poll(url);
    }
  };
  // A browser has six connections to a server for all its pages, so none for those that nobody sees.
  const pause = () => {
    source.close();
    document.removeEventListener("visibilitychange", pause);
    document.addEventListener("visibilitychange", () => follow({ live: url, events }), { once: true });
  };
  document.addEventListener("visibilitychange", pause);
}

const live = document.querySelector("[data-live]");
if (live) {
  follow(live.dataset);
}
