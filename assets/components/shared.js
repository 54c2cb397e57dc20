/* Helpers that stand in front of every component's own code (lab/ui/components.py joins the two).
   Text reaches the page through textContent only: a token is a learner's text, never markup. */

/* The element a component draws in, marked with the theme that Streamlit shows now. */
function labRoot(parentElement) {
  const root = parentElement.querySelector(".lab");
  const page = getComputedStyle(root).getPropertyValue("--st-background-color").trim();
  root.dataset.theme = luminance(page) < 0.4 ? "dark" : "light";
  return root;
}

/* The component's own view: built on the first call, kept on later ones, so that focus and hover survive new data. */
function viewOf(root, build) {
  root.labView ??= build();
  return root.labView;
}

function el(tag, className = "", text = null) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== null) node.textContent = text;
  return node;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/* Gives `parent` exactly `count` children, keeping those it has. */
function resize(parent, count, make) {
  while (parent.childElementCount > count) parent.lastElementChild.remove();
  while (parent.childElementCount < count) parent.append(make(parent.childElementCount));
  return parent.children;
}

function channels(colour) {
  const hex = /^#([0-9a-f]{6})/i.exec(colour);
  if (hex) return [0, 2, 4].map((i) => parseInt(hex[1].slice(i, i + 2), 16) / 255);
  const short = /^#([0-9a-f])([0-9a-f])([0-9a-f])/i.exec(colour);
  if (short) return short.slice(1).map((digit) => parseInt(digit + digit, 16) / 255);
  const rgb = colour.match(/[\d.]+/g);
  return rgb && rgb.length >= 3 ? rgb.slice(0, 3).map((value) => value / 255) : [1, 1, 1];
}

const toLinear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
const toGamma = (c) => (c <= 0.0031308 ? c * 12.92 : 1.055 * c ** (1 / 2.4) - 0.055);

function luminance(colour) {
  const [r, g, b] = channels(colour).map(toLinear);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/* OKLab (Björn Ottosson, 2020): a straight line in it is an even ramp to the eye. */
function oklab(colour) {
  const [r, g, b] = channels(colour).map(toLinear);
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s];
}

/* The colour a fraction `t` of the way from one to the other. */
function mix(from, to, t) {
  const a = oklab(from), b = oklab(to);
  const [L, A, B] = a.map((value, i) => value + (b[i] - value) * t);
  const l = (L + 0.3963377774 * A + 0.2158037573 * B) ** 3;
  const m = (L - 0.1055613458 * A - 0.0638541728 * B) ** 3;
  const s = (L - 0.0894841775 * A - 1.291485548 * B) ** 3;
  const rgb = [4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s];
  return `rgb(${rgb.map((c) => Math.round(255 * toGamma(Math.min(1, Math.max(0, c))))).join(",")})`;
}

function variable(root, name) {
  return getComputedStyle(root).getPropertyValue(name).trim();
}

/* A note beside `box` (a DOMRect), kept inside the component's width. Each line is [text, class]. */
function showTip(root, box, lines) {
  const tip = viewOf.tip(root);
  tip.replaceChildren(...lines.map(([text, className]) => {
    const line = el("div", className);
    line.dir = "auto";
    line.textContent = text;
    return line;
  }));
  const frame = root.getBoundingClientRect();
  const size = tip.getBoundingClientRect();
  const left = box.left + box.width / 2 - size.width / 2 - frame.left;
  const above = box.top - frame.top - size.height - 6;
  const fits = box.top - size.height - 6 > 0;
  tip.style.left = `${Math.max(0, Math.min(frame.width - size.width, left))}px`;
  tip.style.top = `${fits ? above : box.bottom - frame.top + 6}px`;
  tip.classList.add("shown");
}
viewOf.tip = (root) => {
  let tip = root.querySelector(":scope > .tip");
  if (!tip) {
    tip = el("div", "tip");
    tip.setAttribute("aria-hidden", "true");
    root.append(tip);
  }
  return tip;
};

function hideTip(root) {
  viewOf.tip(root).classList.remove("shown");
}

/* Speaks `text` to a screen reader. */
function announce(root, text) {
  let live = root.querySelector(":scope > .live");
  if (!live) {
    live = el("div", "live");
    live.setAttribute("aria-live", "polite");
    root.append(live);
  }
  setText(live, text);
}

/* One Tab stop for a row of buttons; the arrows, Home and End walk inside it. */
function roving(container) {
  const buttons = () => [...container.querySelectorAll("button")];
  const enter = (button) => buttons().forEach((b) => { b.tabIndex = b === button ? 0 : -1; });
  container.addEventListener("focusin", (event) => {
    const button = event.target.closest("button");
    if (button) enter(button);
  });
  container.addEventListener("keydown", (event) => {
    const all = buttons(), now = all.indexOf(event.target.closest("button"));
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    let next = event.key === "Home" ? 0 : event.key === "End" ? all.length - 1 : now + (steps[event.key] ?? NaN);
    if (now < 0 || Number.isNaN(next)) return;
    event.preventDefault();
    next = Math.max(0, Math.min(all.length - 1, next));
    all[next].focus();
  });
  return (preferred) => {
    const all = buttons();
    if (!all.length || all.includes(container.getRootNode().activeElement)) return;
    enter(all[preferred] ?? all[0]);
  };
}

/* A click is shown at once, and taken back if Python does not answer with new data: Python's selection is the truth. */
function pending(node) {
  node.classList.add("pending");
  setTimeout(() => node.classList.remove("pending"), 1500);
}
