/* A learner's file: a plain text area with line numbers, and the same text in colours under its transparent letters.
   Tab indents, Escape then Tab leaves; Ctrl+S saves. What is not saved is also kept in the tab's session storage, so
   that a reload, another language or another page loses nothing. */
const MOST_COLOURED = 30000; // characters; beyond that typing would lag
const PYTHON = /("""[\s\S]*?(?:"""|$)|'''[\s\S]*?(?:'''|$)|#[^\n]*|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?)|\b(False|None|True|and|as|assert|async|await|break|class|continue|def|del|elif|else|except|finally|for|from|global|if|import|in|is|lambda|nonlocal|not|or|pass|raise|return|try|while|with|yield)\b/g;

function buildEditor(root) {
  const bar = el("div", "bar"), path = el("span", "path mono"), state = el("span", "state");
  const pane = el("div", "pane"), gutter = el("div", "gutter"), sheet = el("div", "sheet");
  const colours = el("pre", "colours"), area = el("textarea", "area");
  const foot = el("div", "foot"), save = el("button", "save"), status = el("span", "status"), keys = el("span", "keys");
  gutter.setAttribute("aria-hidden", "true");
  colours.setAttribute("aria-hidden", "true");
  state.setAttribute("role", "status");
  save.type = "button";
  Object.assign(area, { spellcheck: false, wrap: "off", autocapitalize: "off" });
  for (const name of ["autocomplete", "autocorrect"]) area.setAttribute(name, "off");
  sheet.append(colours, area);
  pane.append(gutter, sheet);
  bar.append(path, state);
  foot.append(save, status, keys);
  root.append(bar, pane, foot);
  const view = { root, path, state, gutter, colours, area, save, status, keys, base: null, clean: "", sent: null };
  listen(view);
  return view;
}

function listen(view) {
  const { area } = view;
  let leaving = false;
  area.addEventListener("input", () => changed(view));
  area.addEventListener("scroll", () => follow(view));
  area.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s") {
      event.preventDefault();
      return send(view);
    }
    if (event.isComposing) return;
    if (event.key === "Tab" && !event.ctrlKey && !event.altKey && !leaving) {
      event.preventDefault();
      indent(view, event.shiftKey);
    } else if (event.key === "Enter" && !event.shiftKey && !event.ctrlKey && !event.altKey) {
      event.preventDefault();
      newLine(view);
    }
    leaving = event.key === "Escape";
  });
  view.save.addEventListener("click", () => send(view));
  new ResizeObserver(() => follow(view)).observe(area);
}

const isDirty = (view) => view.area.value !== view.clean;

/* Through the browser's own editing command, so that Undo takes it back. */
function write(view, from, to, text) {
  view.area.setSelectionRange(from, to);
  const done = text === "" ? from === to || document.execCommand("delete") : document.execCommand("insertText", false, text);
  if (!done) view.area.setRangeText(text, from, to, "end");
  changed(view);
}

function indent(view, back) {
  const { area } = view, { selectionStart: from, selectionEnd: to, value } = area;
  const first = value.lastIndexOf("\n", from - 1) + 1;
  if (from === to && !back) return write(view, from, to, " ".repeat(4 - ((from - first) % 4)));
  const end = to > from && value[to - 1] === "\n" ? to - 1 : to;
  const old = value.slice(first, end).split("\n");
  const lines = old.map((line) => (back ? line.replace(/^( {1,4}|\t)/, "") : line ? `    ${line}` : line));
  if (lines.join("\n") === old.join("\n")) return;
  write(view, first, end, lines.join("\n"));
  const moved = lines[0].length - old[0].length, all = lines.join("\n").length - (end - first);
  area.setSelectionRange(Math.max(first, from + moved), to + all);
}

function newLine(view) {
  const { selectionStart: from, selectionEnd: to, value } = view.area;
  const line = value.slice(value.lastIndexOf("\n", from - 1) + 1, from);
  const spaces = /^[ \t]*/.exec(line)[0];
  write(view, from, to, `\n${spaces}${/:\s*(#.*)?$/.test(line) ? "    " : ""}`);
}

function send(view) {
  const text = view.area.value, { data } = view;
  if (new TextEncoder().encode(text).length > data.most) return say(view, data.words.large, true);
  view.sent = text;
  view.save.classList.add("pending");
  clearTimeout(view.undo);
  view.undo = setTimeout(() => view.save.classList.remove("pending"), 20000);
  view.emit("save", { text, base: view.base });
}

function storage(view) {
  try {
    return window.sessionStorage;
  } catch {
    return null; // switched off: then there is no draft to come back to
  }
}

function remember(view) {
  const store = storage(view), key = `lm-lab.draft.${view.data.draft}`;
  try {
    if (isDirty(view)) store?.setItem(key, JSON.stringify({ text: view.area.value, base: view.base }));
    else store?.removeItem(key);
  } catch {
    // full: the text still stands in the area
  }
}

function recall(view) {
  try {
    const found = JSON.parse(storage(view)?.getItem(`lm-lab.draft.${view.data.draft}`) ?? "null");
    return found && typeof found.text === "string" && typeof found.base === "string" ? found : null;
  } catch {
    return null;
  }
}

function changed(view) {
  paint(view);
  remember(view);
  tell(view);
}

function say(view, text, loud = false) {
  setText(view.state, text);
  view.state.classList.toggle("loud", loud);
}

function tell(view) {
  const { words, version } = view.data, dirty = isDirty(view);
  if (dirty && view.base !== version) say(view, words.stale, true);
  else say(view, dirty ? words.unsaved : words.saved);
  view.root.classList.toggle("dirty", dirty);
}

function paint(view) {
  const text = view.area.value, nodes = [];
  if (text.length <= MOST_COLOURED) {
    let at = 0;
    for (const found of text.matchAll(PYTHON)) {
      nodes.push(text.slice(at, found.index), el("span", found[1] ? "said" : "word", found[0]));
      at = found.index + found[0].length;
    }
    nodes.push(text.slice(at));
  }
  view.root.classList.toggle("plain", !nodes.length);
  view.colours.replaceChildren(...nodes, "\n");
  const count = text.split("\n").length;
  const rows = resize(view.gutter, count, (k) => el("div", "n", String(k + 1)));
  for (let k = 0; k < count; k++) rows[k].classList.toggle("wrong", !isDirty(view) && k + 1 === view.data.line);
  follow(view);
}

function follow(view) {
  const { scrollTop, scrollLeft } = view.area;
  view.colours.style.transform = `translate(${-scrollLeft}px, ${-scrollTop}px)`;
  view.gutter.style.transform = `translateY(${-scrollTop}px)`;
}

function adopt(view, text, version) {
  const { selectionStart, scrollTop, scrollLeft } = view.area;
  view.area.value = view.clean = text;
  view.base = version;
  view.area.setSelectionRange(selectionStart, selectionStart);
  Object.assign(view.area, { scrollTop, scrollLeft });
}

function show(view, line) {
  const height = parseFloat(getComputedStyle(view.area).lineHeight);
  view.area.scrollTop = Math.max(0, (line - 1) * height - view.area.clientHeight * 0.6);
}

function receive(view, first) {
  const { data } = view;
  if (first) {
    const draft = recall(view);
    adopt(view, data.text, data.version);
    if (draft && draft.text !== data.text) {
      view.area.value = draft.text;
      view.base = draft.base;
    }
  } else if (data.nonce !== view.nonce) {
    adopt(view, data.text, data.version); // put back, or the file's side taken: asked for
  } else if (data.version !== view.seen) {
    if (data.text === view.sent || data.text === view.area.value) {
      view.clean = data.text; // what we sent is saved; typing may have gone on since
      view.base = data.version;
    } else if (!isDirty(view)) {
      adopt(view, data.text, data.version);
    } // else: somebody else wrote the file; ours stays, on its old base, and saving it will show both
  }
  view.nonce = data.nonce;
  view.seen = data.version;
}

export default function ({ parentElement, data, setTriggerValue }) {
  const root = labRoot(parentElement);
  const first = !root.labView;
  const view = viewOf(root, () => buildEditor(root));
  view.emit = setTriggerValue;
  view.data = data;
  receive(view, first);
  clearTimeout(view.undo);
  view.save.classList.remove("pending");
  setText(view.path, data.path);
  view.area.setAttribute("aria-label", data.label);
  setText(view.save, data.words.save);
  setText(view.keys, data.words.keys);
  setText(view.status, data.status);
  view.status.className = `status ${data.outcome}`;
  paint(view);
  remember(view);
  tell(view);
  if (first && data.focus) requestAnimationFrame(() => show(view, data.focus));
  const warn = (event) => {
    if (isDirty(view)) event.preventDefault();
  };
  window.addEventListener("beforeunload", warn);
  return () => window.removeEventListener("beforeunload", warn);
}
