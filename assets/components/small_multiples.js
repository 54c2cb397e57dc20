/* All heads of all layers as small triangles on one canvas: a row a layer, a column a head.
   The weights come as one byte each (base64), the lower triangle of every map after the other. Pointing at a map shows
   it larger, clicking picks it; the arrows, Home, End, Enter and Escape do the same. */
const GUTTER = 24, HEADER = 18;

function buildMultiples(root) {
  const scroller = el("div", "scroller"), body = el("div", "body"), canvas = el("canvas");
  const names = el("div", "names"), hover = el("div", "mark hover"), other = el("div", "mark other"), sel = el("div", "mark sel");
  const preview = el("div", "preview"), title = el("div", "title"), large = el("canvas"), caption = el("div", "caption");
  names.setAttribute("aria-hidden", "true");
  preview.setAttribute("aria-hidden", "true");
  body.tabIndex = 0;
  body.setAttribute("role", "application");
  body.append(canvas, names, other, sel, hover);
  scroller.append(body);
  preview.append(title, large);
  root.append(scroller, caption, preview);
  const view = { root, scroller, body, canvas, names, hover, other, sel, preview, title, large, caption, at: null };
  listen(view);
  new ResizeObserver(() => view.data && draw(view)).observe(root);
  return view;
}

function listen(view) {
  const { body, scroller } = view;
  const mapAt = (event) => {
    const frame = body.getBoundingClientRect(), { layers, heads } = view.data, { pitch } = view;
    const i = Math.floor((event.clientY - frame.top - HEADER) / pitch), j = Math.floor((event.clientX - frame.left - GUTTER) / pitch);
    return i >= 0 && j >= 0 && i < layers && j < heads ? [i, j] : null;
  };
  const choose = (map) => {
    place(view, view.sel, map);
    view.sel.classList.add("pending");
    clearTimeout(view.undo);
    view.undo = setTimeout(() => select(view), 1500); // Python did not take it: its selection is the truth
    view.send("cell", map);
  };
  body.addEventListener("pointermove", (event) => point(view, mapAt(event)));
  body.addEventListener("pointerleave", () => point(view, null));
  scroller.addEventListener("scroll", () => point(view, null));
  body.addEventListener("click", (event) => {
    const map = mapAt(event);
    if (map) choose(map);
  });
  body.addEventListener("focus", () => {
    if (body.matches(":focus-visible")) point(view, view.data.selected ?? [0, 0]);
  });
  body.addEventListener("blur", () => point(view, null));
  body.addEventListener("keydown", (event) => {
    const [i, j] = view.at ?? view.data.selected ?? [0, 0], { layers, heads } = view.data;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      return choose([i, j]);
    }
    if (event.key === "Escape") return point(view, null);
    const next = { ArrowUp: [i - 1, j], ArrowDown: [i + 1, j], ArrowLeft: [i, j - 1], ArrowRight: [i, j + 1],
      Home: [i, 0], End: [i, heads - 1], PageUp: [0, j], PageDown: [layers - 1, j] }[event.key];
    if (!next) return;
    event.preventDefault();
    point(view, [Math.max(0, Math.min(layers - 1, next[0])), Math.max(0, Math.min(heads - 1, next[1]))]);
    announce(view.root, nameOf(view, view.at));
  });
}

function nameOf(view, [i, j]) {
  return view.data.name.replace("{layer}", i + 1).replace("{head}", j + 1);
}

/* The bytes of a map as a picture of side × side pixels; what a head may not see stays clear. */
function picture(view, i, j) {
  const { side, heads } = view.data, size = (side * (side + 1)) / 2;
  const image = new ImageData(side, side);
  let from = (i * heads + j) * size;
  for (let q = 0; q < side; q++) {
    for (let k = 0; k <= q; k++, from++) {
      const colour = view.ramp[view.bytes[from]], at = 4 * (q * side + k);
      image.data[at] = colour[0];
      image.data[at + 1] = colour[1];
      image.data[at + 2] = colour[2];
      image.data[at + 3] = 255;
    }
  }
  view.stamp ??= document.createElement("canvas");
  view.stamp.width = view.stamp.height = side;
  view.stamp.getContext("2d").putImageData(image, 0, 0);
  return view.stamp;
}

function ramp(root) {
  const [floor, end] = [variable(root, "--lab-map-floor"), variable(root, "--lab-weights-map")];
  const full = variable(root, "--lab-weights-fill");
  return Array.from({ length: 256 }, (_, b) => {
    const t = b / 255;
    const colour = t < 0.6 ? mix(floor, end, t / 0.6) : mix(end, full, (t - 0.6) / 0.4);
    return colour.match(/\d+/g).map(Number);
  });
}

/* Sizes follow the width at hand and the number of layers; many heads on a phone scroll sideways. */
function draw(view) {
  const { layers, heads } = view.data, room = view.root.clientWidth - GUTTER;
  if (room <= 0) return;
  const byWidth = room / heads, byHeight = layers > 12 ? Math.max(38, 780 / layers) : 82;
  view.pitch = Math.max(21, Math.min(82, byWidth, byHeight));
  view.gap = view.pitch > 44 ? 6 : view.pitch > 30 ? 4 : 3;
  const tile = view.pitch - view.gap, width = heads * view.pitch, height = layers * view.pitch;
  Object.assign(view.body.style, { width: `${GUTTER + width}px`, height: `${HEADER + height}px` });
  const scale = window.devicePixelRatio || 1, { canvas } = view;
  Object.assign(canvas, { width: Math.round(width * scale), height: Math.round(height * scale) });
  Object.assign(canvas.style, { left: `${GUTTER}px`, top: `${HEADER}px`, width: `${width}px`, height: `${height}px` });
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  pen.imageSmoothingEnabled = view.data.side > tile * scale;
  pen.lineWidth = 1;
  pen.strokeStyle = variable(view.root, "--lab-line");
  for (let i = 0; i < layers; i++) {
    for (let j = 0; j < heads; j++) {
      const x = j * view.pitch, y = i * view.pitch;
      pen.drawImage(picture(view, i, j), x, y, tile, tile);
      pen.strokeRect(x + 0.5, y + 0.5, tile - 1, tile - 1);
    }
  }
  label(view, tile);
  point(view, null);
  place(view, view.sel, view.data.selected);
  place(view, view.other, view.data.other);
}

function label(view, tile) {
  const { layers, heads } = view.data, stepX = Math.ceil(16 / view.pitch), stepY = Math.ceil(13 / view.pitch);
  const all = [];
  for (let j = 0; j < heads; j += stepX) all.push([j + 1, GUTTER + j * view.pitch + tile / 2, HEADER / 2 - 2, "head"]);
  for (let i = 0; i < layers; i += stepY) all.push([i + 1, GUTTER - 7, HEADER + i * view.pitch + tile / 2, "layer"]);
  const nodes = resize(view.names, all.length, () => el("span"));
  all.forEach(([text, x, y, kind], n) => {
    setText(nodes[n], String(text));
    nodes[n].className = kind;
    Object.assign(nodes[n].style, { left: `${x}px`, top: `${y}px` });
  });
}

function place(view, mark, map) {
  mark.style.display = map ? "block" : "none";
  if (!map) return;
  const tile = view.pitch - view.gap;
  Object.assign(mark.style, { left: `${GUTTER + map[1] * view.pitch}px`, top: `${HEADER + map[0] * view.pitch}px`,
    width: `${tile}px`, height: `${tile}px` });
}

function select(view) {
  clearTimeout(view.undo);
  view.sel.classList.remove("pending");
  place(view, view.sel, view.data.selected);
  place(view, view.other, view.data.other);
}

/* Hover or keyboard cursor: the map larger, beside where one points. Nothing is sent. */
function point(view, map) {
  if (map && view.at && map[0] === view.at[0] && map[1] === view.at[1]) return;
  view.at = map;
  place(view, view.hover, map);
  view.preview.classList.toggle("shown", map !== null);
  if (!map) return;
  setText(view.title, nameOf(view, map));
  const room = view.root.clientWidth, side = Math.round(Math.min(200, room * 0.46));
  const scale = window.devicePixelRatio || 1, { large, preview } = view;
  large.width = large.height = Math.round(side * scale);
  large.style.width = large.style.height = `${side}px`;
  const pen = large.getContext("2d");
  pen.imageSmoothingEnabled = false;
  pen.drawImage(picture(view, ...map), 0, 0, large.width, large.height);
  const frame = view.root.getBoundingClientRect(), spot = view.hover.getBoundingClientRect();
  const right = spot.right - frame.left + 10, left = spot.left - frame.left - 10 - preview.offsetWidth;
  const across = right + preview.offsetWidth <= room ? right : Math.max(0, left);
  const down = spot.top - frame.top + spot.height / 2 - preview.offsetHeight / 2;
  const lowest = view.root.clientHeight - preview.offsetHeight;
  Object.assign(preview.style, { left: `${across}px`, top: `${Math.max(0, Math.min(lowest, down))}px` });
}

export default function ({ parentElement, data, setTriggerValue }) {
  const root = labRoot(parentElement);
  const view = viewOf(root, () => buildMultiples(root));
  view.send = setTriggerValue;
  view.data = data;
  view.bytes = Uint8Array.from(atob(data.maps), (letter) => letter.charCodeAt(0));
  view.ramp = ramp(root);
  view.body.setAttribute("aria-label", data.alt);
  setText(view.caption, data.caption ?? "");
  view.caption.hidden = !data.caption;
  draw(view);
  select(view);
}
