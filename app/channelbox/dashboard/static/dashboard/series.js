/* The figures of the last 15 minutes, a column each, a row a second; null where a figure is not known. */

const LENGTH = 900; // rows

/** Each row's mean over it and the rows before it, ten in all; what is not known stays so. */
export const mean = (column) => rolling(column, (known) => known.reduce((sum, one) => sum + one, 0) / known.length);

/** The same with the largest of the ten. */
export const worst = (column) => rolling(column, (known) => Math.max(...known));

function rolling(column, joined) {
  return column.map((value, row) => {
    if (value === null) return null;
    return joined(column.slice(Math.max(0, row - 9), row + 1).filter((one) => one !== null));
  });
}

export class Series {
  at = [];
  totals = {};
  nodes = {};

  /** What the server kept. */
  begin({ at, totals, nodes }) {
    this.at = at;
    this.totals = totals;
    this.nodes = nodes;
  }

  /** The newest figures; more than one in a second replace each other, missing seconds stay empty. */
  add(data) {
    const second = Math.floor(Date.parse(data.at) / 1_000);
    const last = this.at.at(-1) ?? second - 1;
    if (second < last - LENGTH || second - last > LENGTH) this.begin({ at: [], totals: {}, nodes: {} });
    else if (second < last) return;
    for (let row = Math.min(second, last + 1); row <= second; row += 1) if (row > last) this.#addRow(row);
    if (!this.at.length) this.#addRow(second);
    const row = this.at.length - 1;
    this.#fill(this.totals, data.totals, row);
    for (const [name, figures] of Object.entries(data.nodes)) this.#fill((this.nodes[name] ??= {}), figures, row);
  }

  /** A column of totals, or of a node; empty ones for what nobody has heard of. */
  column(figure, node = null) {
    const columns = node === null ? this.totals : (this.nodes[node] ?? {});
    return columns[figure] ?? this.at.map(() => null);
  }

  #addRow(second) {
    this.at.push(second);
    for (const column of this.#columns()) column.push(null);
    if (this.at.length <= LENGTH) return;
    this.at.shift();
    for (const column of this.#columns()) column.shift();
  }

  #fill(columns, figures, row) {
    for (const [figure, value] of Object.entries(figures)) {
      columns[figure] ??= this.at.map(() => null);
      columns[figure][row] = value;
    }
  }

  *#columns() {
    yield* Object.values(this.totals);
    for (const columns of Object.values(this.nodes)) yield* Object.values(columns);
  }
}
