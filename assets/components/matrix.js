/* A matrix as coloured cells with its rows and columns named by tokens (or dimensions).
   Up to 1,200 cells are elements; a larger one is drawn on a canvas under the same pointer, keyboard and marks. */
const MOST_ELEMENTS = 1200;

function buildMatrix(root) {
  const box = el("div", "matrix"), cols = el("div", "cols"), rows = el("div", "rows"), body = el("div", "body");
  const caption = el("div", "caption");
  for (const names of [cols, rows]) names.setAttribute("aria-hidden", "true");
  const hover = el("div", "mark hover"), sel = el("div", "mark sel");
  const table = el("div");
  table.style.display = "contents";
  body.tabIndex = 0;
  body.append(table, hover, sel);
  box.append(cols, rows, body);
  root.append(box, caption);
  const view = { root, box, cols, rows, body, table, caption, hover, sel, at: null, fills: [] };
  listen(view);
  new ResizeObserver(() => view.data && measure(view)).observe(root);
  return view;
}

function listen(view) {
  const { body, root } = view;
  const cellOf = (event) => {
    const frame = body.getBoundingClientRect(), { m, n } = view.data;
    const i = Math.floor(((event.clientY - frame.top) / frame.height) * m);
    const j = Math.floor(((event.clientX - frame.left) / frame.width) * n);
    return [Math.max(0, Math.min(m - 1, i)), Math.max(0, Math.min(n - 1, j))];
  };
  const choose = (cell) => {
    place(view, view.sel, cell);
    view.sel.classList.add("pending");
    clearTimeout(view.undo);
    view.undo = setTimeout(() => select(view), 1500); // Python did not take it: its selection is the truth
    view.send("cell", cell);
  };
  body.addEventListener("pointermove", (event) => point(view, cellOf(event)));
  body.addEventListener("pointerleave", () => point(view, null));
  body.addEventListener("click", (event) => choose(cellOf(event)));
  body.addEventListener("focus", () => {
    if (body.matches(":focus-visible")) point(view, view.at ?? view.data.selected ?? [0, 0]);
  });
  body.addEventListener("blur", () => point(view, null));
  body.addEventListener("keydown", (event) => {
    const [i, j] = view.at ?? view.data.selected ?? [0, 0], { m, n } = view.data;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      return choose([i, j]);
    }
    if (event.key === "Escape") return point(view, null);
    const next = { ArrowUp: [i - 1, j], ArrowDown: [i + 1, j], ArrowLeft: [i, j - 1], ArrowRight: [i, j + 1],
      Home: [i, 0], End: [i, n - 1], PageUp: [0, j], PageDown: [m - 1, j] }[event.key];
    if (!next) return;
    event.preventDefault();
    point(view, [Math.max(0, Math.min(m - 1, next[0])), Math.max(0, Math.min(n - 1, next[1]))]);
    announce(root, `${view.data.rows[view.at[0]]}, ${view.data.cols[view.at[1]]}: ${numberAt(view, view.at)}`);
  });
}

function numberAt(view, [i, j]) {
  const value = view.data.values[i][j];
  return value === null ? "−∞" : value.toFixed(view.data.hoverDecimals);
}

/* Hover or keyboard cursor: everything here happens in the browser, nothing is sent. */
function point(view, cell) {
  const same = cell && view.at && cell[0] === view.at[0] && cell[1] === view.at[1];
  if (same) return;
  view.at = cell;
  place(view, view.hover, cell);
  nameMarks(view);
  if (!cell) return hideTip(view.root);
  const lines = [[`${view.data.rows[cell[0]]} → ${view.data.cols[cell[1]]}`, "mono"], [numberAt(view, cell), "mono strong"]];
  showTip(view.root, view.hover.getBoundingClientRect(), lines);
}

function place(view, mark, cell) {
  mark.style.display = cell ? "block" : "none";
  if (!cell) return;
  const { m, n } = view.data, width = view.body.clientWidth, height = view.body.clientHeight, gap = view.gap;
  const w = (width + gap) / n, h = (height + gap) / m;
  Object.assign(mark.style, { left: `${cell[1] * w}px`, top: `${cell[0] * h}px`, width: `${w - gap}px`, height: `${h - gap}px` });
}

/* Row and column names: the selected pair in its role's colour, the one pointed at in ink. */
function nameMarks(view) {
  const { selected } = view.data;
  [view.rows, view.cols].forEach((names, axis) => {
    names.style.setProperty("--on", `var(--lab-${axis ? view.data.colRole : view.data.rowRole})`);
    [...names.children].forEach((name, k) => {
      name.classList.toggle("on", selected !== null && selected[axis] === k);
      name.classList.toggle("at", view.at !== null && view.at[axis] === k);
    });
  });
}

function select(view) {
  clearTimeout(view.undo);
  view.sel.classList.remove("pending");
  const { selected, m, n } = view.data;
  place(view, view.sel, selected);
  view.chosen?.classList.remove("sel");
  view.chosen?.setAttribute("aria-selected", "false");
  view.chosen = selected && m * n <= MOST_ELEMENTS ? view.table.children[selected[0]].children[selected[1]] : null;
  view.chosen?.classList.add("sel");
  view.chosen?.setAttribute("aria-selected", "true");
  nameMarks(view);
}

function shades(view) {
  const [floor, end, negative] = ["--lab-map-floor", `--lab-${view.data.role}-map`, `--lab-${view.data.role}-negative`]
    .map((name) => variable(view.root, name));
  const ramp = new Map();
  return (fill) => {
    if (!ramp.has(fill)) ramp.set(fill, mix(floor, fill < 0 ? negative : end, Math.abs(fill) / 100));
    return ramp.get(fill);
  };
}

/* Sizes follow the width at hand: numbers while they can be read, names at a stride when rows get thin. */
function measure(view) {
  const { m, n } = view.data, { box, body } = view;
  const phone = view.root.clientWidth < 480;
  box.classList.toggle("narrow", phone);
  const width = body.clientWidth / n;
  const cell = m <= 12 ? (phone ? 30 : 37) : Math.max(4, Math.min(30, Math.floor(Math.min(600, body.clientWidth * 0.8) / m)));
  const longest = Math.max(...view.data.cols.map((name) => name.length)) * (phone ? 6 : 7.8);
  view.gap = width >= 14 && cell >= 10 ? 2 : width >= 7 && cell >= 6 ? 1 : 0;
  box.style.setProperty("--gap", `${view.gap}px`);
  box.style.setProperty("--cell", `${cell}px`);
  const columns = `repeat(${n}, minmax(0, 1fr))`;
  for (const row of [view.cols, ...view.table.querySelectorAll(".tr")]) row.style.gridTemplateColumns = columns;
  const digits = Math.max(0, ...(view.data.texts ?? []).flat().map((text) => text.length));
  const readable = width >= (digits > 1 ? 43 : 16); // a board of 0 and 1 can be read where 12.34 cannot
  box.classList.toggle("numbers", view.data.texts !== null && readable);
  box.classList.toggle("small", view.data.texts !== null && !readable);
  box.classList.toggle("fine", cell < 10 || width < 10);
  view.cols.classList.toggle("tall", !view.data.numberedCols && width < (n > 12 ? longest : 24));
  view.cols.classList.toggle("numbered", view.data.numberedCols);
  view.rows.classList.toggle("tight", cell < 13);
  const stride = (names, room, need) => {
    const step = Math.max(1, Math.ceil(need / room)), all = [...names.children];
    all.forEach((name, k) => name.classList.toggle("skip", k % step !== 0 || (all.length - k) * room < 0.75 * need));
  };
  stride(view.rows, cell + view.gap, 11);
  stride(view.cols, width, view.data.numberedCols ? 6 + 9 * String(n).length : 12);
  if (m * n > MOST_ELEMENTS) paintCanvas(view, cell);
  place(view, view.hover, view.at);
  place(view, view.sel, view.data.selected);
}

function paintElements(view) {
  const { m, n, values, fills, faint, texts } = view.data, shade = shades(view);
  if (view.canvas) {
    view.canvas.remove();
    view.canvas = null;
  }
  view.body.setAttribute("role", "grid");
  const lines = resize(view.table, m, () => {
    const line = el("div", "tr");
    line.setAttribute("role", "row");
    return line;
  });
  for (let i = 0; i < m; i++) {
    const cells = resize(lines[i], n, () => {
      const cell = el("div", "td");
      cell.setAttribute("role", "gridcell");
      cell.append(el("span"));
      return cell;
    });
    for (let j = 0; j < n; j++) {
      const cell = cells[j], empty = values[i][j] === null;
      cell.className = `td${empty ? " void" : ""}${faint?.[i][j] ? " faint" : ""}`;
      cell.style.backgroundColor = empty && fills[i][j] <= 0 ? "" : shade(fills[i][j]);  // coloured: by another number
      setText(cell.firstElementChild, texts ? texts[i][j] : "");
      if (!texts) cell.setAttribute("aria-label", numberAt(view, [i, j]));
    }
  }
}

function paintCanvas(view, height) {
  const { m, n, values, fills, faint } = view.data, shade = shades(view), gap = view.gap;
  if (!view.canvas) {
    view.table.replaceChildren();
    view.canvas = view.table.appendChild(el("canvas"));
    view.body.setAttribute("role", "application");
  }
  const scale = window.devicePixelRatio || 1, width = view.body.clientWidth, total = m * (height + gap) - gap;
  Object.assign(view.canvas, { width: Math.round(width * scale), height: Math.round(total * scale) });
  view.canvas.style.height = `${total}px`;
  const pen = view.canvas.getContext("2d"), w = (width + gap) / n;
  const edge = (value) => Math.round(value * scale); // whole device pixels: no seams between cells
  for (let i = 0; i < m; i++) {
    const top = edge(i * (height + gap)), deep = edge(i * (height + gap) + height) - top;
    for (let j = 0; j < n; j++) {
      if (values[i][j] === null && fills[i][j] <= 0) continue;
      const left = edge(j * w);
      pen.globalAlpha = faint?.[i][j] ? 0.36 : 1;
      pen.fillStyle = shade(fills[i][j]);
      pen.fillRect(left, top, edge(j * w + w - gap) - left, deep);
    }
  }
}

export default function ({ parentElement, data, setTriggerValue }) {
  const root = labRoot(parentElement);
  const view = viewOf(root, () => buildMatrix(root));
  view.send = setTriggerValue;
  view.data = { ...data, m: data.rows.length, n: data.cols.length };
  if (view.at && (view.at[0] >= view.data.m || view.at[1] >= view.data.n)) point(view, null);
  [[view.rows, data.rows], [view.cols, data.cols]].forEach(([parent, names]) => {
    const nodes = resize(parent, names.length, () => {
      const name = el("div", "th");
      name.append(el("bdi"));
      return name;
    });
    names.forEach((name, k) => setText(nodes[k].firstElementChild, name));
  });
  view.body.setAttribute("aria-label", data.alt);
  view.body.setAttribute("aria-rowcount", view.data.m);
  view.body.setAttribute("aria-colcount", view.data.n);
  setText(view.caption, data.caption ?? "");
  view.caption.hidden = !data.caption;
  if (view.data.m * view.data.n <= MOST_ELEMENTS) paintElements(view);
  measure(view);
  select(view);
}
