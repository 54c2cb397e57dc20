/* The sentence as chips, one a token; the query and the key in hand are outlined. */
function buildStrip(root) {
  const tokens = el("div", "tokens"), caption = el("div", "caption");
  tokens.setAttribute("role", "group");
  root.append(tokens, caption);
  const view = { tokens, caption, settle: roving(tokens) };
  const chipOf = (event) => event.target.closest(".chip");
  const indexOf = (chip) => [...tokens.children].indexOf(chip);
  tokens.addEventListener("click", (event) => {
    const chip = chipOf(event);
    if (!chip) return;
    pending(chip);
    view.send("token", indexOf(chip));
  });
  const show = (event) => {
    const chip = chipOf(event), id = chip && view.data.ids?.[indexOf(chip)];
    if (id === undefined || id === null) return hideTip(root);
    showTip(root, chip.getBoundingClientRect(), [[`id ${id}`, "mono"]]);
  };
  for (const name of ["pointerover", "focusin"]) tokens.addEventListener(name, show);
  for (const name of ["pointerleave", "focusout"]) tokens.addEventListener(name, () => hideTip(root));
  return view;
}

export default function ({ parentElement, data, setTriggerValue }) {
  const root = labRoot(parentElement);
  const view = viewOf(root, () => buildStrip(root));
  view.data = data;
  view.send = setTriggerValue;
  view.tokens.setAttribute("aria-label", data.caption ?? "");
  setText(view.caption, data.caption ?? "");
  view.caption.hidden = !data.caption;
  const floor = variable(root, "--lab-card");
  const chips = resize(view.tokens, data.tokens.length, () => {
    const chip = el("button", "chip");
    chip.type = "button";
    chip.dir = "auto";
    return chip;
  });
  data.tokens.forEach((token, i) => {
    const chip = chips[i], query = i === data.query, key = i === data.key, tint = data.tints?.[i];
    setText(chip, token);
    chip.className = `chip${query ? " query" : ""}${key ? " key" : ""}`;
    chip.setAttribute("aria-pressed", String(query || key));
    chip.style.backgroundColor = tint ? mix(floor, variable(root, `--lab-${data.role}-map`), tint / 100) : "";
  });
  view.settle(data.query ?? 0);
}
