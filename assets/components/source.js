/* Code as it ran: numbered lines, names in the colour of what they hold, the decisive line marked, and the longer part
   of the docstring folded away. data.lines: {number, parts: [[text, kind]], marked, folded}. */
function buildSource(root) {
  const box = el("div", "code mono"), view = { root, box, open: false };
  box.tabIndex = 0; // so that the keyboard can scroll a long line
  box.setAttribute("role", "region");
  root.append(box);
  return view;
}

function drawSource(view) {
  const { data, box } = view;
  let fold = false;
  box.replaceChildren(...data.lines.flatMap((line) => {
    const nodes = [];
    if (line.folded && !fold) {
      fold = true;
      const button = el("button", "fold", view.open ? data.less : data.more);
      button.type = "button";
      button.setAttribute("aria-expanded", String(view.open));
      button.addEventListener("click", () => {
        view.open = !view.open;
        drawSource(view);
        box.querySelector(".fold").focus();
      });
      nodes.push(button);
    }
    if (line.folded && !view.open) return nodes;
    const row = el("div", line.marked ? "line marked" : "line"), text = el("span", "text");
    row.append(el("span", "number", String(line.number)), text);
    text.append(...line.parts.map(([part, kind]) => el("span", kind, part)));
    nodes.push(row);
    return nodes;
  }));
}

export default function ({ parentElement, data }) {
  const root = labRoot(parentElement);
  const view = viewOf(root, () => buildSource(root));
  view.data = data;
  view.box.setAttribute("aria-label", data.label);
  drawSource(view);
}
