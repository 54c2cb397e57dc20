/* Clock hands: one row a turning pair, one column a position; the hand has turned by angles[row][col] (radians). */
const SVG = "http://www.w3.org/2000/svg";
const TURN = 2 * Math.PI;

function buildDials(root) {
  const box = el("div", "dials");
  box.setAttribute("role", "group");
  root.append(box);
  const view = { root, box, focus: roving(box) };
  const of = (event) => event.target.closest("button");
  const tell = (button) => {
    const [i, j] = cellOf(button);
    showTip(root, button.getBoundingClientRect(), [[view.data.labels[i][j]]]);
  };
  box.addEventListener("pointerover", (event) => (of(event) ? tell(of(event)) : hideTip(root)));
  box.addEventListener("pointerleave", () => hideTip(root));
  box.addEventListener("focusin", (event) => of(event)?.matches(":focus-visible") && tell(of(event)));
  box.addEventListener("focusout", () => hideTip(root));
  box.addEventListener("click", (event) => {
    const button = of(event);
    if (!button) return;
    pending(button);
    view.send("dial", cellOf(button));
  });
  new ResizeObserver(() => box.classList.toggle("narrow", root.clientWidth < 480)).observe(root);
  return view;
}

const cellOf = (button) => [Number(button.dataset.row), Number(button.dataset.col)];

function shape(tag, className) {
  const node = document.createElementNS(SVG, tag);
  node.setAttribute("class", className);
  return node;
}

function dial() {
  const button = el("button"), svg = shape("svg", "face");
  button.type = "button";
  svg.setAttribute("viewBox", "-20 -20 40 40");
  svg.setAttribute("aria-hidden", "true");
  const circle = shape("circle", "rim"), zero = shape("line", "zero"), hand = shape("line", "hand");
  circle.setAttribute("r", "18");
  zero.setAttribute("x2", "16");
  svg.append(circle, shape("path", "sweep"), zero, hand);
  button.append(svg);
  return button;
}

/* Angles grow against the clock, as in mathematics; the y axis of a screen points down. */
function turn(button, angle) {
  const [, sweep, , hand] = button.firstElementChild.children;
  const x = 16 * Math.cos(angle), y = -16 * Math.sin(angle), rest = ((angle % TURN) + TURN) % TURN;
  hand.setAttribute("x2", x.toFixed(2));
  hand.setAttribute("y2", y.toFixed(2));
  sweep.setAttribute("d", `M0 0H16A16 16 0 ${rest > Math.PI ? 1 : 0} 0 ${x.toFixed(2)} ${y.toFixed(2)}Z`);
}

export default function ({ parentElement, data, setTriggerValue }) {
  const root = labRoot(parentElement);
  const view = viewOf(root, () => buildDials(root));
  view.send = setTriggerValue;
  view.data = data;
  view.box.setAttribute("aria-label", data.alt);
  const parts = resize(view.box, 1 + 2 * data.rows.length, (k) => el("div", k === 0 ? "cols" : k % 2 ? "rowname" : "line"));
  const columns = `repeat(${data.cols.length}, minmax(0, 1fr))`;
  parts[0].style.gridTemplateColumns = columns;
  const names = resize(parts[0], data.cols.length, () => el("div", "name"));
  data.cols.forEach((name, j) => {
    setText(names[j], name);
    names[j].classList.toggle("on", data.selected !== null && data.selected[1] === j);
  });
  data.rows.forEach((name, i) => {
    const head = parts[1 + 2 * i], line = parts[2 + 2 * i];
    const [title, note] = resize(head, 2, (k) => el(k ? "small" : "span"));
    setText(title, name);
    setText(note, data.notes[i]);
    head.classList.toggle("on", data.selected !== null && data.selected[0] === i);
    line.style.gridTemplateColumns = columns;
    const dials = resize(line, data.cols.length, dial);
    data.cols.forEach((_, j) => {
      const button = dials[j], on = data.selected !== null && data.selected[0] === i && data.selected[1] === j;
      Object.assign(button.dataset, { row: i, col: j });
      button.classList.toggle("on", on);
      button.classList.remove("pending");
      button.setAttribute("aria-pressed", String(on));
      button.setAttribute("aria-label", data.labels[i][j]);
      turn(button, data.angles[i][j]);
    });
  });
  view.focus(data.selected ? data.selected[0] * data.cols.length + data.selected[1] : 0);
}
