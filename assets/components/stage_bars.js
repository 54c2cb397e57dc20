/* A row a token, a column a stage: the probability as a bar with its number, on one scale; what was cut is hatched.
   Click (or arrows and Enter) chooses a cell; hovering tells what happened in it. */
function buildStageBars(root) {
  const frame = el("div", "frame"), grid = el("div", "grid"), caption = el("div", "caption");
  grid.setAttribute("role", "grid");
  frame.append(grid);
  root.append(frame, caption);
  const view = { root, grid, caption };
  const placeOf = (cell) => [Number(cell.dataset.i), Number(cell.dataset.j)];
  const cellOf = (event) => event.target.closest("button");
  const show = (event) => {
    const cell = cellOf(event);
    if (!cell) return hideTip(root);
    const [i, j] = placeOf(cell), lines = view.data.cells[i][j].tip;
    if (!lines.length) return hideTip(root);
    showTip(root, cell.getBoundingClientRect(), lines.map((line, k) => [line, k ? "" : "mono"]));
  };
  for (const name of ["pointerover", "focusin"]) grid.addEventListener(name, show);
  for (const name of ["pointerleave", "focusout"]) grid.addEventListener(name, () => hideTip(root));
  grid.addEventListener("click", (event) => {
    const cell = cellOf(event);
    if (!cell || cell.disabled) return;
    pending(cell);
    view.send("cell", placeOf(cell));
  });
  grid.addEventListener("focusin", (event) => cellOf(event) && enter(view, cellOf(event)));
  grid.addEventListener("keydown", (event) => {
    const cell = cellOf(event);
    if (!cell) return;
    if (event.key === "Escape") return hideTip(root);
    const [i, j] = placeOf(cell), { m, n } = view.data;
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

function enter(view, button) {
  view.grid.querySelectorAll("button").forEach((b) => { b.tabIndex = b === button ? 0 : -1; });
}

function fit(view) {
  const { n } = view.data, narrow = view.root.clientWidth < 480;
  view.grid.classList.toggle("tight", narrow);
  view.grid.style.gridTemplateColumns = `fit-content(${narrow ? 92 : 150}px) repeat(${n}, minmax(${narrow ? 78 : 88}px, 1fr))`;
}

export default function ({ parentElement, data, setTriggerValue }) {
  const root = labRoot(parentElement);
  const view = viewOf(root, () => buildStageBars(root));
  const m = data.rows.length, n = data.cols.length;
  view.data = { ...data, m, n };
  view.send = setTriggerValue;
  view.grid.setAttribute("aria-label", data.alt);
  setText(view.caption, data.caption ?? "");
  view.caption.hidden = !data.caption;
  if (view.shape !== `${m}x${n}`) {
    view.grid.replaceChildren();
    for (let i = -1; i < m; i++) for (let j = -1; j < n; j++) {
      const head = i < 0 || j < 0, node = head ? el("div", `head ${i < 0 ? "col" : "row"}`) : el("button", "cell");
      node.dir = head ? "auto" : "ltr";
      if (!head) {
        Object.assign(node.dataset, { i, j });
        node.type = "button";
        node.append(el("i", "bar"), el("span", "num"));
      }
      view.grid.append(node);
    }
    view.shape = `${m}x${n}`;
  }
  const nodes = view.grid.children, [si, sj] = data.selected ?? [-1, -1];
  view.grid.style.setProperty("--bar", `var(--lab-${data.role}-map)`);
  data.cols.forEach((name, j) => {
    setText(nodes[j + 1], name);
    nodes[j + 1].classList.toggle("on", j === sj);
  });
  data.rows.forEach((name, i) => {
    const head = nodes[(i + 1) * (n + 1)], rest = i >= data.tokens;
    setText(head, name);
    head.title = "";
    head.classList.toggle("on", i === si);
    head.classList.toggle("rest", rest);
    data.cells[i].forEach((cell, j) => {
      const node = nodes[(i + 1) * (n + 1) + j + 1];
      node.className = `cell ${cell.state}${i === si ? " line" : ""}${i === si && j === sj ? " sel" : ""}`;
      node.disabled = rest;
      node.firstElementChild.style.width = `${cell.width}%`;
      setText(node.lastElementChild, cell.text);
      node.setAttribute("aria-label", [`${name}, ${data.cols[j]}`, cell.text, ...cell.tip].join("; "));
    });
  });
  fit(view);
  if (!view.grid.contains(root.getRootNode().activeElement)) enter(view, buttonAt(view, Math.max(si, 0), Math.max(sj, 0)));
}
