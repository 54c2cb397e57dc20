/* All exercises: a row a topic, a column a difficulty. On a phone the columns fold into one list a topic. */
function buildMap(root) {
  const grid = el("div", "map"), legend = el("div", "legend");
  root.append(legend, grid);
  const view = { root, grid, legend };
  grid.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    pending(button);
    view.send("exercise", button.dataset.slug);
  });
  return view;
}

function mark(state) {
  const dot = el("span", `dot ${state}`);
  dot.setAttribute("aria-hidden", "true");
  return dot;
}

function chip(item, words) {
  const button = el("button", `chip ${item.state}${item.next ? " next" : ""}`);
  button.type = "button";
  button.dataset.slug = item.slug;
  button.title = item.name;
  button.setAttribute("aria-label", `${item.number}. ${item.title}, ${words[item.state]}`);
  button.append(mark(item.state), el("span", "number", String(item.number)), el("span", "title", item.title));
  return button;
}

export default function ({ parentElement, data, setTriggerValue }) {
  const root = labRoot(parentElement);
  const view = viewOf(root, () => buildMap(root));
  view.send = setTriggerValue;
  view.legend.replaceChildren(...data.legend.map((entry) => {
    const item = el("span", "entry");
    item.append(mark(entry.state), el("span", "", entry.text));
    return item;
  }));
  const head = [el("div", "corner"), ...data.levels.map((name) => el("div", "level", name))];
  const rows = data.groups.flatMap((group) => [
    el("div", "group", group.title),
    ...group.cells.map((items, k) => {
      const cell = el("div", `cell${items.length ? "" : " empty"}`);
      cell.dataset.level = data.levels[k];
      cell.append(...items.map((item) => chip(item, data.words)));
      return cell;
    }),
  ]);
  view.grid.style.setProperty("--levels", data.levels.length);
  view.grid.replaceChildren(...head, ...rows);
}
