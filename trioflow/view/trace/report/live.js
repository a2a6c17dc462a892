// The script of a page that moves: it fetches the page again when there is news, and moves what has changed into place.
(() => {
  const PARTS = ["#status", "#meter", "header", "#now", "#graph", "#timeline > .scroll", "#families", "#forever", "#about"];
  const live = document.getElementById("live");
  const answer = document.getElementById("answer");
  const field = document.getElementById("window");
  const isOwn = live.dataset.own === "true"; // the page is served by the program of the run, and ends with it
  const ENDED = "The run has ended, and its program with it";
  const shown = new Map();
  let version = "", fade = 0, armed = {};

  function replace(page, selector) {
    const next = page.querySelector(selector), place = document.querySelector(selector);
    if (!next || !place || shown.get(selector) === next.outerHTML) return;
    shown.set(selector, next.outerHTML);
    const nameOf = (details) => details.querySelector("summary").textContent;
    const open = new Set([...place.querySelectorAll("details[open]")].map(nameOf));
    next.querySelectorAll("details").forEach((details) => (details.open = details.open || open.has(nameOf(details))));
    place.hidden = next.hidden;
    if (selector === "header") place.className = next.className;
    place.replaceChildren(...next.childNodes);
  }

  function show(text) {
    const page = new DOMParser().parseFromString(text, "text/html"); // runs no script, and loads nothing
    PARTS.forEach((selector) => replace(page, selector));
    document.title = page.title;
    const next = page.getElementById("live");
    ["ended", "paused", "steered"].forEach((name) => (live.dataset[name] = next.dataset[name]));
    const nextField = page.getElementById("window");
    document.querySelectorAll("#window, [data-do=window]").forEach((one) => {
      one.disabled = nextField.disabled;
      one.title = nextField.title;
    });
    if (document.activeElement !== field) field.value = nextField.value;
    const data = JSON.parse(page.getElementById("data").textContent);
    document.dispatchEvent(new CustomEvent("trioflow:data", { detail: data }));
  }

  async function poll() {
    let arrived = 0;
    try {
      const response = await fetch(`page?have=${version}`, { cache: "no-store" }); // waits for news
      arrived = performance.now();
      const text = await response.text();
      if (!response.ok) throw new Error(text);
      version = response.headers.get("X-Version");
      if (text) show(text);
      if (live.dataset.ended === "true") return await keepReport();
    } catch {
      live.dataset.ended = "true";
      say(`${isOwn ? ENDED : "trioflow look has ended"}. This is the last that it has told.`, !isOwn, Infinity);
      return;
    }
    setTimeout(poll, performance.now() - arrived); // to show 5,000 jobs takes a while
  }

  // The report can be saved, too, when nobody serves the page any more.
  async function keepReport() {
    const link = document.querySelector("#buttons a");
    const report = await (await fetch(link.getAttribute("href"))).blob();
    link.download = "report.html";
    link.href = URL.createObjectURL(report);
    if (isOwn) say(`${ENDED}. Save the report to keep it.`, false, Infinity);
  }

  async function steer(request) {
    const response = await fetch("steer", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request),
    });
    const { done, error } = await response.json();
    say(error ?? done, error !== undefined);
  }

  function say(text, isBad, seconds = 6) {
    answer.textContent = text;
    answer.classList.toggle("state-failed", isBad);
    clearTimeout(fade);
    if (seconds < Infinity) fade = setTimeout(() => (answer.textContent = ""), 1000 * seconds);
  }

  // What ends something needs a second click: rows move under the pointer, and a dialog would stop the page.
  document.addEventListener("click", (event) => {
    const button = event.target.closest("#live button, #now button");
    if (!button) return;
    const path = button.dataset.path ?? null, action = path === null ? button.dataset.do : "cancel";
    const question = { cancel: `cancel ${path ?? "the whole run"}`, drain: "end the run when the running jobs have ended" }[action];
    if (question && (armed.question !== question || performance.now() > armed.until)) {
      armed = { question, until: performance.now() + 6000 };
      say(`Click again to ${question}.`, true);
      return;
    }
    armed = {};
    if (action === "window" && !(Number.isInteger(Number(field.value)) && field.value >= 1)) {
      say("give a whole number from 1 up", true);
      return;
    }
    steer({ do: action, value: action === "window" ? Number(field.value) : path })
      .catch(() => say("trioflow look does not answer.", true));
  });
  poll();
})();
