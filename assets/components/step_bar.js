/* Where you are in the walk: a thin bar a step, the number and the short title; bars alone on a phone. */
function buildBar(root) {
  const nav = el("nav"), list = el("ol");
  nav.append(list);
  root.append(nav);
  const view = { nav, list, settle: roving(list) };
  list.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    pending(button);
    view.send("step", [...list.children].indexOf(button.parentElement));
  });
  const show = (event) => {
    const button = event.target.closest("button");
    if (!button || button.scrollWidth <= button.clientWidth && button.offsetHeight > 24) return hideTip(root);
    showTip(root, button.getBoundingClientRect(), [[button.getAttribute("aria-label"), ""]]);
  };
  for (const name of ["pointerover", "focusin"]) list.addEventListener(name, show);
  for (const name of ["pointerleave", "focusout"]) list.addEventListener(name, () => hideTip(root));
  return view;
}

export default function ({ parentElement, data, setTriggerValue }) {
  const root = labRoot(parentElement);
  const view = viewOf(root, () => buildBar(root));
  view.send = setTriggerValue;
  view.nav.setAttribute("aria-label", data.label);
  const items = resize(view.list, data.titles.length, () => {
    const item = el("li"), button = el("button", "step");
    button.type = "button";
    button.append(el("b"), el("span"));
    item.append(button);
    return item;
  });
  data.titles.forEach((title, i) => {
    const button = items[i].firstElementChild, now = i === data.current;
    setText(button.firstElementChild, String(i + 1));
    setText(button.lastElementChild, title);
    button.setAttribute("aria-label", `${i + 1} ${title}`);
    button.className = `step${now ? " now" : data.done.includes(i) ? " done" : ""}`;
    if (now) button.setAttribute("aria-current", "step");
    else button.removeAttribute("aria-current");
  });
  view.settle(data.current);
}
