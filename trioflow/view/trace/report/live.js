// The script of a page that moves. It asks for the state of the run, and changes in place what has changed: a row has the
// key of its job, and keeps its element, its place under the pointer, and the focus.
(() => {
  const $ = (selector) => document.querySelector(selector);
  const [live, lists, rest, answer, panel, map] = ["#live", "#lists", "#rest", "#answer", "#job", "#map"].map($);
  const own = `${Math.random()}`; // the server lets each tab have the end
  const SHORT = 12, HELD = 8000, ARMED = 6000, STILL = 400; // milliseconds
  let version = "", seen = "", state = null, shownHold = "", chosen = null, armed = null, fade = 0, pointed = null, moved = -Infinity, picture = 0;
  const [found, finder, filter] = ["#found", "#find", "#log input"].map($), refused = new Map(), whole = new Set();
  let wanted = null, failures = 0, silentSince = "", reportVersion = "", following = null;

  function element(tag, className, text) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  }
  const buttonOf = (className, text) => Object.assign(element("button", className, text), { type: "button" });
  function set(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  // ---- asking

  const ask = async (what, query) => (await fetch(`${what}?${new URLSearchParams(query)}`, { cache: "no-store" })).json();
  async function poll() {
    let wait = 0;
    try {
      const response = await fetch(`state?have=${version}&by=${own}`, { cache: "no-store", signal: AbortSignal.timeout(15000) }); // waits for news
      if (!response.ok) throw new Error(response.status);
      const next = await response.json();
      if (failures) say("", false);
      failures = 0;
      if (next.version !== version) show(next);
      version = next.version;
      if (chosen !== null) await showJob();
      await showFound();
      if (whole.has("log") || filter.value) await showLog();
      if (state.ended) return void end().catch(() => say("The report could not be kept.", true, Infinity));
    } catch {
      failures += 1;
      silentSince ||= state?.time ?? "";
      wait = Math.min(10000, 500 * 2 ** failures);
      if (failures > 1) say(`${state?.own ? "The program" : "trioflow look"} does not answer${silentSince ? ` since ${silentSince}` : ""}. This is the last that it has told.`, true, Infinity);
    }
    setTimeout(poll, wait);
  }

  async function end() {
    await followReport();
    if (reportVersion !== String(version)) await followReport(); // the first may have been on its way
    rest.open = true;
    const link = $("#words a");
    const blob = await (await fetch(`${link.getAttribute("href")}?by=${own}`)).blob(); // also when the server has gone
    Object.assign(link, { href: URL.createObjectURL(blob), download: "report.html" });
    if (state.own) say("The run has ended, and its program with it. Save the report to keep it.", false, Infinity);
  }

  // ---- the head

  function show(next) {
    const tops = state === null ? null : topsOfRows();
    state = next;
    silentSince = "";
    if (next.seen !== seen) { // another run, or all keys are new
      seen = next.seen;
      disarm();
      choose(null);
      find(null);
      refused.clear();
      lists.querySelectorAll("li").forEach((row) => row.remove());
    }
    document.title = next.title || "trioflow";
    live.dataset.paused = next.paused !== "";
    live.dataset.steered = next.steered;
    live.dataset.ended = next.ended;
    live.dataset.failed = next.failed_count > 0;
    live.dataset.mended = next.mended;
    const resume = $('[data-do="resume"]'), end = next.paused.startsWith("held") ? JSON.stringify([next.paused, next.marks]) : "";
    if (shownHold !== end) { // what it would end now has other failures, or attempts of them, or is no hold
      shownHold = end;
      if (armed?.button === resume) disarm();
      if (end) resume.dataset.question = "End the run?";
      else delete resume.dataset.question;
      resume.textContent = end ? "End as failed" : "Resume";
    }
    document.body.toggleAttribute("data-still", next.ended || !next.steered);
    set($("#name"), next.title);
    const [word, kind] = next.ended && next.problem ? ["gone", "bad"] : next.ended ? ["ended", next.is_good ? "good" : "bad"]
      : next.paused ? [next.paused.split(/[ :]/)[0], "wait"] : [next.phase, next.phase === "runs" ? "on" : ""];
    set($("#phase"), word);
    $("#phase").className = `badge ${kind}`;
    set($("#when"), next.verdict || (next.count ? `at ${next.time}` : ""));
    if (next.ended) set($("#rest > summary"), "Report");
    set($("#settled"), next.count ? `${next.settled} of ${next.count}${next.may_grow ? "+" : ""}` : "");
    set($("#elapsed"), next.elapsed);
    set($("#left"), next.ended ? "" : next.left);
    set($("#about"), next.left_is_least ? "left, more than" : "left, about");
    const [root, ...groups] = next.windows, limited = root && root[3] !== null ? [root] : groups.filter((row) => row[3] !== null); // a group counts as one in the window around it
    const sum = (column) => limited.reduce((total, row) => total + row[column], 0);
    set($("#taken"), limited[0] === root && groups.length ? "slots, a group is one" : "slots taken");
    set($("#slots"), limited.length ? `${sum(2)} of ${sum(3)}` : "");
    $("#bar").replaceChildren(...next.counts.map(([style, , count]) => Object.assign(element("span", `s-${style}`), { style: `flex-grow: ${count}` })));
    showCounts(next);
    const problem = [next.paused, next.problem, next.lacks].filter(Boolean).join(" · ");
    set($("#problem"), problem);
    $("#problem").hidden = !problem;
    $("#problem").className = next.problem ? "bad" : "note";
    showWindows(next.windows);
    showLists(next);
    if (tops !== null) noteMoves(tops);
    showMap(next);
    showBars(next);
    if (!next.ended && rest.open) followReport();
  }

  // Each count leads to its jobs.
  function showCounts({ counts, beside }) {
    const rows = counts.map(([style, remark, count, name]) => ({ key: name, style, count, text: name + remark }));
    rows.push(...beside.map((text, key) => ({ key, count: "", text: text.replace(/^, /, "") })));
    patch($("#counts"), rows, (row, { key, style, count, text }) => {
      if (!row.childNodes.length) {
        const link = row.appendChild(style ? Object.assign(element("a"), { href: "#jobs" }) : element("span"));
        link.dataset.state = key;
        link.append(element("i", style ? `swatch s-${style}` : ""), element("b"), " ", element("span"));
      }
      set(row.querySelector("b"), String(count));
      set(row.querySelector("a > span, span > span"), text);
    }, true);
  }
  function showWindows(windows) {
    patch($("#windows ul"), windows.map(([key, label, taken, size, isNumber]) => ({ key: key ?? "run", label, taken, size, isNumber })), (row, { key, label, taken, size, isNumber }) => {
      if (!row.childNodes.length) row.append(element("bdi"), element("span", "number"), Object.assign(element("input"), { type: "number", min: 1 }), actor("window", "Set"));
      const [name, count, field, button] = row.children;
      set(name, key === "run" ? "the run" : label);
      set(count, `${taken} of ${size ?? "∞"}`);
      name.title = label;
      field.setAttribute("aria-label", `Slots of ${name.textContent}`);
      if (document.activeElement !== field) field.value = size ?? "";
      field.disabled = button.disabled = !isNumber;
      field.title = !isNumber ? "Only a number can be replaced during a run, and this window is none: no limit, a limiter or an Adaptive" : "";
    });
  }

  // ---- the lists: rows by key, which stay where they are while a pointer is over them: what is above gets no more rows

  const heldPlace = () => armed?.button ?? (lists.contains(pointed) && performance.now() - moved < HELD && !state.ended ? pointed : null);
  const isAbove = (node) => heldPlace()?.compareDocumentPosition(node) === Node.DOCUMENT_POSITION_PRECEDING;

  function patch(list, rows, fill, isForced = false) {
    const known = new Map([...list.children].map((row) => [row.dataset.key, row]));
    const keys = rows.map(({ key }) => String(key)), wanted = new Set(keys);
    const held = !isForced && heldPlace() !== null, isFull = !isForced && isAbove(list);
    known.forEach((row, key) => {
      if (wanted.has(key)) return;
      if (row.contains(document.activeElement) && !found.contains(document.activeElement)) row.firstChild.focus(); // its other buttons are about to go
      if (row.contains(found)) $("#asks").after(found);
      if (armed && row.contains(armed.button)) disarm();
      if (list.closest("#asks") && state.told[key]) set(row.querySelector(".error"), state.told[key]);
      if (held || row.contains(document.activeElement)) row.classList.add("gone");
      else row.remove();
    });
    rows.filter(({ key }) => !isFull || known.has(String(key))).forEach((values) => {
      const key = String(values.key), row = known.get(key) ?? list.appendChild(element("li"));
      known.set(key, row);
      Object.assign(row.dataset, { key, seen });
      if (remark(row, (values.keys ?? [key]).map((one) => state.marks[one] ?? "").join()) && list.closest("#asks")) {
        refused.set(values.key, (values.error = "This is asked anew."));
        row.replaceChildren();
      }
      row.hidden = false;
      row.classList.remove("gone");
      row.classList.toggle("chosen", String(chosen) === key && list.closest("#lists") !== null);
      fill(row, values);
    });
    const order = [...list.children].map((row) => row.dataset.key).filter((key) => wanted.has(key));
    if (!held && !list.contains(document.activeElement) && order.join() !== keys.join()) list.append(...keys.map((key) => known.get(key)));
  }

  // Take over which attempt of each job is shown, and return whether it is another: then an armed button asks about what is gone.
  function remark(owner, marks) {
    const isAnother = owner.dataset.marks !== undefined && owner.dataset.marks !== marks;
    if (isAnother && armed && owner.contains(armed.button)) disarm();
    owner.dataset.marks = marks;
    return isAnother;
  }

  // A row: a sign, a name that leads to a job or a list, and what its section has beside and below it.
  function fillRow(row, { key, style, name, tag = "", count = 1, job = key, which = "", number, text, error, button, keys, choices, isSecret }) {
    if (!row.childNodes.length) {
      const pick = buttonOf("pick");
      pick.append(element("i"), element("b"), element("bdi"), element("span", "tag"));
      row.append(pick);
      if (number !== undefined) row.append(element("span", "number"));
      if (button) row.append(actor(button.do, "", button));
      if (text !== undefined) row.append(element("div", "sub"));
      if (choices !== undefined) row.append(choicesOf(name, choices, isSecret), element("p", "error"));
    }
    const [sign, amount, label, note] = row.firstChild.children, put = (css, value) => row.querySelectorAll(`:scope > ${css}`).forEach((node) => set(node, value));
    Object.assign(row.dataset, { which, job: job ?? "", keys: keys ?? "" });
    sign.className = `swatch s-${style}`;
    row.firstChild.disabled = job === null;
    set(amount, count > 1 ? `${count} jobs` : "");
    set(label, name);
    set(note, tag);
    label.title = name;
    amount.hidden = count < 2;
    note.hidden = !tag;
    put(".number", number);
    put("button[data-do]:not([data-armed])", button?.text);
    put(".sub", text);
    put(".error", error);
    row.querySelector(":scope > button[data-do]")?.setAttribute("aria-label", `${button.label} ${name}${button.after ?? ""}`);
  }
  function actor(action, text, { style = "", question, value } = {}) {
    const button = buttonOf(style, text);
    Object.assign(button.dataset, { do: action }, question && { question }, value !== undefined && { value });
    return button;
  }
  function choicesOf(name, choices, isSecret) {
    const place = element("div", "choices");
    if (choices) place.append(...choices.map(([value, text]) => actor("answer", text, { value, question: `Answer ${text}?` })));
    else place.append(Object.assign(element("input"), { type: isSecret ? "password" : "text", autocomplete: "off", ariaLabel: `Answer to ${name}` }), actor("answer", "Answer"));
    return place;
  }

  // A click on what has come under a pointer or a finger a moment ago was meant for something else.
  const settling = new WeakMap();
  const topsOfRows = () => new Map([...lists.querySelectorAll("li")].map((row) => [row, row.getBoundingClientRect().top]));
  const noteMoves = (tops) => topsOfRows().forEach((top, row) => tops.get(row) === top || settling.set(row, performance.now() + STILL));

  // The sections, from the state of the run: rows, what stands beside the title and below the rows, and whether it is hidden.
  const CANCEL = { do: "cancel", style: "cancel", question: "Cancel?", text: "×", label: "Cancel" };
  const counted = (count, forever) => `${count - forever}${forever ? ` and ${forever} forever` : ""}`;
  const SECTIONS = {
    asks: ({ asks }) => ({
      rows: asks.map(([key, name, text, choices, isSecret, refusal]) => ({ key, style: "asks", name, text, choices, isSecret, error: refused.get(key) ?? refusal })),
      total: asks.length > 1 ? asks.length : "",
      isHidden: !asks.length,
    }),
    running: ({ running, running_count: count, running_forever: forever, ended }) => ({
      rows: running.slice(0, whole.has("running") ? undefined : SHORT).map(([key, name, tag, number]) => ({ key, style: "running", name, tag, number, button: CANCEL })),
      total: counted(count, forever),
      note: count > running.length && whole.has("running") ? `and ${count - running.length} more, in the report` : count ? "" : "Nothing.",
      all: running.length <= SHORT ? "" : whole.has("running") ? "Show fewer" : `and ${running.length - SHORT} more`,
      isHidden: ended,
    }),
    failed: ({ failed, failed_count: total }) => ({
      rows: failed.map(([key, count, name, headline, tag, place, keys]) => {
        const button = { do: "try-again", style: "retry", text: keys.length > 1 ? `Try ${keys.length} again` : "Try again", label: "Try", after: " again" };
        return { key, style: "failed", name, tag, count, keys, button, text: headline + (place && ` · ${place}`), which: count > 1 ? `failure ${key}` : "" };
      }),
      total,
      note: [total - failed.reduce((sum, [, count]) => sum + count, 0)].filter(Boolean).map((more) => `and ${more} more, in the report`).join(""),
      isHidden: !failed.length,
    }),
    waiting: ({ waiting, unexplained, idle, ended }) => {
      const notes = [unexplained && `and ${unexplained} more, not looked at`, idle && `${idle} ${idle === 1 ? "is" : "are"} not ready yet`].filter(Boolean);
      return {
        rows: waiting.map(([key, job, count, name, text]) => ({ key, style: "scheduled", name, job, count, text, which: count > 1 ? `wait ${key}` : "" })),
        note: notes.join(" · "),
        isHidden: ended || !(waiting.length || notes.length),
      };
    },
  };
  function showSection(name, { rows, total = "", note = "", all = "", isHidden = false }, isForced) {
    const section = $(`#${name}`), button = section.querySelector(":scope > .all");
    set(section.querySelector(".total"), String(total));
    patch(section.querySelector(":scope > ol"), rows, fillRow, isForced);
    if (!isForced && isAbove(section)) return;
    section.hidden = isHidden;
    set(section.querySelector(":scope > p.note"), note);
    if (button) set(Object.assign(button, { hidden: !all }), all);
  }
  function showLists(next) {
    Object.entries(SECTIONS).forEach(([name, describe]) => showSection(name, describe(next)));
    if (!whole.has("log") && !filter.value) fillLog(next.log);
  }

  // ---- the timeline of a run that goes on: a job keeps its row, and a row whose job is shown no more takes a new one

  function showBars({ bars: [first, bars], time, ended }) {
    const section = $("#bars"), list = section.querySelector("ol"), jobs = new Map(bars.map((bar) => [String(bar[0]), bar]));
    const rows = [...list.children], known = new Set(rows.map((row) => row.dataset.key)), free = rows.filter((row) => !jobs.has(row.dataset.key));
    section.hidden = ended || !bars.length;
    [...jobs.keys()].filter((key) => !known.has(key)).forEach((key) => {
      const row = free.shift() ?? list.appendChild(element("li"));
      if (!row.childNodes.length) {
        row.append(buttonOf("pick"), element("span", "lane"));
        row.firstChild.append(element("bdi"));
        row.lastChild.append(element("i"));
      }
      row.dataset.key = key;
    });
    free.forEach((row) => row.remove());
    [...list.children].forEach((row) => {
      const [, name, style, start, end, short] = jobs.get(row.dataset.key), bar = row.lastChild.firstChild;
      set(row.querySelector("bdi"), short);
      row.firstChild.title = name;
      bar.className = `s-${style}`;
      bar.style.left = `${start}%`;
      bar.style.right = `${100 - end}%`;
    });
    const [left, right] = section.querySelector(".note").children;
    set(left, first);
    set(right, time);
  }

  // ---- the log of the run

  function fillLog({ lines, count }, isForced) {
    const isFiltered = filter.value !== "", more = count - lines.length;
    showSection("log", {
      rows: lines.map(([key, style, jobs, name, number, text]) => (
        { key, style, name: name || "the run", number, text, job: [jobs].flat()[0], count: [jobs].flat().length, which: Array.isArray(jobs) ? `log ${key}` : "" }
      )),
      total: count,
      note: !count ? "Nothing." : more && (whole.has("log") || isFiltered) ? `and ${more} earlier` : "",
      all: isFiltered || !(more || whole.has("log")) ? "" : whole.has("log") ? "Show fewer" : `and ${more} earlier`,
      isHidden: !count && !isFiltered && !whole.has("log"),
    }, isForced);
  }
  async function showLog(isForced) {
    const words = filter.value, lines = await ask("log", { words });
    if (words === filter.value && (words || whole.has("log"))) fillLog(lines, isForced);
  }
  const followLog = () => (filter.value || whole.has("log") ? showLog(true).catch(noAnswer) : fillLog(state.log, true));
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/);
    const textOf = (row) => `${row.firstChild.textContent} ${row.querySelector(":scope > .sub").textContent}`.toLowerCase();
    $("#log > ol").querySelectorAll(":scope > li").forEach((row) => (row.hidden = !words.every((word) => textOf(row).includes(word)))); // at once
    followLog();
  });
  lists.addEventListener("click", ({ target }) => {
    if (!target.matches(".all")) return;
    if (!whole.delete(target.parentNode.id)) whole.add(target.parentNode.id);
    showLists(state);
    followLog();
  });

  // ---- jobs by name, state, box or row: a list below the row that was chosen, or above all

  function find(which, row) {
    const isSame = wanted !== null && which === wanted.which && row !== undefined;
    if (found.contains(document.activeElement)) (found.closest("li")?.querySelector(".pick") ?? finder).focus();
    wanted = which === null || isSame ? null : { which };
    if (row && wanted) row.append(found);
    else $("#asks").after(found);
    found.hidden = true;
    found.querySelectorAll("li").forEach((one) => one.remove());
    if (wanted) showFound().then(() => row || finder === document.activeElement || found.scrollIntoView({ block: "nearest" })).catch(noAnswer);
  }
  async function showFound(isForced) {
    const words = finder.value.trim(), which = wanted?.which ?? "";
    if (!words && !which) return void (found.hidden = true);
    const { title, count, counts, jobs } = await ask("jobs", { seen, which, words });
    if (!jobs || words !== finder.value.trim() || which !== (wanted?.which ?? "")) return;
    set(found.querySelector(".title bdi"), [words && `“${words}”`, title].filter(Boolean).join(" in "));
    showSection("found", {
      rows: jobs.map(([key, name, style, text, time, tag]) => ({ key, style, name, tag, number: [text, time].filter(Boolean).join(" ") })),
      total: counts || "nothing",
      note: count > jobs.length ? `and ${count - jobs.length} more: type a part of their names` : "",
    }, isForced);
  }
  finder.addEventListener("input", () => {
    if (finder.value && found.closest("li")) find(null);
    if (state.ended) Object.assign($("#search"), { value: finder.value }).dispatchEvent(new Event("input")); // needs no server
    showFound(true).catch(noAnswer);
  });
  finder.addEventListener("keydown", (event) => {
    const first = found.hidden ? null : found.querySelector(".pick");
    if (event.key === "Enter") first?.click();
    if (event.key === "ArrowDown" && first) {
      event.preventDefault();
      event.stopPropagation();
      first.focus();
    }
  });
  found.querySelector(".close").addEventListener("click", () => {
    finder.value = "";
    find(null);
  });

  // ---- the graph

  const SVG = "http://www.w3.org/2000/svg", give = (node, values) => (Object.entries(values).forEach(([name, value]) => node.setAttribute(name, value)), node);
  async function showMap(next) {
    map.hidden = !(next.graph || next.graph_note);
    const card = map.querySelector(".card");
    card.hidden = !next.graph;
    if (next.graph && next.graph !== picture) {
      const text = await (await fetch("graph")).text();
      picture = next.graph;
      const own = document.importNode(new DOMParser().parseFromString(text, "image/svg+xml").documentElement, true);
      Object.assign(own, { role: "group", ariaLabel: "The graph of the jobs" });
      own.querySelectorAll(".node, .cluster").forEach((node) => (node.role = "button"));
      own.querySelectorAll(".node").forEach((node, index) => node.setAttribute("tabindex", index ? -1 : 0)); // arrows lead to the others
      card.replaceChildren(own);
      own.style.minWidth = `${(own.querySelector(".node text") ? 0.58 : 0.4) * own.width.baseVal.value}px`; // so that it can be read
    }
    Object.entries(state.nodes ?? {}).forEach(([id, [style, text, key, count, shares]]) => {
      const node = document.getElementById(id); // each layout has names of its own
      if (!node) return;
      const kind = node.classList.contains("node") ? "node" : "cluster", name = `${kind} ${style}${key === chosen ? " chosen" : ""}`;
      if (node.getAttribute("class") !== name) node.setAttribute("class", name);
      set(node.querySelector("title"), text);
      if (!count) return;
      const last = [...node.querySelectorAll("text")].at(-1);
      set(last, count);
      if (kind === "node") showShares(node, last, shares);
    });
    const hidden = [card.scrollHeight > card.clientHeight + 1 && "below", card.scrollWidth > card.clientWidth + 1 && "to the right"].filter(Boolean);
    set(map.querySelector(".note"), `${next.graph_note ?? ""}${hidden.length ? ` There is more ${hidden.join(" and ")}: scroll.` : ""}`);
  }

  // How many jobs of a box are in each state: a bar at its lower border.
  function showShares(node, label, shares) {
    const text = JSON.stringify(shares), box = node.querySelector("path, polygon").getBBox();
    if (node.dataset.shares === text || !box.width) return;
    node.dataset.shares = text;
    give(label, { "text-anchor": "middle", x: box.x + box.width / 2 });
    node.querySelectorAll("rect").forEach((bar) => bar.remove());
    const total = shares.reduce((sum, [, count]) => sum + count, 0), width = box.width - 10;
    const widths = shares.map(([, count]) => Math.max(3, (width * count) / total)), excess = widths.reduce((sum, one) => sum + one, 0) / width;
    let x = box.x + 5;
    shares.forEach(([style], index) => {
      give(node.appendChild(document.createElementNS(SVG, "rect")), { class: style, x, y: box.y + box.height - 6, width: widths[index] / excess, height: 3 });
      x += widths[index] / excess;
    });
  }

  // The box that is the nearest in the direction of an arrow.
  const ARROWS = { ArrowDown: [0, 1], ArrowUp: [0, -1], ArrowRight: [1, 0], ArrowLeft: [-1, 0] };
  function neighbour(node, [right, down]) {
    const middle = (one) => { const { x, y, width, height } = one.getBoundingClientRect(); return [x + width / 2, y + height / 2]; };
    const [x, y] = middle(node);
    const costs = [...map.querySelectorAll(".node")].map((one) => {
      const [dx, dy] = middle(one).map((value, index) => value - [x, y][index]), ahead = dx * right + dy * down;
      return [ahead > 1 ? ahead + 3 * Math.abs(dx * down) + 3 * Math.abs(dy * right) : Infinity, one];
    });
    const [cost, best] = costs.reduce((least, one) => (one[0] < least[0] ? one : least));
    return cost < Infinity ? best : node;
  }

  // ---- the chosen job

  function choose(key) {
    if (key === null && panel.contains(document.activeElement)) lists.querySelector(`li[data-key="${chosen}"] .pick`)?.focus();
    chosen = key;
    panel.hidden = true;
    delete panel.dataset.key;
    lists.querySelectorAll("li").forEach((row) => row.classList.toggle("chosen", row.dataset.key === String(key)));
    if (state) showMap(state);
    if (key !== null) showJob().catch(noAnswer);
  }

  // A box of many jobs opens to all of them; a frame is that of a group, which is a job, too.
  function pickBox(node) {
    const [style, , key, count] = state.nodes[node.id] ?? [];
    if (key === undefined) return;
    if (style.startsWith("many ") || count) find(`box ${key}`);
    if (!style.startsWith("many ") || node.classList.contains("cluster")) choose(key);
  }

  const drawn = new Map();
  function part(name, value, fill) {
    const text = JSON.stringify(value), node = panel.querySelector(name);
    if (drawn.get(name) === text) return;
    drawn.set(name, text);
    fill(node, value);
  }

  function linkTo([key, name, style]) {
    if (key === null) return element("bdi", "", name);
    const link = Object.assign(buttonOf(), { title: style, ariaLabel: `${name}, ${style}` });
    link.dataset.job = key;
    link.append(element("i", `swatch s-${style}`), element("bdi", "", name));
    return link;
  }

  async function showJob() {
    const key = chosen, job = await ask("job", { seen, key });
    if (chosen !== key || job.key !== key) return;
    const isSame = !panel.hidden && panel.dataset.key === String(key);
    remark(panel, job.mark);
    panel.dataset.key = key;
    panel.dataset.seen = seen;
    panel.hidden = false; // what is hidden has no height, and no end to follow
    set(panel.querySelector("h2 bdi"), job.name);
    set(panel.querySelector(".why"), [job.why, job.status].filter(Boolean).join(" · "));
    set(panel.querySelector(".error"), job.error);
    panel.querySelector(".cancel").hidden = !job.can_cancel;
    panel.querySelector(".retry").hidden = !job.can_retry;
    part(".retry", job.retry, (button, [word, text, question]) => {
      if (armed?.button === button) disarm();
      Object.assign(button.dataset, { do: word, question });
      set(button, text);
    });
    part(".state", [job.style, job.state], (node) => node.replaceChildren(element("i", `swatch s-${job.style}`), job.state));
    set(panel.querySelector(".unkept"), job.unkept);
    part("dl", job.facts, (node) => node.replaceChildren(...job.facts.flatMap(([name, text]) => [element("dt", "", name), element("dd", "", text)])));
    const links = [
      ["has", job.inside && [give(buttonOf("whole", job.inside), { "data-which": `in ${key}` })]],
      ...[["blocked by", job.blocked_by], ["in group", job.group], ["requires", job.requires], ["required by", job.required_by]].map(([title, jobs]) => [title, jobs.map(linkTo)]),
    ].filter(([, nodes]) => nodes.length);
    part(".links", [job.blocked_by, job.group, job.requires, job.required_by, job.inside], (node) => node.replaceChildren(...links.flatMap(([title, nodes]) => {
      const line = element("span");
      line.append(...nodes);
      return [element("span", "", title), line];
    })));
    part(".files", job.files, (node) => node.replaceChildren(...job.files.map(([stream, href, path]) => {
      const line = element("span", "", `${stream}: `);
      line.append(Object.assign(element("a", "", path), { href, target: "_blank" }));
      return line;
    })));
    const texts = [["traceback", job.traceback], [job.command_facts || "command", job.command], ...job.outputs].filter(([, text]) => text);
    part(".texts", texts, (node) => {
      const tops = (isSame ? [...node.querySelectorAll("pre")] : []).map((pre) => (pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 4 ? undefined : pre.scrollTop));
      node.replaceChildren(...texts.flatMap(([title, text]) => [element("p", "note", title), element("pre", title === "traceback" ? title : "", text)]));
      node.querySelectorAll("pre").forEach((pre, index) => (pre.scrollTop = tops[index] ?? pre.scrollHeight));
    });
  }

  // ---- words: what ends something asks in its own button, and a second click there says yes

  function say(text, isBad, seconds = 8) {
    set(answer, text);
    answer.classList.toggle("bad", isBad);
    clearTimeout(fade);
    if (seconds < Infinity) fade = setTimeout(() => set(answer, ""), 1000 * seconds);
  }
  function noAnswer() {
    if (!state?.ended) return say("trioflow look does not answer.", true);
    say(`The run has ended, and its program with it. In the report below: ${$("#shown").textContent}.`, false, Infinity);
  }
  function disarm() {
    if (!armed) return;
    clearTimeout(armed.timer);
    armed.button.textContent = armed.text;
    delete armed.button.dataset.armed;
    armed = null;
  }
  function arm(button, owner, question) {
    disarm();
    armed = { button, text: button.textContent, seen: owner?.dataset.seen ?? seen, at: performance.now(), timer: setTimeout(disarm, ARMED) };
    button.textContent = question;
    button.dataset.armed = "";
  }
  async function steer(request) {
    const response = await fetch("steer", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request) });
    const { done, error } = response.ok ? await response.json() : { error: "refused: it is too long, or the page is not the one of this run" };
    if (request.do !== "answer" || !state.asks.some(([key]) => key === request.job)) return say(error ?? done, error !== undefined);
    if (error === undefined) say(done, false);
    refused.set(request.job, error ?? ""); // stands below its question
    showSection("asks", SECTIONS.asks(state));
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-do]");
    if (button !== armed?.button) disarm();
    if (!button) return;
    event.preventDefault();
    const owner = button.closest("[data-key]"), action = button.dataset.do;
    const key = owner && owner.dataset.key !== "run" ? Number(owner.dataset.key) : null;
    if (event.detail && performance.now() < (settling.get(owner) ?? 0)) return;
    const isNothing = action === "answer" && button.dataset.value === undefined && !owner.querySelector("input").value;
    const question = isNothing ? "Answer nothing?" : button.dataset.question;
    if (question && armed?.button !== button) return event.detail > 1 || arm(button, owner, question);
    if (event.detail > 1 || (event.detail && performance.now() < armed?.at + STILL)) return; // a double click is one click
    const marks = owner?.dataset.marks?.split(",") ?? (action === "resume" ? [state.paused.split(/[ :]/)[0]] : []);
    const request = { do: action, seen: armed?.seen ?? owner?.dataset.seen ?? seen, job: key, marks };
    disarm();
    if (action.includes("try-again") && owner) request.value = (owner.dataset.keys || owner.dataset.key).split(",").map(Number);
    if (action === "answer") request.value = button.dataset.value ?? owner.querySelector("input").value;
    if (action === "window") {
      request.value = Number(owner.querySelector("input").value);
      if (!Number.isInteger(request.value) || request.value < 1) return say("give a whole number from 1 up", true);
    }
    steer(request).catch(noAnswer);
  });
  document.addEventListener("pointermove", ({ target }) => ([pointed, moved] = [target, performance.now()]), { passive: true });
  document.addEventListener("click", (event) => {
    const pick = event.target.closest(".pick, #job .links button, #job .close"), count = event.target.closest("#counts a"), node = event.target.closest("#map :is(.node, .cluster)");
    if (node) pickBox(node);
    if (count) {
      event.preventDefault();
      find(`state ${count.dataset.state}`);
    }
    if (!event.target.closest("#windows")) $("#windows").open = false;
    if (!pick) return;
    const row = pick.closest("li");
    if (pick.dataset.which) return find(pick.dataset.which);
    if (row?.dataset.which) return find(row.dataset.which, row); // of several: each of them leads to its own
    if (row?.dataset.job === "") return;
    choose(pick.matches(".close") ? null : Number(pick.dataset.job ?? row?.dataset.job ?? row?.dataset.key));
  });
  document.addEventListener("focusout", ({ target, relatedTarget }) => { // what has the focus was hidden: its neighbour gets it
    if (relatedTarget || target.checkVisibility()) return;
    const near = panel.contains(target) ? "#job .close" : live.contains(target) ? "#words button" : "#running .pick";
    [...document.querySelectorAll(near), finder].find((place) => place.checkVisibility()).focus();
  });
  map.addEventListener("focusin", (event) => {
    const node = event.target.closest(".node");
    if (!node) return;
    map.querySelector(".node[tabindex='0']")?.setAttribute("tabindex", -1);
    node.setAttribute("tabindex", 0);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.repeat && event.target.matches("input, button")) event.preventDefault(); // it is held
    else if (event.key === "Enter" && event.target.matches("#windows input, #asks input")) event.target.parentNode.querySelector("button").click();
    if (event.key === "Escape") {
      if (armed) disarm();
      else if ($("#windows").open) $("#windows").open = false;
      else if (!panel.hidden && !finder.matches(":focus")) choose(null);
      else if (!found.hidden) found.querySelector(".close").click();
    }
    const node = event.target.closest?.("#map .node");
    if (node && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      pickBox(node);
    }
    if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && !event.target.matches("input")) {
      event.preventDefault();
      finder.focus();
      finder.select();
    }
    if (node && ARROWS[event.key]) {
      event.preventDefault();
      return neighbour(node, ARROWS[event.key]).focus();
    }
    const picks = [...lists.querySelectorAll(".pick")], at = picks.indexOf(document.activeElement), step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (at < 0 || !step) return;
    event.preventDefault();
    picks[Math.min(picks.length - 1, Math.max(0, at + step))].focus();
  });

  // ---- the report below, asked for only while it is open

  const PARTS = ["header", "#graph", "#timeline > .scroll", "#families", "#forever", "#about"], shown = new Map();
  function replace(page, selector) {
    const next = page.querySelector(`#rest ${selector}`), place = $(`#rest ${selector}`);
    if (!next || !place || shown.get(selector) === next.outerHTML) return;
    shown.set(selector, next.outerHTML);
    const nameOf = (details) => details.querySelector("summary").textContent;
    const open = new Set([...place.querySelectorAll("details[open]")].map(nameOf));
    next.querySelectorAll("details").forEach((details) => (details.open = details.open || open.has(nameOf(details))));
    place.hidden = next.hidden;
    if (selector === "header") place.className = next.className;
    place.replaceChildren(...next.childNodes);
  }
  // If nobody answers, the next poll says so.
  const followReport = () => (following ??= loadReport().catch(() => {}).finally(() => (following = null)));
  async function loadReport() {
    const response = await fetch(`page?have=${reportVersion}`, { cache: "no-store" });
    const text = await response.text();
    if (!response.ok || !text) return;
    reportVersion = response.headers.get("X-Version");
    const page = new DOMParser().parseFromString(text, "text/html"); // runs no script, and loads nothing
    PARTS.forEach((selector) => replace(page, selector));
    document.dispatchEvent(new CustomEvent("trioflow:data", { detail: JSON.parse(page.getElementById("data").textContent) }));
  }
  rest.addEventListener("toggle", () => rest.open && reportVersion !== String(version) && followReport());
  poll();
})();
