/* Light or dark theme, set before the first paint: a script in the head, not a module. The key is that of Django's
   admin, so that one choice applies to both. */
"use strict";
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");

  const chosen = () => {
    try {
      const theme = localStorage.getItem("theme");
      return theme === "light" || theme === "dark" ? theme : "auto";
    } catch {
      return "auto"; // storage is disabled
    }
  };

  const apply = () => {
    const theme = chosen();
    root.dataset.theme = theme === "auto" ? (dark.matches ? "dark" : "light") : theme;
    root.dispatchEvent(new Event("theme"));
  };

  apply();
  dark.addEventListener("change", apply);
  addEventListener("storage", apply); // the theme was changed in another tab

  addEventListener("DOMContentLoaded", () => {
    for (const radio of document.querySelectorAll("input[name=theme]")) {
      radio.checked = radio.value === chosen();
      radio.addEventListener("change", () => {
        try {
          localStorage.setItem("theme", radio.value);
        } catch {
          root.dataset.theme = radio.value === "auto" ? (dark.matches ? "dark" : "light") : radio.value;
          return;
        }
        apply();
      });
    }
  });
})();
