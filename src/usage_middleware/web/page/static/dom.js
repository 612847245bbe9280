// Elements are made here and nowhere from text: what somebody named a key stays text.

const SVG = "http://www.w3.org/2000/svg";

/** An element. Attributes that are null, undefined or false are left out; functions are listeners, names with -- are properties of the style. */
export function h(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** As `h`, of SVG. */
export function s(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("--")) element.style.setProperty(name, value);
    else if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A name as it was given; a long one may go over to the next line after a slash. */
export function named(name) {
  return h("bdi", {}, name.slice(0, 500).split(/(?<=\/)/).flatMap((part) => [part, h("wbr")]), name.length > 500 && "…");
}

/**
 * Puts new children into an element. What has the focus keeps it, found again by its id or as the same link of the same part,
 * and nothing scrolls. `make` makes the children: what it takes out of the page, such as a chart, has the focus until then.
 */
export function replaceChildren(element, make) {
  const focused = document.activeElement;
  const { id, selectionStart } = focused;
  const part = focused.closest("[id]")?.id;
  const href = focused.getAttribute("href");
  const top = scrollY;
  const boxes = () => [...element.querySelectorAll(".scroll")];
  const tops = boxes().map((box) => box.scrollTop);
  element.replaceChildren(...make());
  const again = id ? document.getElementById(id) : href && element.parentNode.querySelector(`#${part} a[href="${CSS.escape(href)}"]`);
  again?.focus({ preventScroll: true });
  if (again?.type === "search") again.setSelectionRange(selectionStart, selectionStart);
  boxes().forEach((box, index) => (box.scrollTop = tops[index]));
  scrollTo(scrollX, top);
}
