/* Rules of eslint for the JavaScript modules: about mistakes only, none about format. `make lint` applies them. */
import { createRequire } from "node:module";

const require = createRequire(new URL("../../build/lint-javascript/package.json", import.meta.url));
const js = require("@eslint/js");
const globals = require("globals");

const CLIENT = "app/channelbox/static/client/*.js"; // runs in pages and in Node
// Properties of the window: a name that was never declared, or was renamed, would silently mean one of these.
const WINDOW = [
  "close", "closed", "event", "find", "focus", "length", "name", "open", "origin", "parent", "print", "scroll", "self",
  "status", "stop", "top",
];
const HTML = ["createContextualFragment", "innerHTML", "insertAdjacentHTML", "outerHTML", "setHTMLUnsafe"];

export default [
  js.configs.recommended,
  {
    linterOptions: { reportUnusedDisableDirectives: "error" },
    languageOptions: { ecmaVersion: 2022 },
    rules: {
      "array-callback-return": "error",
      "eqeqeq": "error",
      "no-constructor-return": "error",
      "no-duplicate-imports": "error",
      "no-eval": "error",
      "no-implicit-coercion": "error",
      "no-implied-eval": "error",
      "no-new-func": "error",
      "no-promise-executor-return": "error",
      "no-restricted-globals": ["error", ...WINDOW],
      "no-restricted-properties": [
        "error",
        ...HTML.map((property) => ({ property, message: "Text is never parsed as HTML: set textContent." })),
      ],
      "no-self-compare": "error",
      "no-shadow": "error",
      "no-template-curly-in-string": "error",
      "no-throw-literal": "error",
      "no-unmodified-loop-condition": "error",
      "no-unreachable-loop": "error",
      "no-unused-expressions": "error",
      "no-unused-vars": ["error", { argsIgnorePattern: "^_$", varsIgnorePattern: "^_$" }],
      "no-use-before-define": ["error", { functions: false, classes: false, variables: false }],
      "no-useless-assignment": "error",
      "no-var": "error",
      "prefer-const": "error",
      "prefer-promise-reject-errors": "error",
    },
  },
  { files: ["app/**/*.js"], ignores: [CLIENT], languageOptions: { globals: globals.browser } },
  { files: [CLIENT], languageOptions: { globals: globals["shared-node-browser"] } },
  { files: ["app/channelbox/static/channelbox/theme.js"], languageOptions: { sourceType: "script" } },
  { files: ["scripts/**/*.mjs", "tests/**/*.js"], languageOptions: { globals: globals.nodeBuiltin } },
];
