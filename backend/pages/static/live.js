"use strict";
// Keeps what changes up to date without reloading: every few seconds the page is fetched again, and
// each element with the attribute data-part (and an id) takes over what it holds there.
(() => {
  const seconds = Number(document.documentElement.dataset.live);
  if (!seconds) return;
  const parts = () => document.querySelectorAll("[data-part][id]");
  const shown = new Map();
  for (const part of parts()) shown.set(part.id, part.innerHTML);

  function take(part, fresh) {
    const focused = part.contains(document.activeElement) ? document.activeElement : null;
    const place = focused && [...part.querySelectorAll(focused.tagName)].indexOf(focused);
    const told = new Map([...part.querySelectorAll("details[id]")].map((each) => [each.id, each.open]));
    part.replaceChildren(...fresh.childNodes);
    for (const each of part.querySelectorAll("details[id]")) each.open = told.get(each.id) ?? each.open;
    if (focused) part.querySelectorAll(focused.tagName)[place]?.focus({ preventScroll: true });
    part.dispatchEvent(new CustomEvent("tiebreak:taken", { bubbles: true }));
  }

  function say() {
    const text = [...document.querySelectorAll("[data-say]")].map((each) => each.textContent.trim());
    const said = document.getElementById("said");
    if (said.textContent !== text.join(" ")) said.textContent = text.join(" ");
  }

  async function look() {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (!answer.ok) throw new Error(`it answers ${answer.status}`);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    let changed = false;
    for (const part of parts()) {
      const fresh = page.getElementById(part.id);
      if (!fresh || fresh.innerHTML === shown.get(part.id)) continue;
      shown.set(part.id, fresh.innerHTML);
      take(part, fresh);
      changed = true;
    }
    if (changed) say();
  }

  async function again() {
    clearTimeout(next);
    const warning = document.getElementById("unanswered");
    try {
      if (!document.hidden && !document.querySelector("dialog[open]")) await look();
      warning.hidden = true;
    } catch (error) {
      const since = warning.hidden ? new Date().toLocaleTimeString() : warning.dataset.since;
      warning.dataset.since = since;
      warning.textContent = `Tiebreak cannot be reached. What you see is as of ${since}.`;
      warning.hidden = false;
    }
    next = setTimeout(again, seconds * 1000);
  }
  let next = setTimeout(again, seconds * 1000);
  document.addEventListener("tiebreak:look", again);
})();
