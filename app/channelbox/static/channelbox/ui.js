/* The page's data and UI strings (templates: {{ page|json_script:"page" }}), and helpers for elements. */
export const page = JSON.parse(document.getElementById("page").textContent);

/**
 * Return the UI string for a key (see ui_strings.py), with {n} and the like filled in.
 * @throws {TypeError} if there is none.
 */
export function translate(key, values = {}) {
  return page.words[key].replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** Create an element with a class and a text, which is never parsed as HTML. */
export function element(tag, className = "", text = "") {
  const created = document.createElement(tag);
  if (className) created.className = className;
  if (text) created.textContent = text;
  return created;
}

/** Create an icon of the sprite, whose address is that of the page's own icons. */
export function icon(name, className = "icon") {
  const sprite = document.querySelector("svg.icon use").getAttribute("href").split("#")[0];
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", className);
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `${sprite}#${name}`);
  svg.append(use);
  return svg;
}
