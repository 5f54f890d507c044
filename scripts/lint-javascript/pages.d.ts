/* What TypeScript cannot know of the pages: templates decide which kind of element a selector finds. */

interface ParentNode {
  querySelector(selectors: string): any;
  querySelectorAll(selectors: string): NodeListOf<any>;
}

interface Document {
  getElementById(id: string): any;
}

interface Node {
  cloneNode(deep?: boolean): any;
}

interface EventTarget {
  closest?(selectors: string): any;
}

// build/vendor has the script alone, without its types.
declare module "*/vendor/uplot/uPlot.esm.js" {
  const uPlot: any;
  export default uPlot;
}
