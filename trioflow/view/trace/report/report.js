"use strict";
// The script of the report. The table has elements only for visible rows, so that ten thousand jobs cost little. Texts
// of the scenario are inserted by textContent and setAttribute only.
(() => {
  let data, hasCommands, hasKinds, COLUMNS, texts;
  const [PATH, KIND, STATE, START, WAIT, TIME, ATTEMPTS, LANE, EXCEPTION, TAGS, RANK, EXIT, CPU, MEMORY] = Array(14).keys();
  const NAMES = ["path", "kind", "state", "start", "wait", "time", "attempts", "lane", "exception", "", "", "exit", "CPU", "memory"];
  const ON_PATH = "critical path", RESTORED = "restored"; // tags that are not shown as labels after the path
  const [, JOB, FOREVER] = Array(3).keys(); // values of RANK; 0 is not counted, as a nested scheduler
  // Some columns are left out: columns with the same value in every row; if there are commands, kinds, to make room for
  // paths; and lanes, because the timeline shows them. The details of a job show all columns.
  function load(next) {
    data = next;
    hasCommands = Object.values(data.commands).some(({ command }) => command);
    hasKinds = !hasCommands && new Set(data.rows.map((row) => row[KIND])).size > 1;
    const hasAttempts = data.rows.some((row) => row[ATTEMPTS] > 1);
    const hasExceptions = data.rows.some((row) => row[EXCEPTION]);
    COLUMNS = [
      PATH, ...(hasKinds ? [KIND] : []), STATE, START, WAIT, TIME, ...(hasAttempts ? [ATTEMPTS] : []),
      ...(hasCommands ? [EXIT, CPU, MEMORY] : []), ...(hasExceptions ? [EXCEPTION] : []),
    ];
    texts = data.rows.map((row) => [row[PATH], row[KIND], row[STATE], row[EXCEPTION], ...row[TAGS]].join("\n").toLowerCase());
  }
  load(JSON.parse(document.getElementById("data").textContent));
  const DETAILS = [KIND, STATE, START, WAIT, TIME, ATTEMPTS, LANE, EXIT, CPU, MEMORY, EXCEPTION, TAGS];
  const unitOf = (column) => data.units[{ [START]: 0, [WAIT]: 1, [TIME]: 2 }[column]] ?? "";
  const NUMBERS = new Set([START, WAIT, TIME, ATTEMPTS, LANE, EXIT, CPU, MEMORY]);
  const IN_NARROW_WINDOWS = new Set([PATH, STATE, TIME, EXCEPTION]);
  const WIDTHS = { [PATH]: "path", [EXCEPTION]: "exception", [KIND]: "kind", [STATE]: "state" };
  const ROW = 31; // pixels, as in the style sheet: 30 and a line
  const OVERSCAN = 12; // extra rows above and below the visible ones
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

  const box = document.getElementById("table");
  const body = box.querySelector("tbody");
  const heads = box.querySelector("thead tr");
  const search = document.getElementById("search");
  const shown = document.getElementById("shown");
  const detail = document.getElementById("detail");
  const tip = document.getElementById("tip");
  const chosenStates = new Set();
  let order = data.rows.map((_, number) => number);
  let sorting = { column: null, ascending: true };
  let chosen = null;
  let drawn = "";

  function element(tag, className, text) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  }

  // ---- filtering and sorting

  function sortKey(row, column) {
    const value = row[column];
    return Array.isArray(value) ? value[0] : value;
  }

  function compare(first, second) {
    const { column, ascending } = sorting;
    const a = sortKey(data.rows[first], column), b = sortKey(data.rows[second], column);
    const emptyA = a === null || a === "", emptyB = b === null || b === "";
    if (emptyA || emptyB) return emptyA - emptyB || first - second; // empty cells come last in both directions
    const difference = NUMBERS.has(column) ? a - b : collator.compare(a, b);
    return (ascending ? difference : -difference) || first - second;
  }

  function update() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const matches = (number) =>
      (words.length || data.rows[number][RANK] !== FOREVER) && // forever jobs are listed below the table
      words.every((word) => texts[number].includes(word)) &&
      (!chosenStates.size || (data.rows[number][RANK] === JOB && chosenStates.has(data.rows[number][STATE])));
    order = data.rows.map((_, number) => number).filter(matches);
    dim(words.length || chosenStates.size ? new Set(order) : null);
    if (sorting.column !== null) order.sort(compare);
    const isWhole = !words.length && !chosenStates.size;
    const count = (rows, rank) => rows.filter((row) => row[RANK] === rank).length;
    const plural = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
    const found = isWhole ? data.rows : order.map((number) => data.rows[number]);
    const foreverJobs = count(found, FOREVER);
    shown.textContent = (isWhole ? "" : `${count(found, JOB)} of `) + plural(count(data.rows, JOB), "job") +
      (foreverJobs ? `, and ${plural(foreverJobs, "forever job")}${isWhole ? " below" : ""}` : "");
    drawn = "";
    draw();
  }

  function sortBy(column) {
    sorting = { column, ascending: sorting.column === column ? !sorting.ascending : true };
    showSorting();
    box.scrollTop = 0;
    update();
  }

  function showSorting() {
    [...heads.children].forEach((head, number) => {
      if (COLUMNS[number] === sorting.column) head.setAttribute("aria-sort", sorting.ascending ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
  }

  // ---- rows

  function space(height) {
    const row = element("tr", "space");
    const cell = element("td");
    cell.colSpan = COLUMNS.length;
    row.style.height = `${height}px`;
    row.append(cell);
    return row;
  }

  function shownValue(value) {
    return value === null || value === undefined ? "" : String(Array.isArray(value) ? value[1] : value);
  }

  function makeRow(number) {
    const values = data.rows[number];
    const row = element("tr", number === chosen ? "chosen" : "");
    row.dataset.number = number;
    row.tabIndex = 0;
    COLUMNS.forEach((column) => {
      const isRestored = values[TAGS].includes(RESTORED);
      const text = column === STATE && isRestored ? RESTORED : shownValue(values[column]);
      const cell = element("td", NUMBERS.has(column) ? "number" : "");
      // Texts that may run from right to left are isolated, so that they do not reverse adjacent text.
      const isolated = column === PATH || column === EXCEPTION;
      cell.append(isolated ? element("bdi", "", text) : text);
      if (isolated) cell.setAttribute("title", text);
      if (column === STATE) cell.className = `state-${values[STATE].replace(" ", "-")}`;
      if (!IN_NARROW_WINDOWS.has(column)) cell.classList.add("further");
      if (column === PATH) {
        values[TAGS].filter((tag) => ![ON_PATH, RESTORED].includes(tag)).forEach((tag) => cell.append(element("span", "tag", tag)));
        if (values[TAGS].includes(ON_PATH)) cell.classList.add("on-path");
      }
      row.append(cell);
    });
    return row;
  }

  const MAX_LINKS = 50;

  function addressOf(number) {
    return `#job=${encodeURIComponent(data.rows[number][PATH])}`;
  }

  function linkTo(number) {
    const link = element("a");
    link.append(element("bdi", "", data.rows[number][PATH]));
    link.setAttribute("href", addressOf(number));
    return link;
  }

  function showDetails(number) {
    chosen = number;
    history.replaceState(null, "", addressOf(number)); // the page's address now links to this job
    const values = data.rows[number];
    const list = element("dl");
    DETAILS.forEach((column) => {
      const text = column === TAGS ? values[TAGS].join(", ") : shownValue(values[column]);
      const unit = unitOf(column).includes(":") ? ` (${unitOf(column)})` : ` ${unitOf(column)}`;
      if (text) list.append(element("dt", "", NAMES[column] || "also"), element("dd", "", (text + unit).trim()));
    });
    const required = data.required[number] ?? [];
    if (required.length) {
      const names = element("dd");
      required.slice(0, MAX_LINKS).forEach((job, index) => names.append(index ? ", " : "", linkTo(job)));
      if (required.length > MAX_LINKS) names.append(` and ${required.length - MAX_LINKS} more`);
      list.append(element("dt", "", "required"), names);
    }
    const waits = data.waits[number] ?? [];
    if (waits.length) {
      const lines = element("dd", "waits");
      waits.forEach((line) => lines.append(element("div", "", line)));
      list.append(element("dt", "", "waits"), lines);
    }
    const title = element("h3");
    title.append(element("bdi", "", values[PATH]));
    detail.replaceChildren(title, list);
    const command = data.commands[number];
    if (command) {
      if (command.command) detail.append(element("pre", "", command.command), element("p", "note", command.facts));
      command.files.forEach(([stream, address, path]) => {
        const line = element("p", "", `${stream}: `);
        const link = element("a", "", path);
        link.setAttribute("href", address);
        if (address.startsWith("file?")) link.target = "_blank";
        line.append(link);
        detail.append(line);
      });
      command.outputs.forEach(([title, text]) => detail.append(element("p", "", `${title}:`), element("pre", "", text)));
      if (command.note) detail.append(element("p", "note", command.note));
    }
    detail.hidden = false;
    drawn = "";
    draw();
  }

  function draw() {
    const first = Math.max(0, Math.floor(box.scrollTop / ROW) - OVERSCAN);
    const last = Math.min(order.length, Math.ceil((box.scrollTop + box.clientHeight) / ROW) + OVERSCAN);
    if (drawn === `${first}-${last}`) return;
    drawn = `${first}-${last}`;
    const rows = order.slice(first, last).map(makeRow);
    body.replaceChildren(space(first * ROW), ...rows, space((order.length - last) * ROW));
  }

  // ---- links between the timeline and the table

  let timeline, bars, hot = null;
  const numbersOf = (bar) => (bar.dataset.numbers ?? bar.dataset.number).split(" ").map(Number); // jobs may share a bar

  function findBars() {
    timeline = document.querySelector("svg.timeline");
    bars = new Map(
      [...timeline.querySelectorAll("g.job")].reverse().flatMap((bar) => numbersOf(bar).map((number) => [number, bar])));
  }
  findBars();

  // Dim the jobs in the timeline that are not in `found`; null means that there is no search.
  function dim(found) {
    document.querySelectorAll("svg.timeline [data-number]").forEach((bar) => {
      bar.classList.toggle("dim", found !== null && !numbersOf(bar).some((number) => found.has(number)));
    });
  }

  // ---- zooming the timeline, with its buttons, or with Ctrl and the mouse wheel

  const MAX_ZOOM = 32;
  const home = timeline.closest(".scroll");
  let zoom = 1;

  function sizeTimeline() {
    timeline.style.width = `${100 * zoom}%`;
    timeline.style.minWidth = `${1100 * zoom}px`;
  }

  function zoomTo(wanted, x = home.clientWidth / 2, y = home.clientHeight / 2) {
    const before = zoom;
    zoom = Math.min(MAX_ZOOM, Math.max(1, wanted));
    home.classList.toggle("near", zoom > 1);
    sizeTimeline();
    home.scrollTo({
      left: ((home.scrollLeft + x) * zoom) / before - x, top: ((home.scrollTop + y) * zoom) / before - y, behavior: "instant",
    });
    document.querySelector("#zoom .out").disabled = zoom === 1;
  }

  [["in", "+", "Zoom in", 2], ["out", "\u2212", "Zoom out", 0.5]].forEach(([name, sign, title, factor]) => {
    const button = element("button", name, sign);
    button.type = "button";
    button.title = `${title} (or Ctrl and the mouse wheel)`;
    button.addEventListener("click", () => zoomTo(zoom * factor));
    document.getElementById("zoom").append(button);
  });
  home.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const { left, top } = home.getBoundingClientRect();
    zoomTo(zoom * (event.deltaY < 0 ? 1.25 : 0.8), event.clientX - left, event.clientY - top);
  }, { passive: false });
  zoomTo(1);

  function highlight(bar) {
    hot?.classList.remove("hot");
    hot = bar ?? null;
    hot?.classList.add("hot");
  }

  function tipText(bar) {
    const title = bar.querySelector("title"); // removed below, or the browser would show its own tooltip too
    if (title) {
      bar.setAttribute("aria-label", title.textContent);
      title.remove();
    }
    return bar.getAttribute("aria-label");
  }

  function moveTip(event) {
    const { offsetWidth: width, offsetHeight: height } = tip;
    const right = event.clientX + 14 + width > window.innerWidth;
    const below = event.clientY + 18 + height > window.innerHeight;
    tip.style.left = `${Math.max(4, right ? event.clientX - width - 10 : event.clientX + 14)}px`;
    tip.style.top = `${Math.max(4, below ? event.clientY - height - 10 : event.clientY + 18)}px`;
  }

  home.addEventListener("pointermove", (event) => {
    const bar = event.target.closest("g.job");
    if (bar && bar !== hot) tip.textContent = tipText(bar);
    if (bar !== hot) highlight(bar);
    tip.hidden = !bar;
    if (bar) moveTip(event);
  });
  home.addEventListener("pointerleave", () => {
    tip.hidden = true;
    highlight(null);
  });
  home.addEventListener("click", (event) => {
    const bar = event.target.closest("g.job");
    if (!bar) return;
    const number = Number(bar.dataset.number);
    if (data.rows[number][RANK] === FOREVER) {
      const folded = document.querySelector("details.forever");
      folded.open = true;
      folded.scrollIntoView();
      return;
    }
    show(number);
  });

  function show(number) {
    chosen = number;
    if (!order.includes(chosen)) {
      search.value = "";
      chosenStates.clear();
      states.forEach((button) => button.setAttribute("aria-pressed", "false"));
      update();
    }
    box.scrollTop = order.indexOf(chosen) * ROW - box.clientHeight / 2;
    showDetails(chosen);
    document.getElementById("jobs").scrollIntoView();
  }
  body.addEventListener("pointerover", (event) => highlight(bars.get(Number(event.target.closest("tr")?.dataset.number))));
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-number]");
    if (row) showDetails(Number(row.dataset.number));
  });
  body.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !event.target.dataset.number) return;
    showDetails(Number(event.target.dataset.number));
    body.querySelector("tr.chosen")?.focus();
  });
  body.addEventListener("pointerleave", () => highlight(null));

  document.getElementById("failures").addEventListener("click", (event) => {
    const link = event.target.closest("a[data-number]");
    if (!link) return;
    event.preventDefault();
    showDetails(Number(link.dataset.number));
    detail.scrollIntoView();
  });

  // Pictures wider than the window get a hint: phones show no scroll bar.
  const watchWidths = () => document.querySelectorAll(".scroll:not(#table)").forEach((picture) => {
    if (picture.previousElementSibling?.matches(".hint")) return;
    const noun = picture.querySelector("table") ? "table" : "picture";
    const hint = element("p", "note hint", `\u2194 The ${noun} is wider than this window: scroll it sideways.`);
    picture.before(hint);
    const updateHint = () => (hint.hidden = picture.scrollWidth <= picture.clientWidth + 1);
    updateHint(); // at once, because the hint changes the height of the page
    new ResizeObserver(updateHint).observe(picture);
  });
  watchWidths();

  // A wide graph is scaled down to fit, but only as far as it stays readable.
  const limitScale = () => document.querySelectorAll("#graph .paper svg").forEach((svg) => {
    svg.style.minWidth = `${0.6 * svg.width.baseVal.value}px`;
  });
  limitScale();

  // ---- controls

  const makeHeads = () => COLUMNS.forEach((column) => {
    const further = IN_NARROW_WINDOWS.has(column) ? "" : " further";
    box.querySelector("colgroup").append(element("col", (WIDTHS[column] ?? "time") + further));
    const head = element("th", (NUMBERS.has(column) ? "number" : "") + further);
    head.scope = "col";
    const button = element("button", "", NAMES[column]);
    if (unitOf(column)) button.append(element("span", "unit", `, ${unitOf(column)}`));
    button.type = "button";
    button.addEventListener("click", () => sortBy(column));
    head.append(button);
    heads.append(head);
  });
  const makeStates = () => data.states.map(([state, number]) => {
    const button = element("button", "", `${number} ${state}`);
    button.type = "button";
    button.setAttribute("aria-pressed", String(chosenStates.has(state)));
    button.dataset.state = state;
    button.addEventListener("click", () => {
      if (!chosenStates.delete(state)) chosenStates.add(state);
      button.setAttribute("aria-pressed", String(chosenStates.has(state)));
      box.scrollTop = 0;
      update();
    });
    document.getElementById("states").append(button);
    return button;
  });
  makeHeads();
  let states = makeStates();
  search.addEventListener("input", () => {
    box.scrollTop = 0;
    update();
  });
  box.addEventListener("scroll", draw, { passive: true });
  new ResizeObserver(draw).observe(box); // this also fires when the first rows have set the height

  // ---- addresses: an address that ends in #job=PATH shows the details of that job

  function followAddress() {
    if (!location.hash.startsWith("#job=")) return;
    const path = decodeURIComponent(location.hash.slice(5));
    const number = data.rows.findIndex((row) => row[PATH] === path);
    if (number >= 0) show(number);
  }

  update();
  followAddress();

  // A page that moves has got other data, and another timeline: see live.js.
  document.addEventListener("trioflow:data", (event) => {
    const path = chosen === null ? null : data.rows[chosen][PATH];
    load(event.detail);
    findBars();
    sizeTimeline();
    watchWidths();
    limitScale();
    box.querySelector("colgroup").replaceChildren();
    heads.replaceChildren();
    makeHeads();
    showSorting();
    document.getElementById("states").replaceChildren();
    states = makeStates();
    chosen = path === null ? null : data.rows.findIndex((row) => row[PATH] === path);
    update();
    if (chosen !== null && chosen >= 0) showDetails(chosen);
  });
  window.addEventListener("hashchange", followAddress);
  document.addEventListener("click", (event) => {
    if (event.target.closest("a[href^='#job=']")?.getAttribute("href") === location.hash) followAddress(); // no hashchange event
  });

  // ---- printing: paper gets up to MAX_ON_PAPER rows, and folded parts are opened

  const MAX_ON_PAPER = 2000;
  let beforePaper = null;
  window.addEventListener("beforeprint", () => {
    const folded = [...document.querySelectorAll("details:not([open])")];
    beforePaper = { folded, zoom };
    folded.forEach((details) => (details.open = true));
    zoomTo(1);
    body.replaceChildren(...order.slice(0, MAX_ON_PAPER).map(makeRow));
  });
  window.addEventListener("afterprint", () => {
    beforePaper.folded.forEach((details) => (details.open = false));
    zoomTo(beforePaper.zoom);
    drawn = "";
    draw();
  });

})();
