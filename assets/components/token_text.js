/* A text in its tokens, one tint an id; and the ids in the same tints. Pointing at either shows both, and all equals. */
function buildTokenText(root) {
  const words = el("div", "words"), ids = el("div", "ids");
  words.setAttribute("role", "group");
  ids.setAttribute("aria-hidden", "true");
  root.append(words, ids);
  const view = { root, words, ids, settle: roving(words) };
  const indexOf = (event) => {
    const piece = event.target.closest(".piece");
    return piece ? [...piece.parentElement.children].indexOf(piece) : null;
  };
  const show = (event) => {
    const i = indexOf(event);
    if (i !== null) pointAt(view, i, event.target.closest(".piece"));
  };
  for (const row of [words, ids]) {
    for (const name of ["pointerover", "focusin"]) row.addEventListener(name, show);
    for (const name of ["pointerleave", "focusout"]) row.addEventListener(name, () => pointAt(view, null));
    row.addEventListener("click", (event) => {
      const i = indexOf(event);
      if (i === null || !view.data.clickable) return;
      pending(view.words.children[i]);
      view.send("token", i);
    });
  }
  return view;
}

function pointAt(view, index, piece) {
  const { tokens } = view.data, id = index === null ? null : tokens[index].id;
  for (const row of [view.words, view.ids]) {
    [...row.children].forEach((node, k) => {
      node.classList.toggle("same", id !== null && tokens[k].id === id);
      node.classList.toggle("at", k === index);
    });
  }
  if (id === null) return hideTip(view.root);
  showTip(view.root, piece.getBoundingClientRect(), [[tokens[index].text, "mono"], [`id ${id}`, "mono"],
    ...(tokens[index].bytes ? [[tokens[index].bytes, "mono"]] : [])]);
}

export default function ({ parentElement, data, setTriggerValue }) {
  const root = labRoot(parentElement);
  const view = viewOf(root, () => buildTokenText(root));
  view.data = data;
  view.send = setTriggerValue;
  view.words.setAttribute("aria-label", data.alt);
  root.classList.toggle("clickable", data.clickable);
  const make = (tag) => () => {
    const node = el(tag, "piece");
    if (tag === "button") node.type = "button";
    node.dir = "auto";
    return node;
  };
  const words = resize(view.words, data.tokens.length, make("button"));
  const ids = resize(view.ids, data.ids ? data.tokens.length : 0, make("span"));
  data.tokens.forEach((token, i) => {
    for (const [node, text] of [[words[i], token.text], [ids[i], String(token.id)]]) {
      if (!node) continue;
      setText(node, text);
      node.classList.toggle("plain", token.hue === null);
      node.classList.toggle("on", i === data.selected);
      node.style.setProperty("--hue", token.hue ?? 0);
    }
    words[i].setAttribute("aria-label", `${token.text}, id ${token.id}`);
    words[i].setAttribute("aria-pressed", String(i === data.selected));
  });
  view.settle(data.selected ?? 0);
}
