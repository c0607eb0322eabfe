// Scores by protocol: this run, the runs beside it, and answers that ignore their input.

const KINDS = { this: 'this run', run: 'run', constant: 'ignores its input' };

function scoresSection() {
  const protocols = DATA.scores.protocols;
  if (!protocols.length)
    return section('scores', 'Scores', el('p', { class: 'muted', text: 'This run has not been evaluated.' }));
  return section('scores', 'Scores', ...protocols.map(protocolFigure));
}

function protocolFigure(protocol, place) {
  const main = protocol.metrics.includes(DATA.scores.main) ? DATA.scores.main : protocol.metrics[0];
  const rest = protocol.metrics.filter((metric) => metric !== main);
  const head = [
    'Run',
    'Seed',
    el('span', { text: capital(nice(main)) }),
    ...rest.map((metric) => capital(nice(metric))),
  ];
  const top = Math.max(1e-9, ...protocol.rows.map((row) => Math.abs(row.values[main] ?? 0)));
  const scale = protocol.rows.every((row) => isShare(row.values[main])) ? 1 : top;
  const rows = grouped(protocol.rows).map((row) => ({
    attributes: { class: row.kind === 'this' ? 'own' : row.kind },
    cells: [
      runCell(row),
      row.spread ? `${row.n} seeds` : row.seed === null || row.seed === undefined ? NONE : String(row.seed),
      barCell(row, main, scale),
      ...rest.map((metric) =>
        el('span', { title: String(row.values[metric] ?? ''), text: metricText(row.values[metric]) }),
      ),
    ],
  }));
  const title = place === 0 ? `${protocol.name} \u2013 the official protocol` : protocol.name;
  return el(
    'div',
    { class: 'protocol' },
    el('h3', { text: title }),
    scroller(`Scores, ${protocol.name}`, table(head, rows, { class: 'scores' })),
  );
}

function isShare(value) {
  return value === null || value === undefined || (value >= 0 && value <= 1);
}

function metricText(value) {
  if (value === null || value === undefined) return NONE;
  return isShare(value) ? percent(value) : significant(value, 4);
}

function runCell(row) {
  const name = named(row.label, { title: row.run ?? '' });
  const note = row.spread ? 'mean and standard deviation' : row.kind === 'run' ? '' : KINDS[row.kind];
  return el('span', {}, name, note ? el('span', { class: 'tag', text: note }) : null);
}

function barCell(row, metric, scale) {
  const value = row.values[metric];
  const text = metricText(value) + (row.spread ? ` \u00b1 ${fixed(100 * row.spread[metric], 1)}` : '');
  const width = value === null || value === undefined ? 0 : Math.max(0, Math.min(1, value / scale));
  const bar = el('span', { class: 'bar', 'aria-hidden': 'true' }, el('span', { style: { width: `${100 * width}%` } }));
  return el('span', { class: 'barred', title: String(value ?? '') }, el('span', { class: 'value', text }), bar);
}

/** The rows as they came, and after the last of several seeds of one label their mean. */
function grouped(rows) {
  const out = [];
  rows.forEach((row, place) => {
    out.push(row);
    const same = rows.filter((other) => other.label === row.label && other.kind !== 'constant');
    if (same.length > 1 && row === same.at(-1) && row.kind !== 'constant' && place === rows.indexOf(row))
      out.push(summary(same));
  });
  return out;
}

function summary(rows) {
  const values = {};
  const spread = {};
  for (const metric of Object.keys(rows[0].values)) {
    const known = rows.map((row) => row.values[metric]).filter((value) => typeof value === 'number');
    const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
    const square = known.reduce((sum, value) => sum + (value - mean) ** 2, 0);
    values[metric] = known.length ? mean : null;
    spread[metric] = known.length > 1 ? Math.sqrt(square / (known.length - 1)) : 0;
  }
  return { label: rows[0].label, kind: 'mean', seed: null, run: null, n: rows.length, values, spread };
}
