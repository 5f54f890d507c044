/* Time series of the last 15 minutes: one column for each figure, one row for each second, null where a figure is not
   known. */

const MAX_ROWS = 900;

/** Return the mean of each row of a column and the nine before it. Null rows stay null; other nulls do not count. */
export const rollingMean = (column) => rolling(column, (known) => known.reduce((sum, n) => sum + n, 0) / known.length);

/** Return the maximum of the same ten rows. Null rows stay null. */
export const rollingMax = (column) => rolling(column, (known) => Math.max(...known));

function rolling(column, combine) {
  return column.map((value, row) => {
    if (value === null) return null;
    return combine(column.slice(Math.max(0, row - 9), row + 1).filter((n) => n !== null));
  });
}

/** Columns of the installation's totals and of each node. */
export class Series {
  at = []; // second of each row, in Unix time
  totals = {}; // columns by figure
  nodes = {}; // columns by node and figure

  /** Start with the series that the server has kept. */
  begin({ at, totals, nodes }) {
    this.at = at;
    this.totals = totals;
    this.nodes = nodes;
  }

  /** Add the newest figures. Within one second they replace earlier ones; rows of missing seconds hold nulls. */
  add(data) {
    const second = Math.floor(Date.parse(data.at) / 1_000);
    const last = this.at.at(-1) ?? second - 1;
    if (second < last - MAX_ROWS || second - last > MAX_ROWS) this.begin({ at: [], totals: {}, nodes: {} });
    else if (second < last) return;
    for (let row = Math.min(second, last + 1); row <= second; row += 1) if (row > last) this.#addRow(row);
    if (!this.at.length) this.#addRow(second);
    const row = this.at.length - 1;
    this.#fill(this.totals, data.totals, row);
    for (const [name, figures] of Object.entries(data.nodes)) this.#fill((this.nodes[name] ??= {}), figures, row);
  }

  /**
   * Return a column; it holds only nulls if the figure or the node is unknown.
   * @param {string} figure
   * @param {?string} [node] Name of the node, or null for the totals.
   * @returns {(number|null)[]}
   */
  column(figure, node = null) {
    const columns = node === null ? this.totals : (this.nodes[node] ?? {});
    return columns[figure] ?? this.at.map(() => null);
  }

  #addRow(second) {
    this.at.push(second);
    for (const column of this.#columns()) column.push(null);
    if (this.at.length <= MAX_ROWS) return;
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
