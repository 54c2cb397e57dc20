/* data.weights: row i = query, column j = key; null where nothing is allowed.
   Who looks at whom: point at a token and arcs run to the tokens it attends to; click to hold it, again or Escape to let go. */
function buildArcs(root) {
  const box = el("div", "arcs"), list = el("div", "list");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("aria-hidden", "true");
  list.setAttribute("role", "group");
  box.append(svg, list);
  root.append(box);
  const view = { root, box, list, svg, hover: null, locked: null, settle: roving(list) };
  const indexOf = (event) => {
    const item = event.target.closest(".item");
    return item ? [...list.children].indexOf(item) : null;
  };
  const lock = (index) => {
    view.locked = index;
    draw(view);
    view.send("token", index ?? -1);
  };
  list.addEventListener("pointerover", (event) => hover(view, event.target.closest(".chip") ? indexOf(event) : view.hover));
  list.addEventListener("pointerleave", () => hover(view, null));
  list.addEventListener("focusin", (event) => event.target.matches(":focus-visible") && hover(view, indexOf(event), true));
  list.addEventListener("focusout", () => hover(view, null));
  list.addEventListener("click", (event) => {
    if (!event.target.closest(".chip")) return;
    const index = indexOf(event);
    lock(index === view.locked ? null : index);
  });
  list.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && view.locked !== null) lock(null);
  });
  new ResizeObserver(() => view.data && layout(view)).observe(root);
  return view;
}

function hover(view, index, spoken = false) {
  if (index === view.hover) return;
  view.hover = index;
  draw(view);
  if (!spoken || index === null) return;
  const row = view.data.weights[index];
  const strongest = row.map((weight, j) => [weight, j]).filter(([weight]) => weight > 0).sort((a, b) => b[0] - a[0]).slice(0, 3);
  announce(view.root, `${view.data.tokens[index]} → ${strongest.map(([w, j]) => `${view.data.tokens[j]} ${w.toFixed(2)}`).join(", ")}`);
}

/* One line when the sentence fits, if need be in small type; else a list from top to bottom. */
function layout(view) {
  const { box, list, root } = view;
  list.style.gap = "";
  view.across = ["arcs across", "arcs across small"].some((name) => {
    box.className = name;
    return list.scrollWidth <= root.clientWidth - 2;
  });
  // A short sentence takes the width at hand, so that its arcs and numbers have room.
  const spare = (root.clientWidth - 2 - list.scrollWidth) / Math.max(1, list.childElementCount - 1);
  if (view.across) list.style.gap = `${Math.min(22, 3 + Math.max(0, spare))}px`;
  if (!view.across) box.className = "arcs down";
  const height = Math.min(200, 60 + 14 * view.data.tokens.length);
  box.style.setProperty("--height", `${height}px`);
  box.style.setProperty("--width", `${Math.min(170, root.clientWidth * 0.34)}px`);
  view.reach = view.across ? height : Math.min(170, root.clientWidth * 0.34);
  const frame = box.getBoundingClientRect();
  view.points = [...list.children].map((item) => {
    const chip = item.firstElementChild.getBoundingClientRect();
    return view.across ? chip.left + chip.width / 2 - frame.left : chip.top + chip.height / 2 - frame.top;
  });
  const ends = view.points;
  view.span = Math.max(1, ends[ends.length - 1] - ends[0]);
  draw(view);
}

function path(view, from, to) {
  const reach = view.reach - 4, far = Math.abs(from - to);
  const tall = far === 0 ? 22 : Math.min(reach, 20 + (reach - 20) * Math.sqrt(far / view.span)) * 1.25;
  const [a, b] = far === 0 ? [from - 11, to + 11] : [from, to];
  const base = view.reach - 3, top = base - tall;
  return view.across ? `M${a} ${base}C${a} ${top} ${b} ${top} ${b} ${base}` : `M${base} ${a}C${top} ${a} ${top} ${b} ${base} ${b}`;
}

function draw(view) {
  const { data, list, svg, root } = view, query = view.locked ?? view.hover;
  const floor = variable(root, "--lab-card"), end = variable(root, `--lab-${data.role}-map`);
  const arcs = [];
  data.weights.forEach((row, i) => {
    if (query !== null && i !== query) return;
    row.forEach((weight, j) => {
      if (weight > (query === null ? 0.05 : 0)) arcs.push([i, j, weight]);
    });
  });
  const paths = resize(svg, arcs.length, () => document.createElementNS("http://www.w3.org/2000/svg", "path"));
  svg.style.setProperty("--arc", `var(--lab-${data.role}-fill)`);
  arcs.forEach(([i, j, weight], k) => {
    const strong = query === null ? 0.1 + 0.3 * weight : 0.18 + 0.72 * weight;
    paths[k].setAttribute("d", path(view, view.points[i], view.points[j]));
    paths[k].setAttribute("stroke-width", (query === null ? 0.6 + 2 * weight : 0.8 + 9 * weight).toFixed(2));
    paths[k].setAttribute("stroke-opacity", strong.toFixed(3));
  });
  const row = query === null ? null : data.weights[query], most = row && Math.max(...row);
  [...list.children].forEach((item, j) => {
    const [chip, number] = item.children;
    chip.className = `chip${j === query ? " query" : ""}${j === view.locked ? " locked" : ""}`;
    chip.setAttribute("aria-pressed", String(j === view.locked));
    chip.style.backgroundColor = row && row[j] > 0 ? mix(floor, end, row[j]) : "";
    setText(number, row && row[j] !== null ? row[j].toFixed(2) : "");
    number.className = `number${row && row[j] === most ? " strong" : ""}`;
  });
}

export default function ({ parentElement, data, setTriggerValue }) {
  const root = labRoot(parentElement);
  const view = viewOf(root, () => buildArcs(root));
  const told = view.data?.selected;
  view.send = setTriggerValue;
  view.data = data;
  // What is held belongs to the reader until Python says something new.
  if (told === undefined || told !== data.selected) view.locked = data.selected;
  if (view.locked !== null && view.locked >= data.tokens.length) view.locked = null;
  if (view.hover !== null && view.hover >= data.tokens.length) view.hover = null;
  view.list.setAttribute("aria-label", data.alt);
  const items = resize(view.list, data.tokens.length, () => {
    const item = el("div", "item"), chip = el("button", "chip");
    chip.type = "button";
    chip.dir = "auto";
    item.append(chip, el("span", "number"));
    return item;
  });
  data.tokens.forEach((token, i) => setText(items[i].firstElementChild, token));
  layout(view);
  view.settle(view.locked ?? 0);
}
