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
  return h("bdi", {}, name.slice(0, 500).split(/(?<=\/)/).flatMap((part) => [part, h("wbr")]), name.length > 500 ? "…" : null);
}

/** Puts new children into an element; what has the focus keeps it, found again by its id, and nothing scrolls. */
export function replaceChildren(element, children) {
  const focused = document.activeElement?.id;
  const selection = focused && document.activeElement.selectionStart;
  const top = window.scrollY;
  element.replaceChildren(...children.flat(2).filter(Boolean));
  const again = focused && document.getElementById(focused);
  if (again && again !== document.activeElement) {
    again.focus({ preventScroll: true });
    if (again.type === "search") again.setSelectionRange(selection, selection);
  }
  window.scrollTo(window.scrollX, top);
}
