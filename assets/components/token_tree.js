/* Tokens that grow from left to right: each stands in a column and a row, joined by a line to the one before it.
   Click one to choose it. The lines are drawn from where the browser has put the chips. */
const SVG = "http://www.w3.org/2000/svg";

function buildTree(root) {
  const frame = el("div", "frame"), body = el("div", "body"), grid = el("div", "grid"), caption = el("div", "caption");
  const lines = document.createElementNS(SVG, "svg");
  lines.setAttribute("aria-hidden", "true");
  body.append(lines, grid);
  frame.append(body);
  root.append(frame, caption);
  const view = { root, frame, grid, lines, caption, settle: roving(grid) };
  const chipOf = (event) => event.target.closest("button");
  const show = (event) => {
    const chip = chipOf(event);
    const node = chip && view.data.nodes[Number(chip.dataset.i)];
    if (!node || !node.tip.length) return hideTip(root);
    showTip(root, chip.getBoundingClientRect(), node.tip.map((line, k) => [line, k ? "" : "mono"]));
  };
  for (const name of ["pointerover", "focusin"]) grid.addEventListener(name, show);
  for (const name of ["pointerleave", "focusout"]) grid.addEventListener(name, () => hideTip(root));
  frame.addEventListener("scroll", () => hideTip(root));
  grid.addEventListener("click", (event) => {
    const chip = chipOf(event);
    if (!chip) return;
    pending(chip);
    view.send("node", Number(chip.dataset.i));
  });
  new ResizeObserver(() => view.data && connect(view)).observe(grid);
  return view;
}

/* One curve from each chip to its parent's. */
function connect(view) {
  const { grid, lines, data } = view, chips = [...grid.children].filter((node) => node.tagName === "BUTTON");
  lines.setAttribute("width", grid.offsetWidth);
  lines.setAttribute("height", grid.offsetHeight);
  const paths = [];
  data.nodes.forEach((node, i) => {
    if (node.parent < 0 || node.state === "hidden") return;
    const from = chips[node.parent], to = chips[i];
    const x1 = from.offsetLeft + from.offsetWidth, y1 = from.offsetTop + from.offsetHeight / 2;
    const x2 = to.offsetLeft, y2 = to.offsetTop + to.offsetHeight / 2, bend = Math.max(8, (x2 - x1) / 2);
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", `M${x1},${y1} C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`);
    path.setAttribute("class", node.state);
    paths.push(path);
  });
  lines.replaceChildren(...paths);
}

export default function ({ parentElement, data, setTriggerValue }) {
  const root = labRoot(parentElement);
  const view = viewOf(root, () => buildTree(root));
  view.data = data;
  view.send = setTriggerValue;
  view.grid.setAttribute("role", "group");
  view.grid.setAttribute("aria-label", data.alt);
  setText(view.caption, data.caption ?? "");
  view.caption.hidden = !data.caption;
  view.grid.style.gridTemplateColumns = `repeat(${data.cols}, max-content)`;
  view.grid.style.gridTemplateRows = `repeat(${data.rows}, auto)`;
  const chips = resize(view.grid, data.nodes.length, () => {
    const chip = el("button", "chip");
    chip.type = "button";
    chip.append(el("i", "fill"), el("b"), el("small"));
    chip.children[1].dir = "auto";
    return chip;
  });
  let now = -1;
  data.nodes.forEach((node, i) => {
    const chip = chips[i], chosen = i === data.selected;
    chip.dataset.i = i;
    chip.className = `chip ${node.state}${chosen ? " sel" : ""}`;
    chip.disabled = node.state === "hidden";
    chip.style.gridColumn = String(node.col + 1);
    chip.style.gridRow = String(node.row + 1);
    chip.children[0].style.width = `${node.fill}%`;
    setText(chip.children[1], node.label);
    setText(chip.children[2], node.note);
    chip.setAttribute("aria-label", [node.label, node.note, ...node.tip.slice(1)].filter(Boolean).join("; "));
    if (chosen) chip.setAttribute("aria-current", "true");
    else chip.removeAttribute("aria-current");
    if (chosen) now = i;
  });
  connect(view);
  view.settle(Math.max(now, 0));
  if (now >= 0 && view.at !== data.at) { // bring the chosen chip into the frame, without moving the page
    const chip = chips[now], middle = chip.offsetLeft + chip.offsetWidth / 2;
    view.frame.scrollTo({ left: Math.max(0, middle - 0.45 * view.frame.clientWidth) });
  }
  view.at = data.at;
}
