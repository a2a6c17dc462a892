// The script of a page that moves. It asks for the state of the run, and changes in place what has changed: a row has the
// key of its job, and keeps its element, its place under the pointer, and the focus.
(() => {
  const $ = (selector) => document.querySelector(selector);
  const [live, lists, rest, answer, panel, map] = ["#live", "#lists", "#rest", "#answer", "#job", "#map"].map($);
  const SHORT = 12, HELD = 8000, ARMED = 6000, STILL = 400; // milliseconds
  let version = "", seen = "", state = null, chosen = null, armed = null, fade = 0, moved = -Infinity, picture = 0;
  const [found, finder, log] = ["#found", "#find", "#log"].map($), refused = new Map();
  let isLong = false, isWholeLog = false, wanted = null, failures = 0, silentSince = "", reportVersion = "", following = null;

  function element(tag, className, text) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  }
  function set(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  // ---- asking

  async function poll() {
    let wait = 0;
    try {
      const response = await fetch(`state?have=${version}`, { cache: "no-store", signal: AbortSignal.timeout(15000) }); // waits for news
      if (!response.ok) throw new Error(response.status);
      const next = await response.json();
      if (failures) say("", false);
      failures = 0;
      if (next.version !== version) show(next);
      version = next.version;
      if (chosen !== null) await showJob();
      await showFound();
      if (isWholeLog || log.querySelector("input").value) await showLog();
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
    link.href = URL.createObjectURL(await (await fetch(link.getAttribute("href"))).blob()); // also when the server has gone
    link.download = "report.html";
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
    const focused = document.activeElement?.dataset?.do;
    live.dataset.paused = next.paused !== "";
    if (focused === "pause" && next.paused) $('[data-do="resume"]').focus(); // the one takes the place of the other
    if (focused === "resume" && !next.paused) $('[data-do="pause"]').focus();
    live.dataset.steered = next.steered;
    live.dataset.ended = next.ended;
    live.dataset.failed = next.failed_count > 0;
    set($('[data-do="resume"]'), next.paused.startsWith("held") ? "End as failed" : "Resume");
    document.body.toggleAttribute("data-still", next.ended || !next.steered);
    set($("#name"), next.title);
    const [word, kind] = next.ended ? (next.problem ? ["gone", "bad"] : ["ended", next.is_good ? "good" : "bad"])
      : next.paused ? [next.paused.split(/[ :]/)[0], "wait"] : [next.phase, next.phase === "runs" ? "on" : ""];
    set($("#phase"), word);
    $("#phase").className = `badge ${kind}`;
    set($("#when"), next.verdict || (next.count ? `at ${next.time}` : ""));
    if (next.ended) set($("#rest > summary"), "Report");
    set($("#settled"), next.count ? `${next.settled} of ${next.count}${next.may_grow ? "+" : ""}` : "");
    set($("#elapsed"), next.elapsed);
    set($("#left"), next.ended ? "" : next.left);
    set($("#about"), next.left_is_least ? "left, more than" : "left, about");
    const [root, ...groups] = next.windows;
    const limited = root && root[3] !== null ? [root] : groups.filter((row) => row[3] !== null); // a group counts as one in the window around it
    const sum = (column) => limited.reduce((total, row) => total + row[column], 0);
    set($("#slots"), limited.length ? `${sum(2)} of ${sum(3)}` : "");
    $("#bar").replaceChildren(...next.counts.map(([style, , count]) => {
      const part = element("span", `s-${style}`);
      part.style.flexGrow = count;
      return part;
    }));
    showCounts(next);
    const problem = [next.paused, next.problem, next.lacks].filter(Boolean).join(" · ");
    set($("#problem"), problem);
    $("#problem").hidden = !problem;
    $("#problem").className = next.problem ? "bad" : "note";
    showWindows(next.windows);
    showLists(next);
    if (tops !== null) noteMoves(tops);
    showMap(next);
    if (!next.ended && rest.open) followReport();
  }

  // Each count leads to its jobs.
  function showCounts(next) {
    const place = $("#counts"), known = new Map([...place.children].map((part) => [part.dataset.state, part]));
    const parts = next.counts.map(([style, , count, name]) => {
      const part = known.get(name) ?? element("a");
      if (!part.dataset.state) {
        part.href = "#jobs";
        part.dataset.state = name;
        part.append(element("i", `swatch s-${style}`), element("b"), element("span"));
      }
      set(part.children[1], String(count));
      set(part.children[2], ` ${name}${style === "failed" && next.tolerated ? ` (${next.tolerated} tolerated)` : ""}`);
      return part;
    });
    if (next.forever) {
      const part = known.get("forever") ?? element("span");
      part.dataset.state = "forever";
      set(part, `and ${next.forever} forever job${next.forever > 1 ? "s" : ""}`);
      parts.push(part);
    }
    if (parts.length !== place.children.length || parts.some((part, index) => part !== place.children[index])) place.replaceChildren(...parts);
  }
  $("#counts").addEventListener("click", (event) => {
    const name = event.target.closest("a")?.dataset.state;
    if (!name) return;
    event.preventDefault();
    find(`state ${name}`);
  });

  function showWindows(rows) {
    patch($("#windows ul"), rows.map((row) => [row[0] ?? "run", ...row]), (row, [, key, label, taken, size, isNumber]) => {
      if (!row.childNodes.length) {
        const field = element("input"), button = element("button", "", "Set");
        field.type = "number";
        field.min = 1;
        button.type = "button"; // a form would submit its first row
        button.dataset.do = "window";
        row.append(element("bdi"), element("span", "number"), field, button);
      }
      const [name, count, field, button] = row.children;
      set(name, key === null ? "the run" : label);
      set(count, `${taken} of ${size ?? "∞"}`);
      name.title = label;
      field.setAttribute("aria-label", `Slots of ${name.textContent}`);
      if (document.activeElement !== field) field.value = size ?? "";
      field.disabled = button.disabled = !isNumber;
      field.title = !isNumber ? "Only a number can be replaced during a run, and this window is none: no limit, a limiter or an Adaptive" : "";
    });
  }

  // ---- the lists: rows by key, which stay where they are while a pointer is over them

  const isHeld = () => armed !== null || (lists.matches(":hover") && performance.now() - moved < HELD);

  function patch(list, rows, fill) {
    const known = new Map([...list.children].map((row) => [row.dataset.key, row]));
    const keys = rows.map(([key]) => String(key)), wanted = new Set(keys);
    const held = isHeld();
    known.forEach((row, key) => {
      if (wanted.has(key)) return;
      if (row.contains(document.activeElement) && !found.contains(document.activeElement)) row.firstChild.focus(); // its other buttons are about to go
      if (row.contains(found)) $("#asks").after(found);
      if (held || row.contains(document.activeElement)) row.classList.add("gone");
      else row.remove();
    });
    rows.forEach((values, index) => {
      let row = known.get(keys[index]);
      if (!row) {
        row = element("li");
        row.dataset.key = keys[index];
        known.set(keys[index], row);
        list.append(row);
      }
      row.dataset.seen = seen;
      row.classList.remove("gone");
      row.classList.toggle("chosen", String(chosen) === keys[index] && list.closest("#lists") !== null);
      fill(row, values);
    });
    const order = [...list.children].filter((row) => wanted.has(row.dataset.key)).map((row) => row.dataset.key);
    if (!held && !list.contains(document.activeElement) && order.join() !== keys.join()) {
      keys.forEach((key) => list.append(known.get(key)));
    }
  }

  function fillRow(row, style, name, tag, count) {
    if (!row.childNodes.length) {
      const pick = element("button", "pick");
      pick.type = "button";
      pick.append(element("i", `swatch s-${style}`), element("b"), element("bdi"), element("span", "tag"));
      row.append(pick);
    }
    const [, number, label, note] = row.firstChild.children;
    set(number, count > 1 ? `${count} jobs` : "");
    set(label, name);
    label.title = name;
    set(note, tag);
    number.hidden = count < 2;
    note.hidden = !tag;
  }

  // A click on what has come under a pointer or a finger a moment ago was meant for something else.
  const settling = new WeakMap();
  const topsOfRows = () => new Map([...lists.querySelectorAll("li")].map((row) => [row, row.getBoundingClientRect().top]));
  function noteMoves(tops) {
    topsOfRows().forEach((top, row) => {
      if (tops.get(row) !== top) settling.set(row, performance.now() + STILL);
    });
  }

  function showAsks(next) {
    if (!next.asks.length && $("#asks").contains(document.activeElement)) ($("#running .pick") ?? finder).focus();
    $("#asks").hidden = !next.asks.length;
    set($("#asks .total"), next.asks.length > 1 ? String(next.asks.length) : "");
    patch($("#asks > ol"), next.asks, (row, [key, name, question, choices, isSecret, refusal]) => {
      fillRow(row, "running", name, "", 1);
      if (row.children.length === 1) {
        const place = element("div", "choices");
        (choices ?? [null]).forEach((choice) => {
          const button = element("button", "", choice ?? "Answer");
          button.type = "button";
          button.dataset.do = "answer";
          if (choice !== null) Object.assign(button.dataset, { value: choice, question: `Answer ${choice}?` });
          place.append(button);
        });
        if (!choices) {
          const field = element("input");
          field.type = isSecret ? "password" : "text";
          field.autocomplete = "off";
          field.setAttribute("aria-label", `Answer to ${name}`);
          place.prepend(field);
        }
        row.append(element("div", "sub more"), place, element("p", "error"));
      }
      set(row.children[1], question);
      set(row.children[3], refused.get(key) ?? refusal);
    });
  }

  function showLists(next) {
    showAsks(next);
    const rows = isLong ? next.running : next.running.slice(0, SHORT), more = next.running.length - SHORT;
    const hidden = next.running_count - next.running.length, all = $("#running > .all");
    all.hidden = more < 1;
    set(all, isLong ? "Show fewer" : `and ${more} more`);
    set($("#running .total"), `${next.running_count - next.running_forever}${next.running_forever ? ` and ${next.running_forever} forever` : ""}`);
    patch($("#running > ol"), rows, (row, [, name, tag, time]) => {
      fillRow(row, "running", name, tag, 1);
      if (row.children.length === 1) {
        const button = element("button", "cancel", "×");
        button.type = "button";
        Object.assign(button.dataset, { do: "cancel", question: "Cancel?" });
        row.append(element("span", "number"), button);
      }
      set(row.children[1], time);
      row.children[2].setAttribute("aria-label", `Cancel ${name}`);
    });
    set($("#running > .note"), hidden > 0 && isLong ? `and ${hidden} more, in the report` : next.running_count ? "" : "Nothing.");
    $("#running").hidden = next.ended;
    if (!next.failed.length && $("#failed").contains(document.activeElement)) $("#running .pick")?.focus();
    $("#failed").hidden = !next.failed.length;
    set($("#failed .total"), String(next.failed_count));
    patch($("#failed > ol"), next.failed, (row, [, count, names, headline, tag, place, keys]) => {
      fillRow(row, "failed", names, tag, count);
      row.dataset.keys = keys;
      row.dataset.which = count > 1 ? `failure ${row.dataset.key}` : "";
      if (row.children.length === 1) {
        const button = element("button", "retry");
        button.type = "button";
        button.dataset.do = "retry";
        row.append(button, element("div", "sub more"));
      }
      set(row.children[1], keys.length > 1 ? `Try ${keys.length} again` : "Try again");
      set(row.children[2], headline + (place && ` · ${place}`));
      row.children[1].setAttribute("aria-label", `Try ${names} again`);
    });
    set($("#failed > .note"), next.failed_more ? `and ${next.failed_more} more, in the report` : "");
    patch($("#waiting > ol"), next.waiting, (row, [, key, count, names, text]) => {
      fillRow(row, "scheduled", names, "", count);
      row.dataset.job = key;
      row.dataset.which = count > 1 ? `wait ${row.dataset.key}` : "";
      if (row.children.length === 1) row.append(element("div", "sub"));
      set(row.children[1], text);
    });
    const words = (count, text) => (count ? [`${count} ${count === 1 ? "waits" : "wait"} ${text}`] : []);
    const notes = [...(next.unexplained ? [`and ${next.unexplained} more, not looked at`] : []), ...words(next.idle, "for other jobs to end")];
    $("#waiting").hidden = next.ended || !(next.waiting.length || notes.length);
    set($("#waiting > .note"), notes.join(" · "));
    if (!isWholeLog && !log.querySelector("input").value) fillLog(next.log);
  }

  // ---- the log of the run

  function fillLog({ lines, count }) {
    const all = log.querySelector(":scope > .all"), isFiltered = log.querySelector("input").value !== "";
    log.hidden = !count && !isFiltered && !isWholeLog;
    set(log.querySelector(".total"), String(count));
    patch(log.querySelector(":scope > ol"), lines, (row, [, kind, key, name, time, text]) => {
      fillRow(row, kind, name || "the run", "", 1);
      if (row.children.length === 1) row.append(element("span", "number"), element("div", "sub"));
      row.dataset.job = key ?? "";
      row.firstChild.disabled = key === null;
      set(row.children[1], time);
      set(row.children[2], text);
    });
    set(log.querySelector(":scope > .note"), count ? (count > lines.length && (isWholeLog || isFiltered) ? `and ${count - lines.length} earlier` : "") : "Nothing.");
    all.hidden = isFiltered || (!isWholeLog && count <= lines.length);
    set(all, isWholeLog ? "Show fewer" : `and ${count - lines.length} earlier`);
  }
  async function showLog() {
    const words = log.querySelector("input").value;
    const lines = await (await fetch(`log?words=${encodeURIComponent(words)}`, { cache: "no-store" })).json();
    if (words === log.querySelector("input").value && (words || isWholeLog)) fillLog(lines);
  }
  const noAnswer = () => say("trioflow look does not answer.", true);
  log.querySelector("input").addEventListener("input", (event) => (event.target.value || isWholeLog ? showLog().catch(noAnswer) : fillLog(state.log)));
  log.querySelector(":scope > .all").addEventListener("click", () => {
    isWholeLog = !isWholeLog;
    if (isWholeLog) showLog().catch(noAnswer);
    else fillLog(state.log);
  });

  // ---- jobs by name, state, box or row: a list below the row that was chosen, or above all

  function find(which, row) {
    const isSame = wanted !== null && which === wanted.which && row !== undefined;
    if (found.contains(document.activeElement)) found.closest("li")?.querySelector(".pick").focus();
    wanted = which === null || isSame ? null : { which };
    if (row && wanted) row.append(found);
    else $("#asks").after(found);
    found.hidden = true;
    found.querySelectorAll("li").forEach((one) => one.remove());
    if (wanted) showFound().then(() => row || finder === document.activeElement || found.scrollIntoView({ block: "nearest" })).catch(noAnswer);
  }
  async function showFound() {
    const words = finder.value.trim(), which = wanted?.which ?? "";
    if (!words && !which) return void (found.hidden = true);
    const query = new URLSearchParams({ seen, which, words });
    const { title, count, counts, jobs } = await (await fetch(`jobs?${query}`, { cache: "no-store" })).json();
    if (!jobs || words !== finder.value.trim() || which !== (wanted?.which ?? "")) return;
    found.hidden = false;
    set(found.querySelector("bdi"), [words && `“${words}”`, title].filter(Boolean).join(" in "));
    set(found.querySelector(".total"), counts || "nothing");
    patch(found.querySelector("ol"), jobs, (row, [, name, style, text, time, tag]) => {
      fillRow(row, style, name, tag, 1);
      row.querySelector(".swatch").className = `swatch s-${style}`;
      if (row.children.length === 1) row.append(element("span", "number"));
      set(row.children[1], [text, time].filter(Boolean).join(" "));
    });
    set(found.querySelector(".more"), count > jobs.length ? `and ${count - jobs.length} more: type a part of their names` : "");
  }
  finder.addEventListener("input", () => {
    if (finder.value && found.closest("li")) find(null);
    showFound().catch(noAnswer);
  });
  finder.addEventListener("keydown", (event) => {
    const first = found.hidden ? null : found.querySelector(".pick");
    if (event.key === "Enter" && first) choose(Number(first.closest("li").dataset.key));
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

  const SVG = "http://www.w3.org/2000/svg";
  async function showMap(next) {
    map.hidden = !(next.graph || next.graph_note);
    set(map.querySelector(".note"), next.graph_note ?? "");
    map.querySelector(".card").hidden = !next.graph;
    if (next.graph && next.graph !== picture) {
      picture = next.graph;
      const text = await (await fetch("graph")).text();
      const own = document.importNode(new DOMParser().parseFromString(text, "image/svg+xml").documentElement, true);
      own.setAttribute("role", "group");
      own.setAttribute("aria-label", "The graph of the jobs");
      own.querySelectorAll(".node, .cluster").forEach((node) => node.setAttribute("role", "button"));
      own.querySelectorAll(".node").forEach((node, index) => node.setAttribute("tabindex", index ? -1 : 0)); // arrows lead to the others
      map.querySelector(".card").replaceChildren(own);
      const hasLabels = own.querySelector(".node text") !== null;
      own.style.minWidth = `${(hasLabels ? 0.58 : 0.4) * own.width.baseVal.value}px`; // so that it can be read
      if (!hasLabels) own.style.maxHeight = "408px";
    }
    Object.entries(state.nodes ?? {}).forEach(([id, [style, text, key, count, shares]]) => {
      const node = document.getElementById(id); // each layout has names of its own
      if (!node) return;
      const kind = node.classList.contains("node") ? "node" : "cluster";
      const name = `${kind} ${style}${key === chosen ? " chosen" : ""}`;
      if (node.getAttribute("class") !== name) node.setAttribute("class", name);
      set(node.querySelector("title"), text);
      if (!count) return;
      const last = [...node.querySelectorAll("text")].at(-1);
      set(last, count);
      if (kind === "node") showShares(node, last, shares);
    });
  }

  // How many jobs of a box are in each state: a bar at its lower border.
  function showShares(node, label, shares) {
    const text = JSON.stringify(shares), box = node.querySelector("path, polygon").getBBox();
    if (node.dataset.shares === text || !box.width) return;
    node.dataset.shares = text;
    label.setAttribute("text-anchor", "middle");
    label.setAttribute("x", box.x + box.width / 2);
    node.querySelectorAll("rect").forEach((bar) => bar.remove());
    const total = shares.reduce((sum, [, count]) => sum + count, 0), width = box.width - 10;
    const widths = shares.map(([, count]) => Math.max(3, (width * count) / total)), excess = widths.reduce((sum, one) => sum + one, 0) / width;
    let x = box.x + 5;
    shares.forEach(([style], index) => {
      const bar = node.appendChild(document.createElementNS(SVG, "rect"));
      Object.entries({ class: style, x, y: box.y + box.height - 6, width: widths[index] / excess, height: 3 }).forEach(([name, value]) => bar.setAttribute(name, value));
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
    if (key !== null) showJob().catch(() => say("trioflow look does not answer.", true));
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

  function whole(key, text) {
    const link = element("button", "whole", text), line = element("span");
    link.type = "button";
    link.dataset.which = `in ${key}`;
    line.append(link);
    return line;
  }

  async function showJob() {
    const key = chosen;
    const job = await (await fetch(`job?seen=${seen}&key=${key}`, { cache: "no-store" })).json();
    if (chosen !== key || job.key !== key) return;
    const isSame = !panel.hidden && panel.dataset.key === String(key);
    panel.dataset.key = key;
    panel.dataset.seen = seen;
    panel.hidden = false; // what is hidden has no height, and no end to follow
    set(panel.querySelector("h2 bdi"), job.name);
    set(panel.querySelector(".why"), [job.why, job.status].filter(Boolean).join(" · "));
    set(panel.querySelector(".error"), job.error);
    panel.querySelector(".cancel").hidden = !job.can_cancel;
    panel.querySelector(".retry").hidden = !job.can_retry;
    part(".state", [job.style, job.state], (node) => node.replaceChildren(element("i", `swatch s-${job.style}`), job.state));
    set(panel.querySelector(".unkept"), job.unkept);
    part("dl", job.facts, (node) => node.replaceChildren(...job.facts.flatMap(([name, text]) => [element("dt", "", name), element("dd", "", text)])));
    part(".links", [job.blocked_by, job.group, job.requires, job.required_by, job.inside], (node) => node.replaceChildren(...(job.inside ? [element("span", "", "has"), whole(key, job.inside)] : []), ...[["blocked by", job.blocked_by], ["in group", job.group], ["requires", job.requires], ["required by", job.required_by]].flatMap(([title, links]) => {
      if (!links.length) return [];
      const line = element("span");
      links.forEach(([number, name, style]) => {
        const link = element(number === null ? "span" : "button");
        if (number !== null) {
          link.type = "button";
          link.dataset.job = number;
          link.append(element("i", `swatch s-${style}`));
          link.title = style;
          link.setAttribute("aria-label", `${name}, ${style}`);
        }
        link.append(element("bdi", "", name));
        line.append(link);
      });
      return [element("span", "", title), line];
    })));
    part(".files", job.files, (node) => node.replaceChildren(...job.files.map(([stream, address, path]) => {
      const line = element("span", "", `${stream}: `), link = element("a", "", path);
      link.href = address;
      link.target = "_blank";
      line.append(link);
      return line;
    })));
    const texts = [["traceback", job.traceback], [job.command_facts || "command", job.command], ...job.outputs].filter(([, text]) => text);
    part(".texts", texts, (node) => {
      const tops = (isSame ? [...node.querySelectorAll("pre")] : []).map((pre) => (pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 4 ? undefined : pre.scrollTop));
      node.replaceChildren(...texts.flatMap(([title, text]) => [element("p", "note", title), element("pre", "", text)]));
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
  function disarm() {
    if (!armed) return;
    clearTimeout(armed.timer);
    armed.button.textContent = armed.text;
    delete armed.button.dataset.armed;
    armed = null;
  }
  function arm(button, owner) {
    disarm();
    armed = { button, text: button.textContent, seen: owner?.dataset.seen ?? seen, timer: setTimeout(disarm, ARMED) };
    button.textContent = button.dataset.question;
    button.dataset.armed = "";
  }
  async function steer(request) {
    try {
      const response = await fetch("steer", {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request),
      });
      const { done, error } = await response.json();
      if (request.do !== "answer") return say(error ?? done, error !== undefined);
      if (error === undefined) say(done, false);
      refused.set(request.job, error ?? ""); // stands below its question
      showAsks(state);
    } catch {
      say("trioflow look does not answer.", true);
    }
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-do]");
    if (button !== armed?.button) disarm();
    if (!button) return;
    event.preventDefault();
    const owner = button.closest("[data-key]"), action = button.dataset.do;
    const key = owner && owner.dataset.key !== "run" ? Number(owner.dataset.key) : null;
    if (event.detail && performance.now() < (settling.get(owner) ?? 0)) return;
    if (button.dataset.question && armed?.button !== button) return arm(button, owner);
    const request = { do: action, seen: armed?.seen ?? owner?.dataset.seen ?? seen, job: key };
    disarm();
    if (action === "retry" && owner) request.value = (owner.dataset.keys ?? owner.dataset.key).split(",").map(Number);
    if (action === "answer") request.value = button.dataset.value ?? owner.querySelector("input").value;
    if (action === "window") {
      request.value = Number(owner.querySelector("input").value);
      if (!Number.isInteger(request.value) || request.value < 1) return say("give a whole number from 1 up", true);
    }
    steer(request);
  });
  $("#running > .all").addEventListener("click", () => {
    isLong = !isLong;
    showLists(state);
  });
  $("#windows ul").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.matches("input")) event.target.closest("li").querySelector("button").click();
  });
  $("#asks").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.matches("input")) event.target.parentNode.querySelector("button").click();
  });
  document.addEventListener("pointermove", () => (moved = performance.now()), { passive: true });
  document.addEventListener("click", (event) => {
    const pick = event.target.closest(".pick, #job .links button, #job .close"), node = event.target.closest("#map :is(.node, .cluster)");
    if (node) pickBox(node);
    if (!event.target.closest("#windows")) $("#windows").open = false;
    if (!pick) return;
    const row = pick.closest("li");
    if (pick.dataset.which) return find(pick.dataset.which);
    if (row?.dataset.which) return find(row.dataset.which, row); // of several: each of them leads to its own
    if (row?.dataset.job === "") return;
    choose(pick.matches(".close") ? null : Number(pick.dataset.job ?? row?.dataset.job ?? row?.dataset.key));
  });
  map.addEventListener("focusin", (event) => {
    const node = event.target.closest(".node");
    if (!node) return;
    map.querySelector(".node[tabindex='0']")?.setAttribute("tabindex", -1);
    node.setAttribute("tabindex", 0);
  });
  document.addEventListener("keydown", (event) => {
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
    const picks = [...lists.querySelectorAll(".pick")];
    const at = picks.indexOf(document.activeElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (at < 0 || !step) return;
    event.preventDefault();
    picks[Math.min(picks.length - 1, Math.max(0, at + step))].focus();
  });

  // ---- the report below, asked for only while it is open

  const PARTS = ["header", "#graph", "#timeline > .scroll", "#families", "#forever", "#about"];
  const shown = new Map();
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
  const followReport = () => (following ??= loadReport().finally(() => (following = null)));
  async function loadReport() {
    try {
      const response = await fetch(`page?have=${reportVersion}`, { cache: "no-store" });
      const text = await response.text();
      if (!response.ok || !text) return;
      reportVersion = response.headers.get("X-Version");
      const page = new DOMParser().parseFromString(text, "text/html"); // runs no script, and loads nothing
      PARTS.forEach((selector) => replace(page, selector));
      const data = JSON.parse(page.getElementById("data").textContent);
      document.dispatchEvent(new CustomEvent("trioflow:data", { detail: data }));
    } catch {
      // the next poll says that nobody answers
    }
  }
  rest.addEventListener("toggle", () => rest.open && reportVersion !== String(version) && followReport());
  poll();
})();
