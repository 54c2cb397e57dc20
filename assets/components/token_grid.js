/* A table of tokens, a cell tinted by a number between -1 and 1: hover for what stands behind it, click to choose. */
function buildTokenGrid(root) {
  const frame = el("div", "frame"), grid = el("div", "grid"), caption = el("div", "caption");
  grid.setAttribute("role", "grid");
  frame.append(grid);
  root.append(frame, caption);
  const view = { root, grid, caption };
  const cellOf = (event) => event.target.closest("button");
  const placeOf = (cell) => [Number(cell.dataset.i), Number(cell.dataset.j)];
  const show = (event) => {
    const cell = cellOf(event);
    if (!cell) return hideTip(root);
    const [i, j] = placeOf(cell), lines = view.data.cells[i][j].tip;
    if (!lines.length) return hideTip(root);
    showTip(root, cell.getBoundingClientRect(), lines.map((line, k) => [line, k ? "mono" : "mono strong"]));
  };
  for (const name of ["pointerover", "focusin"]) grid.addEventListener(name, show);
  for (const name of ["pointerleave", "focusout"]) grid.addEventListener(name, () => hideTip(root));
  grid.addEventListener("click", (event) => {
    const cell = cellOf(event);
    if (!cell) return;
    pending(cell);
    view.send("cell", placeOf(cell));
  });
  grid.addEventListener("focusin", (event) => cellOf(event) && enter(view, cellOf(event)));
  grid.addEventListener("keydown", (event) => {
    const cell = cellOf(event);
    if (!cell) return;
    const [i, j] = placeOf(cell), { m, n } = view.data;
    if (event.key === "Escape") return hideTip(root);
    const next = { ArrowUp: [i - 1, j], ArrowDown: [i + 1, j], ArrowLeft: [i, j - 1], ArrowRight: [i, j + 1],
      Home: [i, 0], End: [i, n - 1] }[event.key];
    if (!next) return;
    event.preventDefault();
    buttonAt(view, Math.max(0, Math.min(m - 1, next[0])), Math.max(0, Math.min(n - 1, next[1]))).focus();
  });
  new ResizeObserver(() => view.data && fit(view)).observe(root);
  return view;
}

const buttonAt = (view, i, j) => view.grid.querySelector(`button[data-i="${i}"][data-j="${j}"]`);

/* One Tab stop for the whole table. */
function enter(view, button) {
  view.grid.querySelectorAll("button").forEach((b) => { b.tabIndex = b === button ? 0 : -1; });
}

function fit(view) {
  const narrow = view.root.clientWidth < 480, { n } = view.data;
  const least = Math.min(view.data.least, narrow ? 58 : 66);
  const width = Math.max(least, (view.root.clientWidth - (narrow ? 50 : 90)) / n);
  view.grid.classList.toggle("tight", narrow);
  view.grid.classList.toggle("fine", width < 52);
  view.grid.classList.toggle("low", view.data.m > 12 && view.data.least < 24); // thirty layers on one screen
  view.grid.classList.toggle("bare", width < 24); // colours alone: nothing could be read
  view.grid.style.width = width > least ? "100%" : "";
  view.grid.style.gridTemplateColumns = `${width > least ? "fit-content(25%)" : "max-content"} repeat(${n}, minmax(${least}px, 1fr))`;
}

export default function ({ parentElement, data, setTriggerValue }) {
  const root = labRoot(parentElement);
  const view = viewOf(root, () => buildTokenGrid(root));
  const m = data.rows.length, n = data.cols.length;
  view.data = { ...data, m, n };
  view.send = setTriggerValue;
  view.grid.setAttribute("aria-label", data.alt);
  setText(view.caption, data.caption ?? "");
  view.caption.hidden = !data.caption;
  if (view.shape !== `${m}x${n}`) {
    view.grid.replaceChildren();
    for (let i = -1; i < m; i++) for (let j = -1; j < n; j++) {
      const node = i < 0 || j < 0 ? el("div", `head ${i < 0 ? "col" : "row"}`) : el("button", "cell");
      if (i >= 0 && j >= 0) Object.assign(node.dataset, { i, j });
      node.dir = "auto";
      view.grid.append(node);
    }
    view.shape = `${m}x${n}`;
  }
  const [floor, end, negative] = ["--lab-map-floor", `--lab-${data.role}-map`, `--lab-${data.role}-negative`].map((name) => variable(root, name));
  const nodes = view.grid.children, [si, sj] = data.selected ?? [-1, -1];
  view.grid.style.setProperty("--on", `var(--lab-${data.colRole})`);
  data.cols.forEach((name, j) => {
    setText(nodes[j + 1], name);
    nodes[j + 1].classList.toggle("on", j === sj);
  });
  data.rows.forEach((name, i) => {
    const head = nodes[(i + 1) * (n + 1)];
    setText(head, name);
    head.classList.toggle("on", i === si);
    data.cells[i].forEach((cell, j) => {
      const node = nodes[(i + 1) * (n + 1) + j + 1];
      setText(node, cell.text);
      node.className = `cell${i === si && j === sj ? " sel" : ""}${cell.mark ? " mark" : ""}${cell.tint === null ? " plain" : ""}`;
      node.style.backgroundColor = cell.tint === null ? "" : mix(floor, cell.tint < 0 ? negative : end, Math.abs(cell.tint) / 100);
      node.setAttribute("aria-label", [`${name}, ${data.cols[j]}`, cell.text, ...cell.tip].join("; "));
    });
  });
  fit(view);
  if (!view.grid.contains(root.getRootNode().activeElement)) enter(view, buttonAt(view, Math.max(si, 0), Math.max(sj, 0)));
}
