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
      row.seed === null || row.seed === undefined ? NONE : String(row.seed),
      barCell(row, main, scale),
      ...rest.map((metric) =>
        el('span', { title: String(row.values[metric] ?? ''), text: metricText(row.values[metric]) }),
      ),
    ],
  }));
  const title = place === 0 ? `${protocol.name} \u2013 ${officialText(protocol.name)}` : protocol.name;
  return el(
    'div',
    { class: 'protocol' },
    el('h3', { text: title }),
    scroller(`Scores, ${protocol.name}`, table(head, rows, { class: 'scores' })),
  );
}

/** What the first protocol is; scores of an epoch that was chosen on test are not what it asks for. */
function officialText(name) {
  return name.endsWith('+test-selected')
    ? 'the official counting, but the epoch was chosen on the test split'
    : 'the official protocol';
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
  const over = `mean and standard deviation over ${row.seeds} seeds`;
  const note = row.spread ? over : row.kind === 'run' ? '' : KINDS[row.kind];
  return el('span', {}, name, note ? el('span', { class: 'tag', text: note }) : null);
}

function barCell(row, metric, scale) {
  const value = row.values[metric];
  const spread = row.spread?.[metric];
  const text = metricText(value) + (typeof spread === 'number' ? ` \u00b1 ${fixed(100 * spread, 1)}` : '');
  const width = value === null || value === undefined ? 0 : Math.max(0, Math.min(1, value / scale));
  const bar = el('span', { class: 'bar', 'aria-hidden': 'true' }, el('span', { style: { width: `${100 * width}%` } }));
  return el('span', { class: 'barred', title: String(value ?? '') }, el('span', { class: 'value', text }), bar);
}

/** What runs that differ by their seed alone share; the label where a report does not say. */
function groupOf(row) {
  return row.group ?? row.label;
}

/** The rows as they came, and after the last of several seeds of one group their mean. */
function grouped(rows) {
  return rows.flatMap((row) => {
    if (row.kind === 'constant') return [row];
    const same = rows.filter((other) => other.kind !== 'constant' && groupOf(other) === groupOf(row));
    const seeds = new Set(same.map((other) => other.seed));
    return seeds.size > 1 && row === same.at(-1) ? [row, summary(same, [...seeds])] : [row];
  });
}

/** Mean and standard deviation over seeds; runs of one seed count once, by their mean. */
function summary(rows, seeds) {
  const values = {};
  const spread = {};
  for (const metric of Object.keys(rows[0].values)) {
    const known = seeds.map((seed) => mean(rows.filter((row) => row.seed === seed).map((row) => row.values[metric])));
    values[metric] = mean(known);
    spread[metric] = deviation(known);
  }
  return { label: rows[0].label, kind: 'mean', seed: null, run: null, seeds: seeds.length, values, spread };
}

/** The mean; null where a value is lacking. */
function mean(values) {
  if (!values.length || values.some((value) => typeof value !== 'number')) return null;
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The standard deviation of a sample; null where a value is lacking. */
function deviation(values) {
  const middle = mean(values);
  if (middle === null) return null;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1));
}
