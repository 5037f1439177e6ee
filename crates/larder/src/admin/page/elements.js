// Elements are made here and nowhere else, and all text goes in as text: what comes from queries is never markup.

const byId = (id) => document.getElementById(id);

// element("td", { class: "num" }, "text", child)
function element(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function shape(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value != null) node.setAttribute(name, String(value));
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

// Nothing is touched that stays as it is: a selection survives, and so does the focus.
function say(node, text) {
  const element = typeof node === "string" ? byId(node) : node;
  if (element.textContent !== text) element.textContent = text;
}

function mark(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

// A button whose handler hears of nothing but its click.
function button(label, handler, attributes = {}) {
  const made = element("button", { type: "button", ...attributes }, label);
  made.addEventListener("click", handler);
  return made;
}

// Children by a key: those that stay are kept and given to `update`, others are made or removed.
function keep(parent, items, keyOf, make, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, at) => {
    const key = String(keyOf(item));
    let child = known.get(key);
    if (child) {
      known.delete(key);
    } else {
      child = make(item);
      child.dataset.key = key;
    }
    update(child, item);
    if (parent.children[at] !== child) parent.insertBefore(child, parent.children[at] ?? null);
  });
  for (const child of known.values()) child.remove();
}
