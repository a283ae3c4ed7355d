// What makes the pages handier. Everything but the live tail works without it.
"use strict";

const each = (selector, act) => document.querySelectorAll(selector).forEach(act);

// Text becomes spans of a class; nothing here ever becomes markup.
function paint(into, text, language) {
  const rules = language === "json"
    ? /("(?:[^"\\\n]|\\.)*")(\s*:)?|(-?\b\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\b|\btrue\b|\bfalse\b|\bnull\b)/g
    : /(\{\{[^\n]*?\}\}|\{%[^\n]*?%\}|\$\{[^}\n]*\})|(^[ \t]*#[^\n]*|[ \t]#[^\n]*)|(^[ \t]*(?:- +)*(?:"[^"\n]*"|'[^'\n]*'|[^\s#:\-{}[\]"',][^:\n#]*?)(?=:(?:\s|$)))|("(?:[^"\\\n]|\\.)*"|'[^'\n]*')|(\b-?\d+(?:\.\d+)?\b|\btrue\b|\bfalse\b|\bnull\b)/gm;
  const parts = document.createDocumentFragment();
  let from = 0;
  const add = (kind, piece) => {
    const span = document.createElement("span");
    span.className = "hl-" + kind;
    span.textContent = piece;
    parts.append(span);
  };
  for (const found of text.matchAll(rules)) {
    parts.append(text.slice(from, found.index));
    if (language === "json") {
      if (found[1] !== undefined) {
        add(found[2] !== undefined ? "key" : "string", found[1]);
        if (found[2] !== undefined) parts.append(found[2]);
      } else add("number", found[3]);
    } else {
      const kind = ["template", "comment", "key", "string", "number"][found.slice(1).findIndex((one) => one !== undefined)];
      add(kind, found[0]);
    }
    from = found.index + found[0].length;
  }
  parts.append(text.slice(from));
  into.replaceChildren(parts);
}

// Beyond this a text stays plain: painting on every key would be felt.
const LONGEST = 60000;

function paintCode(root) {
  root.querySelectorAll("pre.code[data-language]").forEach((pre) => {
    const code = pre.querySelector("code");
    const language = pre.dataset.language;
    if (code && language !== "text" && code.textContent.length < LONGEST) paint(code, code.textContent, language);
  });
}

// Times are UTC; the local time is told beside the next moments, and as a title elsewhere.
function localTimes(root) {
  root.querySelectorAll("time[datetime]").forEach((time) => {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) return;
    const local = at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
    time.title = local + " local time";
    if (time.closest("[data-local]")) {
      const beside = document.createElement("span");
      beside.className = "dim";
      beside.textContent = " UTC · " + local + " here";
      time.after(beside);
    }
  });
}

// The editor: a textarea over its own text in colours, with the numbers of its lines.
function editor(box) {
  const area = box.querySelector("textarea");
  const wrap = document.createElement("div");
  wrap.className = "area";
  const under = document.createElement("pre");
  under.className = "under";
  under.setAttribute("aria-hidden", "true");
  const lines = document.createElement("div");
  lines.className = "lines";
  lines.setAttribute("aria-hidden", "true");
  area.before(wrap);
  wrap.append(under, area);
  wrap.before(lines);
  box.classList.add("on");
  const faulty = new Set();
  const draw = () => {
    const text = area.value;
    if (text.length < LONGEST) paint(under, text + "\n", "yaml");
    else under.textContent = text + "\n";
    const count = text.split("\n").length;
    const parts = document.createDocumentFragment();
    for (let line = 1; line <= count; line += 1) {
      if (faulty.has(line)) {
        const at = document.createElement("span");
        at.className = "at";
        at.textContent = String(line);
        parts.append(at);
      } else parts.append(line + "\n");
    }
    lines.replaceChildren(parts);
    follow();
  };
  const follow = () => {
    under.scrollTop = area.scrollTop;
    under.scrollLeft = area.scrollLeft;
    lines.scrollTop = area.scrollTop;
  };
  const goTo = (line) => {
    const before = area.value.split("\n").slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
    area.focus();
    area.setSelectionRange(before, before);
    area.scrollTop = Math.max(0, (line - 5) * (area.scrollHeight / area.value.split("\n").length));
  };
  area.addEventListener("input", draw);
  area.addEventListener("scroll", follow);
  new ResizeObserver(() => { lines.style.height = area.offsetHeight + "px"; follow(); }).observe(area);
  draw();
  return {
    mark(root) {
      faulty.clear();
      root.querySelectorAll("[data-line]").forEach((item) => {
        const line = Number(item.dataset.line);
        faulty.add(line);
        const link = item.querySelector("a");
        if (link) link.addEventListener("click", (event) => { event.preventDefault(); goTo(line); });
      });
      draw();
    },
  };
}

// The preview follows what is typed, on the router's own code.
function preview(form, marks) {
  const panel = form.querySelector("[data-preview]");
  const choice = form.querySelector("[data-message]");
  let timer = 0;
  let asked = 0;
  const ask = async () => {
    if (!choice.value) return;
    asked += 1;
    const mine = asked;
    const body = new URLSearchParams(new FormData(form));
    body.set("do", "preview");
    try {
      const answer = await fetch(form.action, { method: "POST", body, headers: { "x-pulsehook-part": "preview" }, credentials: "same-origin" });
      const text = await answer.text();
      if (mine !== asked) return;
      const read = new DOMParser().parseFromString(text, "text/html");
      if (answer.ok) panel.replaceChildren(...read.body.childNodes);
      else panel.textContent = "The preview failed (" + answer.status + "): reload the page, perhaps the session has ended.";
      paintCode(panel);
      localTimes(panel);
      marks.mark(panel);
    } catch (error) {
      if (mine === asked) panel.textContent = "The router does not answer.";
    }
  };
  const soon = () => { clearTimeout(timer); timer = setTimeout(ask, 400); };
  form.addEventListener("input", soon);
  choice.addEventListener("change", () => {
    const pasted = form.querySelector("[data-pasted]");
    if (choice.value === "pasted") pasted.open = true;
    clearTimeout(timer);
    ask();
  });
  form.addEventListener("submit", (event) => {
    if (event.submitter && event.submitter.value === "preview") {
      event.preventDefault();
      ask();
    }
  });
}

// The live tail.
function tail(list) {
  const state = document.querySelector("[data-live-state]");
  const pause = document.querySelector("[data-pause]");
  const most = 200;
  let waiting = [];
  let paused = false;
  const cell = (kind, className, text) => {
    const made = document.createElement(kind);
    made.className = className;
    made.textContent = text;
    return made;
  };
  const show = (seen) => {
    const item = document.createElement("li");
    item.className = seen.tone;
    const entry = cell("div", "entry", "");
    const when = new Date(seen.at).toISOString();
    const time = cell("time", "when", when.slice(0, 10) + " " + when.slice(11, 23));
    time.dateTime = when;
    entry.append(time, cell("span", "badge " + seen.tone, seen.outcome), cell("code", "key", seen.key), cell("span", "reason", seen.reason));
    const links = cell("span", "links", "");
    [["href", "fire"], ["event", "save as test event"], ["try", "try with changes"]].forEach(([key, word]) => {
      if (!seen[key] || !seen[key].startsWith("/")) return;
      const link = cell("a", "", word);
      link.href = seen[key];
      links.append(link, " ");
    });
    entry.append(links);
    item.append(entry);
    list.prepend(item);
    while (list.children.length > most) list.lastElementChild.remove();
  };
  const flush = () => { waiting.forEach(show); waiting = []; };
  const events = new EventSource(list.dataset.live);
  events.addEventListener("open", () => { state.textContent = "watching"; });
  events.addEventListener("error", () => { state.textContent = events.readyState === EventSource.CLOSED ? "ended" : "the connection is lost; trying again"; });
  events.addEventListener("seen", (event) => {
    waiting.push(JSON.parse(event.data));
    if (waiting.length > most) waiting.shift();
    if (!paused) flush();
    else pause.textContent = "Go on (" + waiting.length + " new)";
  });
  events.addEventListener("missed", (event) => { state.textContent = event.data + " messages came too fast and are not shown"; });
  events.addEventListener("ended", () => { events.close(); state.textContent = "ended: sign in again"; });
  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    if (!paused) flush();
  });
}

function copying(input) {
  if (!navigator.clipboard) return;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(input.value);
    button.textContent = "Copied";
  });
  const label = document.querySelector(`label[for="${input.id}"]`);
  if (label) button.setAttribute("aria-label", "Copy " + label.textContent);
  const both = document.createElement("span");
  both.className = "copy";
  input.before(both);
  both.append(input, button);
}

paintCode(document);
localTimes(document);
each("[data-zone]", (at) => {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone && zone !== "UTC") at.textContent = "; hover over one to see it in " + zone;
});
each("[data-edit]", (form) => {
  const marks = editor(form.querySelector("[data-editor]"));
  marks.mark(form);
  preview(form, marks);
});
each("[data-live]", tail);
each("[data-copy]", copying);
document.addEventListener("keydown", (event) => {
  const typing = event.target instanceof Element && event.target.closest("input, textarea, select, [contenteditable]");
  const search = document.querySelector("[data-search]");
  if (event.key === "/" && !typing && search && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    search.focus();
  }
});
