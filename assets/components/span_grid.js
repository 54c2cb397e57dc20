/* Rows of cells over common columns, one column a byte: a cell is as wide as its bytes. Blocks flow like words.
   Where rows can be chosen (the merges), a click or the arrow keys choose one. */
function buildSpanGrid(root) {
  const blocks = el("div", "blocks"), pairs = el("div", "pairs");
  root.append(blocks, pairs);
  const view = { root, blocks, pairs };
  const show = (event) => {
    const cell = event.target.closest("[data-tip]");
    if (!cell) return hideTip(root);
    showTip(root, cell.getBoundingClientRect(), [[cell.dataset.tip, "mono"]]);
  };
  blocks.addEventListener("pointerover", show);
  blocks.addEventListener("pointerleave", () => hideTip(root));
  const choose = (row) => {
    if (!view.data.clickable || row === view.data.current || row < 0 || row >= view.data.blocks[0].rows.length) return;
    view.send("row", row);
  };
  blocks.addEventListener("click", (event) => {
    const cell = event.target.closest("[data-row]");
    if (cell) choose(Number(cell.dataset.row));
  });
  blocks.addEventListener("keydown", (event) => {
    const { current, blocks: all } = view.data, last = all[0].rows.length - 1;
    const next = { ArrowDown: current + 1, ArrowRight: current + 1, ArrowUp: current - 1, ArrowLeft: current - 1,
      Home: 0, End: last }[event.key];
    if (next === undefined || !view.data.clickable) return;
    event.preventDefault();
    choose(next);
  });
  return view;
}

function drawBlock(view, node, block) {
  const { current, clickable } = view.data;
  node.className = `block${block.names ? " names" : ""}`;
  node.style.gridTemplateColumns = `${block.headed ? "max-content " : ""}repeat(${block.columns}, minmax(min-content, 1fr))${block.noted ? " max-content" : ""}`;
  const flat = block.rows.flatMap((row, r) => row.map((cell) => [cell, r]));
  const cells = resize(node, flat.length, () => el("div"));
  flat.forEach(([cell, r], k) => {
    const box = cells[k];
    const state = clickable ? (r === current ? " now" : r > current ? " later" : " past") : "";
    box.className = `cell ${cell.kind}${state}`;
    box.dir = "auto";
    box.style.gridColumn = `span ${cell.span}`;
    box.style.setProperty("--hue", cell.hue ?? 0);
    box.classList.toggle("tinted", cell.hue !== null);
    setText(box, cell.text);
    if (cell.tip) box.dataset.tip = cell.tip; else delete box.dataset.tip;
    if (clickable) box.dataset.row = r; else delete box.dataset.row;
  });
}

export default function ({ parentElement, data, setTriggerValue }) {
  const root = labRoot(parentElement);
  const view = viewOf(root, () => buildSpanGrid(root));
  view.data = data;
  view.send = setTriggerValue;
  hideTip(root);
  view.blocks.setAttribute("role", data.clickable ? "listbox" : "img");
  view.blocks.setAttribute("aria-label", data.alt);
  view.blocks.tabIndex = 0;
  root.classList.toggle("clickable", data.clickable);
  const nodes = resize(view.blocks, data.blocks.length, () => el("div", "block"));
  data.blocks.forEach((block, b) => drawBlock(view, nodes[b], block));
  const pairs = resize(view.pairs, data.pairs.length, () => {
    const pair = el("div", "pair");
    pair.append(el("span", "mono"), el("span", "rank"));
    return pair;
  });
  data.pairs.forEach((pair, k) => {
    setText(pairs[k].firstElementChild, pair.text);
    setText(pairs[k].lastElementChild, pair.rank);
    pairs[k].dir = "auto";
    pairs[k].classList.toggle("unknown", pair.unknown);
  });
}
