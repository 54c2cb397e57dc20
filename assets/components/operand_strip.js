/* Vectors as bars about zero, one under the other; pointing at component i shows its numbers in all of them at once. */
function buildOperands(root) {
  const rows = el("div", "rows");
  rows.tabIndex = 0;
  rows.setAttribute("role", "group");
  root.append(rows);
  const view = { rows, index: null };
  const point = (index) => {
    if (index === view.index) return;
    view.index = index;
    paintIndex(view);
  };
  view.point = point;
  rows.addEventListener("pointermove", (event) => {
    const bars = event.target.closest(".bars");
    if (!bars) return;
    const box = bars.getBoundingClientRect(), n = view.data.count;
    point(Math.max(0, Math.min(n - 1, Math.floor(((event.clientX - box.left) / box.width) * n))));
  });
  rows.addEventListener("pointerleave", () => point(rows.matches(":focus-visible") ? view.index : null));
  rows.addEventListener("focus", () => { if (rows.matches(":focus-visible") && view.index === null) point(0); });
  rows.addEventListener("blur", () => point(null));
  rows.addEventListener("keydown", (event) => {
    const n = view.data.count, now = view.index ?? -1;
    const next = { ArrowRight: now + 1, ArrowLeft: Math.max(now, 1) - 1, Home: 0, End: n - 1 }[event.key];
    if (event.key === "Escape") return point(null);
    if (next === undefined) return;
    event.preventDefault();
    point(Math.max(0, Math.min(n - 1, next)));
    announce(root, view.data.rows.map((row, r) => readout(view, row, r)).join(", "));
  });
  return view;
}

const readout = (view, row) => `${row.symbol}[${view.index}] = ${row.values[view.index].toFixed(view.data.decimals)}`;

function paintIndex(view) {
  view.data.rows.forEach((row, r) => {
    const node = view.rows.children[r], bars = node.lastElementChild;
    bars.querySelector(".on")?.classList.remove("on");
    if (view.index !== null) bars.children[view.index].classList.add("on");
    setText(node.querySelector(".now"), view.index === null ? "" : readout(view, row));
  });
}

export default function ({ parentElement, data }) {
  const root = labRoot(parentElement);
  const view = viewOf(root, () => buildOperands(root));
  view.data = data;
  if (view.index !== null && view.index >= data.count) view.index = null;
  view.rows.setAttribute("aria-label", data.rows.map((row) => row.label).join("; "));
  const nodes = resize(view.rows, data.rows.length, () => {
    const node = el("div", "operand"), head = el("div", "head");
    head.append(el("span", "label"), el("span", "now mono"));
    node.append(head, el("div", "bars"));
    return node;
  });
  data.rows.forEach((row, r) => {
    const node = nodes[r], bars = node.lastElementChild;
    node.style.setProperty("--text", `var(--lab-${row.role === "weights" || row.role === "neutral" ? "muted" : row.role})`);
    node.style.setProperty("--fill", `var(--lab-${row.role}-fill)`);
    const label = node.querySelector(".label");
    label.dir = "auto";
    setText(label, row.label);
    bars.classList.toggle("dense", data.count > 48);
    bars.classList.toggle("fine", data.count > 400);
    const marks = resize(bars, data.count, () => el("i"));
    row.heights.forEach((height, i) => {
      marks[i].style.setProperty("--h", Math.abs(height));
      marks[i].classList.toggle("minus", row.values[i] < 0);
    });
  });
  paintIndex(view);
}
